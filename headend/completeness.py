"""Completeness: what was promised to be read, what of it is held, and which slots are missing. Not the filling of gaps.

It rests on the expectations that the gateways stamp when a schedule starts or ends: expected = held +
recovered + no supply + lost + missing, where missing is what nothing accounts for yet.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from headend.absences import Absences, events_about, number_of
from headend.derive import interval_obis
from headend.rows import OF_AN_INTERVAL
from headend.spans import Span
from metering.model import SECOND, Expectation, Kind, Source
from metering.obis import is_cumulative
from metering.ports import ReadingsStore, SlotsQuery
from metering.ranges import Ranges
from metering.timing import to_rfc3339

GRACE_S = 60  # a slot is not missing until its reading could have come: this long, or one interval where that is less
PROFILE_GRACE_S = 3600  # a meter's own profile is read each hour, or each interval where that is longer
OFF_STEP_S = 900  # zones lie whole quarter hours beside UTC: a row beside these is of an interval cut short
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

    `recovered` was not read in time and stands in the meter's own profile, of the same code and interval; `no_supply`
    lies inside a recorded power failure, `lost` has a recorded reason: the meter does not have it. `more` tells that
    there are more missing ranges than `missing_ranges` lists. Slots after `judged_until` are not expected yet, nor are
    those that the next read of a meter's profile will bring.
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


class _Slots(NamedTuple):
    """Slots by what is known of them, as numbers of `step`; disjoint. What is in none of them is missing."""

    held: Ranges
    recovered: Ranges
    no_supply: Ranges
    lost: Ranges


class _Tally:
    """Counts and the first missing ranges, while they are found."""

    def __init__(self) -> None:
        self.expected = self.held = self.recovered = self.no_supply = self.lost = 0
        self.ranges: list[MissingRange] = []
        self.more = False

    def add(self, device: str, series: "Series", grid: "Grid", slots: _Slots) -> None:
        """Count the slots `grid` (numbers, both inclusive) and list those that are missing."""
        first, last = grid
        self.expected += last - first + 1
        self.held += slots.held.count(first, last + 1)
        self.recovered += slots.recovered.count(first, last + 1)
        self.no_supply += slots.no_supply.count(first, last + 1)
        self.lost += slots.lost.count(first, last + 1)
        step = series[3] * SECOND
        known = Ranges()
        for each in slots:
            known.update(each)
        for low, high in known.gaps(first, last + 1):
            if len(self.ranges) == MAX_RANGES:
                self.more = True
                return
            self.ranges.append(_range(device, series, low * step, (high - 1) * step))

    def result(self, until: int) -> Completeness:
        missing = self.expected - self.held - self.recovered - self.no_supply - self.lost
        return Completeness(
            self.expected,
            self.held,
            missing,
            self.recovered,
            self.no_supply,
            self.lost,
            to_rfc3339(until),
            tuple(self.ranges),
            self.more,
        )


Series = tuple[str, Kind, Source, int]  # obis, kind, source, interval
Grid = tuple[int, int]  # numbers of the first and the last slot, both inclusive


def of_stored(store: ReadingsStore, spans: Sequence[Span], wanted: Wanted, now: int) -> Completeness:
    """Return how complete the stored readings of these spans are, for the channels that pass the filters."""
    tally = _Tally()
    for span in spans:
        for series, grids in promised(store.expectations(span.device), span, now, wanted).items():
            for grid in merged(grids):
                tally.add(span.device, series, grid, _slots(store, span.device, series, grid))
    return tally.result(now)


def of_derived(store: ReadingsStore, spans: Sequence[Span], obis: Sequence[str], now: int) -> Completeness:
    """Return how complete the consumption derived from register snapshots is. `obis` are the registers' codes.

    An interval is held where the snapshots at both its ends are; at a meter point the two may be of two devices. Where
    a register stands in the meter's own profiles beside what is shorter, or as short and polled, that is what counts.
    """
    tally = _Tally()
    found: dict[Series, list[tuple[Span, list[Grid]]]] = defaultdict(list)
    wanted = Wanted(tuple(obis), (Kind.REGISTER,))
    for span in spans:
        expected = promised(store.expectations(span.device), span, now, wanted, closed=True)
        for series, grids in expected.items():
            if is_cumulative(series[0]) and not any(_stands_for(other, series) for other in expected):
                found[series].append((span, merged(grids)))
    for series, parts in found.items():
        _judge_pairs(store, series, parts, tally)
    return tally.result(now)


def _stands_for(other: Series, profile: Series) -> bool:
    """Tell whether a series says more of a register than this series of its meter's own profiles."""
    if profile[2] is not Source.PROFILE or other[0] != profile[0] or other[1] is not profile[1]:
        return False
    return other[3] < profile[3] or (other[3] == profile[3] and other[2] is not Source.PROFILE)


