"""Judges one device's day: which slots were promised, which came and when, and what is missing. It keeps nothing.

It asks the store four small questions for a day, however many channels there are: promises, arrivals, events. What it
counts is what `headend.completeness` counts for the same range.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from headend.absences import Absences, events_about, number_of
from headend.completeness import OFF_STEP_S, Grid, Series, Wanted, grace, merged, promised, taken
from headend.kpi.figures import BUCKET, BUCKETS, DAY, LIMITS_S, Buckets
from headend.rows import OF_AN_INTERVAL
from headend.spans import Span
from metering import events
from metering.model import SECOND, Event, Expectation, Kind, Source
from metering.ports import Arrivals, ReadingsStore
from metering.ranges import Ranges

NO_SUPPLY = "no-supply"  # the reason of a gap inside a recorded power failure
_EVERYTHING = Wanted()
_Came = Mapping[int, int]  # number of a slot -> when it came
_Read = tuple[Kind, Source, int]  # kind, source, interval
_Key = tuple[int, ...]  # the places of the answers that hold a series


class Holes(NamedTuple):
    """What one kind of read lacks in a day, in interval ends (us): start < end <= end. All channels together.

    `askable`: a profile of the meter's own has these channels, so that its memory may have what is missing.
    """

    kind: Kind
    source: Source
    interval: int
    missing: Ranges
    lost: Mapping[str, Ranges]  # by reason
    no_supply: Ranges
    askable: bool

    @property
    def name(self) -> str:
        """Return the name under which the gap ledger keeps it."""
        return f"{self.source.value}/{self.kind.value}/{self.interval}"


class Judged(NamedTuple):
    """A device's day. `due` is when more of it can be judged (us); None: never. `clock_ms` the furthest offset told."""

    buckets: Buckets
    holes: Sequence[Holes]
    reasons: Mapping[str, int]
    due: int | None
    clock_ms: int | None


def judge(store: ReadingsStore, device: str, start: int, now: int) -> Judged:
    """Judge the day of UTC that begins at `start`. Raises `StorageError`."""
    span = Span(device, None, start, start + DAY)
    expectations = [each for each in store.expectations(device) if each.since < span.end]
    expected = promised(expectations, span, now, _EVERYTHING)
    due = _due(expectations, span, now)
    if not expected:
        return Judged(Buckets(), (), {}, due, None)
    told = list(events_about(store, device, start, span.end))
    widest = max(series[3] for series in expected) * SECOND
    came = _Arrived(store.arrivals(device, start - widest, span.end + widest))
    own = {(obis, kind, interval) for obis, kind, source, interval in expected if source is Source.PROFILE}
    day = _Day(start, came, Absences(told), own)
    alike: dict[tuple[_Read, Grid, _Key], list[str]] = defaultdict(list)
    for series, grids in expected.items():
        for grid in merged(grids):
            alike[series[1:], grid, came.key(series)].append(series[0])
    for (read, grid, key), codes in alike.items():
        day.add(read, grid, key, codes)
    return Judged(day.buckets, day.holes(), day.reasons, due, _clock(told, span))


class _Arrived:
    """When each slot of a series came; channels that came in the same blocks have the same key."""

    def __init__(self, arrivals: Sequence[Arrivals]) -> None:
        self._arrivals = arrivals
        self._keys: dict[Series, _Key] = defaultdict(tuple)
        self._known: dict[_Key, _Came] = {}
        for place, each in enumerate(arrivals):
            for obis in dict.fromkeys(each.obis):
                self._keys[obis, each.kind, each.source, each.interval] += (place,)

    def key(self, series: Series) -> _Key:
        """Return what is the same for series that came together."""
        return self._keys[series]

    def of(self, key: _Key, interval: int) -> _Came:
        """Return when each slot came first, by its number."""
        if key not in self._known:
            self._known[key] = _by_number([self._arrivals[place] for place in key], interval * SECOND)
        return self._known[key]


def _by_number(arrivals: Iterable[Arrivals], step: int) -> _Came:
    found: dict[int, int] = {}
    unit = min(step, OFF_STEP_S * SECOND)
    for each in arrivals:
        for slot, received in zip(each.slots, each.received, strict=True):
            if slot % unit == 0:
                number = number_of(slot, step)
                found[number] = min(received, found.get(number, received))
    return found


