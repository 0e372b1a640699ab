"""Readings, latest values and slots out of the copies that InfluxDB holds: versions resolved for each channel.

A channel's values may stand in points of several layouts (a correction can come as a block of one column), so they
are brought together by channel and time, whatever layout they came in.
"""

import base64
import binascii
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVar

import msgspec

from metering import quality
from metering.errors import StorageError
from metering.model import SECOND, Event, Kind
from metering.ports import Channel, Page, Reading, ReadingsQuery, SlotsQuery
from storage.influx_link import InfluxLink
from storage.influx_read import (
    DEVICES_PER_QUESTION,
    Catalogue,
    copies_in_order,
    events_in_order,
    last_copies,
    series_ends,
    slots_between,
)
from storage.line_protocol import NO_SLOT, Copy, LayoutLines

OF_AN_INTERVAL = frozenset({Kind.INTERVAL, Kind.AVERAGE, Kind.MAXIMUM_DEMAND})  # measured_at is the interval's end
SLOT_REACH = 86_400 * SECOND  # a snapshot is looked for so far from the slot that it belongs to
SLOT_WINDOW = 31 * 86_400 * SECOND  # slots are gathered for so long a time at once

_T = TypeVar("_T")
_Order = tuple[str, str, str, int, str, int, str]


class _Version(NamedTuple):
    value: int | float | None
    quality: int
    received: int
    slot: int | None
    revision: int

    def precedence(self) -> tuple[int, int, int, bool, float, int]:
        """Return what orders versions: rank, revision, received_at; then value and quality, so that none are equal."""
        has = self.value is not None
        return quality.rank(self.quality), self.revision, self.received, has, self.value or 0, self.quality


class _Channels:
    """The channels of the layouts that a question is about, each with its place in the order of answers."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._of: dict[tuple[str, int], tuple[_Order, Channel]] = {}

    def of(self, lines: LayoutLines, index: int) -> tuple[_Order, Channel]:
        found = self._of.get((lines.key, index))
        if found is None:
            layout, column = lines.layout, lines.layout.columns[index]
            channel = Channel(self._device, layout.kind, layout.source, layout.interval, column)
            order = (column.obis, str(layout.kind), str(layout.source), layout.interval, *column_rest(channel))
            found = self._of[lines.key, index] = (order, channel)
        return found


def column_rest(channel: Channel) -> tuple[str, int, str]:
    """Return what tells columns of one OBIS code apart."""
    return channel.column.unit, channel.column.scale, channel.column.number


class _Instant:
    """All versions of a device's channels at one time."""

    def __init__(self, channels: _Channels, time: int) -> None:
        self._channels = channels
        self._time = time
        self._held: dict[_Order, dict[tuple[int | float | None, int], _Version]] = defaultdict(dict)
        self._channel: dict[_Order, Channel] = {}

    def add(self, lines: LayoutLines, indexes: Sequence[int], copy: Copy) -> None:
        for place, index in enumerate(indexes):
            order, channel = self._channels.of(lines, index)
            self.add_one(order, channel, copy, place)

    def add_one(self, order: _Order, channel: Channel, copy: Copy, place: int) -> None:
        version = _Version(copy.values[place], copy.quality[place], copy.received, copy.slot, copy.revision)
        held = self._held[order]
        before = held.get((version.value, version.quality))
        held[version.value, version.quality] = _merge(before, version) if before else version
        self._channel[order] = channel

    def readings(self, *, versions: bool) -> Iterator[tuple[tuple[_Order, int], Reading]]:
        """Yield (order, reading): the current value of each channel, or all its versions, the current one first."""
        for order in sorted(self._held):
            ranked = sorted(self._held[order].values(), key=_Version.precedence, reverse=True)
            for position, one in enumerate(ranked if versions else ranked[:1]):
                yield (
                    (order, position),
                    Reading(
                        self._channel[order],
                        self._time,
                        one.received,
                        one.value,
                        one.slot,
                        one.quality,
                        one.revision,
                        current=position == 0,
                    ),
                )


def _merge(one: _Version, other: _Version) -> _Version:
    slots = [slot for slot in (one.slot, other.slot) if slot is not None]
    return _Version(
        one.value,
        one.quality,
        min(one.received, other.received),
        max(slots, default=None),
        max(one.revision, other.revision),
    )


def read_page(link: InfluxLink, catalogue: Catalogue, query: ReadingsQuery) -> Page:
    """Return one page of one device's readings, as `ReadingsStore.readings` says."""
    after = _from_cursor(query.after, tuple[int, tuple[_Order, int]]) if query.after else None
    channels = _Channels(query.device)
    indexes_of: dict[str, list[int]] = {}
    streams = []
    for lines in _layouts_of(link, catalogue, query.device):
        indexes = _chosen(lines, query)
        if indexes:
            first, last = bounds(lines.layout.kind, query.start, query.end)
            first = max(first, after[0]) if after else first
            indexes_of[lines.key] = indexes
            rows = query.limit // len(indexes) + 2
            streams.append(copies_in_order(link, lines, query.device, indexes, first, last, rows))
    found: list[Reading] = []
    end: tuple[int, tuple[_Order, int]] | None = None
    for time, group in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        instant = _Instant(channels, time)
        for _, lines, copy in group:
            instant.add(lines, indexes_of[lines.key], copy)
        for place, reading in instant.readings(versions=query.versions):
            if after is not None and (time, place) <= after:
                continue
            if len(found) >= query.limit:
                return Page(found, _cursor(end))
            found.append(reading)
            end = (time, place)
    return Page(found, "")


