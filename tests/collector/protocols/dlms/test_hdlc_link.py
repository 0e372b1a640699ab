"""Both ends of an HDLC link against each other, over wires that lose, repeat, delay and damage frames."""

import hashlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.protocols.conversation import Conversation
from collector.protocols.dlms.errors import BusyMeterError, LinkClosedError
from collector.protocols.dlms.hdlc import Frame, Kind, ServerAddress, build_frame, information, parse_frame, supervisory
from collector.protocols.dlms.hdlc_link import LLC_RESPONSE
from collector.protocols.dlms.hdlc_stream import HdlcSplitter
from collector.protocols.dlms.station import MAX_BUSY, MAX_POLLS, HdlcStation
from collector.protocols.dlms.station_server import HdlcServerStation
from metering.errors import FrameError, MeterError, NoAnswerError, RefusedError

SERVER = ServerAddress(1, 17, 2)
TO_CLIENT, TO_SERVER = b"\x21", SERVER.to_bytes()
MAX_STEPS = 400  # far above what an exchange may need: a conversation that goes on for ever ends here
T = TypeVar("T")
Wire = Callable[[list[bytes]], list[bytes]]  # frames that go in, frames that come out


def _meter(apdu: bytes) -> bytes:
    """Answer a request: its digest, often or once as its first byte says, so that a wrong answer is seen."""
    return hashlib.sha256(apdu).digest() * (apdu[0] % 16 + 1)


class Line:
    """A meter on a wire. `heard` are the requests that reached it."""

    def __init__(self, server: HdlcServerStation, there: Wire, back: Wire) -> None:
        self.server, self.there, self.back = server, there, back
        self.heard: list[bytes] = []
        self.splitter = HdlcSplitter()
        self.steps = 0

    def carry(self, request: bytes) -> bytes:
        answer = b""
        for frame, _ in self.splitter.feed(b"".join(self.there(_cut(request)))):
            heard = self.server.take(frame)
            answer += heard.send
            if heard.apdu is not None:
                self.heard.append(heard.apdu)
                answer += self.server.respond(_meter(heard.apdu))
        return b"".join(self.back(_cut(answer)))

    def run(self, station: HdlcStation, conversation: Conversation[T]) -> T:
        """Carry a conversation as the owner of a wire does."""
        try:
            request = next(conversation)
            for self.steps in range(1, MAX_STEPS):
                reply = station.receiver()(self.carry(request))
                silent = NoAnswerError("no answer")
                request = conversation.throw(silent) if reply is None else conversation.send(reply)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return] # what a generator returns has no type there
        raise AssertionError("a conversation without an end")


def _cut(stream: bytes) -> list[bytes]:
    return [raw for _, raw in HdlcSplitter().feed(stream)]


def _perfect(frames: list[bytes]) -> list[bytes]:
    return frames


def _losing(*lost: int) -> Wire:
    """Lose the frames of these numbers, counted from 0 over the wire's life."""
    count = iter(range(10**6))

    def wire(frames: list[bytes]) -> list[bytes]:
        return [raw for raw in frames if next(count) not in lost]

    return wire


def _line(info: int = 128, window: int = 1, there: Wire = _perfect, back: Wire = _perfect) -> Line:
    return Line(HdlcServerStation(16, SERVER, info, window), there, back)


def _faulty(faults: Iterator[int]) -> Wire:
    late: list[bytes] = []

    def wire(frames: list[bytes]) -> list[bytes]:
        out = late.copy()
        late.clear()
        for raw in frames:
            fault = next(faults, 0)
            if fault == 1:
                continue
            if fault == 2:
                out += [raw, raw]
            elif fault == 3:
                late.append(raw)
            elif fault > 3:
                at = fault % len(raw)
                out.append(raw[:at] + bytes((raw[at] ^ (fault % 255 + 1),)) + raw[at + 1 :])
            else:
                out.append(raw)
        return out

    return wire


# --- a wire without faults -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 200),
    st.integers(8, 200),
    st.integers(1, 7),
    st.integers(1, 7),
    st.lists(st.binary(min_size=1, max_size=700), min_size=1, max_size=4),
)
def test_apdus_of_any_length_go_both_ways_in_any_windows(
    ours: int, theirs: int, out: int, back: int, apdus: list[bytes]
):
    station, line = HdlcStation(16, SERVER, ours, out), _line(theirs, back)
    line.run(station, station.connect())
    assert station.agreed.info_transmit == min(ours, theirs)
    assert station.agreed.window_receive == min(out, back)
    for apdu in apdus:
        assert line.run(station, station.exchange(apdu)) == _meter(apdu)
    assert line.heard == apdus
    line.run(station, station.disconnect())
    assert not line.server.connected


