"""Blocks into the embedded store's rows, inside a transaction that the caller holds.

What is stored rests on the tables alone. What is kept in memory (each series' latest time) serves only to count new
values, duplicates and versions without looking at the tables for every block.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter

import msgspec

from metering.model import Block, Column, Layout
from metering.ports import Rejected, WriteResult
from storage.packing import Packing
from storage.versions import Version

_Row = tuple[int, int, bytes, int, int | None, int]
_Identity = tuple[int, bool, float, bool]

INT64 = range(-(2**63), 2**63)
ROWS_AT_ONCE = 64  # rows of one INSERT: few steps, so that other threads seldom wait for the interpreter's lock

_VALUES = "(?, ?, ?, ?, ?, ?)"
_INSERT = """
INSERT INTO blocks (series, measured_at, content, delay, lag, revision) VALUES {values}
ON CONFLICT DO UPDATE SET delay = min(delay, excluded.delay),
    lag = min(coalesce(lag, excluded.lag), coalesce(excluded.lag, lag)), revision = max(revision, excluded.revision)
WHERE delay > excluded.delay OR revision < excluded.revision OR coalesce(lag > excluded.lag, excluded.lag IS NOT NULL)
"""
_ONE = _INSERT.format(values=_VALUES)
_MANY = _INSERT.format(values=", ".join([_VALUES] * ROWS_AT_ONCE))


@dataclass
class _Series:
    number: int
    packing: Packing
    latest: int  # the latest measured_at that is stored
    slack: int  # the furthest that a slot lies from its measured_at
    rivals: list["_Series"] = field(default_factory=list)  # series of the device that share a channel with this one

    def is_fresh(self, measured_at: int) -> bool:
        """Tell whether nothing can be there yet at this time."""
        return measured_at > self.latest and all(measured_at > rival.latest for rival in self.rivals)


@dataclass
class _Tally:
    """Values by what became of them."""

    stored: int
    duplicates: int = 0
    versions: int = 0


class BlockWriter:
    """The one writer of the blocks table."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._layouts: dict[Layout, tuple[int, Packing]] = {}
        self._series: dict[tuple[str, int], _Series] = {}
        self._of_device: dict[str, list[_Series]] = {}
        self._version = -1

    def forget(self) -> None:
        """Forget what is in memory: a transaction was taken back, or another program has written."""
        self._layouts.clear()
        self._series.clear()
        self._of_device.clear()

    def write(self, blocks: Iterable[Block]) -> WriteResult:
        """Store blocks. Each of them is stored or refused as a whole."""
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self.forget()
            self._version = version
        rejected: list[Rejected] = []
        rows, of_number = self._rows(blocks, rejected)
        rows.sort(key=itemgetter(0, 1))  # in the order of the key: each page is touched once
        fresh: list[_Row] = []
        contested: list[_Row] = []
        stored = 0
        for row in rows:
            series = of_number[row[0]]
            if series.is_fresh(row[1]):
                fresh.append(row)
                stored += len(series.packing.codes)
                series.latest = row[1]
            else:
                contested.append(row)
        self._insert(fresh)
        tally = _Tally(stored)
        for row in contested:
            self._settle(of_number[row[0]], row, tally)
        return WriteResult(tally.stored, tally.duplicates, tally.versions, rejected)

    def _rows(self, blocks: Iterable[Block], rejected: list[Rejected]) -> tuple[list[_Row], dict[int, _Series]]:
        known: dict[int, tuple[int, Packing]] = {}  # by identity: the blocks of a batch share their layouts
        keep: list[Layout] = []  # so that no identity is used twice
        rows: list[_Row] = []
        of_number: dict[int, _Series] = {}
        for block in blocks:
            try:
                found = known.get(id(block.layout))
                if found is None:
                    found = known[id(block.layout)] = self._layout(block.layout)
                    keep.append(block.layout)
                content = found[1].pack(block)
                time, slot, delay = block.measured_at, block.slot, block.received_at - block.measured_at
                lag = None if slot is None else time - slot
                if time not in INT64 or delay not in INT64 or (lag or 0) not in INT64 or block.revision not in INT64:
                    raise ValueError("a time or the revision is beyond 64 bits")  # noqa: TRY301 - refused as below
            except ValueError as error:
                rejected.append(Rejected(block, str(error)))
                continue
            series = self._series.get((block.device, found[0])) or self._new_series(block.device, *found)
            of_number[series.number] = series
            if lag is not None and abs(lag) > series.slack:
                series.slack = abs(lag)
                self._connection.execute("UPDATE series SET slack = ? WHERE id = ?", (series.slack, series.number))
            rows.append((series.number, time, content, delay, lag, block.revision))
        return rows, of_number

    def _layout(self, layout: Layout) -> tuple[int, Packing]:
        """Return number and packing of a layout, made where it is new. Raises ValueError where it is none."""
        found = self._layouts.get(layout)
        if found is None:
            packing = Packing(layout)
            definition = msgspec.msgpack.encode(layout)
            self._connection.execute(
                "INSERT INTO layouts (key, definition) VALUES (?, ?) ON CONFLICT DO NOTHING", (layout.key, definition)
            )
            number = self._connection.execute("SELECT id FROM layouts WHERE key = ?", (layout.key,)).fetchone()[0]
            found = self._layouts[layout] = (number, packing)
        return found

    def _new_series(self, device: str, layout: int, packing: Packing) -> _Series:
        """Return a series that is not in memory, made where it is new to the tables too."""
        connection = self._connection
        connection.execute("INSERT INTO series (device, layout) VALUES (?, ?) ON CONFLICT DO NOTHING", (device, layout))
        question = (
            "SELECT series.id, layout, slack, definition FROM series JOIN layouts ON layouts.id = series.layout "
            "WHERE device = ?"
        )
        for number, other, slack, definition in connection.execute(question, (device,)).fetchall():
            if (device, other) not in self._series:
                its = packing if other == layout else self._layout(msgspec.msgpack.decode(definition, type=Layout))[1]
                self._join(device, other, _Series(number, its, self._latest(number), slack))
        return self._series[device, layout]

    def _latest(self, number: int) -> int:
        row = self._connection.execute("SELECT max(measured_at) FROM blocks WHERE series = ?", (number,)).fetchone()
        return INT64[0] if row[0] is None else int(row[0])

    def _join(self, device: str, layout: int, series: _Series) -> None:
        """Keep a series in memory, tied to those of its device that share a channel with it."""
        for other in self._of_device.setdefault(device, []):
            if _shared(series.packing.layout, other.packing.layout):
                series.rivals.append(other)
                other.rivals.append(series)
        self._of_device[device].append(series)
        self._series[device, layout] = series

    def _insert(self, rows: Sequence[_Row]) -> None:
        whole = len(rows) - len(rows) % ROWS_AT_ONCE
        for at in range(0, whole, ROWS_AT_ONCE):
            self._connection.execute(_MANY, tuple(chain.from_iterable(rows[at : at + ROWS_AT_ONCE])))
        self._connection.executemany(_ONE, rows[whole:])

    def _settle(self, series: _Series, row: _Row, tally: _Tally) -> None:
        """Store a row where others of its channels and time may stand already, and count what it is to them."""
        held: dict[Column, set[_Identity]] = {}
        for one in (series, *series.rivals):
            question = "SELECT content FROM blocks WHERE series = ? AND measured_at = ?"
            for (content,) in self._connection.execute(question, (one.number, row[1])).fetchall():
                if content == row[2] and one is series:
                    tally.duplicates += len(one.packing.codes)
                    self._connection.execute(_ONE, row)
                    return
                for column, identity in _identities(one.packing, content):
                    held.setdefault(column, set()).add(identity)
        for column, identity in _identities(series.packing, row[2]):
            if column not in held:
                tally.stored += 1
            elif identity in held[column]:
                tally.duplicates += 1
            else:
                tally.versions += 1
        self._connection.execute(_ONE, row)
        series.latest = max(series.latest, row[1])


def _identities(packing: Packing, content: bytes) -> Iterator[tuple[Column, _Identity]]:
    values, quality = packing.unpack(content)
    for index, column in enumerate(packing.layout.columns):
        yield column, Version(values[index], quality[index] if quality else 0, 0, None, 0).identity()


def _shared(one: Layout, other: Layout) -> bool:
    """Tell whether two layouts have a channel in common."""
    same = (one.kind, one.source, one.interval) == (other.kind, other.source, other.interval)
    return same and not set(one.columns).isdisjoint(other.columns)