class _Day:
    """The counts of one day. `own` are the channels (obis, kind, interval) of the meter's own profiles."""

    def __init__(self, start: int, came: _Arrived, absences: Absences, own: Container[tuple[str, Kind, int]]) -> None:
        self.buckets = Buckets()
        self.reasons: dict[str, int] = defaultdict(int)
        self._start = start
        self._came = came
        self._absences = absences
        self._own = own
        self._holes: dict[_Read, Holes] = {}

    def add(self, read: _Read, grid: Grid, key: _Key, codes: Sequence[str]) -> None:
        """Count the slots of channels that came in the same blocks, and what of them is open, channel by channel."""
        _, source, interval = read
        came = self._came.of(key, interval)
        first, last = grid
        held = {number: came[number] for number in range(first, last + 1) if number in came}
        self._count("expected", range(first, last + 1), read, len(codes))
        self._arrived("held", held, read, len(codes))
        patience = grace(source, interval)
        early = [number for number, at in held.items() if at - number * interval * SECOND <= patience]
        self._count("first_try", early, read, len(codes))
        if len(held) > last - first:
            return
        open_ = Ranges((number, number + 1) for number in range(first, last + 1) if number not in held)
        for obis in codes:
            self._absent(obis, read, Ranges(open_))

    def holes(self) -> list[Holes]:
        """Return what is missing or lost, by kind of read. What one channel lacks counts, whatever others have."""
        for each in self._holes.values():
            for other in (each.no_supply, *each.lost.values()):
                for span in each.missing:
                    other.remove(*span)
        return list(self._holes.values())

    def _absent(self, obis: str, read: _Read, open_: Ranges) -> None:
        """Count the slots that a channel does not hold: what is left of `open_` at the end is missing."""
        kind, source, interval = read
        step = interval * SECOND
        if source is not Source.PROFILE:
            rows = self._came.of(self._came.key((obis, kind, Source.PROFILE, interval)), interval)
            recovered = {number: rows[number] for number in _numbers(open_) if number in rows}
            for number in recovered:
                open_.remove(number, number + 1)
            self._arrived("recovered", recovered, read, 1)
        no_supply = taken(open_, self._absences.no_supply(kind, step))
        self._count("no_supply", _numbers(no_supply), read, 1)
        reasons = self._absences.reasons(obis, step)
        lost = {reason: spans for reason in sorted(reasons) if (spans := taken(open_, reasons[reason]))}
        for reason, spans in lost.items():
            self._count("lost", _numbers(spans), read, 1)
            self.reasons[reason] += spans.total
        if not (open_ or lost or no_supply):
            return
        known = self._holes.get(read) or Holes(*read, Ranges(), defaultdict(Ranges), Ranges(), askable=False)
        _join(known.missing, open_, step)
        _join(known.no_supply, no_supply, step)
        for reason, spans in lost.items():
            _join(known.lost[reason], spans, step)
        askable = known.askable or (obis, kind, interval) in self._own
        self._holes[read] = known._replace(askable=askable)

    def _arrived(self, name: str, found: _Came, read: _Read, times: int) -> None:
        step = read[2] * SECOND
        self._count(name, found, read, times)
        for limit in LIMITS_S:
            on_time = [number for number, at in found.items() if at - number * step <= limit * SECOND]
            self._count(f"within_{limit}", on_time, read, times)

    def _count(self, name: str, numbers: Iterable[int], read: _Read, times: int) -> None:
        step = read[2] * SECOND
        least = 1 if read[0] in OF_AN_INTERVAL else 0
        places = ((number * step - least - self._start) // BUCKET for number in numbers)
        self.buckets.count(name, (min(max(place, 0), BUCKETS - 1) for place in places), times)


def _join(into: Ranges, numbers: Ranges, step: int) -> None:
    """Add slots as ranges of interval ends in us: start < interval end <= end, kept as start + 1 to end + 1."""
    for low, high in numbers:
        into.add((low - 1) * step + 1, (high - 1) * step + 1)


def _numbers(ranges: Ranges) -> Iterable[int]:
    return (number for low, high in ranges for number in range(low, high))


def _due(expectations: Iterable[Expectation], span: Span, now: int) -> int | None:
    """Return when the last promised slot of the day can be judged; None where all can."""
    due = []
    for each in expectations:
        if each.until is not None and each.until <= span.start:
            continue
        at = span.end + grace(each.source, each.interval)
        if at > now:
            due.append(at)
    return max(due, default=None)


def _clock(told: Iterable[Event], span: Span) -> int | None:
    """Return the furthest offset of the meter's clock that was told in the day, in ms."""
    found = []
    for event in told:
        if event.name == events.METER_CLOCK_OFF.name and span.start <= event.time < span.end:
            try:
                found.append(round(float(event.detail["seconds"]) * 1000))
            except (KeyError, ValueError, OverflowError):  # another system's event of the same name
                continue
    return max(found, key=abs, default=None)
