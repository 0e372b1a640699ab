"""Reports of collection out of the days' rows: sums by gateway, region, device or meter point. It writes nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from headend.kpi.figures import FIELDS, Figures, unpacked
from headend.state.collection import inside
from headend.state.store import State
from headend.state.tables import collection_days

By = Literal["gateway", "region", "device", "meter-point"]
Per = Literal["range", "day", "interval"]

_table = collection_days
_COLUMNS: Mapping[str, sa.Column[str]] = {
    "gateway": _table.c.gateway,
    "region": _table.c.region,
    "device": _table.c.device,
    "meter-point": _table.c.point,
}


class ReportQuery(msgspec.Struct, frozen=True):
    """Figures of the days first <= day < end, inside both lists of region prefixes; `key` empty: all.

    `after` is the key (and day) of the last row that was seen.
    """

    by: By
    first: int
    end: int
    limit: int
    per: Per = "range"
    regions: Sequence[str] = ("",)
    region: str = ""
    key: str = ""
    after: tuple[str, int] = ("", -1)


class ReportRow(msgspec.Struct, frozen=True):
    """One group's figures. `day` where they are of one; `buckets` by quarter hours of the day where that was asked."""

    key: str
    day: int | None
    devices: int
    figures: Figures
    reasons: Mapping[str, int]
    clock_ms: int | None
    buckets: Sequence[Figures] = ()


def report(state: State, query: ReportQuery) -> list[ReportRow]:
    """Return at most `limit` groups in the order of their keys and days. Raises `StorageError`."""
    return state.read(lambda connection: _report(connection, query))


def _report(connection: sa.Connection, query: ReportQuery) -> list[ReportRow]:
    column = _COLUMNS[query.by]
    where = [
        _table.c.day >= query.first,
        _table.c.day < query.end,
        column != "",
        _table.c.expected > 0,
        inside(query.regions),
        inside((query.region,)),
    ]
    if query.key:
        where.append(column == query.key)
    groups: list[sa.ColumnElement[Any]] = [column]
    if query.per == "day":
        groups.append(_table.c.day)
        beyond = sa.or_(column > query.after[0], sa.and_(column == query.after[0], _table.c.day > query.after[1]))
    else:
        beyond = column > query.after[0]
    parts = [sa.func.sum(_table.c[name]).label(name) for name in FIELDS]
    clock = sa.func.min(_table.c.clock_ms), sa.func.max(_table.c.clock_ms)
    devices = sa.func.count(sa.distinct(_table.c.device))
    asked = sa.select(*groups, devices, *clock, *parts).where(*where, beyond).group_by(*groups)
    rows = connection.execute(asked.order_by(*groups).limit(query.limit)).all()
    keys = list(dict.fromkeys(row[0] for row in rows))
    reasons = _reasons(connection, groups, [*where, column.in_(keys)])
    buckets = _buckets(connection, column, [*where, column.in_(keys)]) if query.per == "interval" else {}
    return [_row(tuple(row), len(groups), reasons, buckets) for row in rows]


def _row(
    row: tuple[Any, ...],
    width: int,
    reasons: Mapping[tuple[object, ...], Mapping[str, int]],
    buckets: Mapping[str, Sequence[Figures]],
) -> ReportRow:
    """Return a group's row: its place (key, and day where there is one), devices, two offsets, and the sums."""
    place, (devices, lowest, highest, *counts) = row[:width], row[width:]
    offsets = [each for each in (lowest, highest) if each is not None]
    day = place[1] if width > 1 else None
    return ReportRow(
        place[0],
        day,
        devices,
        Figures(*map(int, counts)),  # PostgreSQL's sums are decimals
        dict(reasons.get(place, {})),
        max(offsets, key=abs, default=None),
        buckets.get(place[0], ()),
    )


def _reasons(
    connection: sa.Connection, groups: Sequence[sa.ColumnElement[Any]], where: Sequence[sa.ColumnElement[bool]]
) -> dict[tuple[object, ...], dict[str, int]]:
    """Return the slots lost by reason, for each group: the days with the same reasons are counted in the database."""
    asked = sa.select(*groups, _table.c.reasons, sa.func.count()).where(*where, _table.c.reasons != "")
    found: dict[tuple[object, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in connection.execute(asked.group_by(*groups, _table.c.reasons)):
        *place, reasons, times = row
        for reason, count in msgspec.json.decode(reasons, type=dict[str, int]).items():
            found[tuple(place)][reason] += int(count * times)
    return found


def _buckets(
    connection: sa.Connection, column: sa.Column[str], where: Sequence[sa.ColumnElement[bool]]
) -> dict[str, list[Figures]]:
    """Return each group's figures by quarter hours: days that look alike are opened once."""
    asked = sa.select(column, _table.c.buckets, sa.func.count()).where(*where).group_by(column, _table.c.buckets)
    alike: dict[str, dict[bytes, int]] = defaultdict(dict)
    for key, packed, times in connection.execute(asked):
        alike[key][bytes(packed)] = int(times)
    return {key: unpacked(packed) for key, packed in alike.items()}
