"""Bus, lanes, circuits and the RTU link in virtual time: hours pass in seconds, and every run is the same."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from collector.bus import Bus
from collector.exchange import Answer, Exchange, Transact
from collector.forecast import cycle_time
from collector.lanes import Lane
from collector.links.link import LinkParameters
from collector.links.rtu import SERIAL_MARGIN_S, _RtuLine
from collector.protocols.modbus import read_reply, read_request, reply_length
from collector.protocols.modbus_adu import rtu_frame
from metering.errors import MeterError, NoAnswerError
from metering.model import SECOND

BAUD = 9600
CHARACTER_S = 11 / BAUD
TURNAROUND_S = 0.05
COUNT = 60
REPLY = read_reply(3, bytes(2 * COUNT))

# What a unit does when it is asked: bytes that arrive, and how long after the request's last character.
Pieces = list[tuple[float, bytes]]
Run = Callable[[Coroutine[Any, Any, None]], None]


class VirtualWire:
    """The wire of a serial line: each unit's `behaviour` says what arrives after a request."""

    def __init__(self, units: dict[int, Callable[[], Pieces]], received: Callable[[bytes], None]) -> None:
        self.units = units
        self.received = received

    async def open(self) -> None:
        """Be there."""

    def close(self) -> None:
        """Be gone."""

    def write(self, frame: bytes) -> None:
        for after_s, data in self.units[frame[0]]():
            asyncio.get_running_loop().call_later(len(frame) * CHARACTER_S + after_s, self.received, data)


def answer(unit: int, late_s: float = 0.0) -> Pieces:
    """Return a good answer: it is there when its last character is."""
    frame = rtu_frame(unit, REPLY)
    return [(TURNAROUND_S + late_s + len(frame) * CHARACTER_S, frame)]


def ask(unit: int) -> Exchange:
    pdu = read_request(3, 0, COUNT)
    return Exchange(unit, pdu, reply_length(pdu), TURNAROUND_S)


def read(unit: int):
    async def work(transact: Transact) -> bytes:
        return (await transact(ask(unit))).pdu

    return work


def make_bus(units: dict[int, Callable[[], Pieces]], on_circuit: Callable[..., None] | None = None) -> Bus:
    parameters = LinkParameters(BAUD, "8E1")
    link = _RtuLine("virtual", parameters, SERIAL_MARGIN_S, lambda received, _lost: VirtualWire(units, received))  # type: ignore[arg-type,return-value] # all that a link uses of a wire
    return Bus(link, clock=lambda: round(time.monotonic() * SECOND), on_circuit=on_circuit)


def test_a_dead_a_slow_and_a_babbling_meter_take_no_more_than_a_twentieth_of_the_line(virtual: Run):
    """Ten meters at 9600 baud, all asked all the time, for an hour."""
    hour = 3600.0
    good = range(1, 8)
    noise = [(0.02 * step, bytes((step % 256, 0x5A))) for step in range(75)]
    units: dict[int, Callable[[], Pieces]] = {unit: lambda unit=unit: answer(unit) for unit in good}
    units[8] = list  # dead
    units[9] = lambda: answer(9, late_s=0.6)
    units[10] = lambda: noise
    bus = make_bus(units)
    answered = dict.fromkeys(good, 0)

    async def neighbour(unit: int, end: float) -> None:
        while time.monotonic() < end:
            assert await bus.submit(Lane.SCHEDULE, str(unit), read(unit)) == REPLY
            answered[unit] += 1

    async def bad(unit: int, end: float) -> None:
        while time.monotonic() < end:
            with contextlib.suppress(MeterError):
                await bus.submit(Lane.SCHEDULE, str(unit), read(unit))
            await asyncio.sleep(1.0)

    async def everybody() -> None:
        end = time.monotonic() + hour
        await asyncio.gather(*(neighbour(unit, end) for unit in good), *(bad(unit, end) for unit in (8, 9, 10)))
        await bus.close()

    virtual(everybody())
    meters = bus.status().meters
    assert sum(meters[str(unit)].busy_s for unit in (8, 9, 10)) <= 0.05 * hour
    assert sum(answered.values()) * cycle_time(bus.link.parameters, [ask(1)]) >= 0.95 * hour
    assert max(answered.values()) - min(answered.values()) <= 2
    for unit in good:
        assert (meters[str(unit)].no_answer, meters[str(unit)].frame_errors) == (0, 0)


