"""What a change of a known meter point means for policy: its region, zone and customer choose whose rules judge.

Each such change is in the audit, and none leaves behind a hold that stands for the region: that takes two persons.
"""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from headend.audit.chain import Entry, append
from headend.registry import covers
from headend.state.tables import register_entries
from metering.errors import ConfigError
from metering.model import MeterPoint

CHOOSING = ("region", "zone", "customer")


def tell(connection: sa.Connection, changes: Iterable[tuple[MeterPoint, MeterPoint]], at: int, actor: str) -> None:
    """Tell the audit of meter points that changed (before, after) what chooses their rules.

    Raises:
        ConfigError: a hold stands for a region that one would leave.

    """
    entries = []
    holds: Sequence[tuple[str, str]] | None = None
    for old, new in changes:
        changed = {name: [getattr(old, name), getattr(new, name)] for name in CHOOSING}
        changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
        if "region" in changed:
            holds = _holds(connection, at) if holds is None else holds
            _leaves_none(old, new, holds)
        if changed:
            entries.append(Entry(at, actor, "meter-point-changed", new.id, new.region, changed))
    append(connection, entries)


def _leaves_none(old: MeterPoint, new: MeterPoint, holds: Sequence[tuple[str, str]]) -> None:
    for region, name in holds:
        if covers((region,), old.region) and not covers((region,), new.region):
            text = f"{old.id} would leave the hold {name} of {region}: it ends first, by two persons, or at its time"
            raise ConfigError(text)


def _holds(connection: sa.Connection, at: int) -> list[tuple[str, str]]:
    """Return the holds of whole regions that have not ended. A forecast is none: each region has its own."""
    table = register_entries.c
    open_still = sa.or_(table.until.is_(None), table.until > at)
    where = (table.kind == "hold", table.point == "", table.name != "forecast", open_still)
    query = sa.select(table.region, table.id).where(*where)
    return [(row.region, row.id) for row in connection.execute(query)]
