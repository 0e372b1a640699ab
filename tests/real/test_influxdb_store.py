"""The InfluxDB store against a real server: exact digits, versions in any order, pages, slots, events."""

import itertools
import struct

import pytest

from metering.batch import Batch
from metering.model import SECOND, Block, Column, Event, Expectation, Kind, Layout, Source
from metering.ports import Reading, ReadingsQuery, SlotsQuery
from metering.quality import Quality
from metering.values import to_text
from storage.influxdb import InfluxSettings, InfluxStore

pytestmark = pytest.mark.real

T = 1_700_000_100 * SECOND  # a quarter of an hour
QUARTER = 900 * SECOND
KWH = Column("1-0:1.8.0*255", "kWh", -2, "int")
VOLT = Column("1-0:32.7.0*255", "V", 0, "float32")
FREQUENCY = Column("1-0:14.7.0*255", "Hz", 0, "float64")
ALL = Layout(Kind.REGISTER, Source.POLL, 900, (KWH, VOLT, FREQUENCY))
ONE = Layout(Kind.REGISTER, Source.POLL, 900, (KWH,))
ENDS = Layout(Kind.INTERVAL, Source.PROFILE, 900, (Column("1-0:1.29.0*255", "kWh", -3, "int"),))


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def block(time: int, *values: float | None, layout: Layout = ALL, **more: object) -> Block:
    given_ = {"device": "m1", "received_at": time + 3, "slot": time, **more}
    return Block(layout=layout, measured_at=time, values=values, **given_)  # type: ignore[arg-type]  # test's shorthand


def batch(*blocks: Block, **more: object) -> Batch:
    return Batch(T, blocks, **more)  # type: ignore[arg-type]  # test's shorthand


def everything(store: InfluxStore, device: str = "m1", **more: object) -> list[Reading]:
    query = ReadingsQuery(device, 0, T * 2, limit=100_000, **more)  # type: ignore[arg-type]  # test's shorthand
    return list(store.readings(query).readings)


