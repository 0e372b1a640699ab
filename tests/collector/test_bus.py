import asyncio
from collections.abc import Awaitable, Callable

import pytest

from collector.bus import Bus, BusLimits, BusyError, LateError, cycle_time
from collector.exchange import Exchange, Transact
from collector.lanes import DEPTHS, Lane
from collector.links import RtuLink, TcpLink
from collector.links.link import LinkParameters
from collector.protocols.modbus import read_reply, read_request, reply_length
from metering.errors import CircuitOpenError, FrameError, LinkDownError, NoAnswerError, RefusedError
from simulators.faults import Fault, Faults
from simulators.modbus_rtu import RtuLine
from simulators.modbus_tcp import ModbusTcpServer
from simulators.unit import FixedRegisters, Unit

IMAGE = bytes(250)


def ask(unit: int, count: int = 4, turnaround_s: float = 0.01) -> Exchange:
    pdu = read_request(3, 0, count)
    return Exchange(unit, pdu, reply_length(pdu), turnaround_s)


def read(unit: int, times: int = 1):
    async def work(transact: Transact) -> list[bytes]:
        return [(await transact(ask(unit))).pdu for _ in range(times)]

    return work


def unit(address: int, faults: Faults | None = None, turnaround_s: float = 0.0) -> Unit:
    return Unit(address, FixedRegisters({3: IMAGE}), faults=faults, turnaround_s=turnaround_s)


@pytest.fixture
async def endpoint():
    server = ModbusTcpServer({1: unit(1), 2: unit(2)})
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def bus(endpoint: ModbusTcpServer):
    bus = Bus(TcpLink(endpoint.host, endpoint.port))
    yield bus
    await bus.close()


GOOD = read_reply(3, IMAGE[:8])


async def test_a_job_gives_back_what_it_read_and_the_time_is_accounted(bus: Bus):
    assert await bus.submit(Lane.SCHEDULE, "a", read(1, 3)) == [GOOD] * 3
    status = bus.status()
    assert status.meters["a"].ok == 3
    assert 0 < status.meters["a"].busy_s <= status.busy_s


async def test_a_job_gives_way_between_its_exchanges_to_more_urgent_ones_only(bus: Bus):
    order = []

    def work(name: str, address: int, times: int) -> Callable[[Transact], Awaitable[None]]:
        async def run(transact: Transact) -> None:
            for _ in range(times):
                await transact(ask(address))
                order.append(name)

        return run

    async with asyncio.TaskGroup() as group:
        group.create_task(bus.submit(Lane.SCHEDULE, "a", work("long", 1, 3)))
        await asyncio.sleep(0)
        group.create_task(bus.submit(Lane.SCHEDULE, "b", work("equal", 2, 1)))
        group.create_task(bus.submit(Lane.COMMAND, "b", work("command", 2, 1)))
    assert order == ["long", "command", "long", "long", "equal"]


async def test_a_full_lane_and_a_passed_deadline_are_told(endpoint: ModbusTcpServer):
    bus = Bus(TcpLink(endpoint.host, endpoint.port), BusLimits(depths={**DEPTHS, Lane.SCHEDULE: 1}))
    endpoint.units[1].turnaround_s = 1.0
    now = asyncio.get_running_loop().time()
    first = asyncio.create_task(bus.submit(Lane.SCHEDULE, "a", read(1)))
    await asyncio.sleep(0)
    late = asyncio.create_task(bus.submit(Lane.SCHEDULE, "b", read(2), deadline=now + 0.5))
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await bus.submit(Lane.SCHEDULE, "c", read(2))
    with pytest.raises(LateError):
        await late
    assert await first == [GOOD]
    assert bus.status().meters["b"].late == 1
    await bus.close()


async def test_a_failed_exchange_is_repeated_once_and_a_refusal_never(endpoint: ModbusTcpServer, bus: Bus):
    endpoint.units[1].faults.replace(script=[Fault("wrong_unit")])
    assert await bus.submit(Lane.SCHEDULE, "a", read(1)) == [GOOD]
    assert (bus.status().meters["a"].retries, bus.status().meters["a"].frame_errors) == (1, 1)
    endpoint.units[1].faults.replace(script=[Fault("exception", code=2)])
    with pytest.raises(RefusedError):
        await bus.submit(Lane.SCHEDULE, "a", read(1))
    assert bus.status().meters["a"].retries == 1


