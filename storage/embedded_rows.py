"""Rows of the embedded store's blocks table, gathered a bounded number at a time. Not which of them is current.

Rows are gathered inside SQLite and come back as one row of JSON arrays and hex. Python's sqlite3 releases and takes
the interpreter's lock at each row; with another busy thread each of them may cost 5 ms.
"""

import sqlite3
import struct
from collections.abc import Iterator, Sequence
from operator import add
from typing import NamedTuple

import msgspec

from metering.model import Layout
from metering.ports import Channel, Reading, ReadingsQuery
from metering.runs import Part, Run
from storage.packing import Packing
from storage.versions import (
    Order,
    Version,
    bounds,
)

FIRST, LAST = -(2**63), 2**63 - 1

NUMBERS = msgspec.json.Decoder(list[int])
OPTIONAL = msgspec.json.Decoder(list[int | None])
TEXTS = msgspec.json.Decoder(list[str])

# What is worked out inside the inner query is copied once; a whole row would be copied column by column.
_PLAIN = """
SELECT json_group_array(measured_at), json_group_array(delay), json_group_array(lag), group_concat(part, ''), max(odd)
FROM (
    SELECT measured_at, delay, lag, hex(substr(content, :at, :size)) AS part,
        length(content) > :width OR revision AS odd
    FROM blocks WHERE series = :series AND measured_at BETWEEN :first AND :last ORDER BY measured_at LIMIT :rows)
"""
_ODD = """
SELECT json_group_array(revision), group_concat(tail, ',')
FROM (
    SELECT revision, hex(substr(content, :width + 1)) AS tail
    FROM blocks WHERE series = :series AND measured_at BETWEEN :first AND :last ORDER BY measured_at LIMIT :rows)
"""
_SERIES = """
SELECT json_group_array(id), json_group_array(layout), json_group_array(slack), json_group_array(device)
FROM series WHERE device IN (SELECT value FROM json_each(?))
"""


class Series(NamedTuple):
    """Blocks of one layout of one device."""

    id: int
    packing: Packing
    slack: int
    device: str


class Packings:
    """The layouts that the file knows, each with its packing. Grows; what it once knew stays true."""

    def __init__(self) -> None:
        self._of: dict[int, Packing] = {}

    def get(self, connection: sqlite3.Connection, layout: int) -> Packing:
        """Return the packing of a layout by its number."""
        found = self._of.get(layout)
        if found is None:
            row = connection.execute("SELECT definition FROM layouts WHERE id = ?", (layout,)).fetchone()
            found = self._of[layout] = Packing(msgspec.msgpack.decode(row[0], type=Layout))
        return found


class Wanted(NamedTuple):
    """A channel that is asked for: its place in the order of answers, and its column's index in the row."""

    order: Order
    channel: Channel
    column: int


class Row(NamedTuple):
    """One stored block, as far as it is wanted."""

    measured_at: int
    received_at: int
    slot: int | None
    revision: int
    values: Sequence[float | None]
    quality: Sequence[int]
    wanted: Sequence[Wanted]

    def version(self, index: int) -> Version:
        """Return what the row says about the channel whose value stands at `index`."""
        flags = self.quality[index] if self.quality else 0
        return Version(self.values[index], flags, self.received_at, self.slot, self.revision)


def wanted_of(series: Series, obis: Sequence[str] = ()) -> list[Wanted]:
    """Return the channels of a series that have one of these OBIS codes (none: all), in the order of answers."""
    layout = series.packing.layout
    device, kind, source, interval = series.device, layout.kind, layout.source, layout.interval
    return [
        Wanted(order, Channel(device, kind, source, interval, layout.columns[index]), index)
        for order, index in series.packing.ordered
        if not obis or order[0] in obis
    ]


