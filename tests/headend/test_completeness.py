import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from headend.completeness import MAX_RANGES, Wanted, of_derived, of_stored
from headend.spans import Span
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Expectation, Kind, Layout, Source
from storage.embedded import EmbeddedStore

OBIS = "1-0:1.8.0*255"
STEP = 900 * SECOND
START = 1_000 * STEP
FAR = START + 10_000 * STEP

SNAPSHOTS = Layout(Kind.REGISTER, Source.POLL, 900, (Column(OBIS, "kWh", 0, "int"),))
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
