"""Buffers of profile generic: the compiled reader and the general decoder always agree, whatever the meter sends."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.load_profile import BufferColumn, BufferReader, Rows
from metering.errors import FrameError

BEGIN = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)
QUARTER = 900
CLOCK = BufferColumn(clock=True, null="clock+period")
VALUE = BufferColumn()


def octets(time: datetime, status: int = 0, deviation: int = -60) -> bytes:
    date = time.year.to_bytes(2, "big") + bytes((time.month, time.day, time.isoweekday()))
    day = bytes((time.hour, time.minute, time.second, 0))
    return date + day + deviation.to_bytes(2, "big", signed=True) + bytes((status,))


def to_utc(raw: bytes) -> int | None:
    """A clock without summer time; a year of FFFF tells no time."""
    if raw[:2] == b"\xff\xff":
        return None
    try:
        time = datetime(int.from_bytes(raw[:2], "big"), raw[2], raw[3], raw[5], raw[6], raw[7], tzinfo=UTC)
    except ValueError:
        return None
    deviation = int.from_bytes(raw[9:11], "big", signed=True)
    return round((time + timedelta(minutes=deviation)).timestamp()) * 1_000_000


def buffer(*rows: Sequence[Data]) -> bytes:
    return axdr.encode(axdr.array(*(axdr.structure(*row) for row in rows)))


def outcome(read: Callable[[bytes], Rows], raw: bytes) -> Rows | str:
    try:
        rows = read(raw)
    except FrameError:
        return "FrameError"
    # not-a-number equals nothing, not even itself
    return Rows(rows.times, [tuple(map(repr, row)) for row in rows.values])


def test_a_regular_day_is_read_with_its_times() -> None:
    rows = [
        (axdr.octets(octets(BEGIN + timedelta(minutes=15 * i))), axdr.u8(0), axdr.u32(1000 + i), axdr.i32(-i))
        for i in range(300)
    ]
    read = BufferReader([CLOCK, VALUE, VALUE, VALUE], QUARTER, to_utc).rows(buffer(*rows))
    start = round(BEGIN.timestamp()) - 3600
    assert read.times == [(start + QUARTER * i) * 1_000_000 for i in range(300)]
    assert read.values == [(0, 1000 + i, -i) for i in range(300)]


def test_null_data_means_what_its_column_says() -> None:
    columns = [CLOCK, BufferColumn(null="previous"), BufferColumn(null="none")]
    first = (axdr.octets(octets(BEGIN)), axdr.u32(7), axdr.u32(9))
    nulls = (axdr.null(), axdr.null(), axdr.null())
    read = BufferReader(columns, QUARTER, to_utc).rows(buffer(first, *[nulls] * 40))
    assert read.values == [(7, 9), *[(7, None)] * 40]
    assert read.times[40] == (read.times[0] or 0) + 40 * QUARTER * 1_000_000


def test_deltas_add_up() -> None:
    first = (axdr.octets(octets(BEGIN)), axdr.u32(1_000_000))
    steps = [(axdr.null(), Data(Tag.DELTA_LONG_UNSIGNED, step)) for step in range(100)]
    read = BufferReader([CLOCK, VALUE], QUARTER, to_utc).rows(buffer(first, *steps))
    assert read.values[-1] == (1_000_000 + sum(range(100)),)


def test_a_delta_without_a_number_before_it_is_a_bad_frame() -> None:
    reader = BufferReader([VALUE], QUARTER, to_utc)
    for rows in ([Data(Tag.DELTA_LONG, 1)], [axdr.null(), Data(Tag.DELTA_LONG, 1)], [axdr.octets(b"x")] * 2):
        raw = buffer(*[(each,) for each in rows], *[(Data(Tag.DELTA_LONG, 1),)] * 3)
        with pytest.raises(FrameError, match="without a number"):
            reader.rows(raw)


def test_a_compact_array_gives_the_same_rows() -> None:
    rows = [(axdr.octets(octets(BEGIN + timedelta(minutes=15 * i))), axdr.u32(i)) for i in range(50)]
    packed = axdr.encode(axdr.compact_array(*(axdr.structure(*row) for row in rows)))
    plain = BufferReader([CLOCK, VALUE], QUARTER, to_utc)
    with pytest.raises(ValueError, match="one type"):
        axdr.compact_array(axdr.u8(1), axdr.u16(1))
    described = axdr.decode_all(packed)
    assert described.tag is Tag.ARRAY
    assert plain.rows(packed) == plain.rows(buffer(*rows))


def test_a_row_of_other_columns_is_a_bad_frame() -> None:
    with pytest.raises(FrameError, match="structure of 2 columns"):
        BufferReader([CLOCK, VALUE], QUARTER, to_utc).rows(buffer((axdr.u8(1),)))


def test_more_rows_than_bytes_are_not_believed() -> None:
    with pytest.raises(FrameError, match="a buffer of 4294967295 rows"):
        BufferReader([VALUE], QUARTER, to_utc).rows(bytes.fromhex("0184FFFFFFFF0201") + bytes(40))


# --- the property: both ways give the same ---------------------------------------------------------------------------

numbers = st.sampled_from(
    [
        axdr.u8(3),
        axdr.u16(700),
        axdr.u32(70_000),
        axdr.u64(2**40),
        axdr.i8(-3),
        axdr.i16(-700),
        axdr.i32(-70_000),
        axdr.i64(-(2**40)),
        axdr.enum_(4),
        axdr.boolean(True),  # noqa: FBT003 - the value
        axdr.f32(0.5),
        axdr.f32(float("nan")),
        axdr.f64(0.1),
        axdr.null(),
        axdr.octets(b""),
        axdr.octets(b"abcd"),
        axdr.octets(bytes(200)),
        axdr.text("text"),
        axdr.bits("101"),
        axdr.structure(axdr.u8(1)),
        Data(Tag.DATE, bytes(5)),
        Data(Tag.BCD, 0x42),
        Data(Tag.DELTA_INTEGER, -4),
        Data(Tag.DELTA_LONG_UNSIGNED, 12),
    ]
)
clocks = st.sampled_from(["regular", "regular", "regular", "null", "gap", "status", "date-time", "unknown", "back"])


@st.composite
def buffers(draw: st.DrawFn) -> tuple[list[BufferColumn], int, bytes]:
    kinds = draw(st.lists(st.sampled_from(["clock", "value"]), min_size=1, max_size=5))
    if kinds.count("clock") > 1:
        kinds = ["clock", *[kind for kind in kinds if kind != "clock"]]
    columns = [
        BufferColumn(kind == "clock", draw(st.sampled_from(["previous", "none", "clock+period"]))) for kind in kinds
    ]
    rows: list[list[Data]] = []
    time = BEGIN
    for _ in range(draw(st.integers(0, 6))):
        shape = [draw(clocks) if column.clock else draw(numbers) for column in columns]
        for _ in range(draw(st.integers(1, 130))):
            time += timedelta(minutes=15)
            rows.append([clock(each, time) if isinstance(each, str) else each for each in shape])
        time += timedelta(hours=draw(st.integers(0, 30)))
    return columns, draw(st.sampled_from([0, 900, 3600, 86_400])), buffer(*rows)


def clock(kind: str, time: datetime) -> Data:
    if kind == "null":
        return axdr.null()
    if kind == "date-time":
        return Data(Tag.DATE_TIME, octets(time))
    if kind == "unknown":
        return axdr.octets(b"\xff" * 12)
    moved = time - timedelta(hours=3) if kind == "back" else time
    return axdr.octets(octets(moved, status=time.hour % 2 if kind == "status" else 0))


@settings(max_examples=150, deadline=None)
@given(buffers())
def test_compiled_and_general_reading_agree(case: tuple[list[BufferColumn], int, bytes]) -> None:
    columns, period, raw = case
    reader = BufferReader(columns, period, to_utc)
    assert outcome(reader.rows, raw) == outcome(reader.rows_one_by_one, raw)


@settings(max_examples=150, deadline=None)
@given(buffers(), st.data())
def test_they_agree_on_damaged_buffers_too(case: tuple[list[BufferColumn], int, bytes], data: st.DataObject) -> None:
    columns, period, raw = case
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
    reader = BufferReader(columns, period, to_utc)
    assert outcome(reader.rows, cut) == outcome(reader.rows_one_by_one, cut)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 400), st.data())
def test_one_wrong_tag_among_many_rows_is_always_noticed(count: int, data: st.DataObject) -> None:
    row = axdr.encode(axdr.structure(axdr.octets(octets(BEGIN)), axdr.u32(5)))
    raw = bytearray(buffer(*[(axdr.octets(octets(BEGIN)), axdr.u32(5))] * count))
    at = len(raw) - count * len(row) + data.draw(st.integers(1, count - 1)) * len(row)
    raw[at + data.draw(st.sampled_from([0, 1, 2, 3, 16]))] ^= 0x40
    with pytest.raises(FrameError):
        BufferReader([CLOCK, VALUE], QUARTER, to_utc).rows(bytes(raw))
