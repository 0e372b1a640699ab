"""HDLC frames: the vectors both ways, found in noise, and no damaged frame that passes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms.hdlc import (
    Frame,
    Kind,
    Parameters,
    ServerAddress,
    build_frame,
    client_address,
    fcs,
    information,
    parse_frame,
    parse_parameters,
    supervisory,
)
from collector.protocols.dlms.hdlc_link import LLC_RESPONSE, Inbox
from collector.protocols.dlms.hdlc_stream import HdlcReceiver, HdlcSplitter
from metering.errors import FrameError

ALL = json.loads((Path(__file__).parents[3] / "vectors" / "dlms.json").read_text())
SINGLE = [vector for vector in ALL if vector["protocol"] == "hdlc"]
SEGMENTED = next(vector for vector in ALL if vector["protocol"] == "hdlc-list")
RAWS = [bytes.fromhex(text) for text in SEGMENTED["hex"]]
CLIENT, SERVER = b"\x21", b"\x02\x23"
ADDRESSES = st.one_of(
    st.integers(0, 0x7F).map(ServerAddress),
    st.builds(ServerAddress, st.integers(0, 0x7F), st.integers(0, 0x7F), st.just(2)),
    st.builds(ServerAddress, st.integers(0, 0x3FFF), st.integers(0, 0x3FFF), st.just(4)),
)
FRAMES = st.builds(
    Frame,
    ADDRESSES.map(ServerAddress.to_bytes),
    st.integers(1, 0x7F).map(client_address),
    st.sampled_from([kind.value for kind in Kind]) | st.builds(information, st.integers(), st.integers(), final=...),
    st.binary(max_size=300),
    st.booleans(),
)


def _bitwise_crc(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8408 if crc & 1 else crc >> 1
    return (crc ^ 0xFFFF).to_bytes(2, "little")


@given(st.binary(max_size=600))
def test_the_check_bytes_are_those_of_the_polynomial_computed_bit_by_bit(data: bytes):
    assert fcs(data) == _bitwise_crc(data)


@pytest.mark.parametrize("vector", SINGLE, ids=lambda vector: vector["name"])
def test_every_vector_reads_and_is_built_again(vector: dict[str, Any]):
    raw, expected = bytes.fromhex(vector["hex"]), vector["expected"]
    frame = parse_frame(raw)
    assert build_frame(frame) == raw
    assert frame.kind is Kind[expected["type"]]
    if "client" in expected:
        server = frame.source if frame.kind is Kind.UA else frame.destination
        address = ServerAddress(
            expected["server_upper"], expected["server_lower"], expected.get("server_address_bytes", 2)
        )
        assert ServerAddress.from_bytes(server) == address
        assert address.to_bytes() == server
        assert client_address(expected["client"]) == (frame.destination if frame.kind is Kind.UA else frame.source)
    if "window_tx" in expected:
        wanted = (expected[f"{what}_{way}"] for what in ("max_info", "window") for way in ("tx", "rx"))
        assert parse_parameters(frame.info) == Parameters(*wanted)
    if "ns" in expected:
        assert (frame.send, frame.receive, frame.final) == (expected["ns"], expected["nr"], bool(expected["pf"]))
        assert frame.control == information(frame.send, frame.receive, final=True)
    if "llc" in expected:
        assert frame.info[:3].hex().upper() == expected["llc"]


def test_the_segmented_vector_is_one_apdu():
    frames, expected = [parse_frame(raw) for raw in RAWS], SEGMENTED["expected"]
    assert [build_frame(frame) for frame in frames] == RAWS
    assert [frame.segmented for frame in frames] == expected["segmented"]
    assert [frame.send for frame in frames] == expected["ns"]
    assert [frame.receive for frame in frames] == expected["nr"]
    assert [frame.final for frame in frames] == expected["final"]
    inbox = Inbox(LLC_RESPONSE, 1000)
    assert all(inbox.take(frame) for frame in frames)
    apdu = inbox.pop()
    assert apdu is not None
    assert apdu.hex().upper() == expected["apdu"]


@given(FRAMES)
def test_a_frame_reads_back_as_it_was_built(frame: Frame):
    assert parse_frame(build_frame(frame)) == frame


@given(st.integers(1, 2030), st.integers(1, 2030), st.integers(1, 7), st.integers(1, 7))
def test_parameters_read_back_in_one_and_two_bytes(transmit: int, receive: int, out: int, back: int):
    parameters = Parameters(transmit, receive, out, back)
    assert parse_parameters(parameters.to_bytes()) == parameters


@pytest.mark.parametrize(
    ("info", "meaning"),
    [
        ("", Parameters()),
        ("818000", Parameters()),
        ("818003050140", Parameters(64)),
        ("81800405020400", Parameters(1024)),
        ("8180040502FFFF", Parameters(2030)),
        ("8180050A0201020501", "in the middle"),
        ("818004 0A020102", Parameters()),
        ("81800507040000", "malformed"),
        ("818006070400000000", "cannot be"),
        ("818006080400000008", "cannot be"),
        ("818003050100", "cannot be"),
        ("8280", "malformed"),
    ],
)
def test_parameters_of_a_link_are_taken_or_refused(info: str, meaning: Parameters | str):
    if isinstance(meaning, Parameters):
        assert parse_parameters(bytes.fromhex(info)) == meaning
        return
    with pytest.raises(FrameError, match=meaning):
        parse_parameters(bytes.fromhex(info))


@pytest.mark.parametrize("address", ["", "02", "022301", "020223", "0202020201", "0323"])
def test_an_address_of_no_known_form_is_refused(address: str):
    with pytest.raises(FrameError, match="address"):
        ServerAddress.from_bytes(bytes.fromhex(address))


@pytest.mark.parametrize(
    "address", [ServerAddress(128), ServerAddress(1, 1), ServerAddress(1, 128, 2), ServerAddress(0, 0, 3)]
)
def test_an_address_that_does_not_fit_is_not_built(address: ServerAddress):
    with pytest.raises(ValueError, match="does not go into"):
        address.to_bytes()


@pytest.mark.parametrize("raw", [bytes.fromhex(vector["hex"]) for vector in SINGLE] + RAWS)
def test_no_truncated_or_flipped_frame_passes(raw: bytes):
    for length in range(len(raw)):
        with pytest.raises(FrameError):
            parse_frame(raw[:length])
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            parse_frame(bytes(damaged))


# --- in a stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_reply_is_found_whole_where_one_flag_closes_a_frame_and_opens_the_next(step: int):
    stream = b"\x00\x7e\x7e\x7e" + RAWS[0][:-1] + RAWS[1][:-1] + RAWS[2]
    receiver = HdlcReceiver(CLIENT, SERVER)
    answers = [receiver(stream[at : at + step]) for at in range(0, len(stream), step)]
    assert answers == [None] * (len(answers) - 1) + [b"".join(RAWS)]


def test_frames_of_others_echoes_and_push_are_no_reply():
    receiver = HdlcReceiver(CLIENT, SERVER)
    others = [
        Frame(SERVER, CLIENT, 0x93),
        Frame(b"\x03", SERVER, 0x73),
        Frame(CLIENT, b"\x02\x25", 0x73),
        Frame(CLIENT, SERVER, Kind.UI.value | 0x10, b"push"),
    ]
    assert receiver(b"".join(map(build_frame, others))) is None
    assert receiver.complaint() == "4 HDLC frames of other stations"
    answer = build_frame(Frame(CLIENT, SERVER, supervisory(Kind.RR, 1)))
    assert receiver(answer) == answer


def test_a_damaged_length_does_not_swallow_the_frames_behind_it():
    damaged = bytearray(RAWS[2])
    damaged[1:3] = b"\xa7\xff"
    receiver = HdlcReceiver(CLIENT, SERVER)
    assert receiver(bytes(damaged) + RAWS[2]) == RAWS[2]
    assert "1 damaged" in receiver.complaint()


def test_a_meter_that_never_ends_its_window_is_told_so():
    receiver = HdlcReceiver(CLIENT, SERVER)
    with pytest.raises(FrameError, match="none of them the last"):
        receiver(RAWS[0] * 20)


def test_silence_is_no_complaint_and_half_a_frame_is_one():
    receiver = HdlcReceiver(CLIENT, SERVER)
    assert receiver.complaint() == ""
    assert receiver(RAWS[0][:20]) is None
    assert receiver.complaint() == "20 bytes of an unfinished HDLC frame"


@given(
    st.lists(FRAMES, max_size=4),
    st.lists(st.binary(max_size=12).filter(lambda noise: b"\x7e" not in noise), min_size=5, max_size=5),
    st.integers(1, 50),
)
def test_frames_are_found_between_noise_however_the_stream_is_cut(frames: list[Frame], noise: list[bytes], step: int):
    stream = noise[0] + b"".join(build_frame(frame) + dirt for frame, dirt in zip(frames, noise[1:], strict=False))
    splitter = HdlcSplitter()
    found = [frame for at in range(0, len(stream), step) for frame, _ in splitter.feed(stream[at : at + step])]
    assert found == frames


@given(st.lists(st.one_of(st.binary(max_size=40), st.just(b"\x7e\xa7\xff"), FRAMES.map(build_frame)), max_size=30))
def test_what_a_splitter_keeps_is_bounded_whatever_comes(pieces: list[bytes]):
    splitter = HdlcSplitter()
    for piece in pieces:
        splitter.feed(piece)
        assert splitter.held <= 0x801
