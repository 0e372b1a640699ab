import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from headend.completeness import MAX_RANGES, Wanted, of_derived, of_stored
from headend.spans import Span
from metering import events
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Event, Expectation, Kind, Layout, Source
from metering.timing import to_rfc3339
from storage.embedded import EmbeddedStore

OBIS = "1-0:1.8.0*255"
STEP = 900 * SECOND
START = 1_000 * STEP
FAR = START + 10_000 * STEP

SNAPSHOTS = Layout(Kind.REGISTER, Source.POLL, 900, (Column(OBIS, "kWh", 0, "int"),))
ROWS = Layout(Kind.REGISTER, Source.PROFILE, 900, (Column(OBIS, "kWh", 0, "int"),))
INTERVALS = Layout(Kind.INTERVAL, Source.PROFILE, 900, (Column("1-0:1.29.0*255", "kWh", 0, "int"),))


def promise(layout: Layout, since: int, until: int | None = None) -> Expectation:
    return Expectation(
        "m", layout.kind, layout.source, layout.interval, tuple(each.obis for each in layout.columns), since, until
    )


def put(store: EmbeddedStore, layout: Layout, slots: list[int], *promises: Expectation, device: str = "m") -> None:
    snapshot = layout.kind is Kind.REGISTER
    blocks = [Block(layout, device, slot, slot + 1, (slot % 97,), slot if snapshot else None) for slot in slots]
    store.write([Batch(0, blocks, expectations=promises)])


def test_snapshots_are_expected_at_the_start_and_not_at_the_end(store: EmbeddedStore) -> None:
    put(store, SNAPSHOTS, [START + index * STEP for index in (0, 1, 4)], promise(SNAPSHOTS, START))
    found = of_stored(store, [Span("m", None, START, START + 4 * STEP)], Wanted(), FAR)
    assert (found.expected, found.held, found.missing) == (4, 2, 2)
    (hole,) = found.missing_ranges
    assert (hole.count, hole.first, hole.last) == (2, "1970-01-11T10:30:00Z", "1970-01-11T10:45:00Z")


def test_intervals_are_expected_at_the_end_and_not_at_the_start(store: EmbeddedStore) -> None:
    put(store, INTERVALS, [START + index * STEP for index in (0, 1, 4)], promise(INTERVALS, START))
    found = of_stored(store, [Span("m", None, START, START + 4 * STEP)], Wanted(), FAR)
    assert (found.expected, found.held, found.missing) == (4, 2, 2)


def test_a_slot_is_not_missing_before_its_reading_could_have_come(store: EmbeddedStore) -> None:
    put(store, SNAPSHOTS, [], promise(SNAPSHOTS, START))
    spans = [Span("m", None, START, FAR)]
    assert of_stored(store, spans, Wanted(), START + 59 * SECOND).expected == 0
    assert of_stored(store, spans, Wanted(), START + 60 * SECOND).missing == 1


def test_a_promise_that_was_renewed_counts_once(store: EmbeddedStore) -> None:
    put(store, SNAPSHOTS, [], promise(SNAPSHOTS, START), promise(SNAPSHOTS, START + 2 * STEP))
    assert of_stored(store, [Span("m", None, START, START + 8 * STEP)], Wanted(), FAR).expected == 8


def test_only_channels_that_are_asked_for_are_expected(store: EmbeddedStore) -> None:
    put(store, SNAPSHOTS, [], promise(SNAPSHOTS, START), promise(INTERVALS, START))
    spans = [Span("m", None, START, START + 8 * STEP)]
    assert of_stored(store, spans, Wanted(kinds=(Kind.INTERVAL,)), FAR).expected == 8
    assert of_stored(store, spans, Wanted(obis=("1-0:9.9.9*255",)), FAR).expected == 0
    assert of_stored(store, spans, Wanted(), FAR).expected == 16


def test_the_list_of_missing_ranges_is_bounded(store: EmbeddedStore) -> None:
    put(store, SNAPSHOTS, [START + 2 * index * STEP for index in range(300)], promise(SNAPSHOTS, START))
    found = of_stored(store, [Span("m", None, START, START + 600 * STEP)], Wanted(), FAR)
    assert (found.missing, len(found.missing_ranges), found.more) == (300, MAX_RANGES, True)


