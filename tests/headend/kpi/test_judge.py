"""A device's day is counted as completeness counts it, with when it came beside."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headend.completeness import Wanted, of_stored
from headend.kpi.figures import BUCKETS, DAY, LIMITS_S, Figures, total, unpacked
from headend.kpi.judge import Judged, judge
from headend.spans import Span
from metering import events
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Event, Expectation, Kind, Layout, Source
from metering.ports import ReadingsStore
from metering.timing import to_rfc3339
from storage.embedded import EmbeddedStore

ENERGY, EXPORT, VOLTS = "1-0:1.8.0*255", "1-0:2.8.0*255", "1-0:32.7.0*255"
STEP = 900 * SECOND
START = 20_000 * DAY
FAR = START + 4 * DAY
MINUTE = 60 * SECOND

POLL = Layout(Kind.REGISTER, Source.POLL, 900, tuple(Column(each, "kWh", 0, "int") for each in (ENERGY, EXPORT)))
PROFILE = Layout(Kind.REGISTER, Source.PROFILE, 900, (Column(ENERGY, "kWh", 0, "int"),))
MOMENTS = Layout(Kind.INSTANTANEOUS, Source.POLL, 3600, (Column(VOLTS, "V", 0, "float32"),))
ENDS = Layout(Kind.INTERVAL, Source.PROFILE, 900, (Column("1-0:1.29.0*255", "kWh", 0, "int"),))
DAILY = Layout(Kind.REGISTER, Source.PROFILE, 86_400, (Column(ENERGY, "kWh", 0, "int"),))
LAYOUTS = (POLL, PROFILE, MOMENTS, ENDS, DAILY)


def promise(layout: Layout, since: int = START - DAY, until: int | None = None) -> Expectation:
    obis = tuple(each.obis for each in layout.columns)
    return Expectation("m", layout.kind, layout.source, layout.interval, obis, since, until)


def row(layout: Layout, slot: int, late: int = 0) -> Block:
    """Return a block of a slot that came `late` seconds after it."""
    at = slot + 5 * SECOND if layout.source is Source.POLL else slot
    values = tuple(slot // STEP % 97 for _ in layout.columns)
    return Block(layout, "m", at, slot + late * SECOND + 5 * SECOND, values, slot)


def absence(kind: events.EventType, first: int, last: int, interval: int = 900) -> Event:
    detail = {
        "from": to_rfc3339(first),
        "to": to_rfc3339(last),
        "interval": str(interval),
        "reason": "not in the meter",
    }
    return Event("m", first, kind.code, kind.name, last, detail)


def figures(judged: Judged) -> Figures:
    return judged.buckets.sum()


def test_a_poll_that_was_missed_and_stands_in_the_meters_own_profile_is_no_first_try(store: EmbeddedStore) -> None:
    slots = [START + number * STEP for number in range(96)]
    polls = [row(POLL, slot) for slot in slots if slot != slots[40]]
    store.write([Batch(0, [*polls, row(PROFILE, slots[40], 7200)], expectations=[promise(POLL)])])
    found = figures(judge(store, "m", START, FAR))
    assert (found.expected, found.held, found.recovered, found.missing) == (192, 190, 1, 1)
    assert (found.first_try, found.backfilled) == (190, 1)
    assert [found.on_time(limit) for limit in LIMITS_S] == [190, 190, 191, 191]
    assert found.success_rate == 191 / 192


def test_a_row_that_a_later_read_brought_is_held_and_no_first_try(store: EmbeddedStore) -> None:
    late = {10: 10_000, 11: 40_000}
    rows = [row(PROFILE, START + number * STEP, late.get(number, 1800)) for number in range(96)]
    store.write([Batch(0, rows, expectations=[promise(PROFILE)])])
    found = figures(judge(store, "m", START, FAR))
    assert (found.expected, found.held, found.first_try, found.backfilled) == (96, 96, 94, 2)
    assert [found.on_time(limit) for limit in LIMITS_S] == [0, 94, 95, 96]


def test_an_hour_without_supply_is_taken_out_of_what_rates_are_held_against(store: EmbeddedStore) -> None:
    rows = [row(PROFILE, START + number * STEP) for number in range(96) if not 8 <= number < 12]
    told = [absence(events.NO_SUPPLY, START + 8 * STEP, START + 11 * STEP)]
    store.write([Batch(0, rows, told, expectations=[promise(PROFILE)])])
    judged = judge(store, "m", START, FAR)
    assert (figures(judged).no_supply, figures(judged).missing, figures(judged).success_rate) == (4, 0, 1.0)
    (holes,) = judged.holes
    assert not holes.missing


def test_what_the_meter_lost_is_counted_by_reason(store: EmbeddedStore) -> None:
    rows = [row(PROFILE, START + number * STEP) for number in range(96) if number not in {8, 9}]
    told = [absence(events.INTERVALS_LOST, START + 8 * STEP, START + 8 * STEP)]
    store.write([Batch(0, rows, told, expectations=[promise(PROFILE)])])
    judged = judge(store, "m", START, FAR)
    assert judged.reasons == {"not in the meter": 1}
    (holes,) = judged.holes
    assert list(holes.missing) == [(START + 8 * STEP + 1, START + 9 * STEP + 1)]
    assert list(holes.lost["not in the meter"]) == [(START + 7 * STEP + 1, START + 8 * STEP + 1)]
    assert (holes.name, holes.askable) == ("profile/register/900", True)


def test_a_day_waits_for_what_cannot_be_judged_yet(store: EmbeddedStore) -> None:
    store.write([Batch(0, [], expectations=[promise(PROFILE), promise(DAILY)])])
    judged = judge(store, "m", START, START + DAY + 2 * 3600 * SECOND)
    assert figures(judged).expected == 96
    assert judged.due == START + DAY + (86_400 + 43_200 + 60) * SECOND
    judged = judge(store, "m", START, judged.due)
    assert (figures(judged).expected, judged.due) == (97, None)


def test_the_furthest_clock_offset_of_the_day_is_kept(store: EmbeddedStore) -> None:
    off = [
        Event("m", START + at * STEP, events.METER_CLOCK_OFF.code, events.METER_CLOCK_OFF.name, 0, {"seconds": text})
        for at, text in ((1, "+12.5"), (2, "-30.250"), (3, "x"), (96, "+99"))
    ]
    store.write([Batch(0, [], off, expectations=[promise(POLL)])])
    assert judge(store, "m", START, FAR).clock_ms == -30_250


_NUMBERS = st.sets(st.integers(-2, 98), max_size=99)


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(LAYOUTS, _NUMBERS)),
    st.lists(st.tuples(st.booleans(), st.integers(0, 95), st.integers(0, 12)), max_size=3),
    st.lists(st.tuples(st.sampled_from(LAYOUTS), st.integers(-4, 90), st.none() | st.integers(1, 60)), max_size=5),
    st.integers(0, 30 * 3600),
    st.integers(0, 100_000),
)
def test_the_figures_of_a_day_are_those_of_completeness(
    held: dict[Layout, set[int]],
    told: list[tuple[bool, int, int]],
    promises: list[tuple[Layout, int, int | None]],
    after: int,
    late: int,
) -> None:
    blocks = [
        row(layout, START + number * layout.interval * SECOND, late if number % 3 else 10)
        for layout, numbers in held.items()
        for number in numbers
        if -1 <= number * layout.interval // 86_400 <= 1
    ]
    absences = [
        absence(
            events.NO_SUPPLY if supply else events.INTERVALS_LOST,
            START + first * STEP,
            START + min(first + more, 95) * STEP,
        )
        for supply, first, more in told
    ]
    expectations = [
        promise(layout, START + at * STEP, None if length is None else START + (at + length) * STEP)
        for layout, at, length in promises
    ]
    now = START + DAY + after * SECOND
    with tempfile.TemporaryDirectory() as folder:
        store: ReadingsStore = EmbeddedStore(Path(folder) / "readings.db")
        store.write([Batch(0, blocks, absences, expectations)])
        judged = judge(store, "m", START, now)
        whole = of_stored(store, [Span("m", None, START, START + DAY)], Wanted(), now)
        store.close()
    found = figures(judged)
    assert found[:5] == (whole.expected, whole.held, whole.recovered, whole.no_supply, whole.lost)
    assert found.missing == whole.missing >= 0
    assert found.first_try <= found.held
    assert all(0 <= one <= other for one, other in zip((0, *found[6:]), found[6:], strict=False))
    for rate in (found.success_rate, found.first_try_rate, *(found.on_time_rate(limit) for limit in LIMITS_S)):
        assert rate is None or 0 <= rate <= 1
    assert total(judged.buckets.figures()) == found
    assert unpacked({judged.buckets.packed(): 2}) == [
        Figures(*(2 * n for n in one)) for one in judged.buckets.figures()
    ]
    assert sum(judged.reasons.values()) == found.lost
    assert bool(found.missing) == any(holes.missing for holes in judged.holes)


@pytest.mark.parametrize("number", [0, 47, 95])
def test_a_slot_counts_in_its_own_quarter_hour(store: EmbeddedStore, number: int) -> None:
    slot = START + number * STEP
    interval_end = slot + STEP  # an interval counts where it lies, a snapshot where it begins
    store.write([Batch(0, [], expectations=[promise(POLL, slot, slot + 1), promise(ENDS, slot, interval_end)])])
    buckets = judge(store, "m", START, FAR).buckets.figures()
    assert len(buckets) == BUCKETS
    assert [place for place, each in enumerate(buckets) if each.expected] == [number]
    assert buckets[number].expected == 3
