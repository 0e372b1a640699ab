"""The serial line on a pseudo-terminal: frames, times, collisions and faults as a serial client sees them."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from collector.protocols.modbus import read_request
from collector.protocols.modbus_adu import rtu_frame
from collector.protocols.modbus_times import exchange_time
from simulators.faults import Fault, Kind
from simulators.modbus_rtu import RtuLine
from simulators.unit import FixedRegisters, Unit

ASK = rtu_frame(1, read_request(3, 1, 2))
GOOD = rtu_frame(1, bytes.fromhex("03 04 02030405"))
OTHER = rtu_frame(2, read_request(3, 0, 1))


@pytest.fixture
def line(unit: Unit, tmp_path: Path) -> Iterator[RtuLine]:
    line = RtuLine({1: unit, 2: Unit(2, FixedRegisters({3: bytes(10)}))}, path=tmp_path / "rtu0", baud=19200)
    line.start()
    yield line
    line.close()


@pytest.fixture
def port(line: RtuLine) -> Iterator[serial.Serial]:
    with serial.Serial(str(line.path), 19200, timeout=0.3) as port:
        yield port


def ask(port: serial.Serial, frame: bytes) -> bytes:
    """Send a frame, return what comes until 0.3 s without a byte."""
    port.write(frame)
    heard = b""
    while data := port.read(1):
        heard += data
    return heard


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        (None, GOOD),
        (Fault("no_answer"), b""),
        (Fault("late", seconds=0.1), GOOD),
        (Fault("truncated", count=4), GOOD[:-4]),
        (Fault("bad_crc"), GOOD[:-1] + bytes([GOOD[-1] ^ 0x5A])),
        (Fault("wrong_unit"), rtu_frame(2, bytes.fromhex("03 04 02030405"))),
        (Fault("wrong_function"), rtu_frame(1, bytes.fromhex("04 04 02030405"))),
        (Fault("wrong_byte_count"), rtu_frame(1, bytes.fromhex("03 06 02030405"))),
        (Fault("exception", code=2), rtu_frame(1, bytes.fromhex("83 02"))),
        (Fault("duplicate"), GOOD + GOOD),
        (Fault("split", seconds=0.02), GOOD),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_a_fault_is_seen_on_the_line(unit: Unit, port: serial.Serial, fault: Fault | None, heard: bytes):
    unit.faults.replace([fault] if fault else [])
    assert ask(port, ASK) == heard
    unit.faults.replace()
    assert ask(port, ASK) == GOOD


@pytest.mark.parametrize("kind", ["noise_before", "noise_between", "noise_after"])
def test_noise_stands_around_the_frame(unit: Unit, port: serial.Serial, kind: Kind):
    unit.faults.replace([Fault(kind, count=3, seconds=0.02)])
    heard = ask(port, ASK)
    assert len(heard) == len(GOOD) + 3
    assert heard != GOOD + bytes(3)
    assert heard.startswith(GOOD) == (kind == "noise_after")
    assert heard.endswith(GOOD) == (kind == "noise_before")


def test_the_answer_of_another_request_is_the_one_before(unit: Unit, port: serial.Serial):
    assert ask(port, ASK) == GOOD
    unit.faults.replace([Fault("other_transaction")])
    assert ask(port, rtu_frame(1, read_request(3, 9, 1))) == GOOD


def test_a_babbler_holds_the_line_until_its_fault_is_taken_away(unit: Unit, line: RtuLine, port: serial.Serial):
    unit.faults.replace([Fault("babble")])
    port.write(ASK)
    assert len(port.read(100)) == 100
    port.write(OTHER)  # nobody is understood meanwhile
    assert len(port.read(100)) == 100
    assert line.counters.collisions == 1
    unit.faults.replace()
    ask(port, b"")
    assert ask(port, OTHER) == rtu_frame(2, bytes.fromhex("03 02 0000"))


def test_a_babbler_with_an_end_ends(unit: Unit, port: serial.Serial):
    unit.faults.replace([Fault("babble", seconds=0.05)])
    heard = ask(port, ASK)
    assert 50 <= len(heard) <= 150  # 0.05 s are 87 characters
    unit.faults.replace()
    assert ask(port, ASK) == GOOD


def test_several_units_share_the_line_and_a_foreign_one_stays_silent(line: RtuLine, port: serial.Serial):
    assert ask(port, OTHER) == rtu_frame(2, bytes.fromhex("03 02 0000"))
    assert ask(port, rtu_frame(9, read_request(3, 0, 1))) == b""
    assert ask(port, rtu_frame(0, read_request(3, 0, 1))) == b""
    assert line.counters.foreign == 2
    assert ask(port, ASK[:-1] + b"\0") == b""
    assert line.counters.bad_frames == 1


def test_a_request_into_a_speech_spoils_both(line: RtuLine, port: serial.Serial):
    port.write(rtu_frame(1, read_request(3, 0, 100)))
    heard = port.read(3)
    port.write(OTHER)
    heard += ask(port, b"")
    assert len(heard) == 205
    assert heard[-10:] != rtu_frame(1, bytes((3, 200)) + bytes(range(200)))[-10:]
    assert line.counters.collisions == 1
    assert ask(port, ASK) == GOOD


def test_a_request_without_the_silent_interval_is_no_frame(line: RtuLine, port: serial.Serial):
    port.write(ASK)
    assert port.read(len(GOOD)) == GOOD
    assert ask(port, ASK) in (b"", GOOD)  # a busy machine may have kept the silence for us
    answered = 2 - line.counters.early
    assert line.counters.requests == answered


def test_an_answer_is_never_sooner_than_its_characters_take(unit: Unit, port: serial.Serial):
    unit.turnaround_s = 0.02
    least = exchange_time(5, 6, 19200, 11, 0.02)
    began = time.monotonic()
    port.write(ASK)
    assert port.read(len(GOOD)) == GOOD
    silence = 3.5 * 11 / 19200
    assert time.monotonic() - began >= least - silence


def test_the_link_names_the_terminal_and_goes_with_the_line(unit: Unit, tmp_path: Path):
    path = tmp_path / "deep" / "rtu1"
    line = RtuLine({1: unit}, path=path)
    assert line.start() == path
    assert path.readlink().is_char_device()
    line.close()
    assert not path.is_symlink()
    again = RtuLine({1: unit}, path=path)
    again.start()
    with serial.Serial(str(path), 9600, timeout=0.5) as port:
        port.write(ASK)
        assert port.read(len(GOOD)) == GOOD
    again.close()
