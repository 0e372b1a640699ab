import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headend.completeness import Wanted
from headend.derive import interval_obis, register_obis
from headend.readings import Question, ReadingsDesk
from headend.registry import MemoryRegistry
from headend.rows import Row
from metering.batch import Batch
from metering.model import (
    SECOND,
    Block,
    Column,
    Device,
    Expectation,
    Installation,
    Kind,
    Layout,
    MeterPoint,
    Source,
)
from metering.quality import Quality
from storage.embedded import EmbeddedStore

OBIS = "1-0:1.8.0*255"
STEP = 900 * SECOND
START = 2_000_000 * STEP
REGISTER = Layout(Kind.REGISTER, Source.POLL, 900, (Column(OBIS, "kWh", -1, "int"),))
FLOATS = Layout(Kind.REGISTER, Source.POLL, 900, (Column(OBIS, "kWh", 0, "float32"),))

Snapshots = Sequence[tuple[int, int | float | None, Quality]]


def desk(store: EmbeddedStore, *installations: Installation, modulus: int | None = None) -> ReadingsDesk:
    registry = MemoryRegistry(
        [MeterPoint("p", "js")],
        [Device("m", "1", "x"), Device("n", "2", "x")],
        installations or [Installation("p", "m", "1", 0)],
    )
    moduli = {"m": {OBIS: modulus}} if modulus else {}
    return ReadingsDesk(registry, store, moduli, lambda: START + 10_000 * STEP)


def put(
    store: EmbeddedStore, snapshots: Snapshots, *, device: str = "m", late: int = SECOND, layout: Layout = REGISTER
) -> None:
    blocks = [
        Block(
            layout,
            device,
            START + index * STEP + late,
            START + index * STEP + late,
            (value,),
            START + index * STEP,
            (flags,),
        )
        for index, value, flags in snapshots
    ]
    promise = Expectation(device, Kind.REGISTER, Source.POLL, 900, (OBIS,), START)
    store.write([Batch(0, blocks, expectations=[promise])])


def ask(of: ReadingsDesk, first: int = 0, last: int = 8, limit: int = 100, obis: tuple[str, ...] = ()) -> list[Row]:
    wanted = Wanted(obis, (), (Source.DERIVED,))
    question = Question("p", "", START + first * STEP, START + last * STEP, wanted)
    rows, cursor = of.page(question, [""], limit)
    while cursor:
        more, cursor = of.page(question, [""], limit, cursor)
        rows += more
    return rows