def test_every_digit_comes_back(influx_store: InfluxStore) -> None:
    rows = [
        (12300, float32(230.2), 49.98765432101234),
        (2**63 - 1, float32(1e-38), 1.7976931348623157e308),
        (-(2**63), float32(3.4e38), 5e-324),
        (2**63, -0.0, 1e20),
        (2**64 - 1, 0.0, 1e21),
        (-(2**90), float32(0.1), -1e-7),
        (0, 5.0, 123456789.0),
        (None, None, None),
    ]
    blocks = [block(T + index * QUARTER, *row) for index, row in enumerate(rows)]
    result = influx_store.write([batch(*blocks)])
    assert (result.stored, result.rejected) == (24, [])
    found = everything(influx_store)
    assert len(found) == 24
    for reading in found:
        column = reading.channel.column
        wanted = rows[(reading.measured_at - T) // QUARTER][ALL.columns.index(column)]
        assert repr(reading.value) == repr(wanted)
        if wanted is not None:
            assert to_text(reading.value, column.scale, column.number) == to_text(wanted, column.scale, column.number)
    assert next(one for one in found if one.value == 12300).channel.column == KWH
    assert {one.slot for one in found} == {T + index * QUARTER for index in range(8)}


def test_quality_stands_at_its_own_column(influx_store: InfluxStore) -> None:
    flags = (Quality.BACKWARDS, 0, Quality.NOT_AVAILABLE)
    influx_store.write([batch(block(T, 5, 230.5, None, quality=flags, revision=4, slot=None))])
    assert [(one.value, one.quality, one.revision, one.slot) for one in everything(influx_store)] == [
        (5, 8, 4, None),
        (None, 1, 4, None),
        (230.5, 0, 4, None),
    ]


def test_nan_and_infinity_are_kept_as_a_flag_without_a_value(influx_store: InfluxStore) -> None:
    influx_store.write([batch(block(T, 5, float("nan"), float("-inf")))])
    assert [(one.value, one.quality) for one in everything(influx_store)] == [(5, 0), (None, 2), (None, 2)]


def test_the_same_again_is_one_record_that_came_first_and_has_the_highest_revision(influx_store: InfluxStore) -> None:
    influx_store.write([batch(block(T, 5, 230.5, 50.0, received_at=20))])
    again = influx_store.write([batch(block(T, 5, 230.5, 50.0, received_at=10, revision=2))])
    more = influx_store.write([batch(block(T, 5, 230.5, 50.0, received_at=30))])
    assert (again.stored, again.duplicates, again.versions) == (0, 3, 0)
    assert more.duplicates == 3
    found = everything(influx_store, versions=True)
    assert [(one.received_at, one.revision, one.current) for one in found] == [(10, 2, True)] * 3


def test_a_corrected_value_is_a_version_and_never_leaves_another_fields_value_beside_it(
    influx_store: InfluxStore,
) -> None:
    influx_store.write([batch(block(T, 5, 230.5, 50.0))])
    result = influx_store.write([batch(block(T, 6, None, 50.0, quality=(0, 1, 0), revision=1))])
    assert (result.stored, result.duplicates, result.versions) == (0, 1, 2)
    assert [one.value for one in everything(influx_store)] == [6, 50.0, 230.5]
    held = everything(influx_store, versions=True)
    assert [(one.value, one.current) for one in held] == [
        (6, True),
        (5, False),
        (50.0, True),
        (230.5, True),
        (None, False),
    ]


def test_a_correction_of_one_channel_may_come_as_a_block_of_its_own(influx_store: InfluxStore) -> None:
    influx_store.write([batch(block(T, 5, 230.5, 50.0))])
    result = influx_store.write([batch(block(T, 7, layout=ONE, quality=(Quality.EDITED,), received_at=T + 9))])
    assert (result.stored, result.duplicates, result.versions) == (0, 0, 1)
    query = ReadingsQuery("m1", T, T + 1, obis=(KWH.obis,), versions=True)
    assert [(one.value, one.current) for one in influx_store.readings(query).readings] == [(7, True), (5, False)]
    assert [one.value for one in influx_store.latest(["m1"])] == [7, 50.0, 230.5]


def test_a_correction_before_the_first_value_ends_in_the_same_state(influx_store: InfluxStore) -> None:
    influx_store.write([batch(block(T, 7, layout=ONE, quality=(Quality.EDITED,)))])
    result = influx_store.write([batch(block(T, 5, 230.5, 50.0))])
    assert (result.stored, result.versions) == (2, 1)
    assert [one.value for one in everything(influx_store)] == [7, 50.0, 230.5]


def test_pages_join_without_hole_or_repetition(influx_store: InfluxStore) -> None:
    blocks = [block(T + index * QUARTER, index, 230.5, 50.0) for index in range(40)]
    edits = [block(T + index * QUARTER, index + 1, layout=ONE, revision=1) for index in range(0, 40, 3)]
    influx_store.write([batch(*blocks, *edits)])
    for limit, versions in itertools.product((1, 7, 1000), (False, True)):
        found: list[Reading] = []
        cursor = ""
        while True:
            query = ReadingsQuery("m1", T, T + 40 * QUARTER, limit=limit, versions=versions, after=cursor)
            page = influx_store.readings(query)
            found += page.readings
            cursor = page.cursor
            if not cursor:
                break
        assert found == everything(influx_store, versions=versions)
        assert len(found) == 120 + (14 if versions else 0)


def test_instants_begin_at_the_start_and_intervals_after_it(influx_store: InfluxStore) -> None:
    for index in range(3):
        influx_store.write([batch(block(T + index * QUARTER, 1, 2.0, 3.0))])
        influx_store.write([batch(block(T + index * QUARTER, 1, layout=ENDS, slot=None))])
    query = ReadingsQuery("m1", T, T + QUARTER)
    found = influx_store.readings(query).readings
    assert [(one.channel.kind, one.measured_at - T) for one in found] == [("register", 0)] * 3 + [("interval", QUARTER)]


def test_latest_of_many_meters_and_kinds(influx_store: InfluxStore) -> None:
    blocks = [
        block(T + turn * QUARTER, turn, float(meter), 50.0, device=f"d{meter:03}")
        for turn in range(2)
        for meter in range(120)
    ]
    influx_store.write([batch(*blocks, block(T, 9, layout=ENDS, device="d007"))])
    devices = [f"d{meter:03}" for meter in range(120)]
    found = list(influx_store.latest([*devices, "unknown"]))
    assert len(found) == 361
    assert {one.measured_at for one in found if one.channel.kind is Kind.REGISTER} == {T + QUARTER}
    assert [one.value for one in influx_store.latest(["d007"], [Kind.INTERVAL])] == [9]


def test_slots_are_counted_once_whatever_holds_them(influx_store: InfluxStore) -> None:
    late = 40 * SECOND
    influx_store.write([batch(*(block(T + i * QUARTER + late, i, 1.0, 2.0, slot=T + i * QUARTER) for i in range(4)))])
    influx_store.write([batch(block(T + late, 5, layout=ONE, slot=T, revision=1))])
    influx_store.write([batch(block(T + 9, None, None, None, slot=None))])
    query = SlotsQuery("m1", KWH.obis, Kind.REGISTER, Source.POLL, 900, T, T + 3 * QUARTER)
    assert list(influx_store.slots(query)) == [T, T + QUARTER, T + 2 * QUARTER]
    assert influx_store.count_slots(query) == 3
    influx_store.write([batch(*(block(T + i * QUARTER, i, layout=ENDS, slot=None) for i in range(3)))])
    ends = SlotsQuery("m1", ENDS.columns[0].obis, Kind.INTERVAL, Source.PROFILE, 900, T, T + 2 * QUARTER)
    assert list(influx_store.slots(ends)) == [T + QUARTER, T + 2 * QUARTER]


def test_events_of_one_instant_stay_apart_and_come_once(influx_store: InfluxStore) -> None:
    events = [
        Event("m1", T, "3.21.43.11", "backwards", T + 5, {"obis": code, "why": 'a "b",\n\\ c=d'}) for code in "abc"
    ]
    events += [Event("gateway:g1", T + index, "1.2.3.4", "clock", T + 9) for index in range(5)]
    for arrivals in (events[:2], events, reversed(events), [*events, *events]):
        influx_store.write([batch(events=list(arrivals))])
    earlier = Event("m1", T, "3.21.43.11", "backwards", T + 1, events[0].detail)
    influx_store.write([batch(events=[earlier])])
    wanted = sorted([earlier, *events[1:]], key=lambda one: (one.time, one.id))
    both = ["m1", "gateway:g1"]
    assert influx_store.events(both, T, T + 10, 100) == (wanted, "")
    found: list[Event] = []
    cursor = ""
    while True:
        page, cursor = influx_store.events(both, T, T + 10, 2, cursor)
        found += page
        if not cursor:
            break
    assert found == wanted
    assert influx_store.events(["m1"], T + 1, T + 10, 5) == ([], "")


def test_a_promise_that_comes_again_replaces_its_end(influx_store: InfluxStore) -> None:
    first = Expectation("m1", Kind.REGISTER, Source.POLL, 900, (KWH.obis, VOLT.obis), T)
    second = Expectation("m1", Kind.INTERVAL, Source.PROFILE, 900, (), T - QUARTER, T)
    ended = Expectation("m1", Kind.REGISTER, Source.POLL, 900, (KWH.obis, VOLT.obis), T, T + QUARTER)
    influx_store.write([batch(expectations=[first, second])])
    assert influx_store.expectations("m1") == [second, first]
    influx_store.write([batch(expectations=[ended])])
    assert influx_store.expectations("m1") == [second, ended]
    assert influx_store.expectations("m2") == []


def test_a_device_id_cannot_break_out_of_its_line_or_question(influx_store: InfluxStore) -> None:
    odd = "m 1,kind=x' OR 1=1"
    result = influx_store.write([batch(block(T, 1, 2.0, 3.0, device=odd), block(T, 1, 2.0, 3.0, device="a\nb c=1i"))])
    assert result.stored == 3
    assert "cannot be a tag" in result.rejected[0].reason
    assert [one.value for one in everything(influx_store, odd)] == [1, 3.0, 2.0]
    assert everything(influx_store, "m1") == []


def test_another_program_reads_the_same_as_the_one_that_wrote(
    influx_store: InfluxStore, influx_settings: InfluxSettings
) -> None:
    influx_store.write([batch(block(T, 2**64, 230.5, None))])
    other = InfluxStore(influx_settings)
    try:
        assert everything(other, versions=True) == everything(influx_store, versions=True)
        assert other.write([batch(block(T, 2**64, 230.5, None))]).duplicates == 3
        assert other.write([batch(block(T, 1, 230.5, None))]).versions == 1
    finally:
        other.close()