class Stream:
    """The rows of one series inside a question's range, a bounded number at a time."""

    def __init__(self, series: Series, query: ReadingsQuery) -> None:
        self.wanted = wanted_of(series, query.obis)
        first, last = bounds(series.packing.layout.kind, query.start, query.end)
        self._first, self._last = max(first, FIRST), min(last, LAST)
        self._series = series
        self._one = False  # only one column's bytes are fetched
        self.times: list[int] = []
        self._tails: list[str] = []
        self._revisions: list[int] = []
        self.full = False  # there may be more rows

    def fetch(self, connection: sqlite3.Connection, first: int, rows: int) -> None:
        """Hold at most `rows` rows from `first` on."""
        packing = self._series.packing
        column = self.wanted[0].column
        self._one = len(self.wanted) == 1
        asked = {
            "at": packing.offsets[column] + 1 if self._one else 1,
            "size": struct.calcsize(packing.codes[column]) if self._one else packing.width,
            "width": packing.width,
            "series": self._series.id,
            "first": max(first, self._first),
            "last": self._last,
            "rows": rows,
        }
        answer = connection.execute(_PLAIN, asked).fetchone()
        self._tails, self._revisions = [], []
        if answer[4]:
            self._one = False  # a tail tells of all columns
            asked |= {"at": 1, "size": packing.width}
            answer = connection.execute(_PLAIN, asked).fetchone()
            odd = connection.execute(_ODD, asked).fetchone()
            self._revisions, self._tails = NUMBERS.decode(odd[0]), odd[1].split(",")
        self.times, self._delays = NUMBERS.decode(answer[0]), NUMBERS.decode(answer[1])
        self._lags = OPTIONAL.decode(answer[2])
        self.full = len(self.times) == rows
        raw = bytes.fromhex(answer[3] or "")
        self._column: Sequence[float] = ()
        self._values: Sequence[tuple[float, ...]] = ()
        if self._one:
            self._column = struct.unpack(f"<{len(self.times)}{packing.codes[column]}", raw)
        else:
            self._values = list(packing.iter_unpack(raw))

    def plain(self, start: int, stop: int) -> bool:
        """Tell whether these rows have all values, no flags, and no two of one time."""
        return not any(self._tails[start:stop]) and len(set(self.times[start:stop])) == stop - start

    def plain_readings(self, start: int, stop: int) -> Part:
        """Return the readings of plain rows; those of one channel as columns."""
        part = slice(start, stop)
        times = self.times[part]
        arrivals = list(map(add, times, self._delays[part]))
        lags = self._lags[part]
        slots: list[int | None] = [None if lag is None else time - lag for time, lag in zip(times, lags, strict=True)]
        revisions = self._revisions[part] or [0] * len(times)
        if len(self.wanted) == 1:
            channel, column = self.wanted[0].channel, self.wanted[0].column
            values = self._column[part] if self._one else [row[column] for row in self._values[part]]
            return Run(channel, times, arrivals, values, slots, revisions)
        pairs = [(one.channel, one.column) for one in self.wanted]
        return [
            Reading(channel, time, received_at, values[index], slot, 0, revision)
            for time, received_at, values, slot, revision in zip(
                times, arrivals, self._values[part], slots, revisions, strict=True
            )
            for channel, index in pairs
        ]

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Yield rows with everything about them."""
        packing = self._series.packing
        wanted = [one._replace(column=0) for one in self.wanted] if self._one else self.wanted
        for at in range(start, stop):
            time, lag = self.times[at], self._lags[at]
            values: Sequence[float | None] = (self._column[at],) if self._one else self._values[at]
            quality: Sequence[int] = ()
            if self._tails and self._tails[at]:
                values, quality = packing.apply(self._values[at], bytes.fromhex(self._tails[at]))
            slot = None if lag is None else time - lag
            yield Row(
                time,
                time + self._delays[at],
                slot,
                self._revisions[at] if self._revisions else 0,
                values,
                quality,
                wanted,
            )


def series_of(connection: sqlite3.Connection, packings: Packings, devices: Sequence[str]) -> list[Series]:
    """Return all series of these devices."""
    answer = connection.execute(_SERIES, (msgspec.json.encode(devices).decode(),)).fetchone()
    columns = (NUMBERS.decode(answer[0]), NUMBERS.decode(answer[1]), NUMBERS.decode(answer[2]))
    return [
        Series(number, packings.get(connection, layout), slack, device)
        for number, layout, slack, device in zip(*columns, TEXTS.decode(answer[3]), strict=True)
    ]
