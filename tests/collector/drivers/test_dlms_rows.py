"""Rows of a profile: the hour that comes twice, boundaries, beginnings, clocks in doubt, and what is no number."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.dlms_tables import ClockSpec, ColumnSpec
from collector.drivers.dlms_rows import Grid, TimedRows, decode_rows, mark_adjusted, to_blocks
from collector.drivers.dlms_shape import ScalerUnit, make_shape
from collector.drivers.dlms_times import MeterTime
from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.clock import DateTime, from_utc
from collector.protocols.dlms.references import Attribute, CaptureObject
from metering.errors import FrameError
from metering.model import SECOND, Block, Kind
from metering.quality import Quality

BERLIN = ZoneInfo("Europe/Berlin")
CLOCK = CaptureObject(8, "0-0:1.0.0*255", 2)
STATUS = CaptureObject(1, "0-0:96.10.1*255", 2)
ENERGY = CaptureObject(3, "1-0:1.8.0*255", 2)
POWER = CaptureObject(3, "1-0:1.7.0*255", 2)
SCALERS = {Attribute(3, ENERGY.obis, 3): ScalerUnit(0, 30), Attribute(3, POWER.obis, 3): ScalerUnit(1, 27)}
STATUS_SPEC = ColumnSpec(obis=STATUS.obis, role="status", bits={"1": ["clock-suspect"]}, dst_bit=3)
QUARTER = 900
EACH_QUARTER = Grid(QUARTER)
# The two hours around the end of summer time in 2026: 02:00 to 03:00 comes twice, from 00:00 and from 01:00 UTC.
AUTUMN = int(datetime(2026, 10, 24, 23, 0, tzinfo=UTC).timestamp()) * SECOND


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def bare(at: int, status: int | None = None) -> Data:
    """A date-time as a meter writes it that knows no deviation."""
    return axdr.octets(from_utc(at, BERLIN)._replace(deviation=None, status=status).to_bytes())


def full(at: int, status: int = 0) -> Data:
    return axdr.octets(from_utc(at, BERLIN)._replace(status=status).to_bytes())


def buffer(*rows: tuple[Data, ...]) -> bytes:
    return axdr.encode(axdr.array(*(axdr.structure(*row) for row in rows)))


def read(
    raw: bytes,
    objects: tuple[CaptureObject, ...] = (CLOCK, ENERGY),
    *,
    specs: tuple[ColumnSpec, ...] = (),
    grid: Grid = EACH_QUARTER,
    clock: ClockSpec | None = None,
) -> list[Block]:
    time = MeterTime(clock or ClockSpec(), BERLIN)
    shape = make_shape(objects, specs, SCALERS, "previous", period=grid.interval)
    rows = decode_rows(raw, shape, time, grid.interval)
    return to_blocks(rows, raw, shape, grid, time, "m1", 7)


def test_without_a_deviation_the_status_bit_tells_the_hour_that_comes_twice():
    times = [AUTUMN + i * QUARTER * SECOND for i in range(16)]
    rows = [(bare(at, 0x80 if at < AUTUMN + 2 * 3600 * SECOND else 0), axdr.u32(5)) for at in times]
    blocks = read(buffer(*rows))
    assert [block.measured_at for block in blocks] == times
    assert not any(block.quality for block in blocks)


@pytest.mark.parametrize("first", range(12))
def test_without_a_status_bit_either_the_order_tells_it(first: int):
    """From 01:00 summer time on; a buffer that begins within the second 02:00 hour is told by the rows behind it."""
    times = [AUTUMN + i * QUARTER * SECOND for i in range(first, 16)]
    blocks = read(buffer(*((bare(at), axdr.u32(5)) for at in times)), clock=ClockSpec(dst_bit=False))
    assert [block.measured_at for block in blocks] == times
    assert not any(block.quality for block in blocks)


def test_a_single_row_of_the_hour_that_comes_twice_is_flagged():
    at = us("2026-10-25T00:30:00Z")
    (block,) = read(buffer((bare(at), axdr.u32(5))))
    assert block.measured_at == at
    assert block.quality == (Quality.CLOCK_SUSPECT,)


def test_the_daylight_bit_of_a_status_column_tells_it_too():
    early, late = us("2026-10-25T00:30:00Z"), us("2026-10-25T01:30:00Z")
    for at, bit in ((early, 8), (late, 0)):
        (block,) = read(buffer((bare(at), axdr.u8(bit), axdr.u32(5))), (CLOCK, STATUS, ENERGY), specs=(STATUS_SPEC,))
        assert (block.measured_at, block.quality) == (at, ())


def test_a_clock_that_the_meter_itself_doubts_makes_its_rows_suspect():
    at = us("2026-11-03T10:00:00Z")
    blocks = read(buffer(*((full(at + i * 900 * SECOND, 2 if i == 1 else 0), axdr.u32(i)) for i in range(3))))
    assert [block.quality for block in blocks] == [(), (Quality.CLOCK_SUSPECT,), ()]


def test_a_status_that_calls_itself_invalid_tells_nothing_of_daylight_saving():
    at = us("2026-10-25T00:30:00Z")
    (block,) = read(buffer((bare(at, 0x08), axdr.u32(5))))
    assert block.quality == (Quality.CLOCK_SUSPECT,)
    (block,) = read(buffer((full(at, 0x08), axdr.u32(5))))
    assert (block.measured_at, block.quality) == (at, ())


def test_status_bits_come_on_every_value_of_the_row():
    at = us("2026-11-03T10:00:00Z")
    row = (full(at), axdr.u8(2), axdr.u32(5), axdr.u16(7))
    blocks = read(buffer(row), (CLOCK, STATUS, ENERGY, POWER), specs=(STATUS_SPEC,))
    assert [block.layout.kind for block in blocks] == [Kind.REGISTER, Kind.INSTANTANEOUS]
    assert [block.quality for block in blocks] == [(Quality.CLOCK_SUSPECT,)] * 2
    assert [(c.unit, c.scale) for block in blocks for c in block.layout.columns] == [("kWh", -3), ("W", 1)]


def test_a_row_off_the_boundary_keeps_its_time_and_has_no_slot():
    at = us("2026-11-03T10:07:13Z")
    (block,) = read(buffer((full(at), axdr.u32(5))))
    assert (block.measured_at, block.slot, block.quality) == (at, None, (Quality.OFF_BOUNDARY,))


def test_a_row_a_little_late_is_still_the_boundarys_where_the_profile_says_so():
    at = us("2026-11-03T10:00:02Z")
    (block,) = read(buffer((full(at), axdr.u32(5))), grid=Grid(QUARTER, tolerance=3 * SECOND))
    assert (block.measured_at, block.slot, block.quality) == (at, us("2026-11-03T10:00:00Z"), ())


def test_a_row_stamped_with_its_beginning_belongs_to_its_end():
    at = us("2026-11-03T10:00:00Z")
    (block,) = read(buffer((full(at), axdr.u32(5))), grid=Grid(QUARTER, beginning=True))
    assert block.measured_at == block.slot == us("2026-11-03T10:15:00Z")


def test_days_begin_at_midnight_of_the_meters_zone_over_the_change_of_summer_time():
    starts = [us("2026-10-24T22:00:00Z"), us("2026-10-25T23:00:00Z")]
    blocks = read(buffer(*((full(at), axdr.u32(5)) for at in starts)), grid=Grid(86400))
    assert [block.slot for block in blocks] == starts
    shifted = read(buffer((full(starts[0]), axdr.u32(5))), grid=Grid(86400, beginning=True))
    assert shifted[0].slot == starts[1]


@given(
    st.integers(0, 20000),
    st.sampled_from([900, 1800, 3600, 7200, 86400]),
    st.sampled_from(["UTC", "Asia/Kolkata", "Europe/Berlin"]),
)
def test_a_boundary_is_its_own_boundary(days: int, interval: int, zone: str):
    time = MeterTime(ClockSpec(), ZoneInfo(zone))
    midnight = datetime(2000, 1, 1, tzinfo=ZoneInfo(zone)) + timedelta(days=days)
    at = int(midnight.timestamp()) * SECOND
    assert time.on_grid(at, interval) == at
    assert time.on_grid(at + SECOND, interval) == at
    assert time.on_grid(at - SECOND, interval) == at


def test_a_value_that_was_left_out_is_told_as_not_available_only_where_the_profile_says_so():
    at = us("2026-11-03T10:00:00Z")
    raw = buffer((full(at), axdr.u32(5)), (axdr.null(), axdr.null()))
    assert [block.values for block in read(raw)] == [(5,), (5,)]
    spec = ColumnSpec(obis=ENERGY.obis, null="none")
    assert [(b.values, tuple(b.quality)) for b in read(raw, specs=(spec,))] == [((5,), ()), ((None,), (1,))]


def test_floats_keep_the_type_that_the_meter_sends():
    at = us("2026-11-03T10:00:00Z")
    raw = buffer((full(at), axdr.null(), axdr.f64(1.5)), (axdr.null(), axdr.f32(2.5), axdr.f64(1.5)))
    blocks = read(raw, (CLOCK, ENERGY, POWER))
    assert [c.number for block in blocks[:2] for c in block.layout.columns] == ["float32", "float64"]


def test_a_column_of_texts_is_refused_clearly():
    at = us("2026-11-03T10:00:00Z")
    with pytest.raises(FrameError, match=r"column 1-0:1\.8\.0\*255 of the profile holds no numbers"):
        read(buffer((full(at), axdr.octets(b"12"))))


def test_a_row_without_a_time_is_counted_and_not_made_up():
    at = us("2026-11-03T10:00:00Z")
    raw = buffer((axdr.octets(DateTime().to_bytes()), axdr.u32(1)), (full(at), axdr.u32(2)))
    time = MeterTime(ClockSpec(), BERLIN)
    rows = decode_rows(raw, make_shape((CLOCK, ENERGY), (), SCALERS, "previous", period=900), time, 900)
    assert (rows.times, rows.values, rows.untold) == ([at], [(2,)], 1)


def test_columns_that_are_no_channels_are_named():
    objects = (CLOCK, ENERGY, ENERGY, CaptureObject(3, "0-0:96.7.21*255", 2), CaptureObject(3, "1-0:3.8.0*255", 2))
    shape = make_shape(objects, (), SCALERS, "previous", period=900)
    assert [column.obis for column in shape.values] == [ENERGY.obis]
    assert len(shape.skipped) == 3
    assert "tells no unit" in shape.skipped[2]


def test_a_profile_without_a_clock_cannot_be_read():
    with pytest.raises(FrameError, match="one clock among its columns, not 0"):
        make_shape((ENERGY,), (), SCALERS, "previous", period=900)


def test_what_no_meter_counts_to_and_what_is_no_number_is_no_value():
    at = us("2026-11-03T10:00:00Z")
    raw = buffer(
        (full(at), axdr.u64(2**64 - 1), axdr.f32(float("nan"))),
        (axdr.null(), axdr.u64(7), axdr.f32(float("inf"))),
        (axdr.null(), axdr.u64(8), axdr.f32(1.5)),
    )
    blocks = read(raw, (CLOCK, ENERGY, POWER))
    shown = [(tuple(block.values), tuple(block.quality)) for block in blocks]
    no_number = ((None,), (Quality.NOT_A_NUMBER,))
    assert shown == [((None,), (Quality.NOT_AVAILABLE,)), no_number, ((7,), ()), no_number, ((8,), ()), ((1.5,), ())]


@pytest.mark.parametrize("year", [1, 1970, 2101, 9999])
def test_a_time_that_no_meter_has_is_none(year: int):
    octets = DateTime(year, 1, 1, None, 0, 0, 0, 0, 0, 0).to_bytes()
    assert MeterTime(ClockSpec(), BERLIN).read(octets).us is None


ITEMS = st.one_of(
    st.builds(axdr.u8, st.integers(0, 255)),
    st.builds(axdr.u64, st.integers(0, 2**64 - 1)),
    st.builds(axdr.f32, st.floats(width=32)),
    st.builds(axdr.octets, st.binary(max_size=13)),
    st.builds(axdr.octets, st.binary(min_size=12, max_size=12)),
    st.just(axdr.null()),
    st.just(axdr.boolean(value=True)),
    st.just(axdr.structure(axdr.u8(1), axdr.null())),
    st.builds(lambda minutes: full(us("2026-10-24T20:00:00Z") + minutes * 60 * SECOND), st.integers(0, 600)),
    st.builds(lambda minutes: bare(us("2026-10-24T20:00:00Z") + minutes * 60 * SECOND), st.integers(0, 600)),
)


@given(st.lists(st.lists(ITEMS, min_size=3, max_size=5), max_size=6), st.sampled_from([0, 900, 3600, 86400]))
def test_any_buffer_makes_blocks_or_a_frame_error(rows: list[list[Data]], interval: int):
    raw = axdr.encode(axdr.array(*(axdr.structure(*row) for row in rows)))
    objects = (CLOCK, STATUS, ENERGY, POWER)
    try:
        blocks = read(raw, objects, specs=(STATUS_SPEC,), grid=Grid(interval))
    except FrameError:
        return
    assert all(len(block.values) == len(block.layout.columns) for block in blocks)


def test_periods_that_add_up_to_the_end_of_time_tell_none():
    at = us("2026-11-03T10:00:00Z")
    raw = buffer((full(at), axdr.u32(1)), *[(axdr.null(), axdr.u32(1))] * 200)
    year = 366 * 86400
    blocks = read(raw, grid=Grid(year))
    assert len(blocks) == 74


@pytest.mark.parametrize(
    ("minutes", "status", "adjusted"),
    [
        ([0, 15, 30, 45], 0, []),
        ([0, 15, 45, 60], 0, []),  # a row is missing
        ([0, 15, 22, 30, 45], 0, [2, 3]),  # two short ones
        ([0, 15, 30, 15, 30], 0, [3]),  # set back
        ([0, 15, 15, 30], 0, [2]),
        ([0, 15, 22, 30, 45], 2048, []),  # power failed in them
    ],
)
def test_intervals_that_came_too_soon_are_marked(minutes: list[int], status: int, adjusted: list[int]):
    times = [us("2026-11-03T10:00:00Z") + minute * 60 * SECOND for minute in minutes]
    rows = mark_adjusted(TimedRows(times, [status] * len(times), [()] * len(times), 0), 900)
    assert [i for i, flags in enumerate(rows.flags) if flags & Quality.CLOCK_ADJUSTED] == adjusted


def test_a_part_of_a_captured_value_is_no_channel_whatever_the_file_says_of_the_whole():
    specs = (ColumnSpec(obis=ENERGY.obis, role="value", unit="kWh"),)
    shape = make_shape((CLOCK, ENERGY._replace(data_index=2), POWER), specs, SCALERS, "previous", period=QUARTER)
    assert [column.obis for column in shape.values] == [POWER.obis]
    assert "no number of a channel" in shape.skipped[0]
