"""Modbus frames: the vectors both ways, every exception code, and no damaged frame that passes."""

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols import modbus, modbus_adu, modbus_times
from metering.errors import FrameError, MeterError, RefusedError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "modbus.json").read_text())


def _request_of(frame: bytes) -> bytes:
    """Return the request PDU that a vector's frame is, or answers."""
    pdu = frame[1:-2]
    if pdu[0] in (3, 4) and len(pdu) == 2 + pdu[1]:
        return modbus.read_request(pdu[0], 0, pdu[1] // 2)
    if pdu[0] == 16:
        return pdu + bytes([4, 0, 0, 0, 0])
    return pdu


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_every_vector_reads_and_is_built_again(vector: dict[str, Any]):
    frame, expected = bytes.fromhex(vector["hex"]), vector["expected"]
    unit, pdu = modbus_adu.open_rtu(frame)
    assert unit == expected["unit"]
    assert pdu[0] == expected["function"]
    assert modbus_adu.rtu_frame(unit, pdu) == frame
    if "address" in expected:
        assert struct.unpack(">H", pdu[1:3])[0] == expected["address"]
    if "request" in vector["name"]:
        assert modbus.read_request(4, expected["address"], expected["count"]) == pdu
        return
    if pdu[0] == 5:
        assert modbus.write_coil_request(19, on=True) == pdu
    data = modbus.check_reply(_request_of(frame), modbus_adu.parse_rtu_reply(frame, unit, _request_of(frame)))
    floats = expected.get("float32", [])
    floats = floats if isinstance(floats, list) else [floats]
    if floats:
        assert struct.unpack(f">{len(floats)}f", data) == pytest.approx(floats, abs=1e-3)
    if "int64" in expected:
        assert int.from_bytes(data, "big") == expected["int64"]


@pytest.mark.parametrize(("code", "meaning"), modbus.EXCEPTIONS.items())
def test_an_exception_reply_is_a_refusal_with_its_meaning(code: int, meaning: str):
    request = modbus.read_request(3, 10, 2)
    with pytest.raises(RefusedError, match=meaning) as caught:
        modbus.check_reply(request, modbus.exception_reply(3, code))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "empty reply"),
        (b"\x04\x04\0\0\0\0", "function 4, asked was 3"),
        (b"\x03\x04\0\0\0", "5 bytes instead of 6"),
        (b"\x03\x03\0\0\0\0", "announces 3 bytes"),
        (b"\x83\x02\x00", "exception reply of 3 bytes"),
        (b"\x84\x02", "function 132"),
    ],
)
def test_a_reply_that_does_not_fit_the_request_is_a_frame_error(reply: bytes, reason: str):
    with pytest.raises(FrameError, match=reason):
        modbus.check_reply(modbus.read_request(3, 0, 2), reply)


reads = st.builds(
    modbus.read_request, st.sampled_from([3, 4]), st.integers(0, 60000), st.integers(1, modbus.MAX_READ_REGISTERS)
)


@given(request=reads, unit=st.integers(1, 247), data=st.data())
def test_no_truncated_or_flipped_rtu_frame_passes(request: bytes, unit: int, data: st.DataObject):
    size = modbus.reply_length(request) - 2
    reply = modbus.read_reply(request[0], data.draw(st.binary(min_size=size, max_size=size)))
    frame = modbus_adu.rtu_frame(unit, reply)
    assert modbus_adu.parse_rtu_reply(frame, unit, request) == reply
    assert modbus_adu.rtu_reply_length(frame[:2], request) == len(frame)
    with pytest.raises(MeterError):
        modbus_adu.parse_rtu_reply(frame[: data.draw(st.integers(0, len(frame) - 1))], unit, request)
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    flipped = bytearray(frame)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MeterError):
        modbus_adu.parse_rtu_reply(bytes(flipped), unit, request)


@given(request=reads, unit=st.integers(0, 255), transaction=st.integers(0, 65535), data=st.data())
def test_a_tcp_reply_passes_only_for_its_own_transaction_and_unit(
    request: bytes, unit: int, transaction: int, data: st.DataObject
):
    reply = modbus.read_reply(request[0], bytes(modbus.reply_length(request) - 2))
    frame = modbus_adu.tcp_frame(transaction, unit, reply)
    assert modbus_adu.parse_tcp_reply(frame, transaction, unit, request) == reply
    for other in ((transaction ^ 1, unit), (transaction, unit ^ 1)):
        with pytest.raises(FrameError):
            modbus_adu.parse_tcp_reply(frame, *other, request)
    with pytest.raises(FrameError):
        modbus_adu.parse_tcp_reply(frame[: data.draw(st.integers(0, len(frame) - 1))], transaction, unit, request)
    bit = data.draw(st.integers(0, 8 * 9 - 1))  # header, function and byte count
    flipped = bytearray(frame)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MeterError):
        modbus_adu.parse_tcp_reply(bytes(flipped), transaction, unit, request)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_named_error_or_a_request(noise: bytes):
    for parse in (modbus.parse_request, modbus_adu.open_rtu, modbus_adu.open_tcp):
        with contextlib.suppress(FrameError):
            assert parse(noise)


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (b"", 1),
        (bytes([43, 14, 1, 0]), 1),
        (bytes([3, 0, 0, 0]), 3),
        (bytes([3, 0, 0, 0, 0]), 3),
        (bytes([3, 0, 0, 0, 126]), 3),
        (bytes([5, 0, 1, 0x12, 0]), 3),
        (bytes([16, 0, 1, 0, 2, 3, 0, 0, 0]), 3),
    ],
)
def test_a_server_answers_an_impossible_request_with_the_standards_code(pdu: bytes, code: int):
    with pytest.raises(modbus.BadRequestError) as caught:
        modbus.parse_request(pdu)
    assert caught.value.code == code


def test_writes_are_confirmed_by_their_echo():
    request = modbus.write_registers_request(28, b"\x00\x01\x00\x02")
    assert modbus.parse_request(request) == modbus.Request(16, 28, 2, b"\x00\x01\x00\x02")
    assert modbus.check_reply(request, modbus.write_reply(request)) == b""
    with pytest.raises(FrameError, match="does not confirm"):
        modbus.check_reply(request, modbus.write_reply(modbus.write_registers_request(29, b"\x00\x01\x00\x02")))


def test_line_times_follow_the_serial_line_specification():
    assert modbus_times.parse_format("8E1").bits == 11
    assert modbus_times.parse_format("8N1").bits == 10
    assert modbus_times.character_time(9600) == pytest.approx(11 / 9600)
    assert modbus_times.silent_interval(9600) == pytest.approx(3.5 * 11 / 9600)
    assert modbus_times.silent_interval(38400) == 0.00175
    assert modbus_times.wire_time(5, 6, 9600) == pytest.approx(17 * 11 / 9600)
    with pytest.raises(ValueError, match="7E1"):
        modbus_times.parse_format("7E1")
