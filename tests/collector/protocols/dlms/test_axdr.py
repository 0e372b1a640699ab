"""A-XDR: every type as a table of bytes, both ways, and by chance; nothing that lies about its size passes."""

import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import CompactArray, Data, Tag, decode, decode_all, encode
from metering.errors import FrameError

TABLE = [
    ("00", axdr.null()),
    ("FF", Data(Tag.DONT_CARE, None)),
    ("0100", axdr.array()),
    ("0102 1101 1102", axdr.array(axdr.u8(1), axdr.u8(2))),
    ("0202 1101 0300", axdr.structure(axdr.u8(1), axdr.boolean(value=False))),
    ("0301", axdr.boolean(value=True)),
    ("0400", axdr.bits("")),
    ("0403A0", axdr.bits("101")),
    ("0409FF80", axdr.bits("111111111")),
    ("05FFFFFFFE", axdr.i32(-2)),
    ("06FFFFFFFE", axdr.u32(0xFFFFFFFE)),
    ("0903010203", axdr.octets(b"\1\2\3")),
    ("0A03414243", axdr.text("ABC")),
    ("0A01FF", axdr.text("ÿ")),
    ("0C02C3BF", axdr.utf8("ÿ")),
    ("0D99", Data(Tag.BCD, 0x99)),
    ("0FFF", axdr.i8(-1)),
    ("10FFFE", axdr.i16(-2)),
    ("11FF", axdr.u8(255)),
    ("12FFFE", axdr.u16(0xFFFE)),
    ("14FFFFFFFFFFFFFFFF", axdr.i64(-1)),
    ("15FFFFFFFFFFFFFFFF", axdr.u64(2**64 - 1)),
    ("1607", axdr.enum_(7)),
    ("173FC00000", axdr.f32(1.5)),
    ("183FF8000000000000", axdr.f64(1.5)),
    ("1907E30C1F0217000000FFC400", Data(Tag.DATE_TIME, bytes.fromhex("07E30C1F0217000000FFC400"))),
    ("1A07E30C1F02", Data(Tag.DATE, bytes.fromhex("07E30C1F02"))),
    ("1B17000000", Data(Tag.TIME, bytes.fromhex("17000000"))),
    ("1CFF", Data(Tag.DELTA_INTEGER, -1)),
    ("1DFFFF", Data(Tag.DELTA_LONG, -1)),
    ("1EFFFFFFFF", Data(Tag.DELTA_DOUBLE_LONG, -1)),
    ("1FFF", Data(Tag.DELTA_UNSIGNED, 255)),
    ("20FFFF", Data(Tag.DELTA_LONG_UNSIGNED, 0xFFFF)),
    ("21FFFFFFFF", Data(Tag.DELTA_DOUBLE_LONG_UNSIGNED, 0xFFFFFFFF)),
    # Compact arrays: of numbers, of structures with an array in them.
    ("1312 04 00010002", axdr.compact_array(axdr.u16(1), axdr.u16(2))),
    (
        "13 02 02 09 01 0002 11 0A 02ABCD 0102 02EFFF 0304",
        axdr.compact_array(
            axdr.structure(axdr.octets(b"\xab\xcd"), axdr.array(axdr.u8(1), axdr.u8(2))),
            axdr.structure(axdr.octets(b"\xef\xff"), axdr.array(axdr.u8(3), axdr.u8(4))),
        ),
    ),
]


@pytest.mark.parametrize(("text", "data"), TABLE)
def test_every_type_reads_and_is_written(text: str, data: Data):
    octets = bytes.fromhex(text)
    assert decode_all(octets) == data
    assert encode(data) == octets
    assert encode(decode_all(octets)) == octets
    assert decode(b"\x07" + octets + b"\x07", 1) == (data, 1 + len(octets))


@pytest.mark.parametrize(("text", "data"), TABLE)
def test_every_truncation_is_a_frame_error(text: str, data: Data):
    octets = bytes.fromhex(text)
    assert encode(data) == octets
    for length in range(len(octets)):
        with pytest.raises(FrameError):
            decode_all(octets[:length])


def test_a_compact_array_equals_the_plain_one_and_keeps_its_form():
    data = decode_all(bytes.fromhex("13120400010002"))
    assert data == axdr.array(axdr.u16(1), axdr.u16(2))
    assert isinstance(data, CompactArray)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "ends before a value"),
        ("07", "type 7 is unknown"),
        ("0900FF", "1 bytes too many"),
        ("01", "ends before a length"),
        ("0180", "length octet 80"),
        ("0185", "length octet 85"),
        ("018201", "ends within a length"),
        ("0184FFFFFFFF", "4294967295 elements in 0 bytes"),
        ("0984FFFFFFFF00", "4294967295 bytes in 1"),
        ("0484FFFFFFFF00", "bit-string"),
        ("0201" * 17 + "00", "nested deeper than 16"),
        ("13" + "0201" * 17 + "00", "nested deeper than 16"),
        ("13 13 12 00", "compact-array within"),
        ("13 00 01 00", "without content"),
        ("13 0284FFFFFFFF", "fields"),
        ("13 01FFFF 01FFFF 00 01 00", "more values than its contents"),
        ("13 02 02 01FFFF 00 11 02 0102", "more values than its contents"),
        ("13 12 03 000102", "ends within a long-unsigned"),
    ],
)
def test_what_lies_about_itself_is_a_frame_error(text: str, words: str):
    with pytest.raises(FrameError, match=words):
        decode_all(bytes.fromhex(text))


