import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.exchange import Exchange
from collector.links import RtuLink, RtuOverTcpLink, TcpLink
from collector.links.link import Link
from collector.protocols.modbus import read_reply, read_request, reply_length
from metering.errors import FrameError, LinkDownError, MeterError, NoAnswerError, RefusedError
from simulators.faults import Fault, Faults
from simulators.modbus_rtu import RtuLine
from simulators.modbus_tcp import ModbusTcpServer
from simulators.unit import FixedRegisters, Unit

IMAGE = bytes(range(200))


def ask(unit: int, address: int = 0, count: int = 4) -> Exchange:
    pdu = read_request(3, address, count)
    return Exchange(unit, pdu, reply_length(pdu), 0.01)


def answer(address: int = 0, count: int = 4) -> bytes:
    return read_reply(3, IMAGE[2 * address : 2 * (address + count)])


def units(script: list[Fault | None]) -> dict[int, Unit]:
    registers = FixedRegisters({3: IMAGE})
    return {1: Unit(1, registers, faults=Faults(script=script)), 2: Unit(2, registers)}


@contextlib.asynccontextmanager
async def wired(kind: str, script: list[Fault | None]) -> AsyncIterator[Link]:
    link: Link
    if kind == "rtu":
        line = RtuLine(units(script), baud=38400)
        link = RtuLink(str(line.start()), 38400, "8E1", opened="8N1")
        try:
            yield link
        finally:
            await link.close()
            line.close()
        return
    server = ModbusTcpServer(units(script), framing="tcp" if kind == "tcp" else "rtu")
    host, port = await server.start()
    link = TcpLink(host, port) if kind == "tcp" else RtuOverTcpLink(host, port, 38400)
    try:
        yield link
    finally:
        await link.close()
        await server.close()


KINDS = ["tcp", "rtu", "rtu-over-tcp"]
BAD: list[tuple[Fault, type[MeterError], list[str]]] = [
    (Fault("no_answer"), NoAnswerError, KINDS),
    (Fault("late", seconds=0.7), NoAnswerError, ["rtu"]),
    (Fault("late", seconds=1.2), NoAnswerError, ["tcp"]),
    (Fault("other_transaction"), NoAnswerError, ["tcp"]),
    (Fault("truncated"), FrameError, KINDS),
    (Fault("bad_crc"), FrameError, ["rtu", "rtu-over-tcp"]),
    (Fault("wrong_unit"), FrameError, KINDS),
    (Fault("wrong_function"), FrameError, KINDS),
    (Fault("wrong_byte_count"), FrameError, KINDS),
    (Fault("noise_between"), FrameError, ["rtu", "rtu-over-tcp"]),
    (Fault("babble", seconds=0.3), FrameError, ["rtu"]),
    (Fault("exception", code=2), RefusedError, KINDS),
    (Fault("reset"), LinkDownError, ["tcp", "rtu-over-tcp"]),
]


@pytest.mark.parametrize(
    ("kind", "fault", "error"),
    [pytest.param(kind, fault, error, id=f"{kind}-{fault.kind}") for fault, error, kinds in BAD for kind in kinds],
)
async def test_a_bad_answer_is_named_and_the_next_ones_are_right(kind: str, fault: Fault, error: type[MeterError]):
    async with wired(kind, [None, fault]) as link:
        assert await link.exchange(ask(1), 1.0) == answer()
        with pytest.raises(error):
            await link.exchange(ask(1), link.timeout(ask(1)))
        await asyncio.sleep(max(0.0, link.ready_at(1) - asyncio.get_running_loop().time()))
        assert await link.exchange(ask(2, 8), 1.0) == answer(8)
        assert await link.exchange(ask(1, 4), 1.0) == answer(4)


FOUND = [
    *((kind, fault) for kind in KINDS for fault in (Fault("duplicate"), Fault("split", seconds=0.02))),
    *((kind, Fault("noise_before")) for kind in KINDS[1:]),
    *((kind, Fault("noise_after", seconds=0.001)) for kind in KINDS[1:]),
]


@pytest.mark.parametrize(("kind", "fault"), [pytest.param(*case, id=f"{case[0]}-{case[1].kind}") for case in FOUND])
async def test_an_answer_is_found_among_what_does_not_belong_to_it(kind: str, fault: Fault):
    async with wired(kind, [fault]) as link:
        assert await link.exchange(ask(1), 1.0) == answer()
        assert await link.exchange(ask(1, 4), 1.0) == answer(4)


async def test_a_silent_unit_never_costs_the_others_their_connection():
    async with wired("tcp", []) as link:
        assert await link.exchange(ask(2), 1.0) == answer()
        for _ in range(8):
            with pytest.raises(NoAnswerError):
                await link.exchange(ask(9), 0.02)
        assert await link.exchange(ask(2), 1.0) == answer()
        assert link.status().connects == 1


async def test_a_half_open_connection_is_found_when_nobody_answers_and_made_anew():
    async with wired("tcp", [None, Fault("half_open")]) as link:
        await link.exchange(ask(2), 1.0)
        await link.exchange(ask(1), 1.0)
        for unit in (1, 2, 1):
            with pytest.raises(NoAnswerError):
                await link.exchange(ask(unit), 0.05)
        assert await link.exchange(ask(2), 1.0) == answer()
        assert link.status().connects == 2


async def test_an_endpoint_that_is_down_is_the_links_fault_and_is_not_hammered():
    link = TcpLink("127.0.0.1", 1)
    for _ in range(3):
        with pytest.raises(LinkDownError):
            await link.exchange(ask(1), 1.0)
    assert link.status().connects == 0
    assert not link.reachable()


async def test_a_serial_port_that_vanishes_comes_back(tmp_path: Path):
    path = tmp_path / "line"
    line = RtuLine(units([]), baud=38400, path=path)
    link = RtuLink(str(line.start()), 38400, "8E1", opened="8N1")
    assert await link.exchange(ask(1), 1.0) == answer()
    line.close()
    with pytest.raises(LinkDownError):
        await link.exchange(ask(1), 0.05)
    line = RtuLine(units([]), baud=38400, path=path)
    line.start()
    while not link.reachable():  # noqa: ASYNC110 - a back-off is time, no event ends it
        await asyncio.sleep(0.05)
    assert await link.exchange(ask(1), 1.0) == answer()
    await link.close()
    line.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_exchange_leaves_nothing_for_the_next(kind: str):
    async with wired(kind, [None, Fault("late", seconds=0.15)]) as link:
        await link.exchange(ask(1), 1.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await link.exchange(ask(1), 0.3)
        assert await link.exchange(ask(1, 8), 1.0) == answer(8)
