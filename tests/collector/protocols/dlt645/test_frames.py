"""Frames known from elsewhere, both ways, and what a receiver finds among noise."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.keys import MeterKeys
from collector.protocols.dlt645.errors import error_words
from collector.protocols.dlt645.frame import WILDCARD, Frame, build_frame, matches, parse_frame, station
from collector.protocols.dlt645.identifiers import di_bytes, di_text
from collector.protocols.dlt645.reading import Request, checked, read, read_request
from collector.protocols.dlt645.receiver import Dlt645Receiver, Listener
from collector.protocols.dlt645.status import parse_word, switch_state
from collector.protocols.dlt645.times import encode_date
from collector.protocols.dlt645.values import decode_number, encode_number, parse_format
from collector.protocols.dlt645.writes import (
    Switch,
    address_request,
    broadcast_time,
    control_request,
    freeze_request,
    parse_control,
    write_request,
)
from metering.errors import AuthError, FrameError, RefusedError

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "dlt645.json").read_text())
METER = "000000004321"
KEYS = MeterKeys(password=bytes(3), operator=bytes.fromhex("00000001"))
FORMATS = {"00020000": ("XXXXXX.XX", 126), "02010100": ("XXX.X", 1001), "00010000": ("XXXXXX.XX", 123456)}


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_known_frame_reads_and_builds(vector: dict):
    raw, expected = bytes.fromhex(vector["hex"]), vector["expected"]
    frame = parse_frame(raw)
    assert (frame.address, frame.control) == (expected["address"], expected["control"])
    wake = len(raw) - len(raw.lstrip(b"\xfe"))
    assert build_frame(frame.address, frame.control, frame.data, wake=wake) == raw
    if "di" in expected:
        assert di_text(frame.data[:4]) == expected["di"]
    if "data" in expected and "command" not in expected:
        assert frame.data.hex() == expected["data"]
    if "value" in expected:
        form = parse_format(FORMATS[expected["di"]][0])
        value, quality = decode_number(form, frame.data[4:])
        assert (value, quality) == (round(expected["value"] / expected["resolution"]), 0)
        assert encode_number(form, value) == frame.data[4:]
    if "error_bits" in expected:
        assert error_words(frame.data[0]) == ["no such data"]
        with pytest.raises(RefusedError, match="no such data"):
            checked(raw)
    if "word" in expected:
        state = switch_state(parse_word(frame.data[4:]))
        assert (state.relay_open, state.open_commanded) == (True, True)
        assert not state.moving


def test_the_known_trip_is_built_and_its_password_masked():
    vector = next(v for v in VECTORS if "command" in v["expected"])
    until = datetime.fromisoformat(vector["expected"]["expires"])
    write = control_request("123456789012", Switch(vector["expected"]["command"]), until, KEYS, 2)
    raw = bytes.fromhex(vector["hex"])
    assert write.request.to_bytes(wake=0) == raw
    control = parse_control(parse_frame(raw))
    assert (control.level, control.password, control.operator, control.switch) == (2, KEYS.password, KEYS.operator, 26)
    masked = write.masked()
    assert len(masked) == len(raw)
    assert masked[10:18] == bytes(8)
    assert masked[18:-2] == raw[18:-2]


UNTIL = datetime.fromisoformat("2027-01-15T18:30:00")
EXAMPLES = [
    (read_request(METER, "00010000"), 4, "FEFEFEFE 682143000000006811043333343316 16"),
    (read_request(METER, "02010100"), 0, "68214300000000681104333434351916"),
    (read_request(METER, "04000503"), 0, "68214300000000681104363833372116"),
    (
        control_request(METER, Switch.TRIP, UNTIL, KEYS, 2).request,
        0,
        "68214300000000681C10353333333433 33334D3333634B48345A3216",
    ),
    (
        control_request(METER, Switch.PERMIT_CLOSE, UNTIL, KEYS, 2).request,
        0,
        "68214300000000681C1035333333343333334E3333634B48345A3316",
    ),
    (
        write_request(METER, "04000101", encode_date(datetime.fromisoformat("2026-11-23")), KEYS, 2).request,
        0,
        "68 21 43 00 00 00 00 68 14 10 34 34 33 37 35 33 33 33 34 33 33 33 34 56 44 59 EC 16",
    ),
    (
        broadcast_time(datetime.fromisoformat("2027-02-24T09:00:15")),
        0,
        "68 99 99 99 99 99 99 68 08 06 48 33 3C 57 35 5A 11 16",
    ),
    (freeze_request("999999999999", "99990005"), 0, "68 99 99 99 99 99 99 68 16 04 38 33 CC CC 83 16"),
    (address_request(WILDCARD), 4, "FE FE FE FE 68 AA AA AA AA AA AA 68 13 00 DF 16"),
    (
        Request(METER, 0x12, di_bytes("06000002") + b"\x02"),
        0,
        "68 21 43 00 00 00 00 68 12 05 35 33 33 39 35 54 16",
    ),
]


@pytest.mark.parametrize(("request_", "wake", "frame"), EXAMPLES)
def test_requests_are_built_as_in_the_examples(request_: Request, wake: int, frame: str):
    assert request_.to_bytes(wake) == bytes.fromhex(frame)


@pytest.mark.parametrize(
    ("frame", "form", "signed", "value"),
    [
        ("68 21 43 00 00 00 00 68 91 08 33 33 34 33 BC 9A 78 33 9B 16", "XXXXXX.XX", False, 456789),
        ("68 21 43 00 00 00 00 68 91 06 33 34 34 35 CB 56 BC 16", "XXX.X", False, 2398),
        ("68 21 43 00 00 00 00 68 91 07 33 33 36 35 AB 89 B3 84 16", "XX.XXXX", True, -5678),
    ],
)
def test_answers_of_the_examples_show_their_values(frame: str, form: str, signed: int, value: int):
    assert decode_number(parse_format(form, signed=bool(signed)), parse_frame(bytes.fromhex(frame)).data[4:]) == (
        value,
        0,
    )


def test_a_refused_write_is_an_error_of_the_key_and_a_refused_read_is_not():
    with pytest.raises(AuthError, match="wrong password"):
        checked(bytes.fromhex("68214300000000 68DC01374816"))
    with pytest.raises(RefusedError, match="no such data"):
        checked(bytes.fromhex("6821430000000068D101353B16"))
    with pytest.raises(RefusedError):
        checked(build_frame(METER, 0xD1, b"\x04"))


def test_no_password_is_shown():
    keys = MeterKeys(password=b"\x98\x76\x54", operator=b"\x11\x22\x33\x44")
    write = write_request(METER, "04000102", b"\x00\x00\x09", keys, 4)
    shown = repr(write) + repr(write.request) + repr(keys) + repr(parse_frame(write.request.to_bytes()))
    control = control_request(METER, Switch.TRIP, UNTIL, keys, 2)
    shown += (
        repr(parse_control(parse_frame(control.request.to_bytes()))) + write.masked().hex() + control.masked().hex()
    )
    assert "987654" not in shown
    assert "547698" not in shown
    assert "x98" not in shown
    assert bytes(b + 0x33 & 0xFF for b in b"\x54\x76\x98").hex() not in shown
    with pytest.raises(AuthError, match="the key store has none"):
        write_request(METER, "04000102", b"", MeterKeys(), 4)


ADDRESSES = st.from_regex(r"[0-9]{12}", fullmatch=True)
GOOD = build_frame(METER, 0x91, di_bytes("00010000") + b"\x01\x02\x03\x04")
NOISE = bytes.fromhex("00 68 13 FE 68 11 22 33 44 55 66 68")


@given(ADDRESSES, st.integers(0, 255), st.binary(max_size=255), st.integers(0, 8))
def test_every_frame_comes_back(address: str, control: int, data: bytes, wake: int):
    assert parse_frame(build_frame(address, control, data, wake=wake)) == Frame(address, control, data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_a_named_error(raw: bytes):
    try:
        frame = parse_frame(raw)
    except FrameError:
        return
    assert build_frame(frame.address, frame.control, frame.data) == raw.lstrip(b"\xfe")


def receiver() -> Dlt645Receiver:
    return Dlt645Receiver(METER, 0x11, di_bytes("00010000"))


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\xfe" * 9,
        NOISE,
        read_request(METER, "00010000").to_bytes(),
        build_frame("000000004322", 0x91, di_bytes("00010000") + bytes(4)),
        build_frame(METER, 0x91, di_bytes("00020000") + bytes(4)),
        build_frame(METER, 0x92, di_bytes("00010000") + bytes(4)),
    ],
    ids=["nothing", "wake", "noise", "echo", "another meter", "another identifier", "another function"],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_answer_is_found_behind_what_is_none(before: bytes, step: int):
    receive = receiver()
    wire = before + GOOD
    found = [receive(wire[at : at + step]) for at in range(0, len(wire), step)]
    assert found[-1] == GOOD
    assert not any(found[:-1])


def test_a_damaged_answer_is_told_at_once_and_silence_leaves_no_complaint():
    receive = receiver()
    assert receive.complaint() == ""
    with pytest.raises(FrameError, match="wrong checksum"):
        receive(GOOD[:-2] + bytes((GOOD[-2] ^ 1, 0x16)))


def test_a_meter_that_claims_too_much_is_told():
    receive = Dlt645Receiver(METER, 0x11, limit=20)
    with pytest.raises(FrameError, match="claims 100 bytes of data, more than the 20"):
        receive(build_frame(METER, 0x91, bytes(100))[:11])


def test_what_came_instead_is_said():
    receive = receiver()
    assert receive(build_frame("000000004322", 0x91, di_bytes("00010000"))) is None
    assert receive(b"\x01\x02") is None
    assert receive.complaint() == "an answer of another meter (000000004322)"
    assert receive(GOOD) == GOOD
    receive = receiver()
    assert receive(b"\x01\x02") is None
    assert receive.complaint() == "2 bytes that are no frame"


def test_an_error_answer_is_found_without_its_identifier():
    refused = build_frame(METER, 0xD1, b"\x02")
    assert receiver()(refused) == refused


@given(st.lists(st.binary(max_size=40), max_size=40))
def test_a_receiver_keeps_little_whatever_comes(pieces: list[bytes]):
    receive = Dlt645Receiver(METER, 0x11, limit=50)
    for piece in pieces:
        try:
            receive(piece)
        except FrameError:
            return
        assert len(receive._scanner._buffer) <= 62 + 40


def test_a_listener_hears_every_meter_and_whether_they_collide():
    listen = Listener(0x13)
    for address in ("000000000001", "000000000002"):
        assert listen(b"\xfe\xfe" + build_frame(address, 0x93, bytes.fromhex(address)[::-1])) is None
    assert listen.addresses == ["000000000001", "000000000002"]
    assert not listen.damaged
    broken = Listener(0x13)
    broken(bytes(a & b for a, b in zip(GOOD, NOISE * 2, strict=False)))
    assert broken.damaged


def test_shortened_addresses_match_any_high_pair():
    assert matches("AAAAAAAA4321", METER)
    assert not matches("AAAAAAAA4322", METER)
    assert matches(WILDCARD, METER)
    assert station(METER) == 4321
    assert station(WILDCARD) > 10**12
    with pytest.raises(ValueError, match="not an address"):
        build_frame("4321AAAAAAAA", 0x11)


def play(frames: list[Frame]) -> bytes:
    """Run a reading of 06040002 against these answers."""
    reading = read(METER, "06040002", b"\x03", limit=30)
    request = next(reading)
    assert request.data == di_bytes("06040002") + b"\x03"
    for index, frame in enumerate(frames, 1):
        try:
            request = reading.send(frame)
        except StopIteration as stop:
            return stop.value
        assert (request.control, request.data[-1]) == (0x12, index)
    raise AssertionError("asks for more")


DI = di_bytes("06040002")


def test_follow_up_frames_are_joined_in_their_sequence():
    frames = [Frame(METER, 0xB1, DI + b"ab"), Frame(METER, 0xB2, DI + b"cd\x01"), Frame(METER, 0x92, DI + b"e\x02")]
    assert play(frames) == b"abcde"


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([Frame(METER, 0xB1, DI + b"ab"), Frame(METER, 0x92, DI + b"cd\x02")], "sequence 2, not 1"),
        ([Frame(METER, 0xB1, DI + b"ab"), Frame(METER, 0x92, DI)], "sequence none"),
        ([Frame(METER, 0xB1, DI)] + [Frame(METER, 0xB2, DI + bytes((n,))) for n in range(1, 256)], "always has more"),
        ([Frame(METER, 0xB1, DI + bytes(29)), Frame(METER, 0xB2, DI + b"ab\x01")], "longer than 30"),
        ([Frame(METER, 0x91, DI[1:])], "another identifier"),
    ],
)
def test_follow_up_frames_out_of_order_end_in_a_named_error(frames: list[Frame], message: str):
    with pytest.raises(FrameError, match=message):
        play(frames)
