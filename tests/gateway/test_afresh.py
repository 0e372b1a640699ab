"""Registers that a meter refused for a while are read again once it was silent, and each day."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.settings import GatewayFile
from metering.model import SECOND, Block, Kind
from simulators.faults import Fault
from simulators.modbus_tcp import ModbusTcpServer
from simulators.unit import FixedRegisters, Unit, UnreadableError
from storage.codec import unpack
from storage.log import Log, LogLimits, Record
from storage.quarantine import Quarantine

DEMAND = "1-0:1.4.0*255"  # registers 84 and 85 of this model


class Registers(FixedRegisters):
    """Registers of which some cannot be read."""

    missing: frozenset[int] = frozenset()

    def read(self, function: int, address: int, count: int, now: int, fault: Fault | None) -> bytes:
        if self.missing.intersection(range(address, address + count)):
            raise UnreadableError
        return super().read(function, address, count, now, fault)


@pytest.fixture
def registers() -> Registers:
    return Registers({3: bytes(1000), 4: bytes(1000)})


@pytest.fixture
async def gateway(registers: Registers, tmp_path: Path) -> AsyncIterator[Gateway]:
    server = ModbusTcpServer({1: Unit(1, registers)})
    host, port = await server.start()
    meter = {"id": "m", "profile": "eastron_sdm630", "point": "p", "region": "r", "bus": "b", "unit": 1}
    file = GatewayFile.model_validate(
        {
            "gateway": {"id": "g", "data": str(tmp_path)},
            "bus": [{"id": "b", "kind": "tcp", "host": host, "port": port}],
            "meter": [meter],
        }
    )
    log = Log.open(tmp_path / "log", LogLimits(min_free_bytes=0))
    gateway = Gateway(file, log, Quarantine(tmp_path / "quarantine"))
    yield gateway
    await gateway._end_tasks()
    await gateway._buses["b"].close()
    log.close()
    await server.close()


def shown(blocks: list[Block]) -> set[str]:
    return {column.obis for block in blocks for column in block.layout.columns}


@pytest.mark.parametrize(
    "occasion",
    [lambda g: g._circuit("m", opened=False, reason="it answers again"), lambda g: g._field._ask_afresh(0)],
    ids=["back after silence", "once a day"],
)
async def test_what_was_refused_for_a_while_is_asked_for_again(
    gateway: Gateway, registers: Registers, occasion: Callable[[Gateway], None]
):
    registers.missing = frozenset({84, 85})
    assert DEMAND not in shown(await gateway.read_now("m"))
    registers.missing = frozenset()
    assert DEMAND not in shown(await gateway.read_now("m"))
    occasion(gateway)
    assert DEMAND in shown(await gateway.read_now("m"))
    assert not gateway._field.meters["m"].afresh


async def test_a_meter_that_still_lacks_them_is_found_out_once_more(gateway: Gateway, registers: Registers):
    registers.missing = frozenset({84, 85})
    before = shown(await gateway.read_now("m"))
    gateway._field._ask_afresh(0)
    assert shown(await gateway.read_now("m")) == before
    assert gateway._field.meters["m"].everything.holes


async def test_open_promises_are_told_again_each_day_as_an_eviction_may_have_taken_them(gateway: Gateway):
    await gateway._promises.tell()
    await gateway._promises.tell()
    gateway._field._ask_afresh(0)
    await gateway._recorder.commit()
    told = [unpack(item.payload).expectations for item in gateway._log.read(1, 100) if isinstance(item, Record)]
    first, again = [each for each in told if each]
    assert again == first


async def test_a_boundary_that_passes_while_the_promises_are_written_is_read(gateway: Gateway):
    wall = [1_800_000_000 * SECOND + 899 * SECOND]
    gateway.clock._wall, gateway.clock._monotonic = lambda: wall[0], lambda: wall[0] / SECOND
    append = gateway._log.append

    async def slow_append(payload: bytes) -> int:
        wall[0] += 2 * SECOND  # a slow disk: the quarter of an hour begins meanwhile
        return await append(payload)

    gateway._log.append = slow_append  # type: ignore[method-assign] - a disk cannot be slowed down at will
    stop = asyncio.Event()
    running = asyncio.create_task(gateway.run(stop))
    try:
        async with asyncio.timeout(30):
            while not (read := [block for block in committed(gateway) if block.slot]):
                await gateway._log.wait_for(gateway._log.next_seq)
    finally:
        stop.set()
        await running
    (promise,) = [each for each in gateway._field.promised.open if each.kind is Kind.REGISTER]
    assert promise.since < 1_800_000_900 * SECOND
    assert {block.slot for block in read} == {1_800_000_900 * SECOND}


def committed(gateway: Gateway) -> list[Block]:
    items = gateway._log.read(1, 1000)
    return [block for item in items if isinstance(item, Record) for block in unpack(item.payload).blocks]
