"""Readings and latest values out of the embedded store's tables, and which copy is current. Writes nothing.

Rows are gathered inside SQLite and come back as one row of JSON arrays and hex. Python's sqlite3 releases and takes
the interpreter's lock at each row; with another busy thread each of them may cost 5 ms.
"""

import sqlite3
import struct
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, repeat
from operator import attrgetter
from typing import NamedTuple

import msgspec

from metering.model import Kind, Layout
from metering.ports import Channel, Page, Reading, ReadingsQuery
from storage.packing import Packing
from storage.versions import (
    Order,
    Place,
    Version,
    bounds,
    from_cursor,
    place_of,
    resolve,
    to_cursor,
)

ROWS_AT_ONCE = 4096  # rows of one series that are held in memory at a time
SLICE = 256  # rows that are looked at together for whether they are plain
DEVICES_AT_ONCE = 200  # devices whose latest rows are held in memory at a time

FIRST, LAST = -(2**63), 2**63 - 1

_numbers = msgspec.json.Decoder(list[int])
_optional = msgspec.json.Decoder(list[int | None])
_texts = msgspec.json.Decoder(list[str])

_ROWS = """
FROM (SELECT * FROM blocks WHERE series = :series AND measured_at BETWEEN :first AND :last
      ORDER BY measured_at LIMIT :rows)
"""
_PLAIN = f"""
SELECT json_group_array(measured_at), json_group_array(delay), json_group_array(lag),
    group_concat(hex(substr(content, :at, :size)), ''), coalesce(max(length(content)), 0), coalesce(max(revision), 0),
    coalesce(min(revision), 0)
{_ROWS}"""
_ODD = f"SELECT json_group_array(revision), group_concat(hex(substr(content, :tail)), ',') {_ROWS}"
_LATEST = """
SELECT json_group_array(series), json_group_array(measured_at), json_group_array(delay), json_group_array(lag),
    json_group_array(revision), json_group_array(hex(content))
FROM blocks JOIN json_each(?) AS wanted ON blocks.series = wanted.value
WHERE measured_at = (SELECT max(measured_at) FROM blocks AS other WHERE other.series = wanted.value)
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

    def forget(self) -> None:
        """Forget layouts whose insertion may have been taken back."""
        self._of.clear()


class _Wanted(NamedTuple):
    """A channel that is asked for: its place in the order of answers, and its column's index in the row."""

    order: Order
    channel: Channel
    column: int


class _Row(NamedTuple):
    """One stored block, as far as it is wanted."""

    measured_at: int
    received_at: int
    slot: int | None
    revision: int
    values: Sequence[float | None]
    quality: Sequence[int]
    wanted: Sequence[_Wanted]

    def version(self, index: int) -> Version:
        flags = self.quality[index] if self.quality else 0
        return Version(self.values[index], flags, self.received_at, self.slot, self.revision)


def _wanted(series: Series, obis: Sequence[str] = ()) -> list[_Wanted]:
    layout = series.packing.layout
    device, kind, source, interval = series.device, layout.kind, layout.source, layout.interval
    return [
        _Wanted(order, Channel(device, kind, source, interval, layout.columns[index]), index)
        for order, index in series.packing.ordered
        if not obis or order[0] in obis
    ]


