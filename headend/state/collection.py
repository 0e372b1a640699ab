"""The figures of collection for each device and day, and which of them are to be made anew. It judges nothing.

A day is one of UTC, numbered from 1970. The figures of one device's day stand in one row, with the point, region and
gateway that it then had: a report by any of them is a sum over rows.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec
import sqlalchemy as sa

from headend.kpi.figures import Figures
from headend.state.gaps import Gap, of_day, settle
from headend.state.rows import put
from headend.state.store import State
from headend.state.tables import collection_days, collection_progress

_PROGRESS = "days"
_table = collection_days


class DayRow(msgspec.Struct, frozen=True):
    """One device's day. `figures` are its sums, `buckets` the same by quarter hours, packed; `due` when to judge again.

    `reasons` is JSON of the slots lost by reason, empty where none are.
    """

    day: int
    device: str
    point: str = ""
    region: str = ""
    gateway: str = ""
    figures: Figures = Figures()
    buckets: bytes = b""
    reasons: str = ""
    clock_ms: int | None = None
    due: int | None = None


class Result(msgspec.Struct, frozen=True):
    """What judging a device's day gave. `gaps` returns its gaps anew from those that are known.

    `was_due` is what the row said before: where somebody has marked it since, the mark stays.
    """

    row: DayRow
    gaps: Callable[[Sequence[Gap]], Sequence[Gap]]
    was_due: int | None = None


class Progress(msgspec.Struct, frozen=True):
    """The next day to be judged for the first time, for the devices after `after`; all days before it are judged."""

    day: int
    after: str = ""


class CollectionDays:
    """Which days are judged, with what result. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def progress(self) -> Progress | None:
        """Return how far days were judged for the first time; None before the first."""
        query = sa.select(collection_progress.c.day, collection_progress.c.after)
        row = self._state.read(lambda connection: connection.execute(query).one_or_none())
        return Progress(*row) if row is not None else None

    def record(self, results: Sequence[Result], progress: Progress | None = None) -> None:
        """Put these in the place of what is known of their days, together with the progress, at once."""

        def work(connection: sa.Connection) -> None:
            for each in results:
                _put(connection, each)
            if progress is not None:
                put(connection, collection_progress, {"name": _PROGRESS, "day": progress.day, "after": progress.after})

        self._state.write(work)

    def due(self, now: int, limit: int) -> list[tuple[int, str, int]]:
        """Return days and devices that are to be judged again, and since when; the longest due first."""
        query = sa.select(_table.c.day, _table.c.device, _table.c.due).where(_table.c.due <= now)
        query = query.order_by(_table.c.due, _table.c.day, _table.c.device).limit(limit)
        return [tuple(row) for row in self._state.read(lambda connection: connection.execute(query).all())]

    def mark(self, days: Collection[tuple[int, str]], now: int, due: int) -> None:
        """Let days be judged again at `due`: more of them came. One that waits for a nearer time keeps it.

        One that is due already gets the later time: somebody may be judging it at this moment, without what came.
        """

        def work(connection: sa.Connection) -> None:
            for day, device in days:
                where = (_table.c.day == day, _table.c.device == device)
                known = connection.execute(sa.select(_table.c.due).where(*where)).one_or_none()
                if known is None:
                    connection.execute(sa.insert(_table).values(_values(DayRow(day, device, due=due))))
                elif known.due is None or known.due > due or known.due <= now:
                    connection.execute(sa.update(_table).where(*where).values(due=due))

        self._state.write(work)

    def forget(self, before: int, limit: int) -> None:
        """Drop at most `limit` rows of days before this one."""
        old = sa.select(_table.c.day, _table.c.device).where(_table.c.day < before).limit(limit)

        def work(connection: sa.Connection) -> None:
            for day, device in connection.execute(old).all():
                connection.execute(sa.delete(_table).where(_table.c.day == day, _table.c.device == device))
                settle(connection, device, day, ())

        self._state.write(work)


def _put(connection: sa.Connection, result: Result) -> None:
    row = result.row
    known = of_day(connection, row.device, row.day)
    found = result.gaps(known)
    if found != known:
        settle(connection, row.device, row.day, found)
    where = (_table.c.day == row.day, _table.c.device == row.device)
    was = connection.execute(sa.select(_table.c.due, _table.c.gateway).where(*where)).one_or_none()
    if was is not None and was.due is not None and was.due != result.was_due:
        row = msgspec.structs.replace(row, due=was.due if row.due is None else min(was.due, row.due))
    if was is not None and was.gateway:  # it read the device then, whoever does now
        row = msgspec.structs.replace(row, gateway=was.gateway)
    connection.execute(sa.delete(_table).where(*where))
    if row.figures.expected or row.due is not None:
        connection.execute(sa.insert(_table).values(_values(row)))


def _values(row: DayRow) -> dict[str, object]:
    values = msgspec.structs.asdict(row)
    del values["figures"]
    return values | row.figures._asdict()


def inside(regions: Iterable[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a row's region lies in one of these prefixes, by path segment."""
    column = _table.c.region
    parts = []
    for prefix in regions:
        path = prefix.strip("/")
        if not path:
            return sa.true()
        parts.append(sa.or_(column == path, column.startswith(f"{path}/", autoescape=True)))
    return sa.or_(sa.false(), *parts)
