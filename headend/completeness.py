"""Completeness: what was promised to be read, what of it is held, and which slots are missing. Not the filling of gaps.

It rests on the expectations that the gateways stamp when a schedule starts or ends: expected = held +
recovered + no supply + lost + missing, where missing is what nothing accounts for yet.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from headend.derive import interval_obis
from headend.rows import OF_AN_INTERVAL
from headend.spans import Span
from metering.model import SECOND, Expectation, Kind, Source
from metering.obis import is_cumulative
from metering.ports import ReadingsStore, SlotsQuery
from metering.timing import to_rfc3339

GRACE_S = 60  # a slot is not missing until its reading could have come: this long, or one interval where that is less
MAX_RANGES = 100


class MissingRange(msgspec.Struct, frozen=True):
    """Slots in a row that no record fills. `first` and `last` are slots (or interval ends), both missing."""

    device: str
    obis: str
    kind: str
    source: str
    interval_s: int
    first: str
    last: str
    count: int


class Completeness(msgspec.Struct, frozen=True):
    """How complete an answer is: expected = held + recovered + no_supply + lost + missing, counted in slots.

    `recovered` came later from the meter's memory, `no_supply` lies inside a recorded power failure, `lost` has a
    recorded reason. `more` tells that there are more missing ranges than `missing_ranges` lists. Slots after
    `judged_until` are not expected yet.
    """

    expected: int
    held: int
    missing: int
    recovered: int
    no_supply: int
    lost: int
    judged_until: str
    missing_ranges: tuple[MissingRange, ...]
    more: bool


class Wanted(msgspec.Struct, frozen=True):
    """The filters of a readings question; empty tuples are no filter."""

    obis: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    sources: tuple[Source, ...] = ()

    def wants(self, obis: str, kind: Kind, source: Source) -> bool:
        """Tell whether a channel passes the filters."""
        return (
            (not self.obis or obis in self.obis)
            and (not self.kinds or kind in self.kinds)
            and (not self.sources or source in self.sources)
        )


class _Tally:
    """Counts and the first missing ranges, while they are found."""

    def __init__(self) -> None:
        self.expected = self.held = 0
        self.ranges: list[MissingRange] = []
        self.more = False

    def add(self, found: MissingRange) -> None:
        if len(self.ranges) < MAX_RANGES:
            self.ranges.append(found)
        else:
            self.more = True

    def result(self, until: int) -> Completeness:
        return Completeness(
            self.expected,
            self.held,
            self.expected - self.held,
            0,
            0,
            0,
            to_rfc3339(until),
            tuple(self.ranges),
            self.more,
        )


_Series = tuple[str, Kind, Source, int]  # obis, kind, source, interval
_Grid = tuple[int, int]  # first and last slot, both inclusive


def of_stored(store: ReadingsStore, spans: Sequence[Span], wanted: Wanted, now: int) -> Completeness:
    """Return how complete the stored readings of these spans are, for the channels that pass the filters."""
    tally = _Tally()
    for span in spans:
        for series, grids in _promised(store.expectations(span.device), span, now, wanted).items():
            for grid in _merged(grids, series[3] * SECOND):
                _judge(store, span.device, series, grid, tally)
    return tally.result(now)


def of_derived(store: ReadingsStore, spans: Sequence[Span], obis: Sequence[str], now: int) -> Completeness:
    """Return how complete the consumption derived from register snapshots is. `obis` are the registers' codes.

    An interval is held where the snapshots at both its ends are; at a meter point the two may be of two devices.
    """
    tally = _Tally()
    series: dict[_Series, list[tuple[Span, list[_Grid]]]] = defaultdict(list)
    wanted = Wanted(tuple(obis), (Kind.REGISTER,))
    for span in spans:
        for key, grids in _promised(store.expectations(span.device), span, now, wanted, closed=True).items():
            if is_cumulative(key[0]):
                series[key].append((span, _merged(grids, key[3] * SECOND)))
    for key, parts in series.items():
        _judge_pairs(store, key, parts, tally)
    return tally.result(now)


def _promised(
    expectations: Iterable[Expectation], span: Span, now: int, wanted: Wanted, *, closed: bool = False
) -> dict[_Series, list[_Grid]]:
    """Return the promised slots of a span by series. `closed` takes the slot at the span's end too."""
    found: dict[_Series, list[_Grid]] = defaultdict(list)
    for each in expectations:
        step = each.interval * SECOND
        if step <= 0:
            continue
        start = max(span.start, each.since)
        end = span.end if each.until is None else min(span.end, each.until)
        if each.kind in OF_AN_INTERVAL:  # start < slot <= end
            first, last = (start // step + 1) * step, end // step * step
        else:  # start <= slot < end
            first, last = -(-start // step) * step, (end if closed else end - 1) // step * step
        last = min(last, (now - min(step, GRACE_S * SECOND)) // step * step)
        if first <= last:
            for obis in each.obis:
                if wanted.wants(obis, each.kind, each.source):
                    found[obis, each.kind, each.source, each.interval].append((first, last))
    return found


def _merged(grids: list[_Grid], step: int) -> list[_Grid]:
    """Return the same slots without overlap: a gateway that starts again renews its promise."""
    merged: list[_Grid] = []
    for first, last in sorted(grids):
        if merged and first <= merged[-1][1] + step:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _judge(store: ReadingsStore, device: str, series: _Series, grid: _Grid, tally: _Tally) -> None:
    first, last = grid
    step = series[3] * SECOND
    expected = (last - first) // step + 1
    query = _query(device, series, grid)
    held = min(store.count_slots(query), expected)
    tally.expected += expected
    tally.held += held
    if held < expected and not tally.more:
        for start, end in _holes(store.slots(query), first, last, step):
            tally.add(_range(device, series, start, end))


def _judge_pairs(
    store: ReadingsStore, series: _Series, parts: Sequence[tuple[Span, list[_Grid]]], tally: _Tally
) -> None:
    step = series[3] * SECOND
    shown = (interval_obis(series[0]), Kind.INTERVAL, Source.DERIVED, series[3])
    for first, last in _merged([grid for _, grids in parts for grid in grids], step):
        tally.expected += (last - first) // step
        slots = chain.from_iterable(
            store.slots(_query(span.device, series, (max(first, low), min(last, high))))
            for span, grids in parts
            for low, high in grids
            if max(first, low) <= min(last, high)
        )
        for start, end in _holes(_pairs(slots, step, tally), first + step, last, step):
            tally.add(_range(parts[-1][0].device, shown, start, end))


def _pairs(slots: Iterable[int], step: int, tally: _Tally) -> Iterator[int]:
    """Yield and count the interval ends whose two snapshots are there."""
    before = None
    for slot in slots:
        if before is not None and slot - before == step:
            tally.held += 1
            yield slot
        before = slot


def _holes(slots: Iterable[int], first: int, last: int, step: int) -> Iterator[_Grid]:
    """Yield the runs of slots from `first` to `last` that are not among `slots` (in order)."""
    due = first
    for slot in slots:
        if slot > due:
            yield due, slot - step
        due = max(due, slot + step)
    if due <= last:
        yield due, last


def _query(device: str, series: _Series, grid: _Grid) -> SlotsQuery:
    obis, kind, source, interval = series
    first, last = grid
    if kind in OF_AN_INTERVAL:
        return SlotsQuery(device, obis, kind, source, interval, first - 1, last)
    return SlotsQuery(device, obis, kind, source, interval, first, last + 1)


def _range(device: str, series: _Series, first: int, last: int) -> MissingRange:
    obis, kind, source, interval = series
    count = (last - first) // (interval * SECOND) + 1
    return MissingRange(device, obis, kind, source, interval, to_rfc3339(first), to_rfc3339(last), count)