async def test_a_meter_its_gateway_cannot_reach_counts_as_silent(endpoint: ModbusTcpServer, bus: Bus):
    endpoint.units[1].faults.replace([Fault("exception", code=11)])
    with pytest.raises(NoAnswerError):
        await bus.submit(Lane.SCHEDULE, "a", read(1))
    assert bus.status().meters["a"].no_answer == 2


async def test_a_dead_meters_circuit_opens_and_an_answer_closes_it_at_once(endpoint: ModbusTcpServer):
    told = []
    bus = Bus(TcpLink(endpoint.host, endpoint.port), on_circuit=lambda *what: told.append(what[:2]))
    endpoint.units[1].faults.replace([Fault("wrong_unit")])
    for error in (FrameError, FrameError, CircuitOpenError):
        with pytest.raises(error):
            await bus.submit(Lane.SCHEDULE, "a", read(1))
    assert await bus.submit(Lane.SCHEDULE, "b", read(2)) == [GOOD]
    endpoint.units[1].faults.replace()
    assert await bus.submit(Lane.COMMAND, "a", read(1)) == [GOOD]
    assert await bus.submit(Lane.SCHEDULE, "a", read(1)) == [GOOD]
    assert told == [("a", True), ("a", False)]
    await bus.close()


async def test_a_link_that_is_down_opens_no_meters_circuit():
    bus = Bus(TcpLink("127.0.0.1", 1))
    for _ in range(5):
        with pytest.raises(LinkDownError):
            await bus.submit(Lane.SCHEDULE, "a", read(1))
    assert bus.status().meters["a"].circuit == "closed"
    await bus.close()


async def test_a_caller_that_gives_up_leaves_the_bus_to_the_others(endpoint: ModbusTcpServer, bus: Bus):
    endpoint.units[1].turnaround_s = 0.1
    holds = asyncio.create_task(bus.submit(Lane.SCHEDULE, "a", read(1)))
    await asyncio.sleep(0.02)
    waits = asyncio.create_task(bus.submit(Lane.SCHEDULE, "a", read(1)))
    goes_on = asyncio.create_task(bus.submit(Lane.SCHEDULE, "b", read(2)))
    await asyncio.sleep(0.02)
    waits.cancel()
    holds.cancel()
    assert await goes_on == [GOOD]
    assert not any(bus.status().waiting.values())


async def test_closing_ends_every_job_that_waits(endpoint: ModbusTcpServer, bus: Bus):
    endpoint.units[1].turnaround_s = 1.0
    jobs = [asyncio.create_task(bus.submit(Lane.SCHEDULE, name, read(1))) for name in "abc"]
    await asyncio.sleep(0.02)
    await bus.close()
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(outcome, LinkDownError) for outcome in outcomes)


async def test_on_a_real_line_a_slow_meters_answer_never_meets_a_neighbours_request():
    """What hours of it cost is in `test_bus_in_time`; here the line counts what it hears."""
    line = RtuLine({1: unit(1, Faults([Fault("late", seconds=0.6)])), 2: unit(2)})
    bus = Bus(RtuLink(str(line.start()), 9600, "8E1", opened="8N1"))
    try:
        for _ in range(2):
            slow = asyncio.create_task(bus.submit(Lane.SCHEDULE, "slow", read(1)))
            await asyncio.sleep(0)
            assert await bus.submit(Lane.SCHEDULE, "neighbour", read(2)) == [GOOD]
            with pytest.raises((NoAnswerError, CircuitOpenError)):
                await slow
    finally:
        await bus.close()
        line.close()
    neighbour = bus.status().meters["neighbour"]
    assert (neighbour.ok, neighbour.no_answer, neighbour.frame_errors, neighbour.retries) == (2, 0, 0, 0)
    assert bus.status().meters["slow"].no_answer == 3
    assert (line.counters.collisions, line.counters.early, line.counters.bad_frames) == (0, 0, 0)


def test_the_predicted_cycle_is_the_sum_of_frames_silences_and_turnarounds():
    exchanges = [ask(1, 50, 0.02), ask(2, 50, 0.0)]
    character = 11 / 9600
    frames = (8 + 105) * character
    predicted = cycle_time(LinkParameters(9600, "8E1"), exchanges)
    assert predicted == pytest.approx(2 * frames + 0.02 + 3 * 3.5 * character)
    assert cycle_time(LinkParameters(latency_s=0.002), exchanges) == pytest.approx(0.024)
