"""InfluxQL questions to the schema of `line_protocol`, and their answers as copies, blocks of rows, layouts, events.

Not which copy is the current one (`influx_pages`) and not the connection (`influx_link`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import msgspec

from metering.model import Event, Expectation, Kind, Layout, Source
from storage.influx_link import InfluxLink, Row
from storage.line_protocol import (
    BOOKKEEPING,
    EVENTS,
    EXPECTATIONS,
    LAYOUTS,
    NO_END,
    READINGS,
    VERSIONS,
    Copy,
    LayoutLines,
    layout_from,
)

DEVICES_PER_QUESTION = 500
ROWS_PER_QUESTION = 5000  # at most so many rows are asked for at once; longer ranges are read on from the last time

# InfluxDB keeps nanoseconds in 64 bits and takes the two lowest for itself.
_FIRST_NS, _LAST_NS = -(2**63) + 2, 2**63 - 2
_BOOKKEEPING = ", ".join(f'"{name}"' for name in BOOKKEEPING)


class Found(NamedTuple):
    """A stored copy and where it stands; `version` is 0 in `readings`."""

    device: str
    time: int
    lines: LayoutLines
    version: int
    copy: Copy


def name(identifier: str) -> str:
    """Return an InfluxQL identifier in its quotes."""
    return '"' + identifier.replace("\\", "\\\\").replace('"', '\\"') + '"'


def text(value: str) -> str:
    """Return an InfluxQL string in its quotes."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def any_of(tag: str, values: Iterable[str]) -> str:
    """Return the condition that a tag has one of these values."""
    return "(" + " OR ".join(f"{name(tag)} = {text(value)}" for value in values) + ")"


def between(first: int, last: int) -> str:
    """Return the condition first <= time <= last, in microseconds."""
    first_ns, last_ns = (max(_FIRST_NS, min(_LAST_NS, instant * 1000)) for instant in (first, last))
    return f"time >= {first_ns} AND time <= {last_ns}"


def select(fields: str, source: str, where: str = "", rest: str = "") -> str:
    """Return a SELECT statement. What comes from outside is in `fields` and `where`, quoted by the functions above."""
    condition = f" WHERE {where}" if where else ""
    return f"SELECT {fields} FROM {source}{condition} {rest}"  # noqa: S608 - InfluxQL takes no parameters on every version; all is quoted


class Catalogue:
    """The layouts that the server knows, each with its lines. Grows; what it once knew stays true."""

    def __init__(self, link: InfluxLink) -> None:
        self._link = link
        self._by_key: dict[str, LayoutLines] = {}

    def add(self, layout: Layout) -> LayoutLines:
        """Return the lines of a layout that is about to be written."""
        lines = LayoutLines(layout)
        return self._by_key.setdefault(lines.key, lines)

    def refresh(self) -> None:
        """Read all definitions."""
        question = select('"definition"', LAYOUTS, rest='GROUP BY "layout" ORDER BY time DESC LIMIT 1')
        for row in self._link.rows(question):
            if row.tags["layout"] not in self._by_key:
                self.add(layout_from(row.cells[0]))

    def lines(self, keys: Iterable[str]) -> list[LayoutLines]:
        """Return the lines of these layouts, from the server where they are new."""
        keys = list(keys)
        if any(key not in self._by_key for key in keys):
            self.refresh()
        return [self._by_key[key] for key in keys if key in self._by_key]

    def all(self) -> Sequence[LayoutLines]:
        """Return all that are known here."""
        return list(self._by_key.values())