def test_no_segment_is_longer_than_the_meter_takes_and_no_window_larger():
    station, line = HdlcStation(16, SERVER, 128, 7), _line(32, 3)
    line.run(station, station.connect())
    conversation = station.exchange(bytes(200))
    frames = [parse_frame(raw) for raw in _cut(next(conversation))]
    assert [len(frame.info) for frame in frames] == [32, 32, 32]
    assert [frame.final for frame in frames] == [False, False, True]
    assert all(frame.segmented for frame in frames)


def test_a_link_can_be_opened_again_and_numbers_begin_anew():
    station, line = HdlcStation(16, SERVER), _line()
    for _ in range(2):
        line.run(station, station.connect())
        for text in (b"\x01a", b"\x01b", b"\x01c"):
            assert line.run(station, station.exchange(text)) == _meter(text)


# --- lost, late and doubled frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", range(1, 8))
def test_any_one_lost_frame_of_an_answer_is_asked_for_by_its_number(lost: int):
    station, line = HdlcStation(16, SERVER, 16, 5), _line(16, 5, back=_losing(lost))
    line.run(station, station.connect())
    request = b"\x02 a request"
    assert line.run(station, station.exchange(request)) == _meter(request)
    assert line.heard == [request]


@pytest.mark.parametrize("lost", range(1, 9))
def test_any_one_lost_frame_of_a_request_is_sent_again(lost: int):
    station, line = HdlcStation(16, SERVER, 16, 3), _line(16, 3, there=_losing(lost))
    line.run(station, station.connect())
    request = b"\x00" + bytes(range(100))
    assert line.run(station, station.exchange(request)) == _meter(request)
    assert line.heard == [request]


def test_an_answer_that_is_lost_does_not_make_the_meter_take_the_request_twice():
    station, line = HdlcStation(16, SERVER), _line(back=_losing(1, 2))
    line.run(station, station.connect())
    assert line.run(station, station.exchange(b"\x00switch off")) == _meter(b"\x00switch off")
    assert line.heard == [b"\x00switch off"]


def test_a_request_that_the_wire_repeats_is_taken_once():
    station, line = HdlcStation(16, SERVER), _line(there=lambda frames: frames * 2)
    line.run(station, station.connect())
    for apdu in (b"\x00one", b"\x00two"):
        assert line.run(station, station.exchange(apdu)) == _meter(apdu)
    assert line.heard == [b"\x00one", b"\x00two"]


FAULTS = st.lists(st.one_of(st.just(0), st.just(0), st.integers(1, 3), st.integers(4, 10_000)), max_size=60)


@settings(max_examples=300, deadline=None)
@given(
    FAULTS, FAULTS, st.integers(1, 7), st.integers(10, 60), st.lists(st.binary(min_size=1, max_size=200), max_size=4)
)
def test_over_a_bad_wire_an_apdu_arrives_intact_and_once_or_it_is_told(
    there: list[int], back: list[int], window: int, info: int, bodies: list[bytes]
):
    line = _line(info, window, _faulty(iter(there)), _faulty(iter(back)))
    station = HdlcStation(16, SERVER, info, window)
    apdus = [bytes((number,)) + body for number, body in enumerate(bodies)]
    answered = 0
    try:
        line.run(station, station.connect())
        for apdu in apdus:
            assert line.run(station, station.exchange(apdu)) == _meter(apdu)
            answered += 1
            assert station.connected
    except MeterError:
        assert not station.connected
    assert line.heard[:answered] == apdus[:answered]
    assert line.heard == apdus[: len(line.heard)]
    assert len(line.heard) <= answered + 1


def test_a_meter_that_falls_silent_is_polled_a_few_times_and_told():
    station, line = HdlcStation(16, SERVER), _line()
    line.run(station, station.connect())
    line.back = lambda _: []
    with pytest.raises(NoAnswerError):
        line.run(station, station.exchange(b"\x00"))
    assert line.steps == MAX_POLLS + 1
    assert not station.connected


# --- what a meter may say instead ------------------------------------------------------------------------------------


def _say(control: int, info: bytes = b"", *, segmented: bool = False) -> bytes:
    return build_frame(Frame(TO_CLIENT, TO_SERVER, control, info, segmented))