class _Stream:
    """The rows of one series inside a question's range, a bounded number at a time."""

    def __init__(self, series: Series, query: ReadingsQuery) -> None:
        self.wanted = _wanted(series, query.obis)
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
        code = "<" + packing.codes[column]
        self._one = len(self.wanted) == 1
        asked = {
            "at": packing.offsets[column] + 1 if self._one else 1,
            "size": struct.calcsize(code) if self._one else packing.width,
            "tail": packing.width + 1,
            "series": self._series.id,
            "first": max(first, self._first),
            "last": self._last,
            "rows": rows,
        }
        answer = connection.execute(_PLAIN, asked).fetchone()
        self._tails, self._revisions = [], []
        if answer[4] > packing.width or answer[5] or answer[6]:
            self._one = False  # a tail tells of all columns
            asked |= {"at": 1, "size": packing.width}
            answer = connection.execute(_PLAIN, asked).fetchone()
            odd = connection.execute(_ODD, asked).fetchone()
            self._revisions, self._tails = _numbers.decode(odd[0]), odd[1].split(",")
        self.times, self._delays = _numbers.decode(answer[0]), _numbers.decode(answer[1])
        self._lags = _optional.decode(answer[2])
        self.full = len(self.times) == rows
        raw = bytes.fromhex(answer[3] or "")
        self._values = list(struct.iter_unpack(code, raw) if self._one else packing.iter_unpack(raw))

    def plain(self, start: int, stop: int) -> bool:
        """Tell whether these rows have all values, no flags, and no two of one time."""
        return not any(self._tails[start:stop]) and len(set(self.times[start:stop])) == stop - start

    def plain_readings(self, start: int, stop: int) -> list[Reading]:
        """Return the readings of plain rows: the hot path of a month of one channel."""
        part = slice(start, stop)
        rows = zip(
            self.times[part],
            self._delays[part],
            self._lags[part],
            self._revisions[part] or repeat(0, stop - start),
            self._values[part],
            strict=True,
        )
        if self._one:
            channel = self.wanted[0].channel
            return [
                Reading(channel, time, time + delay, value, None if lag is None else time - lag, 0, revision)
                for time, delay, lag, revision, (value,) in rows
            ]
        pairs = [(one.channel, one.column) for one in self.wanted]
        return [
            Reading(channel, time, time + delay, values[index], None if lag is None else time - lag, 0, revision)
            for time, delay, lag, revision, values in rows
            for channel, index in pairs
        ]

    def rows(self, start: int, stop: int) -> Iterator[_Row]:
        """Yield rows with everything about them."""
        packing = self._series.packing
        wanted = [one._replace(column=0) for one in self.wanted] if self._one else self.wanted
        for at in range(start, stop):
            time, lag = self.times[at], self._lags[at]
            values: Sequence[float | None] = self._values[at]
            quality: Sequence[int] = ()
            if self._tails and self._tails[at]:
                values, quality = packing.apply(self._values[at], bytes.fromhex(self._tails[at]))
            slot = None if lag is None else time - lag
            yield _Row(
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
    columns = (_numbers.decode(answer[0]), _numbers.decode(answer[1]), _numbers.decode(answer[2]))
    return [
        Series(number, packings.get(connection, layout), slack, device)
        for number, layout, slack, device in zip(*columns, _texts.decode(answer[3]), strict=True)
    ]


def read_page(connection: sqlite3.Connection, packings: Packings, query: ReadingsQuery) -> Page:
    """Return one page of one device's readings."""
    after = from_cursor(query.after, Place) if query.after else None
    known = series_of(connection, packings, [query.device])
    streams = [_Stream(series, query) for series in known if _asked_for(series.packing.layout, query)]
    found: list[Reading] = []
    passed, least = after[0] if after else FIRST, 2
    while streams and len(found) <= query.limit:
        narrowest = min(len(stream.wanted) for stream in streams)
        rows = max(least, min(ROWS_AT_ONCE, (query.limit + 1 - len(found)) // narrowest + 2))
        for stream in streams:
            stream.fetch(connection, passed, rows)
        # A series that was cut short may hold more at its last time: that time waits for the next round.
        horizon = min((stream.times[-1] for stream in streams if stream.full), default=None)
        found += _readings_before(streams, horizon, query, after)
        if horizon is None:
            break
        # More versions of one time than rows were asked for: ask for more.
        least = rows * 2 if horizon == passed else 2
        passed = horizon
    if len(found) <= query.limit:
        return Page(found, "")
    return Page(found[: query.limit], to_cursor(place_of(found[query.limit - 1])))


def _asked_for(layout: Layout, query: ReadingsQuery) -> bool:
    return (
        (not query.kinds or layout.kind in query.kinds)
        and (not query.sources or layout.source in query.sources)
        and (not query.obis or any(column.obis in query.obis for column in layout.columns))
    )


def _readings_before(
    streams: Sequence[_Stream], horizon: int | None, query: ReadingsQuery, after: Place | None
) -> list[Reading]:
    """Return the readings of the rows that are held, of times before the horizon and behind the cursor."""
    parts = []
    for stream in streams:
        count = len(stream.times) if horizon is None else bisect_left(stream.times, horizon)
        if count:
            parts.append((stream, count))
    if len(parts) != 1:
        rows = [row for stream, count in parts for row in stream.rows(0, count)]
        rows.sort(key=attrgetter("measured_at"))
        return list(_resolved(rows, after, versions=query.versions))
    stream, count = parts[0]
    found: list[Reading] = []
    start = 0
    while start < count:
        stop = min(start + SLICE, count)
        while stop < count and stream.times[stop] == stream.times[stop - 1]:
            stop += 1
        if stream.plain(start, stop) and (after is None or stream.times[start] > after[0]):
            found += stream.plain_readings(start, stop)
        else:
            found += _resolved(stream.rows(start, stop), after, versions=query.versions)
        start = stop
    return found


def _resolved(rows: Iterable[_Row], after: Place | None, *, versions: bool) -> Iterator[Reading]:
    """Yield readings of rows in the order of time, whatever layouts they came in, without what the cursor passed."""
    for time, group in groupby(rows, key=attrgetter("measured_at")):
        same = list(group)
        readings = _of_one_row(same[0]) if len(same) == 1 else _of_rows(same, versions=versions)
        if after is not None and time == after[0]:
            yield from (reading for reading in readings if _behind(place_of(reading), after))
        else:
            yield from readings


def _behind(place: Place, after: Place) -> bool:
    """Tell whether a place of the same time comes after a cursor; versions go from the highest to the lowest."""
    return place[1] > after[1] or (place[1] == after[1] and place[2] < after[2])


def _of_one_row(row: _Row) -> Iterator[Reading]:
    for _, channel, index in row.wanted:
        flags = row.quality[index] if row.quality else 0
        yield Reading(channel, row.measured_at, row.received_at, row.values[index], row.slot, flags, row.revision)


def _of_rows(rows: Sequence[_Row], *, versions: bool) -> Iterator[Reading]:
    held: dict[Order, tuple[Channel, list[Version]]] = {}
    for row in rows:
        for order, channel, index in row.wanted:
            held.setdefault(order, (channel, []))[1].append(row.version(index))
    for order in sorted(held):
        channel, arrivals = held[order]
        ranked = resolve(arrivals)
        for version in ranked if versions else ranked[:1]:
            value, flags, received_at, slot, revision = version
            time, current = rows[0].measured_at, version is ranked[0]
            yield Reading(channel, time, received_at, value, slot, flags, revision, current)


def read_latest(
    connection: sqlite3.Connection, packings: Packings, devices: Sequence[str], kinds: Sequence[Kind]
) -> list[Reading]:
    """Return the current value at the latest time of each channel, device by device in the given order."""
    known = {
        series.id: series
        for series in series_of(connection, packings, devices)
        if not kinds or series.packing.layout.kind in kinds
    }
    rows: dict[str, list[_Row]] = defaultdict(list)
    answer = connection.execute(_LATEST, (msgspec.json.encode(list(known)).decode(),)).fetchone()
    numbers = (_numbers.decode(answer[0]), _numbers.decode(answer[1]), _numbers.decode(answer[2]))
    rest = (_optional.decode(answer[3]), _numbers.decode(answer[4]), _texts.decode(answer[5]))
    wanted = {number: _wanted(series) for number, series in known.items()}
    for number, time, delay, lag, revision, content in zip(*numbers, *rest, strict=True):
        series = known[number]
        values, quality = series.packing.unpack(bytes.fromhex(content))
        slot = None if lag is None else time - lag
        rows[series.device].append(_Row(time, time + delay, slot, revision, values, quality, wanted[number]))
    return [reading for device in devices if device in rows for reading in _latest_of(rows[device])]


def _latest_of(rows: Sequence[_Row]) -> Iterator[Reading]:
    """Yield the current value at the latest time of each channel in the last rows of one device's series."""
    if len(rows) == 1:
        yield from _of_one_row(rows[0])
        return
    held: dict[Order, tuple[Channel, list[tuple[_Row, int]]]] = {}
    for row in rows:
        for order, channel, index in row.wanted:
            there = held.setdefault(order, (channel, []))[1]
            if there and there[0][0].measured_at < row.measured_at:
                there.clear()
            if not there or there[0][0].measured_at == row.measured_at:
                there.append((row, index))
    for order in sorted(held):
        channel, last = held[order]
        value, flags, received_at, slot, revision = resolve([row.version(index) for row, index in last])[0]
        yield Reading(channel, last[0][0].measured_at, received_at, value, slot, flags, revision)