def series_ends(link: InfluxLink, devices: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return (device, layout key) -> the latest time in `readings`."""
    ends = {}
    for at in range(0, len(devices), DEVICES_PER_QUESTION):
        where = any_of("device", devices[at : at + DEVICES_PER_QUESTION])
        question = select('"received"', READINGS, where, 'GROUP BY "device", "layout" ORDER BY time DESC LIMIT 1')
        for row in link.rows(question):
            ends[row.tags["device"], row.tags["layout"]] = row.time
    return ends


def _fields(lines: LayoutLines, indexes: Sequence[int]) -> str:
    return ", ".join([*(name(lines.names[index]) for index in indexes), _BOOKKEEPING])


def copies_between(
    link: InfluxLink, lines: LayoutLines, devices: Sequence[str], first: int, last: int
) -> Iterator[Found]:
    """Yield all copies of one layout's blocks of these devices (at most 500) in a time range, versions last."""
    indexes = range(len(lines.names))
    where = f'"layout" = {text(lines.key)} AND {any_of("device", devices)} AND {between(first, last)}'
    for measurement, grouping in ((READINGS, '"device"'), (VERSIONS, '"device", "number"')):
        for row in link.rows(select(_fields(lines, indexes), measurement, where, f"GROUP BY {grouping}")):
            yield _found(lines, row, indexes)


def last_copies(
    link: InfluxLink, lines: LayoutLines, devices: Sequence[str], indexes: Sequence[int]
) -> Iterator[Found]:
    """Yield the copy at the latest time of each device and the last one of each version number."""
    where = f'"layout" = {text(lines.key)} AND {any_of("device", devices)}'
    for measurement, grouping in ((READINGS, '"device"'), (VERSIONS, '"device", "number"')):
        last = f"GROUP BY {grouping} ORDER BY time DESC LIMIT 1"
        for row in link.rows(select(_fields(lines, indexes), measurement, where, last)):
            yield _found(lines, row, indexes)


def _found(lines: LayoutLines, row: Row, indexes: Sequence[int]) -> Found:
    copy = lines.copy_from(row.cells, indexes)
    return Found(row.tags["device"], row.time, lines, int(row.tags.get("number", "0")), copy)


def copies_in_order(
    link: InfluxLink, lines: LayoutLines, device: str, indexes: Sequence[int], first: int, last: int, rows: int
) -> Iterator[tuple[int, LayoutLines, Copy]]:
    """Yield (time, lines, copy) of one device and layout in the order of time, `readings` and `versions` merged.

    About `rows` rows are asked for at a time.
    """
    where = f'"device" = {text(device)} AND "layout" = {text(lines.key)}'
    for group in _groups(link, _fields(lines, indexes), f"{READINGS}, {VERSIONS}", where, first, last, rows):
        for row in group:
            yield row.time, lines, lines.copy_from(row.cells, indexes)


def _groups(
    link: InfluxLink, fields: str, source: str, where: str, first: int, last: int, rows: int
) -> Iterator[list[Row]]:
    """Yield the rows of each time in order, never a time in part."""
    rows = max(2, min(rows, ROWS_PER_QUESTION))
    while first <= last:
        question = select(fields, source, f"{where} AND {between(first, last)}", f"ORDER BY time ASC LIMIT {rows}")
        # A statement over two measurements answers with a series for each, and LIMIT counts in each.
        series: dict[str, list[Row]] = defaultdict(list)
        for row in link.rows(question):
            series[row.measurement].append(row)
        cut = [one[-1].time for one in series.values() if len(one) >= rows]
        found = sorted((row for one in series.values() for row in one), key=attrgetter("time"))
        until = min(cut) if cut else last + 1
        for time, group in groupby(found, key=attrgetter("time")):
            if time < until:
                yield list(group)
        if not cut:
            return
        if found[0].time == until:
            rows *= 2  # more rows at one time than were asked for
        first = until


def slots_between(
    link: InfluxLink, lines: LayoutLines, device: str, first: int, last: int
) -> Iterator[tuple[int, int | None, int]]:
    """Yield (time, slot, received) of one device and layout in `readings` and `versions`."""
    where = f'"device" = {text(device)} AND "layout" = {text(lines.key)} AND {between(first, last)}'
    for row in link.rows(select('"slot", "received"', f"{READINGS}, {VERSIONS}", where)):
        yield row.time, row.cells[0], row.cells[1]


def first_time(link: InfluxLink, layouts: Sequence[LayoutLines], device: str, first: int, last: int) -> int | None:
    """Return the earliest time of a device's points of these layouts in a range, None where there is none."""
    keys = any_of("layout", (lines.key for lines in layouts))
    where = f'"device" = {text(device)} AND {keys} AND {between(first, last)}'
    question = select('"received"', f"{READINGS}, {VERSIONS}", where, "ORDER BY time ASC LIMIT 1")
    return min((row.time for row in link.rows(question)), default=None)


def events_in_order(
    link: InfluxLink, devices: Sequence[str], first: int, last: int, rows: int
) -> Iterator[tuple[int, Event]]:
    """Yield (number, event) in the order of (time, id)."""
    fields = '"code", "name", "detail", "received", "device", "number"'
    for group in _groups(link, fields, EVENTS, any_of("device", devices), first, last, rows):
        found = []
        for row in group:
            code, word, detail, received, device, number = row.cells
            details = msgspec.json.decode(detail, type=dict[str, str])
            found.append((int(number), Event(device, row.time, code, word, received, details)))
        yield from sorted(found, key=lambda pair: pair[1].id)


def expectations_of(link: InfluxLink, device: str) -> list[Expectation]:
    """Return all promises to read a device, in the order of `since`."""
    fields = '"until", "interval", "kind", "obis", "source"'
    found = []
    for row in link.rows(select(fields, EXPECTATIONS, f'"device" = {text(device)}')):
        until, interval, kind, codes, source = row.cells
        obis = () if codes == "-" else tuple(codes.split(";"))
        end = None if until == NO_END else until
        found.append(Expectation(device, Kind(kind), Source(source), int(interval), obis, row.time, end))
    return sorted(found, key=lambda one: (one.since, one.kind, one.source, one.interval, one.obis))