def promised(
    expectations: Iterable[Expectation], span: Span, now: int, wanted: Wanted, *, closed: bool = False
) -> dict[Series, list[Grid]]:
    """Return the promised slots of a span by series. `closed` takes the slot at the span's end too."""
    found: dict[Series, list[Grid]] = defaultdict(list)
    for each in expectations:
        step = each.interval * SECOND
        if step <= 0:
            continue
        start = max(span.start, each.since)
        end = span.end if each.until is None else min(span.end, each.until)
        if each.kind in OF_AN_INTERVAL:  # start < slot <= end
            first, last = start // step + 1, end // step
        else:  # start <= slot < end
            first, last = -(-start // step), (end if closed else end - 1) // step
        last = min(last, (now - grace(each.source, each.interval)) // step)
        if first <= last:
            for obis in each.obis:
                if wanted.wants(obis, each.kind, each.source):
                    found[obis, each.kind, each.source, each.interval].append((first, last))
    return found


def grace(source: Source, interval: int) -> int:
    """Return how long after its slot a reading that was promised may come by the scheduled read (us)."""
    if source is not Source.PROFILE:
        return min(interval, GRACE_S) * SECOND
    # Its slot may lie up to half an interval after the boundary of UTC: a day of the meter's own zone.
    return (max(interval, PROFILE_GRACE_S) + interval // 2 + GRACE_S) * SECOND


def merged(grids: list[Grid]) -> list[Grid]:
    """Return the same slots without overlap: a gateway that starts again renews its promise."""
    return [(low, high - 1) for low, high in Ranges((first, last + 1) for first, last in grids)]


def _slots(store: ReadingsStore, device: str, series: Series, grid: Grid) -> _Slots:
    """Return what is known of a series' slots; only where some are not held is more than a count asked for."""
    first, last = grid
    query = _query(device, series, grid)
    if store.count_slots(query) > last - first and series[2] is not Source.PROFILE:
        return _Slots(Ranges([(first, last + 1)]), Ranges(), Ranges(), Ranges())
    obis, kind, source, interval = series
    step = interval * SECOND
    held = _numbers(store, query, step)
    open_ = Ranges(held.gaps(first, last + 1))
    recovered = no_supply = lost = Ranges()
    if open_ and source is not Source.PROFILE:
        profile = _numbers(store, _query(device, (obis, kind, Source.PROFILE, interval), grid), step)
        recovered = taken(open_, profile)
    if open_:
        absences = Absences(events_about(store, device, first * step, last * step))
        no_supply = taken(open_, absences.no_supply(kind, step))
        lost = taken(open_, absences.lost(obis, step))
    return _Slots(held, recovered, no_supply, lost)


def _numbers(store: ReadingsStore, query: SlotsQuery, step: int) -> Ranges:
    found = Ranges()
    unit = min(step, OFF_STEP_S * SECOND)
    for slot in store.slots(query):
        if slot % unit == 0:
            number = number_of(slot, step)
            found.add(number, number + 1)
    return found


def taken(from_: Ranges, those: Ranges) -> Ranges:
    """Return what of `those` is in `from_`, and take it out there."""
    found = Ranges()
    for low, high in from_:
        for span in those.inside(low, high):
            found.add(*span)
    for span in found:
        from_.remove(*span)
    return found


def _judge_pairs(store: ReadingsStore, series: Series, parts: Sequence[tuple[Span, list[Grid]]], tally: _Tally) -> None:
    shown = (interval_obis(series[0]), Kind.INTERVAL, Source.DERIVED, series[3])
    whole = merged([grid for _, grids in parts for grid in grids])
    ends = _Slots(Ranges(), Ranges(), Ranges(), Ranges())
    for span, grids in parts:
        for grid in grids:
            for total, found in zip(ends, _slots(store, span.device, series, grid), strict=True):
                total.update(found)
    for first, last in whole:
        if first < last:
            tally.add(parts[-1][0].device, shown, (first + 1, last), _pairs(ends, first, last))


def _pairs(ends: _Slots, first: int, last: int) -> _Slots:
    """Return the intervals by the snapshots at their two ends: each is what the less known of the two is."""
    known, before = Ranges(), Ranges()
    found: list[Ranges] = []
    for each in ends:
        known.update(each)
        pairs = Ranges((low + 1, high) for low, high in known.inside(first, last + 1))
        found.append(Ranges(span for run in pairs for span in before.gaps(*run)))
        before.update(pairs)
    return _Slots(*found)


def _query(device: str, series: Series, grid: Grid) -> SlotsQuery:
    obis, kind, source, interval = series
    step = interval * SECOND
    low, high = grid[0] * step, grid[1] * step + 1
    if source is Source.PROFILE:  # the slots nearest to these, see `number_of`
        low, high = low - step // 2, high + (step - 1) // 2
    if kind in OF_AN_INTERVAL:
        return SlotsQuery(device, obis, kind, source, interval, low - 1, high - 1)
    return SlotsQuery(device, obis, kind, source, interval, low, high)


def _range(device: str, series: Series, first: int, last: int) -> MissingRange:
    obis, kind, source, interval = series
    count = (last - first) // (interval * SECOND) + 1
    return MissingRange(device, obis, kind, source, interval, to_rfc3339(first), to_rfc3339(last), count)