def test_an_answer_that_comes_late_is_heard_out_before_the_next_meter_is_asked(virtual: Run):
    heard: list[int] = []

    def slow() -> Pieces:
        heard.append(1)
        return answer(1, late_s=0.6)

    bus = make_bus({1: slow, 2: lambda: heard.append(2) or answer(2)})

    async def both() -> None:
        first = asyncio.create_task(bus.submit(Lane.SCHEDULE, "slow", read(1)))
        await asyncio.sleep(0)
        asked_at = time.monotonic()
        assert await bus.submit(Lane.SCHEDULE, "neighbour", read(2)) == REPLY
        assert time.monotonic() - asked_at >= 0.6 + 2 * TURNAROUND_S
        with pytest.raises(MeterError, match="did not answer in time"):
            await first
        await bus.close()

    virtual(both())
    meters = bus.status().meters
    assert heard == [1, 2, 1]
    assert (meters["neighbour"].no_answer, meters["neighbour"].frame_errors) == (0, 0)
    assert meters["slow"].no_answer == 2


@pytest.mark.parametrize("heard_until", [0, 9], ids=["whole", "garbled"])
def test_an_answer_later_still_is_charged_to_who_spoke_and_the_neighbour_is_asked_again(virtual: Run, heard_until: int):
    """The slow meter's answer meets the neighbour's request: the neighbour hears none, and we hear the slow one."""
    ((after_s, frame),) = answer(1)
    if heard_until:
        frame = frame[:heard_until] + bytes(byte ^ 0xA5 for byte in frame[heard_until:])
    neighbours = iter([[(after_s, frame)], answer(2)])
    told: list[tuple[str, bool]] = []
    bus = make_bus({1: list, 2: lambda: next(neighbours)}, on_circuit=lambda *what: told.append(what[:2]))

    async def sequence() -> None:
        with pytest.raises(NoAnswerError):
            await bus.submit(Lane.SCHEDULE, "slow", read(1))
        assert await bus.submit(Lane.SCHEDULE, "neighbour", read(2)) == REPLY
        await bus.close()

    virtual(sequence())
    meters = bus.status().meters
    assert (meters["neighbour"].no_answer, meters["neighbour"].frame_errors, meters["neighbour"].retries) == (0, 0, 0)
    assert (meters["slow"].no_answer, meters["slow"].frame_errors) == (2, 1)
    assert told == [("slow", True)]


def test_a_neighbour_that_answers_wrongly_by_itself_is_charged_itself(virtual: Run):
    """The slow meter owes an answer, but what comes does not begin as its answer would."""
    bus = make_bus({1: list, 2: lambda: [(0.1, b"\x07\x03\x01")]})

    async def sequence() -> None:
        for name, unit in (("slow", 1), ("neighbour", 2)):
            with pytest.raises(MeterError):
                await bus.submit(Lane.SCHEDULE, name, read(unit))
        await bus.close()

    virtual(sequence())
    assert bus.status().meters["slow"].frame_errors == 0
    assert bus.status().meters["neighbour"].frame_errors == 2


def test_a_reading_is_stamped_with_its_exchange_alone_whoever_went_first_meanwhile(virtual: Run):
    """A command has its turn between two exchanges of a scheduled job, and the scheduled meter's repeat waits, too."""
    second = iter([answer(1), [], answer(1)])
    bus = make_bus({1: lambda: next(second), 2: lambda: answer(2)})
    exchange_s = TURNAROUND_S + (8 + len(REPLY) + 3) * CHARACTER_S
    got: list[Answer] = []

    async def twice(transact: Transact) -> None:
        got.append(await transact(ask(1)))
        got.append(await transact(ask(1)))

    async def sequence() -> None:
        scheduled = asyncio.create_task(bus.submit(Lane.SCHEDULE, "a", twice))
        await asyncio.sleep(0)
        await bus.submit(Lane.COMMAND, "b", read(2))
        await scheduled
        await bus.close()

    virtual(sequence())
    first, second_answer = got
    assert second_answer.asked_at - first.answered_at >= 2 * exchange_s * SECOND
    for given in got:
        assert given.answered_at - given.asked_at == pytest.approx(exchange_s * SECOND, abs=2)
