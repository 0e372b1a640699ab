"""The gap ledger: intervals that devices owe, with who was asked for them, and seqs that will never come.

What a gap of intervals has come to follows the judged day alone, never an answer. It asks nobody.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from headend.state.rows import put
from headend.state.store import State
from headend.state.tables import gaps, seq_gaps

GapState = Literal["open", "asked", "recovered", "lost"]


class Gap(msgspec.Struct, frozen=True):
    """Intervals that a device owes: start < interval end <= end, inside one day. `profile` names the kind of read.

    `open` and `asked` are missing still. `lost` has its `reason`. `next_at` None: nobody is asked.
    """

    device: str
    profile: str
    start: int
    end: int
    day: int = 0
    gateway: str = ""
    state: GapState = "open"
    reason: str = ""
    ask: str = ""
    answer: str = ""
    tries: int = 0
    asked_at: int | None = None
    next_at: int | None = None


class SeqGap(msgspec.Struct, frozen=True):
    """Seqs of a gateway's log that will never come, inclusive, and how many values were in them, if it is known."""

    gateway: str
    epoch: str
    first: int
    last: int
    reason: str
    readings: int = 0
    earliest: int | None = None
    latest: int | None = None


class GapsQuery(msgspec.Struct, frozen=True):
    """Gaps that overlap start < t <= end, in the order of (start, device, profile), after a place in it."""

    start: int
    end: int
    limit: int
    states: Sequence[str] = ()  # empty: all
    devices: Collection[str] | None = None  # None: all
    after: tuple[int, str, str] | None = None


class Gaps:
    """The ledger in the state. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def put(self, all_of: Iterable[Gap]) -> None:
        """Note gaps, or what became of them: device, profile and start name each."""
        rows = [msgspec.structs.asdict(gap) for gap in all_of]
        self._state.write(partial(_put_all, table=gaps, rows=rows))

    def of(self, device: str) -> list[Gap]:
        """Return a device's gaps, settled ones too, in the order of profile and start."""
        order = (gaps.c.profile, gaps.c.start)
        return self._list(sa.select(gaps).where(gaps.c.device == device).order_by(*order))

    def find(self, query: GapsQuery) -> list[Gap]:
        """Return at most `limit` gaps."""
        where: list[sa.ColumnElement[bool]] = [gaps.c.end > query.start, gaps.c.start < query.end]
        if query.states:
            where.append(gaps.c.state.in_(query.states))
        if query.devices is not None:
            where.append(gaps.c.device.in_(query.devices))
        key = (gaps.c.start, gaps.c.device, gaps.c.profile)
        if query.after is not None:
            where.append(sa.tuple_(*key) > sa.tuple_(*(sa.literal(each) for each in query.after)))
        return self._list(sa.select(gaps).where(*where).order_by(*key).limit(query.limit))

    def to_ask(self, now: int, of_a_gateway: int, limit: int) -> list[Gap]:
        """Return gaps whose time to be asked for has come: of each gateway the newest, at most `of_a_gateway`."""
        rank = sa.func.row_number().over(partition_by=gaps.c.gateway, order_by=(gaps.c.start.desc(), gaps.c.device))
        due = sa.select(gaps, rank.label("place")).where(gaps.c.next_at <= now, gaps.c.gateway != "").subquery()
        columns = [due.c[name] for name in Gap.__struct_fields__]
        query = sa.select(*columns).where(due.c.place <= of_a_gateway).order_by(due.c.start.desc()).limit(limit)
        return self._list(query)

    def answered(self, asks: dict[str, str], next_at: int) -> None:
        """Note what gateways said to controls (id to word): they are asked anew, if at all, not before `next_at`."""

        def work(connection: sa.Connection) -> None:
            for ask, answer in asks.items():
                values = {"answer": answer, "ask": "", "next_at": next_at}
                connection.execute(sa.update(gaps).where(gaps.c.ask == ask, gaps.c.state == "asked").values(values))

        self._state.write(work)

    def counts(self) -> list[tuple[str, str, int]]:
        """Return how many gaps there are by gateway and state."""
        key = (gaps.c.gateway, gaps.c.state)
        query = sa.select(*key, sa.func.count()).group_by(*key).order_by(*key)
        rows = self._state.read(
            lambda connection: connection.execute(query.order_by(*query.selected_columns[:2])).all()
        )
        return [(row[0], row[1], int(row[2])) for row in rows]

    def _list(self, query: sa.Select[Any]) -> list[Gap]:
        return [Gap(*row) for row in self._state.read(lambda connection: connection.execute(query).all())]


class SeqGaps:
    """Seqs that will never come. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def put(self, all_of: Iterable[SeqGap]) -> None:
        """Note ranges: gateway, epoch and first seq name each."""
        rows = [msgspec.structs.asdict(gap) for gap in all_of]
        self._state.write(partial(_put_all, table=seq_gaps, rows=rows))

    def find(self, limit: int, after: tuple[str, str, int] | None = None) -> list[SeqGap]:
        """Return at most `limit` ranges in the order of gateway, epoch and first seq."""
        key = (seq_gaps.c.gateway, seq_gaps.c.epoch, seq_gaps.c.first)
        query = sa.select(seq_gaps).order_by(*key).limit(limit)
        if after is not None:
            query = query.where(sa.tuple_(*key) > sa.tuple_(*(sa.literal(each) for each in after)))
        return [SeqGap(*row) for row in self._state.read(lambda connection: connection.execute(query).all())]

    def counts(self) -> list[tuple[str, str, int, int]]:
        """Return how many seqs and readings are gone by gateway and reason."""
        key = (seq_gaps.c.gateway, seq_gaps.c.reason)
        seqs = sa.func.sum(seq_gaps.c.last - seq_gaps.c.first + 1)
        query = sa.select(*key, seqs, sa.func.sum(seq_gaps.c.readings)).group_by(*key).order_by(*key)
        rows = self._state.read(lambda connection: connection.execute(query).all())
        return [(row[0], row[1], int(row[2]), int(row[3])) for row in rows]


def _put_all(connection: sa.Connection, table: sa.Table, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        put(connection, table, row)


def settle(connection: sa.Connection, device: str, day: int, found: Sequence[Gap]) -> None:
    """Put these gaps in the place of all of a device's day."""
    connection.execute(sa.delete(gaps).where(gaps.c.device == device, gaps.c.day == day))
    if found:
        connection.execute(sa.insert(gaps), [msgspec.structs.asdict(gap) for gap in found])


def of_day(connection: sa.Connection, device: str, day: int) -> list[Gap]:
    """Return a device's gaps of one day in the order of profile and start."""
    query = sa.select(gaps).where(gaps.c.device == device, gaps.c.day == day).order_by(gaps.c.profile, gaps.c.start)
    return [Gap(*row) for row in connection.execute(query)]
