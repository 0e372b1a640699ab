"""Readings and latest values out of the embedded store's rows, and which version is current. Writes nothing."""

import sqlite3
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec

from metering.model import Kind, Layout
from metering.ports import Channel, Page, Reading, ReadingsQuery
from metering.runs import Part, Readings
from storage.embedded_rows import FIRST, NUMBERS, OPTIONAL, TEXTS, Packings, Row, Stream, series_of, wanted_of
from storage.versions import Order, Place, Version, from_cursor, place_of, resolve, to_cursor

ROWS_AT_ONCE = 4096  # rows of one series that are held in memory at a time
SLICE = 256  # rows that are looked at together for whether they are plain
DEVICES_AT_ONCE = 200  # devices whose latest rows are held in memory at a time

_LATEST = """
SELECT json_group_array(series), json_group_array(measured_at), json_group_array(delay), json_group_array(lag),
    json_group_array(revision), json_group_array(hex(content))
FROM blocks JOIN json_each(?) AS wanted ON blocks.series = wanted.value
WHERE measured_at = (SELECT max(measured_at) FROM blocks AS other WHERE other.series = wanted.value)
"""


def read_page(connection: sqlite3.Connection, packings: Packings, query: ReadingsQuery) -> Page:
    """Return one page of one device's readings."""
    after = from_cursor(query.after, Place) if query.after else None
    known = series_of(connection, packings, [query.device])
    streams = [Stream(series, query) for series in known if _asked_for(series.packing.layout, query)]
    found: list[Part] = []
    count = 0
    passed, least = after[0] if after else FIRST, 2
    while streams and count <= query.limit:
        narrowest = min(len(stream.wanted) for stream in streams)
        rows = max(least, min(ROWS_AT_ONCE, (query.limit + 1 - count) // narrowest + 2))
        for stream in streams:
            stream.fetch(connection, passed, rows)
        # A series that was cut short may hold more at its last time: that time waits for the next round.
        horizon = min((stream.times[-1] for stream in streams if stream.full), default=None)
        more = _readings_before(streams, horizon, query, after)
        found += more
        count += sum(map(len, more))
        if horizon is None:
            break
        # More versions of one time than rows were asked for: ask for more.
        least = rows * 2 if horizon == passed else 2
        passed = horizon
    if count <= query.limit:
        return Page(Readings(found), "")
    kept = Readings(found).first(query.limit)
    return Page(kept, to_cursor(place_of(kept.last)))


def _asked_for(layout: Layout, query: ReadingsQuery) -> bool:
    return (
        (not query.kinds or layout.kind in query.kinds)
        and (not query.sources or layout.source in query.sources)
        and (not query.obis or any(column.obis in query.obis for column in layout.columns))
    )


def _readings_before(
    streams: Sequence[Stream], horizon: int | None, query: ReadingsQuery, after: Place | None
) -> list[Part]:
    """Return the readings of the rows that are held, of times before the horizon and behind the cursor."""
    parts = []
    for stream in streams:
        count = len(stream.times) if horizon is None else bisect_left(stream.times, horizon)
        if count:
            parts.append((stream, count))
    if len(parts) != 1:
        rows = [row for stream, count in parts for row in stream.rows(0, count)]
        rows.sort(key=attrgetter("measured_at"))
        return [list(_resolved(rows, after, versions=query.versions))]
    return _of_one_stream(*parts[0], query, after)


def _of_one_stream(stream: Stream, count: int, query: ReadingsQuery, after: Place | None) -> list[Part]:
    """Return the readings of the first rows of one stream, plain ones in stretches as long as they are."""
    found: list[Part] = []
    plain = start = 0  # the rows from `plain` to `start` are plain ones
    while start < count:
        stop = min(start + SLICE, count)
        while stop < count and stream.times[stop] == stream.times[stop - 1]:
            stop += 1
        if not stream.plain(start, stop) or (after is not None and stream.times[start] <= after[0]):
            if plain < start:
                found.append(stream.plain_readings(plain, start))
            found.append(list(_resolved(stream.rows(start, stop), after, versions=query.versions)))
            plain = stop
        start = stop
    if plain < count:
        found.append(stream.plain_readings(plain, count))
    return found


def _resolved(rows: Iterable[Row], after: Place | None, *, versions: bool) -> Iterator[Reading]:
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


def _of_one_row(row: Row) -> Iterator[Reading]:
    for _, channel, index in row.wanted:
        flags = row.quality[index] if row.quality else 0
        yield Reading(channel, row.measured_at, row.received_at, row.values[index], row.slot, flags, row.revision)


def _of_rows(rows: Sequence[Row], *, versions: bool) -> Iterator[Reading]:
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
    rows: dict[str, list[Row]] = defaultdict(list)
    answer = connection.execute(_LATEST, (msgspec.json.encode(list(known)).decode(),)).fetchone()
    numbers = (NUMBERS.decode(answer[0]), NUMBERS.decode(answer[1]), NUMBERS.decode(answer[2]))
    rest = (OPTIONAL.decode(answer[3]), NUMBERS.decode(answer[4]), TEXTS.decode(answer[5]))
    wanted = {number: wanted_of(series) for number, series in known.items()}
    for number, time, delay, lag, revision, content in zip(*numbers, *rest, strict=True):
        series = known[number]
        values, quality = series.packing.unpack(bytes.fromhex(content))
        slot = None if lag is None else time - lag
        rows[series.device].append(Row(time, time + delay, slot, revision, values, quality, wanted[number]))
    return [reading for device in devices if device in rows for reading in _latest_of(rows[device])]


def _latest_of(rows: Sequence[Row]) -> Iterator[Reading]:
    """Yield the current value at the latest time of each channel in the last rows of one device's series."""
    if len(rows) == 1:
        yield from _of_one_row(rows[0])
        return
    held: dict[Order, tuple[Channel, list[tuple[Row, int]]]] = {}
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
