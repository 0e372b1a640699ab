"""Numbers, times, blocks, load records and words of DL/T 645: exact, both ways, and bad ones told."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlt645.blocks import join_block, split_block
from collector.protocols.dlt645.errors import error_words
from collector.protocols.dlt645.events import EVENTS, Fields, parse_record
from collector.protocols.dlt645.identifiers import back, di_bytes, di_text
from collector.protocols.dlt645.load_record import (
    GIVEN_TIME,
    Record,
    RecordLayout,
    build_record,
    parse_records,
    record_argument,
    record_di,
)
from collector.protocols.dlt645.status import names_of, parse_word, switch_state
from collector.protocols.dlt645.times import (
    decode_clock,
    decode_stamp,
    encode_date,
    encode_stamp,
    encode_time,
    from_utc,
    to_utc,
)
from collector.protocols.dlt645.values import Format, bcd, count_of, decode_number, encode_number, parse_format
from metering.errors import FrameError
from metering.quality import Quality
from metering.timing import from_rfc3339

FORMS = st.builds(Format, st.integers(1, 8), st.integers(-6, 0), st.booleans())


@given(FORMS, st.data())
def test_every_number_comes_back_as_it_was(form: Format, data: st.DataObject):
    largest = (form.modulus * 8 // 10 if form.signed else form.modulus) - 1
    value = data.draw(st.integers(-largest if form.signed else 0, largest))
    assert decode_number(form, encode_number(form, value)) == (value, 0)


@given(FORMS, st.binary(max_size=10))
def test_any_bytes_are_a_number_or_none_with_its_reason(form: Format, raw: bytes):
    value, quality = decode_number(form, raw)
    assert (value is None) == (quality in (Quality.NOT_AVAILABLE, Quality.NOT_A_NUMBER))


@pytest.mark.parametrize(
    ("text", "signed", "raw", "value"),
    [
        ("XXXXXX.XX", 0, "89674523", 23456789),
        ("XX.XXXX", 1, "785680", -5678),
        ("XX.XXXX", 1, "785600", 5678),
        ("XX.XXXX", 1, "000080", 0),
        ("X.XXX", 1, "0090", -1000),
        ("XXX.X", 0, "9823", 2398),
        ("NNNN", 0, "1500", 15),
        ("XXX.X", 0, "FFFF", None),
        ("XX.XXXX", 1, "FFFFFF", None),
        ("XXX.X", 0, "1A00", None),
    ],
)
def test_numbers_are_read_as_the_standard_writes_them(text: str, signed: int, raw: str, value: int | None):
    form = parse_format(text, signed=bool(signed))
    assert decode_number(form, bytes.fromhex(raw))[0] == value
    assert form.scale == -len(text.partition(".")[2])


def test_what_does_not_fit_is_not_written():
    with pytest.raises(ValueError, match="does not fit"):
        encode_number(Format(2, -1), 10_000)
    with pytest.raises(ValueError, match="does not fit"):
        encode_number(Format(2, -1), -1)
    with pytest.raises(ValueError, match="does not fit"):
        encode_number(Format(2, -3, signed=True), 8_000)
    with pytest.raises(ValueError, match="is no format"):
        parse_format("XX.X")
    assert bcd(15, 2) == b"\x15\x00"
    assert count_of(b"\x15\x02\x00") == 215
    assert count_of(b"\xff\xff\xff") == 0


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=6), st.integers(0, 6))
def test_a_block_splits_where_its_items_end_and_may_have_fewer(items: list[bytes], count: int):
    sizes = [len(item) for item in items]
    assert split_block(sizes, join_block(items)) == items
    assert split_block(sizes, join_block(items[:count])) == items[:count]
    with pytest.raises(FrameError, match="longer than"):
        split_block(sizes, join_block(items) + b"x")


def test_a_block_with_separators_must_have_them():
    assert split_block([2, 1], b"ab\xaac", b"\xaa") == [b"ab", b"c"]
    with pytest.raises(FrameError, match="not parted"):
        split_block([2, 1], b"abxc", b"\xaa")
    with pytest.raises(FrameError, match="does not end with an item"):
        split_block([2, 2], b"abc")


# --- times

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)).map(lambda m: m.replace(microsecond=0))  # noqa: DTZ001 - civil time


@given(MOMENTS, st.sampled_from(["low-first", "high-first"]))
def test_every_civil_time_comes_back(moment: datetime, order: str):
    assert decode_stamp(encode_stamp(moment, 6, order), order) == moment
    assert decode_stamp(encode_stamp(moment, 5, order), order) == moment.replace(second=0)
    assert decode_clock(encode_date(moment), encode_time(moment)) == moment


@pytest.mark.parametrize("raw", ["0000000000", "FFFFFFFFFF"])
def test_an_empty_stamp_is_no_time(raw: str):
    assert decode_stamp(bytes.fromhex(raw)) is None


@pytest.mark.parametrize("raw", ["0060010126", "0000320126", "00000113 26", "00000A0126", "000001"])
def test_what_is_no_time_is_told(raw: str):
    with pytest.raises(ValueError, match=r".+"):
        decode_stamp(bytes.fromhex(raw))


def test_the_hour_that_comes_twice_and_the_one_that_never_comes_are_doubtful():
    berlin, shanghai = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")
    for text in ("2026-10-25T02:30:00", "2026-03-29T02:30:00"):
        assert to_utc(datetime.fromisoformat(text), berlin).doubtful
    assert not to_utc(datetime.fromisoformat("2026-10-25T03:30:00"), berlin).doubtful
    twice = datetime.fromisoformat("2026-10-25T02:30:00")
    first = to_utc(twice, berlin).us
    assert to_utc(twice, berlin, first - 1).us == first == from_rfc3339("2026-10-25T00:30:00Z")
    assert to_utc(twice, berlin, first).us == from_rfc3339("2026-10-25T01:30:00Z")
    noon = from_rfc3339("2026-11-24T04:00:00Z")
    assert from_utc(noon, shanghai).isoformat() == "2026-11-24T12:00:00"
    assert to_utc(from_utc(noon, shanghai), shanghai) == (noon, False)


# --- load records

DIGITS = st.integers(0, 99).map(lambda n: bytes.fromhex(f"{n:02d}"))
LAYOUTS = st.builds(
    RecordLayout,
    st.just(tuple((number, 3 + number) for number in range(1, 7))),
    separator=st.just(b"\xaa"),
    header=st.sampled_from([b"\xa0\xa0", b"\xa5"]),
    trailer=st.sampled_from([b"\xe5", b""]),
    has_checksum=st.booleans(),
    length_counts=st.sampled_from(["body", "tail"]),
    stamp_order=st.sampled_from(["low-first", "high-first"]),
)


@given(LAYOUTS, st.lists(st.tuples(MOMENTS, st.sets(st.integers(1, 6)), st.data()), max_size=4))
def test_load_records_of_any_layout_come_back(layout: RecordLayout, made: list):
    records = [
        Record(
            moment.replace(second=0),
            {number: b"".join(data.draw(DIGITS) for _ in range(3 + number)) for number in sorted(numbers)},
        )
        for moment, numbers, data in made
    ]
    raw = b"".join(build_record(layout, record) for record in records)
    assert parse_records(layout, raw) == records


LAYOUT = RecordLayout(((4, 8),))
GOOD = build_record(LAYOUT, Record(datetime.fromisoformat("2026-11-24T00:15:00"), {4: bytes(8)}))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xa1" + GOOD, "does not begin as its layout says"),
        (GOOD[:-1], "claims 14 bytes; 15 are there"),
        (GOOD[:-2] + b"\x00\xe5", "wrong checksum"),
        (GOOD[:-1] + b"\xe4", "does not end"),
        (GOOD + b"\xa0\xa0", "does not begin"),
    ],
)
def test_a_load_record_that_is_not_laid_out_so_is_a_named_error(raw: bytes, message: str):
    with pytest.raises(FrameError, match=message):
        parse_records(LAYOUT, raw)


def test_more_records_than_were_asked_for_are_not_taken():
    with pytest.raises(FrameError, match="more than the 2"):
        parse_records(LAYOUT, GOOD * 3, 2)


def test_load_records_are_asked_for_as_the_standard_says():
    assert record_di(4, GIVEN_TIME) == "06040001"
    assert record_argument(3, datetime.fromisoformat("2026-11-24T00:15:00")).hex() == "031500241126"
    assert record_argument(12).hex() == "12"


# --- words


def test_identifiers_go_lowest_byte_first():
    assert di_bytes("0201FF00").hex() == "00ff0102"
    assert di_bytes("901F").hex() == "1f90"
    assert di_text(di_bytes("0201FF00")) == "0201FF00"
    assert back("0001FF00", 12) == "0001FF0C"
    with pytest.raises(ValueError, match="no data identifier"):
        di_bytes("201FF00")


def test_status_words_are_told_in_words():
    state = switch_state(1 << 4 | 1 << 12 | 2 << 1 | 1 << 8)
    assert (state.relay_open, state.open_commanded, state.moving, state.keep_power) == (True, False, True, True)
    assert (state.supply, state.account) == ("battery", "energy")
    assert switch_state(3 << 1 | 3 << 8)[5:] == ("unknown", "unknown")
    assert names_of(0b101, {0: "a", 1: "b", 2: "c"}) == ["a", "c"]
    with pytest.raises(FrameError, match="1 bytes"):
        parse_word(b"\x00")


def test_error_bytes_are_told_in_words():
    assert error_words(0x06) == ["no such data", "wrong password or not authorised"]
    assert error_words(0x80) == ["error byte 80"]


def test_a_record_without_a_time_says_nothing():
    raw = bytes.fromhex("030201241126") + bytes(6)
    stamps = parse_record(Fields(0, 6), raw)
    assert (stamps.start, stamps.end) == (datetime.fromisoformat("2026-11-24T01:02:03"), None)
    assert parse_record(Fields(20, -1), raw).start is None
    assert parse_record(Fields(0), bytes.fromhex("990201241126")).start is None
    assert {"cover-opened", "power-down", "relay-opened"} <= set(EVENTS)
