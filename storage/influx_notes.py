"""Lines of events and promises to read, brought together with those that InfluxDB holds already. Not of readings."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import structlog

from metering.batch import Batch
from metering.model import SECOND, Event, Expectation
from storage.influx_link import InfluxLink
from storage.influx_read import events_in_order, expectations_of
from storage.line_protocol import event_line, expectation_line, tag

APART = 3600 * SECOND  # times further apart than this are asked for separately

_log = structlog.get_logger(__name__)


def note_lines(link: InfluxLink, batches: Sequence[Batch]) -> list[str]:
    """Return the lines of what these batches say that the server does not know yet."""
    events = [event for batch in batches for event in batch.events if _storable(event.device, event.id)]
    promises = [one for batch in batches for one in batch.expectations if _storable(one.device, ";".join(one.obis))]
    lines = list(_event_lines(link, events)) if events else []
    return lines + (list(_promise_lines(link, promises)) if promises else [])


def _storable(device: str, what: str) -> bool:
    try:
        tag(device)
    except ValueError as error:
        _log.warning("an event or a promise cannot be stored", device=device, what=what, reason=str(error))
        return False
    return True


def _event_lines(link: InfluxLink, events: Sequence[Event]) -> Iterator[str]:
    """Yield lines of events; those of one device and time are told apart by a number, found by reading them first."""
    times: dict[str, set[int]] = defaultdict(set)
    for event in events:
        times[event.device].add(event.time)
    held: dict[tuple[str, int], dict[str, tuple[int, Event]]] = defaultdict(dict)
    for device, instants in times.items():
        for first, last in runs(sorted(instants)):
            for number, event in events_in_order(link, [device], first, last, len(instants)):
                held[device, event.time][event.id] = (number, event)
    changed: dict[tuple[str, int, int], Event] = {}
    for event in events:
        known = held[event.device, event.time]
        number, before = known.get(event.id, (len(known), None))
        merged = event if before is None else _merged_event(before, event)
        if merged != before:
            known[event.id] = (number, merged)
            changed[event.device, event.time, number] = merged
    for (_, _, number), event in changed.items():
        yield event_line(event, number)


def _merged_event(one: Event, other: Event) -> Event:
    received_at, name = min(one.received_at, other.received_at), min(one.name, other.name)
    return Event(one.device, one.time, one.code, name, received_at, one.detail)


def _promise_lines(link: InfluxLink, promises: Iterable[Expectation]) -> Iterator[str]:
    """Yield lines of promises. Of several ends the earliest is kept: without order of arrival no other can be."""
    held: dict[str, dict[tuple[object, ...], Expectation]] = {}
    changed: dict[tuple[object, ...], Expectation] = {}
    for one in promises:
        if one.device not in held:
            held[one.device] = {_key(each): each for each in expectations_of(link, one.device)}
        known = held[one.device]
        before = known.get(_key(one))
        ends = [each.until for each in (before, one) if each is not None and each.until is not None]
        end = min(ends, default=None)
        merged = Expectation(one.device, one.kind, one.source, one.interval, one.obis, one.since, end)
        if merged != before:
            known[_key(one)] = changed[_key(one)] = merged
    for one in changed.values():
        yield expectation_line(one)


def _key(one: Expectation) -> tuple[object, ...]:
    return one.device, one.kind, one.source, one.interval, one.obis, one.since


def runs(times: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of the runs of ordered times in which neighbours are at most `APART` from each other."""
    first = times[0]
    for before, after in pairwise(times):
        if after - before > APART:
            yield first, before
            first = after
    yield first, times[-1]