def test_derived_intervals_need_both_snapshots(store: EmbeddedStore) -> None:
    put(store, SNAPSHOTS, [START + index * STEP for index in (0, 1, 2, 4, 5)], promise(SNAPSHOTS, START))
    found = of_derived(store, [Span("m", None, START, START + 5 * STEP)], [OBIS], FAR)
    assert (found.expected, found.held, found.missing) == (5, 3, 2)
    assert [(hole.source, hole.obis, hole.count) for hole in found.missing_ranges] == [("derived", "1-0:1.29.0*255", 2)]


def absence(kind: events.EventType, first: int, last: int, obis: str = OBIS) -> Event:
    """Return the event of the intervals numbered first to last after START, both inclusive."""
    detail = {
        "from": to_rfc3339(START + first * STEP),
        "to": to_rfc3339(START + last * STEP),
        "interval": "900",
        "count": str(last - first + 1),
        "reason": "a reason",
        "profile": "load",
        "obis": obis,
    }
    return Event("m", START + first * STEP, kind.code, kind.name, FAR, detail)


def slots(*numbers: int) -> list[int]:
    return [START + number * STEP for number in numbers]


def test_a_polled_slot_that_the_meters_profile_holds_is_recovered(store: EmbeddedStore) -> None:
    put(store, SNAPSHOTS, slots(0, 1, 4), promise(SNAPSHOTS, START))
    put(store, ROWS, slots(1, 2))
    found = of_stored(store, [Span("m", None, START, START + 5 * STEP)], Wanted(), FAR)
    assert (found.expected, found.held, found.recovered, found.missing) == (5, 3, 1, 1)
    assert [(hole.count, hole.first) for hole in found.missing_ranges] == [(1, to_rfc3339(START + 3 * STEP))]


def test_what_an_event_accounts_for_is_not_missing(store: EmbeddedStore) -> None:
    put(store, ROWS, slots(1, 2), promise(ROWS, START + STEP))
    told = [absence(events.NO_SUPPLY, 4, 5), absence(events.INTERVALS_LOST, 2, 4), absence(events.INTERVALS_LOST, 4, 7)]
    store.write([Batch(0, events=told)])
    found = of_stored(store, [Span("m", None, START, START + 9 * STEP)], Wanted(), FAR)
    counts = (found.expected, found.held, found.no_supply, found.lost, found.missing)
    assert counts == (8, 2, 2, 3, 1)
    assert [hole.first for hole in found.missing_ranges] == [to_rfc3339(START + 8 * STEP)]


def test_a_range_that_another_profile_lost_accounts_for_nothing_here(store: EmbeddedStore) -> None:
    put(store, ROWS, [], promise(ROWS, START))
    store.write([Batch(0, events=[absence(events.INTERVALS_LOST, 0, 3, obis="1-0:32.7.0*255")])])
    found = of_stored(store, [Span("m", None, START, START + 4 * STEP)], Wanted(), FAR)
    assert (found.lost, found.missing) == (0, 4)


def test_polls_inside_an_outage_are_without_supply_whatever_their_interval(store: EmbeddedStore) -> None:
    moments = Layout(Kind.INSTANTANEOUS, Source.POLL, 300, (Column("1-0:32.7.0*255", "V", 0, "int"),))
    put(store, moments, [], promise(moments, START))
    store.write([Batch(0, events=[absence(events.NO_SUPPLY, 1, 2)])])
    found = of_stored(store, [Span("m", None, START, START + 3 * STEP)], Wanted(), FAR)
    assert (found.expected, found.no_supply, found.missing) == (9, 7, 2)


def test_derived_intervals_are_what_the_less_known_of_their_ends_is(store: EmbeddedStore) -> None:
    put(store, SNAPSHOTS, slots(0, 1, 3, 10, 11, 13), promise(SNAPSHOTS, START))
    put(store, ROWS, slots(2), promise(ROWS, START))
    store.write([Batch(0, events=[absence(events.NO_SUPPLY, 5, 6), absence(events.INTERVALS_LOST, 7, 9)])])
    found = of_derived(store, [Span("m", None, START, START + 13 * STEP)], [OBIS], FAR)
    # held 1, 11; recovered 2, 3; between 5 and 6 there was no supply; lost 7 to 10; missing 4, 5 and, around 12, 2 more
    counts = (found.expected, found.held, found.recovered, found.no_supply, found.lost, found.missing)
    assert counts == (13, 2, 2, 1, 4, 4)