def bounds(kind: Kind, start: int, end: int) -> tuple[int, int]:
    """Return first and last measured_at: start < interval end <= end for intervals, start <= t < end for instants."""
    return (start + 1, end) if kind in OF_AN_INTERVAL else (start, end - 1)


def read_latest(
    link: InfluxLink, catalogue: Catalogue, devices: Sequence[str], kinds: Sequence[Kind]
) -> Iterator[Reading]:
    """Yield the current value at the latest time of each channel, device by device."""
    for at in range(0, len(devices), DEVICES_PER_QUESTION):
        yield from _latest_of(link, catalogue, devices[at : at + DEVICES_PER_QUESTION], kinds)


def _latest_of(
    link: InfluxLink, catalogue: Catalogue, devices: Sequence[str], kinds: Sequence[Kind]
) -> Iterator[Reading]:
    having: dict[str, list[str]] = defaultdict(list)
    for device, key in series_ends(link, devices):
        having[key].append(device)
    gathered = {device: _Latest(device) for device in devices}
    for lines in catalogue.lines(having):
        if not kinds or lines.layout.kind in kinds:
            indexes = range(len(lines.names))
            for found in last_copies(link, lines, having[lines.key], indexes):
                gathered[found.device].add(found.time, lines, found.copy)
    for device in devices:
        yield from gathered.pop(device).readings() if device in gathered else ()


class _Latest:
    """The versions at the latest time of each of a device's channels."""

    def __init__(self, device: str) -> None:
        self._channels = _Channels(device)
        self._best: dict[_Order, tuple[int, _Instant]] = {}

    def add(self, time: int, lines: LayoutLines, copy: Copy) -> None:
        for index in range(len(lines.names)):
            order, channel = self._channels.of(lines, index)
            before = self._best.get(order)
            if before is None or before[0] < time:
                before = self._best[order] = (time, _Instant(self._channels, time))
            if before[0] == time:
                before[1].add_one(order, channel, copy, index)

    def readings(self) -> Iterator[Reading]:
        for order in sorted(self._best):
            for _, reading in self._best[order][1].readings(versions=False):
                yield reading


def read_slots(link: InfluxLink, catalogue: Catalogue, query: SlotsQuery) -> Iterator[int]:
    """Yield the distinct slots (interval ends) that hold a record, in order."""
    wanted = (query.kind, query.source, query.interval)
    layouts = [
        lines
        for lines in _layouts_of(link, catalogue, query.device)
        if (lines.layout.kind, lines.layout.source, lines.layout.interval) == wanted
        and any(column.obis == query.obis for column in lines.layout.columns)
    ]
    first, last = bounds(query.kind, query.start, query.end)
    field, reach = (
        ("received", 0) if query.kind in OF_AN_INTERVAL else ("slot", max(SLOT_REACH, 2 * query.interval * SECOND))
    )
    while layouts and first <= last:
        until = min(last, first + SLOT_WINDOW - 1)
        found: set[int] = set()
        for lines in layouts:
            for time, number in slots_between(link, lines, query.device, field, first - reach, until + reach):
                slot = time if field == "received" else number
                if slot != NO_SLOT and first <= slot <= until:
                    found.add(slot)
        yield from sorted(found)
        first = until + 1


def read_events(
    link: InfluxLink, devices: Sequence[str], start: int, end: int, limit: int, after: str
) -> tuple[list[Event], str]:
    """Return one page of events, as `ReadingsStore.events` says."""
    passed = _from_cursor(after, tuple[int, str]) if after else None
    if not devices:
        return [], ""
    found: list[Event] = []
    streams = (
        events_in_order(
            link,
            devices[at : at + DEVICES_PER_QUESTION],
            max(start, passed[0]) if passed else start,
            end - 1,
            limit + 2,
        )
        for at in range(0, len(devices), DEVICES_PER_QUESTION)
    )
    for _, event in heapq.merge(*streams, key=lambda pair: (pair[1].time, pair[1].id)):
        if passed is not None and (event.time, event.id) <= passed:
            continue
        if len(found) >= limit:
            return found, _cursor((found[-1].time, found[-1].id))
        found.append(event)
    return found, ""


def _layouts_of(link: InfluxLink, catalogue: Catalogue, device: str) -> list[LayoutLines]:
    return catalogue.lines(sorted(key for _, key in series_ends(link, [device])))


def _chosen(lines: LayoutLines, query: ReadingsQuery) -> list[int]:
    layout = lines.layout
    if (query.kinds and layout.kind not in query.kinds) or (query.sources and layout.source not in query.sources):
        return []
    columns: Iterable[tuple[int, str]] = enumerate(column.obis for column in layout.columns)
    return [index for index, obis in columns if not query.obis or obis in query.obis]


def _cursor(place: object) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def _from_cursor(text: str, kind: type[_T]) -> _T:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.msgpack.decode(raw, type=kind)
    except (binascii.Error, ValueError) as error:
        raise StorageError(f"{text[:40]!r} is not a cursor of this store", retry=False) from error
