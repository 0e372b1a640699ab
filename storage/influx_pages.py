"""Readings, latest values and slots out of the copies that InfluxDB holds: versions resolved for each channel.

A channel's values may stand in points of several layouts (a correction can come as a block of one column), so they
are brought together by channel and time, whatever layout they came in.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from metering.model import SECOND, Event, Kind
from metering.ports import Arrivals, Channel, Page, Reading, ReadingsQuery, SlotsQuery
from storage.influx_link import InfluxLink
from storage.influx_read import (
    DEVICES_PER_QUESTION,
    Catalogue,
    copies_in_order,
    events_in_order,
    first_time,
    last_copies,
    series_ends,
    slots_between,
)
from storage.line_protocol import Copy, LayoutLines
from storage.versions import (
    OF_AN_INTERVAL,
    Order,
    Place,
    Version,
    bounds,
    from_cursor,
    order_of,
    place_of,
    resolve,
    to_cursor,
)

SLOT_REACH = 86_400 * SECOND  # a snapshot is looked for so far from the slot that it belongs to
SLOT_WINDOW = 31 * 86_400 * SECOND  # slots are gathered for so long a time at once


class _Channels:
    """The channels of one device's layouts, each with its place in the order of answers."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._of: dict[tuple[str, int], tuple[Order, Channel]] = {}

    def of(self, lines: LayoutLines, index: int) -> tuple[Order, Channel]:
        found = self._of.get((lines.key, index))
        if found is None:
            layout = lines.layout
            channel = Channel(self._device, layout.kind, layout.source, layout.interval, layout.columns[index])
            found = self._of[lines.key, index] = (order_of(channel), channel)
        return found


class _Instant:
    """All arrivals of a device's channels at one time."""

    def __init__(self, time: int) -> None:
        self._time = time
        self._held: dict[Order, tuple[Channel, list[Version]]] = {}

    def add(self, order: Order, channel: Channel, copy: Copy, place: int) -> None:
        version = Version(copy.values[place], copy.quality[place], copy.received, copy.slot, copy.revision)
        self._held.setdefault(order, (channel, []))[1].append(version)

    def readings(self, *, versions: bool) -> Iterator[Reading]:
        """Yield the current value of each channel, or all its versions, the current one first."""
        for order in sorted(self._held):
            channel, arrivals = self._held[order]
            ranked = resolve(arrivals) if len(arrivals) > 1 else arrivals
            for one in ranked if versions else ranked[:1]:
                yield Reading(
                    channel,
                    self._time,
                    one.received_at,
                    one.value,
                    one.slot,
                    one.quality,
                    one.revision,
                    current=one is ranked[0],
                )


def read_page(link: InfluxLink, catalogue: Catalogue, query: ReadingsQuery) -> Page:
    """Return one page of one device's readings, as `ReadingsStore.readings` says."""
    after = from_cursor(query.after, Place) if query.after else None
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
    for time, group in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        instant = _Instant(time)
        for _, lines, copy in group:
            for place, index in enumerate(indexes_of[lines.key]):
                instant.add(*channels.of(lines, index), copy, place)
        for reading in instant.readings(versions=query.versions):
            if after is not None and time == after[0] and not _behind(place_of(reading), after):
                continue
            if len(found) >= query.limit:
                return Page(found, to_cursor(place_of(found[-1])))
            found.append(reading)
    return Page(found, "")


def _behind(place: Place, after: Place) -> bool:
    """Tell whether a place of the same time comes after a cursor; versions go from the highest to the lowest."""
    return place[1] > after[1] or (place[1] == after[1] and place[2] < after[2])


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
        self._best: dict[Order, tuple[int, _Instant]] = {}

    def add(self, time: int, lines: LayoutLines, copy: Copy) -> None:
        for index in range(len(lines.names)):
            order, channel = self._channels.of(lines, index)
            before = self._best.get(order)
            if before is None or before[0] < time:
                before = self._best[order] = (time, _Instant(time))
            if before[0] == time:
                before[1].add(order, channel, copy, index)

    def readings(self) -> Iterator[Reading]:
        for order in sorted(self._best):
            yield from self._best[order][1].readings(versions=False)


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
    ends = query.kind in OF_AN_INTERVAL
    reach = max(SLOT_REACH, 2 * query.interval * SECOND)
    while layouts and first <= last:
        nearest = first_time(link, layouts, query.device, first - reach, last + reach)
        if nearest is None:
            return
        first = max(first, nearest - reach)
        until = min(last, first + SLOT_WINDOW - 1)
        found: set[int] = set()
        for lines in layouts:
            for time, number, _ in slots_between(link, lines, query.device, first - reach, until + reach):
                slot = time if ends and number is None else number
                if slot is not None and first <= slot <= until:
                    found.add(slot)
        yield from sorted(found)
        first = until + 1


def read_arrivals(link: InfluxLink, catalogue: Catalogue, device: str, first: int, last: int) -> list[Arrivals]:
    """Return when each slot of a device came, layout by layout."""
    found = []
    for lines in _layouts_of(link, catalogue, device):
        layout = lines.layout
        reach = max(SLOT_REACH, 2 * layout.interval * SECOND)
        came: dict[int, int] = {}
        for time, number, received in slots_between(link, lines, device, first - reach, last + reach):
            slot = time if layout.kind in OF_AN_INTERVAL and number is None else number
            if slot is not None and first <= slot <= last:
                came[slot] = min(received, came.get(slot, received))
        obis = tuple(column.obis for column in layout.columns)
        slots = sorted(came)
        arrived = [came[slot] for slot in slots]
        found.append(Arrivals(layout.kind, layout.source, layout.interval, obis, slots, arrived))
    return found


def read_events(
    link: InfluxLink, devices: Sequence[str], start: int, end: int, limit: int, after: str
) -> tuple[list[Event], str]:
    """Return one page of events, as `ReadingsStore.events` says."""
    passed = from_cursor(after, tuple[int, str]) if after else None
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
            return found, to_cursor((found[-1].time, found[-1].id))
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