def test_daily_values_beside_quarter_hours_add_nothing_to_what_is_derived(store: EmbeddedStore) -> None:
    daily = Layout(Kind.REGISTER, Source.PROFILE, 86_400, (Column(OBIS, "kWh", 0, "int"),))
    put(store, ROWS, slots(*range(200)), promise(ROWS, START), promise(daily, START))
    found = of_derived(store, [Span("m", None, START, START + 199 * STEP)], [OBIS], FAR)
    assert (found.expected, found.held) == (199, 199)


def test_days_of_the_meters_own_zone_are_counted_as_days(store: EmbeddedStore) -> None:
    day = 86_400 * SECOND
    daily = Layout(Kind.REGISTER, Source.PROFILE, 86_400, (Column(OBIS, "kWh", 0, "int"),))
    begin = START // day * day
    put(store, daily, [begin + number * day - 8 * 3600 * SECOND for number in (1, 2, 4)], promise(daily, begin + 1))
    found = of_stored(store, [Span("m", None, begin, begin + 6 * day)], Wanted(), FAR + 30 * day)
    assert (found.expected, found.held, found.missing) == (5, 3, 2)


def test_a_row_is_not_missing_before_the_meters_profile_is_read_again(store: EmbeddedStore) -> None:
    put(store, ROWS, [], promise(ROWS, START))
    spans = [Span("m", None, START, FAR)]
    assert of_stored(store, spans, Wanted(), START + 3600 * SECOND).expected == 0
    assert of_stored(store, spans, Wanted(), START + 5000 * SECOND).expected == 1


@settings(max_examples=25, deadline=None)
@given(
    polled=st.sets(st.integers(0, 20)),
    rows=st.sets(st.integers(0, 20)),
    outages=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 4)), max_size=3),
    losses=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), max_size=3),
)
def test_every_slot_is_counted_once_whatever_is_known_of_it(
    polled: set[int], rows: set[int], outages: list[tuple[int, int]], losses: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder) / "readings.db")
        put(store, SNAPSHOTS, slots(*polled), promise(SNAPSHOTS, START))
        put(store, ROWS, slots(*rows))
        told = [absence(events.NO_SUPPLY, first, first + more) for first, more in outages]
        told += [absence(events.INTERVALS_LOST, first, first + more) for first, more in losses]
        store.write([Batch(0, events=told)])
        found = of_stored(store, [Span("m", None, START, START + 21 * STEP)], Wanted(), FAR)
        derived = of_derived(store, [Span("m", None, START, START + 20 * STEP)], [OBIS], FAR)
        store.close()
    every = set(range(21))
    recovered = rows - polled
    dark = {number for first, more in outages for number in range(first, first + more + 1)} & every
    dark -= polled | rows
    gone = {number for first, more in losses for number in range(first, first + more + 1)} & every
    gone -= polled | rows | dark
    sets = (polled, recovered, dark, gone)
    assert (found.held, found.recovered, found.no_supply, found.lost) == tuple(map(len, sets))
    assert found.expected == 21 == sum(map(len, sets)) + found.missing
    worst = [max(_rank(number - 1, sets), _rank(number, sets)) for number in range(1, 21)]
    counts = (derived.held, derived.recovered, derived.no_supply, derived.lost, derived.missing)
    assert counts == tuple(worst.count(rank) for rank in range(5))


def _rank(number: int, sets: tuple[set[int], ...]) -> int:
    return next((rank for rank, each in enumerate(sets) if number in each), 4)


@settings(max_examples=25, deadline=None)
@given(
    held=st.sets(st.integers(-3, 30)),
    since=st.integers(-2 * STEP, 10 * STEP),
    length=st.integers(0, 25 * STEP),
    start=st.integers(0, 10 * STEP),
    span=st.integers(1, 25 * STEP),
    layout=st.sampled_from([SNAPSHOTS, INTERVALS]),
)
def test_counts_and_ranges_agree_with_counting_one_by_one(
    held: set[int], since: int, length: int, start: int, span: int, layout: Layout
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder) / "readings.db")
        put(
            store,
            layout,
            [START + index * STEP for index in held],
            promise(layout, START + since, START + since + length),
        )
        low, high = START + max(since, start), START + min(since + length, start + span)
        closed = layout.kind is Kind.INTERVAL
        due = {
            index
            for index in range(-10, 60)
            if (low < START + index * STEP <= high if closed else low <= START + index * STEP < high)
        }
        found = of_stored(store, [Span("m", None, START + start, START + start + span)], Wanted(), FAR)
        store.close()
    assert (found.expected, found.held) == (len(due), len(due & held))
    assert sum(hole.count for hole in found.missing_ranges) == found.missing == len(due - held)
