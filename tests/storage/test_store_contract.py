"""What every readings store keeps, whatever holds it."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headend.completeness import Wanted, of_stored
from headend.kpi.figures import DAY
from headend.kpi.judge import judge
from headend.spans import Span
from metering.batch import Batch
from metering.errors import StorageError
from metering.events import INTERVALS_LOST, NO_SUPPLY
from metering.model import SECOND, Block, Column, Event, Expectation, Kind, Layout, Source
from metering.ports import Reading, ReadingsQuery, ReadingsStore, SlotsQuery
from metering.quality import Quality
from metering.timing import to_rfc3339

STEP = 900 * SECOND
T0 = 1_760_000_400 * SECOND // STEP * STEP
ENERGY = Column("1-0:1.8.0*255", "kWh", -2, "int")
VOLTAGE = Column("1-0:32.7.0*255", "V", 0, "float32")
POWER = Column("1-0:16.7.0*255", "W", 0, "float64")

BOTH = Layout(Kind.REGISTER, Source.POLL, 900, (ENERGY, POWER))
ONE = Layout(Kind.REGISTER, Source.POLL, 900, (ENERGY,))
VOLTS = Layout(Kind.INSTANTANEOUS, Source.POLL, 900, (VOLTAGE,))
PROFILE = Layout(Kind.INTERVAL, Source.PROFILE, 900, (ENERGY,))

MakeStore = Callable[[], ReadingsStore]


def block(layout: Layout, at: int, *values: float | None, device: str = "m1", **more: object) -> Block:
    rest: dict[str, object] = {"received_at": at + 3 * SECOND, "slot": at // STEP * STEP} | more
    return Block(layout, device, at, values=values, **rest)  # type: ignore[arg-type]  # the fields by name


def ask(store: ReadingsStore, **more: object) -> list[Reading]:
    question: dict[str, object] = {"device": "m1", "start": 0, "end": 2**62, "limit": 10_000} | more
    page = store.readings(ReadingsQuery(**question))  # type: ignore[arg-type]  # the fields by name
    assert page.cursor == ""
    return list(page.readings)


def pages(store: ReadingsStore, limit: int, **more: object) -> list[Reading]:
    question: dict[str, object] = {"device": "m1", "start": 0, "end": 2**62, "limit": limit} | more
    found: list[Reading] = []
    after = ""
    while True:
        page = store.readings(ReadingsQuery(**question, after=after))  # type: ignore[arg-type]  # the fields by name
        assert len(page.readings) == limit or not page.cursor
        found += page.readings
        assert page.cursor != after or not after  # otherwise it would never end
        after = page.cursor
        if not after:
            return found


def whole(store: ReadingsStore) -> object:
    """Return everything that the store says about its devices."""
    devices = ["m1", "m2"]
    everything: list[object] = [ask(store, device=device, versions=True) for device in devices]
    everything += [ask(store, device=device) for device in devices]
    everything.append(list(store.latest(devices)))
    everything += [store.expectations(device) for device in devices]
    everything.append(store.events(devices, 0, 2**62, 1000))
    for layout in (BOTH, VOLTS, PROFILE):
        obis = layout.columns[0].obis
        query = SlotsQuery("m1", obis, layout.kind, layout.source, layout.interval, 0, T0 + 1000 * STEP)
        everything.append((store.count_slots(query), list(store.slots(query))))
    return repr(everything)  # digit for digit: -0.0 == 0.0, but they read differently


def test_every_digit_comes_back(store: ReadingsStore):
    layout = Layout(Kind.REGISTER, Source.POLL, 900, (ENERGY, POWER, VOLTAGE))
    cases: list[tuple[float | None, ...]] = [
        (0, 0.1, 230.1999969482422),
        (2**63 - 1, -0.0, 1e-45),
        (2**64 - 1, 5e-324, 3.4028234663852886e38),
        (-(2**63), 1.7976931348623157e308, -1.5),
        (123, 12345678901234.568, 230.2),  # no float32 shows 230.2, but it is what came
    ]
    store.write([Batch(T0, [block(layout, T0 + i * STEP, *values) for i, values in enumerate(cases)])])
    for values, column in zip(zip(*cases, strict=True), (ENERGY, POWER, VOLTAGE), strict=True):
        got = [reading.value for reading in ask(store, obis=(column.obis,))]
        assert list(map(repr, got)) == list(map(repr, values))


def test_a_reading_says_when_it_came_and_what_it_is(store: ReadingsStore):
    flags = (0, int(Quality.BACKWARDS))
    store.write([Batch(T0, [block(BOTH, T0 + 7, 5, 1.5, quality=flags, revision=3)])])
    energy, power = ask(store)
    assert (power.channel.column, power.channel.kind, power.channel.source) == (POWER, Kind.REGISTER, Source.POLL)
    assert (power.measured_at, power.received_at, power.slot) == (T0 + 7, T0 + 7 + 3 * SECOND, T0)
    assert (power.value, power.quality, power.revision, power.current) == (1.5, Quality.BACKWARDS, 3, True)
    assert (energy.channel.column, energy.value, energy.quality) == (ENERGY, 5, 0)


def test_no_value_is_kept_with_its_quality(store: ReadingsStore):
    store.write([Batch(T0, [block(BOTH, T0, None, 1.0, quality=(Quality.NOT_AVAILABLE, 0))])])
    (reading,) = ask(store, obis=(ENERGY.obis,))
    assert (reading.value, reading.quality) == (None, Quality.NOT_AVAILABLE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_become_no_value_and_a_flag(store: ReadingsStore, value: float):
    store.write([Batch(T0, [block(VOLTS, T0, value)])])
    (reading,) = ask(store)
    assert (reading.value, reading.quality) == (None, Quality.NOT_A_NUMBER)


def test_a_block_that_does_not_fit_its_columns_is_refused_with_the_reason_and_hides_no_other(store: ReadingsStore):
    bad = block(BOTH, T0, 12.5, 1.0)
    result = store.write([Batch(T0, [block(BOTH, T0 + STEP, 1, 1.0), bad, block(BOTH, T0 + 2 * STEP, 2, 2.0)])])
    assert [(one.block, ENERGY.obis in one.reason) for one in result.rejected] == [(bad, True)]
    assert [reading.value for reading in ask(store, obis=(ENERGY.obis,))] == [1, 2]


def test_the_same_again_is_one_record_with_the_earliest_arrival_and_the_highest_revision(store: ReadingsStore):
    first = block(BOTH, T0, 1, 1.0, received_at=T0 + 50)
    again = [
        block(BOTH, T0, 1, 1.0, received_at=T0 + 20, revision=1),
        block(BOTH, T0, 1, 1.0, received_at=T0 + 90, revision=4, slot=None),
    ]
    assert store.write([Batch(T0, [first])]).stored == 2
    result = store.write([Batch(T0, again)])
    assert (result.stored, result.duplicates, result.versions) == (0, 4, 0)
    readings = ask(store, versions=True)
    assert [(one.received_at, one.revision, one.slot) for one in readings] == [(T0 + 20, 4, T0)] * 2


def test_a_different_value_is_a_version_and_rank_decides_which_is_current(store: ReadingsStore):
    polled, edited, estimate = (
        block(ONE, T0, 100),
        block(ONE, T0, 101, quality=(Quality.EDITED,)),
        block(ONE, T0, 99, quality=(Quality.ESTIMATED,), revision=9),
    )
    for one in (edited, polled, estimate):
        result = store.write([Batch(T0, [one])])
    assert (result.stored, result.duplicates, result.versions) == (0, 0, 1)
    assert [one.value for one in ask(store)] == [101]
    assert [(one.value, one.current) for one in ask(store, versions=True)] == [(101, True), (100, False), (99, False)]
    assert [one.value for one in store.latest(["m1"])] == [101]


def test_a_correction_may_come_as_a_block_of_one_column(store: ReadingsStore):
    store.write([Batch(T0, [block(BOTH, T0 + i * STEP, 10 + i, 1.0) for i in range(5)])])
    corrected = block(ONE, T0 + 2 * STEP, 99, quality=(Quality.EDITED,))
    same = block(ONE, T0 + 3 * STEP, 13)
    result = store.write([Batch(T0, [corrected, same])])
    assert (result.stored, result.duplicates, result.versions) == (0, 1, 1)
    assert [one.value for one in ask(store, obis=(ENERGY.obis,))] == [10, 11, 99, 13, 14]
    assert len(ask(store)) == 10
    assert len(ask(store, versions=True)) == 11


def test_latest_is_the_last_time_of_each_channel_whatever_layout_it_came_in(store: ReadingsStore):
    store.write([Batch(T0, [block(BOTH, T0, 10, 1.0), block(ONE, T0 + STEP, 11), block(VOLTS, T0 + 5, 230.0)])])
    store.write([Batch(T0, [block(BOTH, T0, 7, 2.0, device="m2")])])
    got = [(one.channel.device, one.channel.column, one.value) for one in store.latest(["m2", "m1", "none"])]
    assert got == [
        ("m2", ENERGY, 7),
        ("m2", POWER, 2.0),
        ("m1", ENERGY, 11),
        ("m1", POWER, 1.0),
        ("m1", VOLTAGE, 230.0),
    ]
    assert [one.value for one in store.latest(["m1"], [Kind.INSTANTANEOUS])] == [230.0]


def test_instants_begin_at_the_start_and_intervals_after_it(store: ReadingsStore):
    store.write([Batch(T0, [block(layout, T0 + i * STEP, 5) for layout in (ONE, PROFILE) for i in range(4)])])
    got = [(one.channel.kind, (one.measured_at - T0) // STEP) for one in ask(store, start=T0 + STEP, end=T0 + 3 * STEP)]
    assert got == [(Kind.REGISTER, 1), (Kind.INTERVAL, 2), (Kind.REGISTER, 2), (Kind.INTERVAL, 3)]


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ({"kinds": (Kind.INTERVAL,)}, {Kind.INTERVAL}),
        ({"sources": (Source.POLL,)}, {Kind.REGISTER, Kind.INSTANTANEOUS}),
        ({"obis": (VOLTAGE.obis, POWER.obis)}, {Kind.REGISTER, Kind.INSTANTANEOUS}),
        ({"obis": ("1-0:99.99.99*255",)}, set()),
        ({"device": "m9"}, set()),
        ({"start": T0 + STEP, "end": T0}, set()),
    ],
)
def test_a_question_selects(store: ReadingsStore, question: dict[str, object], kinds: set[Kind]):
    store.write([Batch(T0, [block(BOTH, T0, 1, 1.0), block(VOLTS, T0, 230.0), block(PROFILE, T0, 5)])])
    assert {one.channel.kind for one in ask(store, **question)} == kinds


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("versions", [False, True])
def test_pages_join_without_hole_or_repetition(store: ReadingsStore, limit: int, versions: bool):  # noqa: FBT001 - a parameter
    blocks = [block(BOTH, T0 + i * STEP, i, float(i)) for i in range(8)]
    blocks += [block(ONE, T0 + i * STEP, 100 + j) for i in (2, 3) for j in range(5)]
    blocks += [block(VOLTS, T0 + i * STEP + 5, 230.0, quality=(Quality.CLOCK_SUSPECT,)) for i in range(8)]
    store.write([Batch(T0, blocks)])
    assert pages(store, limit, versions=versions) == ask(store, versions=versions)


def test_what_arrives_between_pages_neither_repeats_nor_hides_anything(store: ReadingsStore):
    store.write([Batch(T0, [block(BOTH, T0 + i * STEP, i, float(i)) for i in range(6)])])
    before = ask(store, versions=True)
    query = ReadingsQuery("m1", 0, 2**62, versions=True, limit=5)
    page = store.readings(query)
    late = [block(ONE, T0 + i * STEP, 50 + i) for i in range(6)] + [block(BOTH, T0 - STEP, 1, 1.0)]
    store.write([Batch(T0, late)])
    rest = ask(store, versions=True, after=page.cursor)
    seen = [(one.measured_at, one.channel, one.value) for one in [*page.readings, *rest]]
    assert len(seen) == len(set(seen))
    assert {(one.measured_at, one.channel, one.value) for one in before} <= set(seen)


@pytest.mark.parametrize("cursor", ["x", "AAAA", "kwECAw", "%%%", "é"])
def test_a_cursor_of_something_else_is_refused(store: ReadingsStore, cursor: str):
    store.write([Batch(T0, [block(BOTH, T0, 1, 1.0)])])
    with pytest.raises(StorageError, match="not a cursor") as caught:
        store.readings(ReadingsQuery("m1", 0, 2**62, after=cursor))
    assert not caught.value.retry
    with pytest.raises(StorageError, match="not a cursor"):
        store.events(["m1"], 0, 2**62, 10, cursor)


def test_arrivals_are_told_by_layout_with_the_earliest_of_each_slot(store: ReadingsStore):
    late = block(BOTH, T0 + STEP + 7, 3, 3.0, received_at=T0 + 900 * STEP)
    blocks = [
        block(BOTH, T0 + 7, 1, 1.0),
        block(BOTH, T0 + 9, 2, 1.0, received_at=T0 + 10),  # another version of the same slot
        late,
        block(BOTH, T0 + 2 * STEP, 3, 3.0, slot=None),  # of no slot
        block(ONE, T0 + 3 * STEP, 3),
        block(PROFILE, T0 + STEP, 5, slot=None),  # belongs to its end
        block(BOTH, T0, 9, 9.0, device="m2"),
    ]
    store.write([Batch(T0, blocks)])
    found = {(each.kind, each.source, each.obis): each for each in store.arrivals("m1", T0, T0 + 2 * STEP)}
    both = found[Kind.REGISTER, Source.POLL, (ENERGY.obis, POWER.obis)]
    assert (both.interval, list(both.slots)) == (900, [T0, T0 + STEP])
    assert list(both.received) == [T0 + 10, T0 + 900 * STEP]
    assert list(found[Kind.INTERVAL, Source.PROFILE, (ENERGY.obis,)].slots) == [T0 + STEP]
    assert list(found[Kind.REGISTER, Source.POLL, (ENERGY.obis,)].slots) == []
    assert [list(each.slots) for each in store.arrivals("m1", T0 + STEP, T0 + STEP) if each.slots] == [[T0 + STEP]] * 2
    assert store.arrivals("m9", T0, T0 + STEP) == []


def test_slots_are_told_once_whatever_layout_or_version_holds_them(store: ReadingsStore):
    store.write(
        [
            Batch(
                T0,
                [
                    block(BOTH, T0 + 40, 1, 1.0, slot=T0),
                    block(ONE, T0 + 41, 2, slot=T0),
                    block(BOTH, T0 + STEP, None, 1.0, quality=(Quality.NOT_AVAILABLE, 0)),
                    block(BOTH, T0 + 2 * STEP - 30, 3, 1.0, slot=T0 + 2 * STEP),  # the meter's clock is ahead
                    block(BOTH, T0 + 2 * STEP + 99, 3, 1.0, slot=None),  # nobody's slot
                    block(BOTH, T0 + 4 * STEP + 99, 4, 1.0, slot=T0 + 3 * STEP),  # more than a step late
                ],
            )
        ]
    )
    query = SlotsQuery("m1", ENERGY.obis, Kind.REGISTER, Source.POLL, 900, T0, T0 + 4 * STEP)
    assert list(store.slots(query)) == [T0, T0 + STEP, T0 + 2 * STEP, T0 + 3 * STEP]
    assert store.count_slots(query) == 4
    inside = SlotsQuery("m1", ENERGY.obis, Kind.REGISTER, Source.POLL, 900, T0 + STEP, T0 + 2 * STEP)
    assert list(store.slots(inside)) == [T0 + STEP]


def test_an_intervals_slot_is_its_end(store: ReadingsStore):
    store.write([Batch(T0, [block(PROFILE, T0 + i * STEP, 5, slot=None) for i in range(4)])])
    query = SlotsQuery("m1", ENERGY.obis, Kind.INTERVAL, Source.PROFILE, 900, T0 + STEP, T0 + 3 * STEP)
    assert list(store.slots(query)) == [T0 + 2 * STEP, T0 + 3 * STEP]


def test_polls_rows_and_absences_make_the_same_account_in_every_store(store: ReadingsStore):
    rows = Layout(Kind.REGISTER, Source.PROFILE, 900, (ENERGY,))
    days = Layout(Kind.REGISTER, Source.PROFILE, 86_400, (ENERGY,))
    midnight = T0 // (96 * STEP) * 96 * STEP - 8 * 3600 * SECOND  # of a zone eight hours ahead of UTC
    blocks = [block(ONE, T0 + i * STEP + 9, i, slot=T0 + i * STEP) for i in (0, 1, 6)]
    blocks += [block(rows, T0 + i * STEP, i) for i in (1, 2, 6)]
    blocks += [block(days, midnight + i * 96 * STEP, i, slot=midnight + i * 96 * STEP) for i in (1, 2)]
    promises = [
        Expectation("m1", Kind.REGISTER, layout.source, layout.interval, (ENERGY.obis,), T0) for layout in (ONE, days)
    ]
    told = []
    for kind, first, last in ((NO_SUPPLY, 3, 4), (INTERVALS_LOST, 5, 5)):
        detail = {"from": to_rfc3339(T0 + first * STEP), "to": to_rfc3339(T0 + last * STEP), "interval": "900"}
        told.append(Event("m1", T0 + first * STEP, kind.code, kind.name, T0, detail))
    store.write([Batch(T0, blocks, told, promises)])
    far = T0 + 400 * STEP
    polls = of_stored(store, [Span("m1", None, T0, T0 + 8 * STEP)], Wanted(sources=(Source.POLL,)), far)
    counts = (polls.expected, polls.held, polls.recovered, polls.no_supply, polls.lost, polls.missing)
    assert counts == (8, 3, 1, 2, 1, 1)
    assert [(hole.first, hole.count) for hole in polls.missing_ranges] == [(to_rfc3339(T0 + 7 * STEP), 1)]
    daily = of_stored(store, [Span("m1", None, T0, T0 + 192 * STEP)], Wanted(sources=(Source.PROFILE,)), far)
    assert (daily.expected, daily.held) == (2, 2)
    for day in (T0 // DAY * DAY, T0 // DAY * DAY + DAY):  # what is judged for the key figures is the same
        judged = judge(store, "m1", day, far).buckets.sum()
        whole = of_stored(store, [Span("m1", None, day, day + DAY)], Wanted(), far)
        assert judged[:5] == (whole.expected, whole.held, whole.recovered, whole.no_supply, whole.lost)


def test_events_come_once_in_order_and_in_pages(store: ReadingsStore):
    events = [
        Event(device, T0 + at, "3.1.0.85", "meter-silent", T0 + 99, {"n": str(n)})
        for device in ("m1", "m2")
        for at in (0, 5)
        for n in range(3)
    ]
    store.write([Batch(T0, events=events), Batch(T0, events=events[::-1])])
    found, _ = store.events(["m1", "m2"], T0, T0 + 6, 100)
    assert list(found) == sorted(events, key=lambda event: (event.time, event.id))
    assert [event.device for event in store.events(["m2"], T0, T0 + 5, 100)[0]] == ["m2"] * 3
    joined: list[Event] = []
    after = ""
    while True:
        some, after = store.events(["m1", "m2"], T0, T0 + 6, 5, after)
        joined += some
        if not after:
            break
    assert joined == list(found)


def test_a_promise_that_has_ended_stays_ended(store: ReadingsStore):
    def promise(until: int | None) -> Expectation:
        return Expectation("m1", Kind.REGISTER, Source.POLL, 900, (ENERGY.obis,), T0, until)

    for until in (None, T0 + STEP, None):
        store.write([Batch(T0, expectations=[promise(until)])])
    later = Expectation("m1", Kind.REGISTER, Source.POLL, 900, (ENERGY.obis,), T0 + STEP)
    store.write([Batch(T0, expectations=[later])])
    assert list(store.expectations("m1")) == [promise(T0 + STEP), later]
    assert list(store.expectations("m2")) == []


def test_a_closed_store_says_so(store: ReadingsStore):
    store.ping()
    store.close()
    store.close()
    for call in (store.ping, lambda: store.write([]), lambda: store.expectations("m1")):
        with pytest.raises(StorageError):
            call()


VALUES = st.sampled_from([None, 0, 1, 2**64 - 1])
FLOATS = st.sampled_from([None, 0.0, -0.0, 0.1, float("nan")])
FLAGS = st.sampled_from([0, 0, Quality.EDITED, Quality.ESTIMATED, Quality.BACKWARDS, Quality.VALIDATED])
TIMES = st.integers(0, 3).map(lambda i: T0 + i * STEP)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    layout = draw(st.sampled_from([BOTH, ONE, VOLTS, PROFILE]))
    strategies = [VALUES if column.number == "int" else FLOATS for column in layout.columns]
    at = draw(TIMES)
    return Block(
        layout,
        draw(st.sampled_from(["m1", "m2"])),
        at,
        at + draw(st.integers(-2, 2)) * SECOND,
        [draw(one) for one in strategies],
        draw(st.sampled_from([None, at, at - STEP])),
        draw(st.sampled_from([(), tuple(draw(FLAGS) for _ in strategies)])),
        draw(st.integers(0, 1)),
    )


EVENTS = st.builds(
    Event,
    device=st.sampled_from(["m1", "m2"]),
    time=TIMES,
    code=st.just("3.1.0.85"),
    name=st.sampled_from(["meter-silent", "silent"]),
    received_at=TIMES,
    detail=st.sampled_from([{}, {"a": "1", "b": "2"}, {"b": "2", "a": "1"}]),
)
PROMISES = st.builds(
    Expectation,
    device=st.sampled_from(["m1", "m2"]),
    kind=st.just(Kind.REGISTER),
    source=st.just(Source.POLL),
    interval=st.just(900),
    obis=st.just((ENERGY.obis,)),
    since=TIMES,
    until=st.none() | TIMES,
)
BATCHES = st.lists(
    st.builds(
        Batch,
        created_at=st.just(T0),
        blocks=st.lists(blocks(), max_size=4),
        events=st.lists(EVENTS, max_size=1),
        expectations=st.lists(PROMISES, max_size=1),
    ),
    max_size=6,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BATCHES, st.data())
def test_any_order_and_any_repetition_end_in_the_same_answers(
    make_store: MakeStore, batches: list[Batch], data: st.DataObject
):
    straight, shuffled = make_store(), make_store()
    straight.write(batches)
    again = data.draw(st.lists(st.sampled_from(batches), max_size=3)) if batches else []
    for batch in data.draw(st.permutations([*batches, *again])):
        shuffled.write([batch])
    assert whole(shuffled) == whole(straight)
    held: Sequence[Reading] = ask(straight, versions=True)
    assert pages(straight, data.draw(st.integers(1, 4)), versions=True) == held
    straight.close()
    shuffled.close()
