"""References, selective access and results as bytes and words."""

import pytest

from collector.protocols.dlms import axdr
from collector.protocols.dlms.cursor import Cursor
from collector.protocols.dlms.references import (
    ActionResult,
    Attribute,
    CaptureObject,
    DataAccessResult,
    Method,
    entry_access,
    logical_name,
    obis_of,
    range_access,
    read_access,
    read_attribute,
    read_method,
    read_result,
    write_access,
)
from metering.errors import FrameError

CLOCK = Attribute(8, "0-0:1.0.0*255", 2)
START, END = bytes.fromhex("07E8010100000000FF800000"), bytes.fromhex("07E8010200000000FF800000")


def test_a_logical_name_is_six_octets():
    assert logical_name("1-0:1.8.0*255") == bytes.fromhex("0100010800FF")
    assert obis_of(bytes.fromhex("0100010800FF")) == "1-0:1.8.0*255"
    with pytest.raises(FrameError):
        obis_of(b"\1")
    with pytest.raises(ValueError):
        logical_name("1.8.0")


def test_attributes_and_methods_are_nine_octets_and_read_in_words():
    assert CLOCK.to_bytes() == bytes.fromhex("00080000010000FF02")
    assert read_attribute(Cursor(CLOCK.to_bytes())) == CLOCK
    assert str(CLOCK) == "class 8 0-0:1.0.0*255 attribute 2"
    maker_attribute = Attribute(1, "0-0:96.1.0*255", -1)
    assert read_attribute(Cursor(maker_attribute.to_bytes())) == maker_attribute
    method = Method(70, "0-0:96.3.10*255", 1)
    assert read_method(Cursor(method.to_bytes())) == method
    assert str(method) == "class 70 0-0:96.3.10*255 method 1"


def test_a_range_is_the_standards_structure():
    access = range_access(CLOCK, START, END)
    restricting = "0204 120008 09060000010000FF 0F02 120000"
    limits = f"090C{START.hex()} 090C{END.hex()}"
    assert write_access(access) == bytes.fromhex(f"0101 0204 {restricting} {limits} 0100")
    assert read_access(Cursor(write_access(access))) == access


def test_a_range_takes_columns_and_limits_of_other_types():
    column = CaptureObject(3, "1-0:1.8.0*255", 2, 1)
    access = range_access(CLOCK, axdr.u32(1), axdr.u32(2), [CLOCK, column])
    assert access.parameter.value[1:3] == (axdr.u32(1), axdr.u32(2))
    assert [CaptureObject.of(data) for data in access.parameter.value[3].value] == [CaptureObject(*CLOCK), column]


def test_entries_are_the_standards_structure():
    assert write_access(entry_access(1, 0)) == bytes.fromhex("0102 0204 0600000001 0600000000 120001 120000")
    assert write_access(None) == b"\0"
    assert read_access(Cursor(b"\0")) is None


@pytest.mark.parametrize(
    "data",
    [
        axdr.null(),
        axdr.structure(axdr.u16(8)),
        axdr.structure(axdr.u16(8), axdr.text("x"), axdr.i8(2), axdr.u16(0)),
        axdr.structure(axdr.u16(8), axdr.octets(b"x"), axdr.i8(2), axdr.u16(0)),
        axdr.structure(axdr.null(), axdr.octets(bytes(6)), axdr.i8(2), axdr.u16(0)),
    ],
    ids=str,
)
def test_what_is_no_capture_object_is_a_frame_error(data: axdr.Data):
    with pytest.raises(FrameError):
        CaptureObject.of(data)


@pytest.mark.parametrize("kind", [DataAccessResult, ActionResult])
def test_every_result_has_words_and_unknown_ones_are_another_reason(kind: type[DataAccessResult] | type[ActionResult]):
    for result in kind:
        assert result.words
        assert read_result(kind, Cursor(bytes((result,)))) is result
    assert read_result(kind, Cursor(b"\x63")) is kind.OTHER_REASON