def told(rows: Sequence[Row]) -> list[tuple[int, str | None, str]]:
    return [
        (row.interval_s // 900, row.value, " ".join(code.name for code in row.quality.codes if code.name != "derived"))
        for row in rows
    ]


OK = Quality.VALID


@pytest.mark.parametrize(
    ("snapshots", "expected"),
    [
        ([(0, 100, OK), (1, 110, OK), (2, 110, OK)], [(1, "1.0", ""), (1, "0.0", "")]),
        ([(0, 100, OK), (3, 160, OK)], [(3, "6.0", "incomplete")]),
        ([(0, 100, OK), (1, None, Quality.NOT_AVAILABLE), (2, 130, OK)], [(2, "3.0", "incomplete")]),
        ([(0, 100, OK), (1, 50, Quality.BACKWARDS), (2, 130, OK)], [(2, "3.0", "incomplete")]),
        ([(0, 100, OK), (1, 50, OK), (2, 60, OK)], [(1, None, "backwards"), (1, "1.0", "")]),
        ([(0, 9995, OK), (1, 5, Quality.ROLLOVER), (2, 8, OK)], [(1, "1.0", "rollover"), (1, "0.3", "")]),
        ([(0, 100, OK), (1, 2, Quality.RESTARTED), (2, 8, OK)], [(1, None, "restarted"), (1, "0.6", "")]),
        ([(0, 100, OK), (1, 110, Quality.CLOCK_SUSPECT)], [(1, "1.0", "clock-suspect")]),
    ],
)
def test_consumption_is_the_difference_of_the_registers(
    store: EmbeddedStore, snapshots: Snapshots, expected: list[tuple[int, str | None, str]]
) -> None:
    put(store, snapshots)
    rows = ask(desk(store, modulus=10_000))
    assert told(rows) == expected
    assert not any(row.quality.valid for row in rows)
    assert {(row.obis, row.kind, row.source) for row in rows} == {("1-0:1.29.0*255", "interval", "derived")}


def test_a_rollover_at_an_unknown_value_gives_no_figure(store: EmbeddedStore) -> None:
    put(store, [(0, 9995, OK), (1, 5, Quality.ROLLOVER)])
    assert told(ask(desk(store))) == [(1, None, "rollover incomplete")]


def test_a_snapshot_far_from_its_slot_marks_both_intervals(store: EmbeddedStore) -> None:
    put(store, [(0, 100, OK), (2, 120, OK)])
    put(store, [(1, 110, OK)], late=11 * SECOND)
    assert told(ask(desk(store))) == [(1, "1.0", "off-boundary"), (1, "1.0", "off-boundary")]


def test_floats_are_subtracted_as_the_meter_shows_them(store: EmbeddedStore) -> None:
    put(store, [(0, 0.1, OK), (1, 0.30000001192092896, OK)], layout=FLOATS)
    assert told(ask(desk(store))) == [(1, "0.2", "")]


def swapped(removal: dict[str, str], initial: dict[str, str]) -> tuple[Installation, Installation]:
    at = START + 2 * STEP + STEP // 2
    return (
        Installation("p", "m", "1", 0, at, {}, removal, "10", "1", "secondary"),
        Installation("p", "n", "2", at, None, initial, {}, "20", "1", "secondary"),
    )


def test_a_swap_inside_an_interval_adds_both_meters_parts_each_by_its_ratio(store: EmbeddedStore) -> None:
    put(store, [(1, 100, OK), (2, 110, OK)])
    put(store, [(3, 25, OK), (4, 35, OK)], device="n")
    rows = ask(desk(store, *swapped({"1-0:1.8.0": "11.4"}, {OBIS: "2.0"})))
    assert told(rows) == [(1, "1.0", ""), (1, "0.9", ""), (1, "1.0", "")]
    assert [row.primary_value for row in rows] == ["10.0", "14.0", "20.0"]
    assert [row.serial for row in rows] == ["1", "2", "2"]


@pytest.mark.parametrize(("removal", "initial"), [({}, {}), ({OBIS: "11.4"}, {}), ({}, {OBIS: "2.0"})])
def test_a_swap_without_both_registers_is_incomplete(
    store: EmbeddedStore, removal: dict[str, str], initial: dict[str, str]
) -> None:
    put(store, [(1, 100, OK), (2, 110, OK)])
    put(store, [(3, 25, OK), (4, 35, OK)], device="n")
    rows = ask(desk(store, *swapped(removal, initial)))
    assert told(rows) == [(1, "1.0", ""), (1, None, "incomplete"), (1, "1.0", "")]


def test_a_range_that_begins_in_a_gap_still_tells_of_its_energy(store: EmbeddedStore) -> None:
    put(store, [(0, 100, OK), (700, 800, OK), (701, 801, OK)])
    assert told(ask(desk(store), 650, 701)) == [(700, "70.0", "incomplete"), (1, "0.1", "")]
    assert told(ask(desk(store), 700, 701)) == [(1, "0.1", "")]


def test_codes_of_totals_and_of_intervals_belong_together(store: EmbeddedStore) -> None:
    assert interval_obis("1-0:2.8.1*255") == "1-0:2.29.1*255"
    assert register_obis("1-0:2.29.1*255") == "1-0:2.8.1*255"
    assert register_obis(OBIS) is None
    put(store, [(0, 100, OK), (1, 110, OK)])
    assert len(ask(desk(store), obis=("1-0:1.29.0*255",))) == 1
    assert ask(desk(store), obis=(OBIS,)) == []


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.integers(0, 500), min_size=2, max_size=30),
    lost=st.sets(st.integers(1, 28)),
    limit=st.integers(1, 7),
)
def test_no_energy_is_lost_or_invented_however_it_is_paged(steps: list[int], lost: set[int], limit: int) -> None:
    totals = [sum(steps[: index + 1]) for index in range(len(steps))]
    last = len(totals) - 1
    snapshots = [(index, total, OK) for index, total in enumerate(totals) if index not in lost - {last}]
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder) / "readings.db")
        put(store, snapshots)
        rows = ask(desk(store), 0, last)
        paged = ask(desk(store), 0, last, limit)
        store.close()
    assert rows == paged
    assert sum(Decimal(row.value or "nan") for row in rows) == Decimal(totals[-1] - totals[0]).scaleb(-1)


def test_the_meters_own_row_stands_in_for_a_poll_that_was_missed(store: EmbeddedStore) -> None:
    rows = Layout(Kind.REGISTER, Source.PROFILE, 900, REGISTER.columns)
    other_unit = Layout(Kind.REGISTER, Source.PROFILE, 900, (Column(OBIS, "Wh", 0, "int"),))
    put(store, [(0, 100, OK), (1, 110, OK), (3, 160, OK)])
    put(store, [(2, 125, OK)], layout=rows, late=0)
    put(store, [(4, 17_000, OK)], layout=other_unit, late=0)
    promise = Expectation("m", Kind.REGISTER, Source.PROFILE, 900, (OBIS,), START)
    store.write([Batch(0, expectations=[promise])])
    assert told(ask(desk(store))) == [(1, "1.0", ""), (1, "1.5", ""), (1, "3.5", "")]


def test_a_settlement_cuts_no_interval_in_two(store: EmbeddedStore) -> None:
    put(store, [(0, 100, OK), (1, 110, OK)])
    settlement = Layout(Kind.REGISTER, Source.PROFILE, 0, REGISTER.columns)
    at = START + STEP // 2
    promise = Expectation("m", Kind.REGISTER, Source.PROFILE, 86_400, (OBIS,), START)
    store.write([Batch(0, [Block(settlement, "m", at, at, (104,), at)], expectations=[promise])])
    assert told(ask(desk(store))) == [(1, "1.0", "")]
