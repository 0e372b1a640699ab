"""Streams in virtual time: what an answer may take, who is heard out, and conversations that keep their meter."""

import asyncio
import itertools
import time
from collections.abc import Callable

import pytest

from collector.bus import Bus
from collector.exchange import Exchange, Speed, Transact
from collector.forecast import cycle_time
from collector.lanes import Lane
from collector.links.link import LinkParameters
from collector.links.stream import (
    FLOW_LIMIT_S,
    KEPT_BYTES,
    NETWORK_GAP_S,
    NETWORK_MARGIN_S,
    PIECE_BYTES,
    SERIAL_GAP_S,
    SERIAL_MARGIN_S,
    _StreamLink,
)
from metering.errors import FrameError, NoAnswerError, RefusedError
from metering.model import SECOND

BAUD = 2400
CHARACTER_S = 11 / BAUD
TURNAROUND_S = 0.05

# What comes after a request was written: seconds after it, and bytes.
Pieces = list[tuple[float, bytes]]
Run = Callable[..., None]


class Framed:
    """A `Receiver` of what stands between < and >, both included, that begins with the one letter it asked for."""

    def __init__(self, name: str) -> None:
        self._start = f"<{name}".encode()
        self._came = b""

    def __call__(self, data: bytes) -> bytes | None:
        self._came += data
        if b"!" in self._came:
            raise FrameError("it shouts")
        at = self._came.find(self._start)
        end = self._came.find(b">", at)
        return self._came[at : end + 1] if at >= 0 <= end else None

    def complaint(self) -> str:
        return f"{len(self._came)} bytes without an end"


class VirtualWire:
    """A wire whose peer does what its script says, request by request; keeps what was asked."""

    def __init__(self, script: list[Pieces], received: Callable[[bytes], None]) -> None:
        self.script = script
        self.received = received
        self.open_ = True

    async def open(self) -> None:
        """Be there."""

    def close(self) -> None:
        """Be gone, and what is still under way with it."""
        self.open_ = False

    def unread(self, limit: int) -> bytes:
        del limit
        return b""

    def set_baud(self, baud: int) -> None:
        del baud

    def write(self, request: bytes) -> None:
        for after_s, data in self.script.pop(0) if self.script else answer(request[:1].decode()):
            asyncio.get_running_loop().call_later(after_s, self._say, data)

    def _say(self, data: bytes) -> None:
        if self.open_:
            self.received(data)


def answer(name: str, after_s: float = TURNAROUND_S) -> Pieces:
    return [(after_s, f"<{name}>".encode())]


def ask(name: str = "a", *, once: bool = False, length: int = 20) -> Exchange:
    return Exchange(ord(name), f"{name}?".encode(), length, TURNAROUND_S, Framed(name), once=once)


def make_link(kind: str, script: list[Pieces] | None = None) -> _StreamLink:
    serial = kind == "serial"
    left = script or []
    return _StreamLink(
        kind,
        LinkParameters(BAUD, "8E1") if serial else LinkParameters(),
        SERIAL_MARGIN_S if serial else NETWORK_MARGIN_S,
        SERIAL_GAP_S if serial else NETWORK_GAP_S,
        lambda received, _lost: VirtualWire(left, received),  # type: ignore[arg-type,return-value] # all that a link uses of a wire
    )


async def exchange(link: _StreamLink, asked: Exchange) -> bytes:
    return await link.exchange(asked, link.timeout(asked))


KINDS = pytest.mark.parametrize("kind", ["serial", "network"])


@KINDS
def test_an_answer_that_flows_may_be_far_longer_than_the_usual_one(virtual: Run, kind: str):
    pieces = [(0.1 + 0.4 * step, b"<a" if not step else b"....") for step in range(20)]
    link = make_link(kind, [[*pieces, (8.2, b">")]])

    async def run() -> None:
        assert len(await exchange(link, ask())) == 2 + 19 * 4 + 1
        assert await exchange(link, ask("b")) == b"<b>"

    virtual(run())


@KINDS
def test_noise_before_the_answer_is_skipped_and_does_not_shorten_its_time(virtual: Run, kind: str):
    link = make_link(kind, [[(0.001, b"\x00\xfe"), (0.3, b"zz<a>")]])

    async def run() -> None:
        assert await exchange(link, ask()) == b"<a>"

    virtual(run())


@KINDS
def test_a_trickle_without_an_end_is_ended(virtual: Run, kind: str):
    link = make_link(kind, [[(0.1 * step, b".") for step in range(1000)]])
    limit = link.timeout(ask()) + FLOW_LIMIT_S

    async def run() -> None:
        started = time.monotonic()
        with pytest.raises(FrameError, match="bytes without an end"):
            await exchange(link, ask())
        assert limit <= time.monotonic() - started <= limit + 2.1  # and two for the line to be silent
        assert bool(link.ready_at(ord("a"))) == (kind == "serial")

    virtual(run())


