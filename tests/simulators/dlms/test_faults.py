"""Faults of a simulated DLMS meter: what each does to an answer, as bytes and as our client takes it."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.protocols.dlms import failures
from collector.protocols.dlms.acse import Mechanism
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.association import Association as Wanted
from collector.protocols.dlms.association import Security
from collector.protocols.dlms.errors import BusyMeterError
from collector.protocols.dlms.get import GetBlockResponse, GetNextRequest, GetRequest
from collector.protocols.dlms.references import Attribute, DataAccessResult
from metering.errors import AuthError, FrameError, MeterError, RefusedError
from metering.model import SECOND
from simulators.dlms_association import Association
from simulators.dlms_delivery import Delivery, answer_apdu, deliver
from simulators.dlms_faults import DlmsFault, DlmsKind
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_security import BOTH, MANAGEMENT, READER

Bench = Any
Make = Callable[..., Any]
REGISTER = Attribute(3, "1-0:1.8.0*255", 2)
PROFILE = Attribute(7, "1-0:99.2.0*255", 2)
FRAMES = [b"first frame", b"second", b"third"]
WHOLE = b"".join(FRAMES)


def reader(bench: Bench) -> Bench:
    return bench.talk(Wanted(READER, mechanism=Mechanism.LOW, max_pdu=400))


@pytest.mark.parametrize(
    ("fault", "delivery"),
    [
        (None, Delivery(WHOLE)),
        (DlmsFault("late", seconds=2.5), Delivery(WHOLE, 2.5)),
        (DlmsFault("repeated"), Delivery(WHOLE + WHOLE)),
        (DlmsFault("truncated"), Delivery(WHOLE[:-3])),
        (DlmsFault("truncated", count=7), Delivery(WHOLE[:-7])),
        (DlmsFault("damaged"), Delivery(WHOLE[:-4] + bytes([WHOLE[-4] ^ 0x5A]) + WHOLE[-3:])),
        (DlmsFault("abort"), Delivery(WHOLE)),
    ],
)
def test_a_fault_of_the_link_strikes_the_frames(bench: Bench, fault: DlmsFault | None, delivery: Delivery):
    assert deliver(fault, FRAMES, bench.meter.faults.chance) == delivery


def test_one_frame_of_an_answer_is_lost_or_the_connection_with_it(bench: Bench):
    lost = {deliver(DlmsFault("lost"), FRAMES, bench.meter.faults.chance).data for _ in range(50)}
    assert lost == {b"secondthird", b"first framethird", b"first framesecond"}
    assert deliver(DlmsFault("lost"), FRAMES[:1], bench.meter.faults.chance).data == b""
    assert deliver(DlmsFault("reset"), FRAMES, bench.meter.faults.chance).reset


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("exception", MeterError),
        ("nested", FrameError),
        ("lying_length", FrameError),
        ("endless", FrameError),
        ("wrong_block", FrameError),
        ("abort", RefusedError),
    ],
)
def test_a_spoilt_answer_ends_in_an_error_of_its_kind(bench: Bench, kind: DlmsKind, error: type[Exception]):
    talk = reader(bench)
    bench.meter.faults.replace([DlmsFault(kind)])
    with pytest.raises(error):
        talk.do(talk.session.get(PROFILE))
    assert len(bench.heard) < 4000


def test_an_oversized_answer_is_longer_than_what_was_agreed_on(bench: Bench):
    talk = reader(bench)
    bench.meter.faults.replace([DlmsFault("oversized", count=30_000, times=1)])
    assert len(talk.do(talk.session.get(REGISTER)).value) == 30_000  # one that has no limit of its own takes it
    assert len(bench.heard[-1]) > 30_000


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_transfer_breaks_off_in_its_middle_and_can_begin_again(bench: Bench, step: int):
    talk = reader(bench)
    bench.meter.faults.replace(script=[None] * step + [DlmsFault("abort")])
    sent = len(bench.sent)
    with pytest.raises(RefusedError) as caught:
        talk.do(talk.session.get(PROFILE))
    assert caught.value.code == DataAccessResult.LONG_GET_ABORTED
    assert len(bench.sent) - sent == step + 1
    fresh = reader(bench)
    assert len(fresh.do(fresh.session.get(PROFILE)).value) == 60


def test_blocks_are_given_once_and_in_order(bench: Bench):
    talk = reader(bench)

    def ask(apdu: bytes) -> GetBlockResponse:
        found = parse_apdu(talk.association.serve(apdu, bench.clock.now))
        assert isinstance(found, GetBlockResponse)
        return found

    first = ask(GetRequest(0xC1, PROFILE).to_bytes())
    assert (first.number, first.last) == (1, False)
    assert ask(GetNextRequest(0xC1, 1).to_bytes()).number == 2
    assert ask(GetNextRequest(0xC1, 1).to_bytes()).raw is DataAccessResult.DATA_BLOCK_NUMBER_INVALID
    assert ask(GetNextRequest(0xC1, 2).to_bytes()).raw is DataAccessResult.NO_LONG_GET_IN_PROGRESS


def test_a_busy_meter_refuses_for_the_time_being(bench: Bench):
    bench.meter.faults.replace([DlmsFault("busy", times=1)])
    with pytest.raises(BusyMeterError):
        reader(bench)
    reader(bench)


@pytest.mark.parametrize("kind", ["wrong_counter", "key_changed"])
def test_counters_that_go_back_and_keys_that_change_end_the_association(bench: Bench, kind: DlmsKind):
    wanted = Wanted(
        MANAGEMENT, mechanism=Mechanism.HIGH_GMAC, security=Security(BOTH), client_title=b"MGTGTW01", server_title=b""
    )
    talk = bench.talk(wanted)
    talk.do(talk.session.get(REGISTER))
    bench.meter.faults.replace([DlmsFault(kind, times=1)])
    with pytest.raises((AuthError, FrameError)):
        talk.do(talk.session.get(REGISTER))
    assert bench.meter.security.attempts == ({MANAGEMENT: 1} if kind == "key_changed" else {})


def test_a_silent_meter_and_one_without_power_do_not_hear(make: Make):
    bench = make(DlmsSettings(history=False))
    association = Association(bench.meter, READER)
    bench.meter.faults.replace([DlmsFault("silent", times=1)])
    assert answer_apdu(association, b"\x62\x00") is None
    heard = answer_apdu(association, b"\x62\x00")
    assert heard is not None
    bench.meter.meter.interrupt(bench.clock.now - SECOND, bench.clock.now + SECOND)
    assert answer_apdu(association, b"\x62\x00") is None


def test_a_clock_jumps_and_no_log_knows_of_it(bench: Bench):
    association = Association(bench.meter, READER)
    events = len(bench.meter.logs.logs[0].events)
    bench.meter.faults.replace([DlmsFault("clock_jump", seconds=-90, times=1)])
    for _ in range(3):
        answer_apdu(association, b"\x62\x00")
    assert bench.meter.clock.shown(bench.clock.now) == bench.clock.now - 90 * SECOND
    assert len(bench.meter.logs.logs[0].events) == events


@pytest.mark.parametrize("code", range(1, 6))
def test_an_exception_has_the_reason_that_it_is_given(bench: Bench, code: int):
    talk = reader(bench)
    request = GetRequest(0xC1, REGISTER).to_bytes()
    reply = talk.association.serve(request, bench.clock.now, DlmsFault("exception", code=code))
    assert parse_apdu(reply) == failures.ExceptionResponse(failures.NOT_ALLOWED, code)
