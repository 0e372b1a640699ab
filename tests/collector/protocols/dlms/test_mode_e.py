"""The start of mode E on an optical head: lines both ways, parity, echoes and noise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms.mode_e import (
    Identification,
    IdentificationReceiver,
    acknowledge,
    identification,
    identify_request,
    parse_acknowledge,
    parse_identification,
    parse_request,
)
from metering.errors import FrameError


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (b"/ISk5\\2MT382-1000\r\n", Identification("ISk", "5", mode_e=True, ident="MT382-1000")),
        (b"/LGZ4ZMR120AR.b32\r\n", Identification("LGZ", "4", mode_e=False, ident="ZMR120AR.b32")),
        (b"/ELS5\\@V10.05\r\n", Identification("ELS", "5", mode_e=False, ident="V10.05")),
        (b"/ABC6\\@\\2x\r\n", Identification("ABC", "6", mode_e=True, ident="x")),
        (b"/ABCA\r\n", Identification("ABC", "A", mode_e=False, ident="")),
    ],
)
def test_an_identification_says_who_the_meter_is_and_how_it_goes_on(line: bytes, meaning: Identification):
    assert parse_identification(line) == meaning
    assert meaning.baud == {"4": 4800, "5": 9600, "6": 19200}.get(meaning.baud_char, 0)


@pytest.mark.parametrize(
    "line", [b"", b"/?!\r\n", b"/AB15x\r\n", b"/ABC9x\n", b"/ABC7" + b"x" * 60 + b"\r\n", b"/ABC5a/b\r\n"]
)
def test_what_is_no_identification_is_refused(line: bytes):
    with pytest.raises(FrameError):
        parse_identification(line)


@given(
    st.from_regex(r"[A-Z]{2}[A-Za-z]", fullmatch=True),
    st.sampled_from("0123456"),
    st.from_regex(r"[A-Z0-9 .-]{0,16}", fullmatch=True),
)
def test_an_identification_reads_back_as_it_was_built(maker: str, baud_char: str, ident: str):
    line = identification(maker, baud_char, ident)
    assert parse_identification(line) == (maker, baud_char, True, ident)


@pytest.mark.parametrize(
    "wrong", [("AB", "5", "x"), ("ABC", "J", "x"), ("ABC", "5", "a/b"), ("ABC", "5", "\\3x"), ("ABC", "5", "x" * 60)]
)
def test_an_identification_that_would_not_read_back_is_not_built(wrong: tuple[str, str, str]):
    with pytest.raises(ValueError, match="do not go into"):
        identification(*wrong)


def test_requests_and_acknowledgements_go_both_ways():
    assert identify_request() == b"/?!\r\n"
    assert parse_request(identify_request("0012345678")) == "0012345678"
    assert acknowledge("5") == bytes.fromhex("063235320D0A")
    assert parse_acknowledge(acknowledge("5")) == "5"
    for wrong in ("x!", "a" * 33):
        with pytest.raises(ValueError, match="address"):
            identify_request(wrong)
    with pytest.raises(ValueError, match="baud character"):
        acknowledge("A")
    with pytest.raises(FrameError):
        parse_request(b"/!\r\n")
    with pytest.raises(FrameError):
        parse_acknowledge(b"\x06050\r\n")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_answer_is_found_behind_our_own_echo_and_noise(step: int):
    line = identification("MGT", "5", "MG-100")
    stream = b"\x00\xff" * 100 + identify_request() + b"\x00" + line
    receiver = IdentificationReceiver()
    answers = [receiver(stream[at : at + step]) for at in range(0, len(stream), step)]
    assert answers[-1] == line
    assert not any(answers[:-1])


def test_what_came_instead_is_told_and_silence_is_not():
    receiver = IdentificationReceiver()
    assert receiver.complaint() == ""
    assert receiver(b"noise" * 1000) is None
    assert receiver.complaint() == "5000 bytes that are no answer of IEC 62056-21"


def test_a_line_of_escapes_does_not_take_long():
    assert IdentificationReceiver()((b"/ABC5" + b"\\" * 60_000) * 2) is None