@KINDS
def test_no_more_is_kept_than_any_answer_may_hold(virtual: Run, kind: str):
    link = make_link(kind, [[(0.01 * step, bytes(8192)) for step in range(9)]])

    async def run() -> None:
        with pytest.raises(FrameError, match=f"{KEPT_BYTES + PIECE_BYTES} bytes came"):
            await exchange(link, ask())
        assert await exchange(link, ask("b")) == b"<b>"

    virtual(run())


@KINDS
def test_who_answers_late_is_heard_out_before_the_next_is_asked(virtual: Run, kind: str):
    link = make_link(kind)
    link_timeout = link.timeout(ask())
    late = make_link(kind, [answer("a", link_timeout + 0.5)])

    async def run() -> None:
        with pytest.raises(NoAnswerError):
            await exchange(late, ask())
        assert await exchange(late, ask()) == b"<a>"
        assert late.status().strays == 0

    virtual(run())
    assert late.status().connects == 1


def test_half_an_answer_on_a_line_has_its_rest_heard_out(virtual: Run):
    link = make_link("serial", [[(0.1, b"<a"), (1.2, b"late>")]])

    async def run() -> None:
        with pytest.raises(FrameError, match="2 bytes without an end"):
            await exchange(link, ask())
        assert await exchange(link, ask()) == b"<a>"

    virtual(run())


def test_half_an_answer_on_a_network_takes_its_connection_along(virtual: Run):
    link = make_link("network", [[(0.1, b"<a"), (4.0, b"late>")]])

    async def run() -> None:
        with pytest.raises(FrameError):
            await exchange(link, ask())
        assert await exchange(link, ask()) == b"<a>"

    virtual(run())
    assert link.status().connects == 2


@KINDS
def test_who_listens_on_hears_what_came_since_the_exchange_before(virtual: Run, kind: str):
    link = make_link(kind, [[*answer("a"), (0.1, b"<a ag"), (0.3, b"ain>")]])

    async def run() -> None:
        assert await exchange(link, ask()) == b"<a>"
        await asyncio.sleep(0.1)
        assert await exchange(link, ask()._replace(pdu=b"")) == b"<a again>"
        assert link.status().strays == 0
        assert await exchange(link, ask("b")) == b"<b>"

    virtual(run())


@KINDS
def test_an_exchange_that_was_given_up_is_waited_for_before_the_next(virtual: Run, kind: str):
    link = make_link(kind, [answer("a", 0.3)])

    async def run() -> None:
        given_up = asyncio.create_task(exchange(link, ask()))
        await asyncio.sleep(0.1)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert await exchange(link, ask()) == b"<a>"
        assert link.status().strays == len(b"<a>")

    virtual(run())


def test_a_request_to_all_ends_with_its_last_character(virtual: Run):
    link = make_link("serial", [[]])

    async def run() -> None:
        started = time.monotonic()
        to_all = Exchange(0, bytes(24), 0, 0.0)
        assert await exchange(link, to_all) == b""
        assert time.monotonic() - started >= 24 * CHARACTER_S
        assert link.wire_time(to_all) == pytest.approx(24 * CHARACTER_S)
        with pytest.raises(ValueError, match="receiver"):
            await exchange(link, Exchange(1, b"?", 8, 0.0))

    virtual(run())


def test_the_time_of_an_answer_is_that_of_its_own_speed():
    link = make_link("serial")
    slow = ask()._replace(speed=Speed(300, "7E1"))
    assert link.wire_time(slow) == pytest.approx(22 * 10 / 300)
    assert link.timeout(slow) > link.timeout(ask())
    assert link.timeout(ask(length=65536)) == 60.0


def test_the_predicted_cycle_of_streams_counts_their_bytes_and_turnarounds():
    silence_s = 3.5 * CHARACTER_S
    to_all = Exchange(0, bytes(16), 0, 0.0)
    predicted = cycle_time(LinkParameters(BAUD, "8E1"), [ask(), ask()._replace(speed=Speed(300, "7E1")), to_all])
    assert predicted == pytest.approx(38 * CHARACTER_S + 22 * 10 / 300 + 2 * TURNAROUND_S + 3 * silence_s)
    assert cycle_time(LinkParameters(latency_s=0.002), [ask(), to_all]) == pytest.approx(0.054)


# --- on a bus ---------------------------------------------------------------------------------------------------------


def make_bus(script: list[Pieces] | None = None, links: int = 1) -> Bus:
    first, *more = [make_link("network", script) for _ in range(links)]
    return Bus(first, more=more, clock=lambda: round(time.monotonic() * SECOND))


@pytest.mark.parametrize(("once", "asked"), [(False, 2), (True, 1)])
def test_a_request_that_must_not_be_sent_twice_is_not_repeated(virtual: Run, once: bool, asked: int):  # noqa: FBT001 - a table
    bus = make_bus([[], []])

    async def run() -> None:
        with pytest.raises(NoAnswerError):
            await bus.submit(Lane.SCHEDULE, "a", lambda transact: transact(ask(once=once)))
        await bus.close()

    virtual(run())
    assert bus.status().meters["a"].no_answer == asked