def test_a_small_input_never_takes_much_memory():
    tracemalloc.start()
    for text in ("0184FFFFFFFF", "13" + "01FFFF" * 15 + "00" + "01" + "00", "0984FFFFFFFF", "13 0184 FFFF 00 01 00"):
        with pytest.raises(FrameError):
            decode_all(bytes.fromhex(text))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_sixteen_levels_are_read():
    octets = bytes.fromhex("0201" * 16 + "00")
    assert encode(decode_all(octets)) == octets


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("0981017F", axdr.octets(b"\x7f")),
        ("098200017F", axdr.octets(b"\x7f")),
        ("09840000 00017F", axdr.octets(b"\x7f")),
        ("0302", axdr.boolean(value=True)),
        ("0C01C3", axdr.utf8("\ufffd")),
    ],
)
def test_loose_forms_of_the_field_are_read(text: str, data: Data):
    assert decode_all(bytes.fromhex(text)) == data


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_lengths_are_written_in_the_shortest_form(length: int):
    octets = axdr.encode_length(length)
    assert axdr.read_length(octets, 0) == (length, len(octets))
    assert len(octets) == 1 + (length > 127) + (length > 255) + (length > 65535)


@pytest.mark.parametrize(
    "data",
    [
        axdr.u8(256),
        axdr.i8(-129),
        axdr.u32(-1),
        Data(Tag.LONG, "x"),
        axdr.f32(1e300),
        Data(Tag.DATE_TIME, bytes(11)),
        axdr.text("€"),
        axdr.bits("12"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_its_type_is_told(data: Data):
    with pytest.raises(ValueError):
        encode(data)


def test_a_compact_array_is_of_one_type():
    with pytest.raises(ValueError, match="one type"):
        axdr.compact_array(axdr.u8(1), axdr.u16(1))
    with pytest.raises(ValueError, match="no type"):
        axdr.compact_array()


def _integers(size: int, *, signed: bool) -> st.SearchStrategy[int]:
    span = 1 << (8 * size)
    return st.integers(-span // 2, span // 2 - 1) if signed else st.integers(0, span - 1)


NUMBERS: dict[Tag, tuple[int, bool]] = {
    Tag.DOUBLE_LONG: (4, True),
    Tag.DOUBLE_LONG_UNSIGNED: (4, False),
    Tag.BCD: (1, False),
    Tag.INTEGER: (1, True),
    Tag.LONG: (2, True),
    Tag.UNSIGNED: (1, False),
    Tag.LONG_UNSIGNED: (2, False),
    Tag.LONG64: (8, True),
    Tag.LONG64_UNSIGNED: (8, False),
    Tag.ENUM: (1, False),
    Tag.DELTA_INTEGER: (1, True),
    Tag.DELTA_LONG: (2, True),
    Tag.DELTA_DOUBLE_LONG: (4, True),
    Tag.DELTA_UNSIGNED: (1, False),
    Tag.DELTA_LONG_UNSIGNED: (2, False),
    Tag.DELTA_DOUBLE_LONG_UNSIGNED: (4, False),
}


def _of(tag: Tag, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Data]:
    return values.map(lambda value: Data(tag, value))


LEAVES = st.one_of(
    st.just(axdr.null()),
    st.booleans().map(axdr.boolean),
    *(_of(tag, _integers(size, signed=signed)) for tag, (size, signed) in NUMBERS.items()),
    _of(Tag.FLOAT32, st.floats(width=32, allow_nan=False)),
    _of(Tag.FLOAT64, st.floats(allow_nan=False)),
    _of(Tag.BIT_STRING, st.text("01", max_size=40)),
    _of(Tag.OCTET_STRING, st.binary(max_size=300)),
    _of(Tag.VISIBLE_STRING, st.text(st.characters(max_codepoint=255))),
    _of(Tag.UTF8_STRING, st.text()),
    _of(Tag.DATE_TIME, st.binary(min_size=12, max_size=12)),
    _of(Tag.DATE, st.binary(min_size=5, max_size=5)),
    _of(Tag.TIME, st.binary(min_size=4, max_size=4)),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        *(_of(tag, st.lists(inner, max_size=6).map(tuple)) for tag in (Tag.ARRAY, Tag.STRUCTURE)),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_every_value_comes_back(data: Data):
    assert decode_all(encode(data)) == data


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=5), st.text("01", max_size=9)), min_size=1))
def test_every_compact_array_comes_back(rows: list[tuple[int, bytes, str]]):
    made = [axdr.structure(axdr.u16(n), axdr.octets(o), axdr.array(axdr.bits(b), axdr.bits("1"))) for n, o, b in rows]
    octets = encode(axdr.compact_array(*made))
    assert decode_all(octets) == axdr.array(*made)
    assert encode(decode_all(octets)) == octets


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_frame_error(octets: bytes):
    try:
        data, end = decode(octets)
    except FrameError:
        return
    assert end <= len(octets)
    # Loose forms are written strictly: the second time around nothing changes any more.
    again = encode(data)
    assert encode(decode_all(again)) == again


def test_not_a_number_is_a_number_too():
    assert math.isnan(decode_all(encode(axdr.f32(math.nan))).value)
