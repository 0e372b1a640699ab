"""The wrapper of TCP: streams cut anywhere, foreign ports, and lengths refused before anything is collected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms.wrapper import Header, WrapperReceiver, WrapperSplitter, parse_header, wrap
from metering.errors import FrameError

PORTS = st.integers(0, 0xFFFF)
APDUS = st.lists(st.tuples(PORTS, PORTS, st.binary(min_size=1, max_size=400)), max_size=5)


@given(APDUS, st.integers(1, 700))
def test_apdus_are_found_again_however_the_stream_is_cut(apdus: list[tuple[int, int, bytes]], step: int):
    stream = b"".join(wrap(*apdu) for apdu in apdus)
    splitter = WrapperSplitter()
    found = [whole for at in range(0, len(stream), step) for whole in splitter.feed(stream[at : at + step])]
    assert found == [(Header(source, to, len(apdu)), apdu) for source, to, apdu in apdus]
    assert splitter.held == 0


def test_a_reply_is_the_apdu_of_the_pair_that_was_asked_and_swaps_the_ports():
    receiver = WrapperReceiver(16, 1)
    assert wrap(16, 1, b"\xc0") == bytes.fromhex("0001001000010001c0")
    assert receiver(wrap(1, 17, b"another client's")) is None
    assert receiver(wrap(16, 1, b"our own echo")) is None
    assert receiver(wrap(1, 16, b"an answer")[:10]) is None
    assert receiver.complaint() == "2 wrapped APDUs of other ports, 10 bytes of an unfinished one"
    receiver = WrapperReceiver(16, 1)
    assert receiver(wrap(1, 16, b"an answer")[:10]) is None
    assert receiver(wrap(1, 16, b"an answer")[10:] + wrap(1, 16, b"another")) == b"an answer"
    assert list(receiver.ready) == [b"another"]


def test_silence_is_no_complaint():
    assert WrapperReceiver(16, 1).complaint() == ""


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("0002000100100004", "version is 2"),
        ("7EA0002100230004", "version is 32416"),
        ("0001000100100000", "holds 0 bytes"),
        ("0001000100100401", "holds 1025 bytes, allowed are 1 to 1024"),
        ("00010001001004", "7 bytes are no wrapper header"),
    ],
)
def test_a_header_that_cannot_be_is_refused_before_anything_is_collected(header: str, words: str):
    with pytest.raises(FrameError, match=words):
        parse_header(bytes.fromhex(header), 1024)
    if len(header) == 16:
        with pytest.raises(FrameError, match=words):
            WrapperReceiver(16, 1, 1024)(bytes.fromhex(header))


@pytest.mark.parametrize("length", [0, 0x10000])
def test_an_apdu_that_fits_no_wrapper_is_not_sent(length: int):
    with pytest.raises(ValueError, match="does not go into one wrapper"):
        wrap(16, 1, bytes(length))


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_what_is_kept_of_any_stream_is_bounded(pieces: list[bytes]):
    splitter = WrapperSplitter(100)
    try:
        for piece in pieces:
            splitter.feed(piece)
            assert splitter.held < 108
    except FrameError:
        pass