def test_a_repeat_is_heard_by_a_receiver_that_has_heard_nothing(virtual: Run):
    bus = make_bus([[(0.1, b"<a half")], [(0.1, b"<a whole>")]])
    got: list[bytes] = []

    async def work(transact: Transact) -> None:
        got.append((await transact(ask())).pdu)

    async def run() -> None:
        await bus.submit(Lane.SCHEDULE, "a", work)
        await bus.close()

    virtual(run())
    assert got == [b"<a whole>"]


def test_a_request_to_all_says_nothing_of_the_meter(virtual: Run):
    bus = make_bus([[]])

    async def run() -> None:
        await bus.submit(Lane.COMMAND, "a", lambda transact: transact(Exchange(0, b"all", 0, 0.0)))
        await bus.close()

    virtual(run())
    assert bus.status().meters["a"].ok == 0


def test_a_refusal_in_a_stream_is_the_meters_own_whatever_its_code(virtual: Run):
    class Refuses(Framed):
        def __call__(self, data: bytes) -> bytes | None:
            raise RefusedError(f"{len(data)} bytes", code=11)

    bus = make_bus()

    async def run() -> None:
        with pytest.raises(RefusedError):
            await bus.submit(Lane.SCHEDULE, "a", lambda transact: transact(ask()._replace(receiver=Refuses("a"))))
        await bus.close()

    virtual(run())
    assert bus.status().meters["a"].refused == 1


def conversation(order: list[str], name: str, meter: str, times: int):
    async def work(transact: Transact) -> None:
        for _ in range(times):
            await transact(ask(meter))
            order.append(name)

    return work


@pytest.mark.parametrize("links", [1, 2])
def test_a_conversation_keeps_its_meter_while_others_go_first(virtual: Run, links: int):
    """Commands to other meters come between its exchanges; one to its own meter comes after its end, and hurries it."""
    bus = make_bus(links=links)
    order: list[str] = []

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            talk = conversation(order, "long", "a", 4)
            group.create_task(bus.submit(Lane.BACKFILL, "a", talk, whole=True))
            await asyncio.sleep(0.01)
            for lane, name, meter in (
                (Lane.COMMAND, "other", "b"),
                (Lane.COMMAND, "own", "a"),
                (Lane.SCHEDULE, "later", "b"),
                (Lane.SCHEDULE, "own later", "a"),
            ):
                group.create_task(bus.submit(lane, meter, conversation(order, name, meter, 1)))
        await bus.close()

    virtual(run())
    of_a = [name for name in order if name not in {"other", "later"}]
    assert of_a == ["long"] * 4 + ["own", "own later"]
    if links == 1:
        assert order == ["long", "other", "long", "long", "long", "own", "later", "own later"]


def test_conversations_with_several_meters_behind_one_connection_take_turns_by_urgency(virtual: Run):
    bus = make_bus()
    order: list[str] = []

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for lane, name in ((Lane.BACKFILL, "a"), (Lane.SCHEDULE, "b"), (Lane.ON_DEMAND, "c")):
                group.create_task(bus.submit(lane, name, conversation(order, name, name, 2), whole=True))
                await asyncio.sleep(0.01)
        await bus.close()

    virtual(run())
    assert order == ["a", "c", "c", "b", "b", "a"]


def test_a_conversation_that_fails_while_it_waits_leaves_its_meter_to_others(virtual: Run):
    bus = make_bus()
    order: list[str] = []

    async def run() -> None:
        long = asyncio.create_task(bus.submit(Lane.SCHEDULE, "a", conversation(order, "long", "a", 3), whole=True))
        await asyncio.sleep(0.01)
        urgent = asyncio.create_task(bus.submit(Lane.COMMAND, "b", conversation(order, "urgent", "b", 1)))
        await asyncio.sleep(1.5 * TURNAROUND_S)  # the first exchange is over, and the urgent job has its turn
        assert order == ["long"]
        long.cancel()
        await urgent
        await bus.submit(Lane.SCHEDULE, "a", conversation(order, "next", "a", 1))
        await bus.close()

    virtual(run())
    assert order == ["long", "urgent", "next"]


def test_a_line_full_of_urgent_work_lets_a_conversation_go_on_within_its_patience(virtual: Run):
    bus = make_bus()
    order: list[str] = []
    done = asyncio.Event()

    async def busy(name: str) -> None:
        while not done.is_set():
            await bus.submit(Lane.ON_DEMAND, name, conversation(order, "urgent", name, 1))

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for name in "bcd":
                group.create_task(busy(name))
            await bus.submit(Lane.BACKFILL, "a", conversation(order, "long", "a", 4), whole=True)
            done.set()
        await bus.close()

    virtual(run())
    at = [index for index, name in enumerate(order) if name == "long"]
    assert len(at) == 4
    assert all(later - before <= 18 for before, later in itertools.pairwise(at))