def _connected() -> HdlcStation:
    station = HdlcStation(16, SERVER)
    conversation = station.connect()
    next(conversation)
    with pytest.raises(StopIteration):
        conversation.send(_say(0x73))
    return station


def test_a_busy_meter_refuses_the_link():
    conversation = HdlcStation(16, SERVER).connect()
    assert next(conversation).hex() == "7ea00802232193bd647e"
    with pytest.raises(BusyMeterError, match="no HDLC link now"):
        conversation.send(_say(0x1F))


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (_say(0x1F), LinkClosedError, "closed the HDLC link"),
        (_say(0x0F), LinkClosedError, "closed the HDLC link"),
        (_say(0x97, b"\x10\x00\x08"), FrameError, r"its number N\(R\)"),
        (_say(0x97, b"\x10\x00\x05"), FrameError, "its control byte and too long information"),
        (_say(0x97), FrameError, "a reason that it does not tell"),
        (_say(information(0, 1, final=True), b"\xe6\xe6\x00\xc4"), FrameError, "no LLC header e6e700 but e6e600"),
        (_say(information(0, 1, final=True)), FrameError, "no LLC header"),
    ],
)
def test_what_a_meter_says_instead_of_an_answer_is_told_as_it_is(answer: bytes, error: type[MeterError], words: str):
    station = _connected()
    conversation = station.exchange(b"\xc0")
    next(conversation)
    with pytest.raises(error, match=words):
        conversation.send(answer)
    with pytest.raises(LinkClosedError, match="not open"):
        next(station.exchange(b"\xc0"))


def _send_twice(conversation: Conversation[bytes], reply: bytes) -> None:
    """The first may still have acknowledged the request."""
    for _ in range(2):
        conversation.send(reply)


@pytest.mark.parametrize("said", [_say(supervisory(Kind.RNR, 1)), _say(supervisory(Kind.RR, 1))])
def test_a_meter_that_needs_time_is_asked_again_but_not_for_ever(said: bytes):
    conversation = _connected().exchange(b"\xc0")
    next(conversation)
    for _ in range(MAX_BUSY):
        asked = conversation.send(said)
    assert parse_frame(asked).kind is Kind.RR
    with pytest.raises(RefusedError, match="does not get ready"):
        _send_twice(conversation, said)


def test_a_meter_that_was_not_ready_gives_its_answer_later():
    conversation = _connected().exchange(b"\xc0")
    next(conversation)
    for _ in range(10):
        conversation.send(_say(supervisory(Kind.RNR, 1)))
    with pytest.raises(StopIteration) as ended:
        conversation.send(_say(information(0, 1, final=True), LLC_RESPONSE + b"\xc4"))
    assert ended.value.value == b"\xc4"


def test_old_frames_bring_an_exchange_no_further_and_end_it():
    conversation = _connected().exchange(b"\xc0")
    next(conversation)
    old = _say(information(6, 5, final=True), LLC_RESPONSE + b"\xc4")
    for _ in range(MAX_POLLS):
        conversation.send(old)
    with pytest.raises(FrameError, match="no further"):
        conversation.send(old)


def test_an_answer_above_the_limit_ends_at_the_limit():
    station = HdlcStation(16, SERVER, limit=300)
    line = _line()
    line.run(station, station.connect())
    with pytest.raises(FrameError, match="more than 300 bytes"):
        line.run(station, station.exchange(b"\xff"))


def test_a_server_answers_nobody_who_is_not_connected_and_rejects_what_it_cannot_take():
    server = HdlcServerStation(16, SERVER)
    asked = Frame(TO_SERVER, TO_CLIENT, information(0, 0, final=True), b"\xe6\xe6\x00\xc0")
    assert parse_frame(server.take(asked).send).kind is Kind.DM
    assert server.take(asked._replace(source=b"\x03")) == (b"", None)
    assert parse_frame(server.take(Frame(TO_SERVER, TO_CLIENT, 0x93)).send).kind is Kind.UA
    assert server.take(asked).apdu == b"\xc0"
    assert parse_frame(server.respond(None)).kind is Kind.RR
    wrong = asked._replace(control=information(1, 0, final=True), info=b"\xe6\xe7\x00\xc0")
    assert parse_frame(server.take(wrong).send).kind is Kind.FRMR
    assert parse_frame(server.take(Frame(TO_SERVER, TO_CLIENT, 0x53)).send).kind is Kind.DM
