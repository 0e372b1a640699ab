"""A serial line read as fast as the bus goes, beside the least time that the standard leaves for the same requests.

Four meters at 9600 baud 8E1 on a pseudo-terminal that keeps the time of every character, in a process of its own. It
is strict: a request that does not keep the silent interval, or that meets an answer, spoils the measurement.
"""

import asyncio
import math
import multiprocessing
import random
import struct
import sys
import time
from functools import partial
from multiprocessing.connection import Connection

import uvloop

from bench.row import Row
from collector.bus import Bus, Lane, cycle_time
from collector.drivers.modbus import ModbusReader, ModbusTalk
from collector.exchange import Transact
from collector.links import RtuLink
from collector.plan import rtu_max_gap
from collector.profile import load_profile
from collector.protocols.modbus_times import parse_format
from metering.model import Block, Source
from simulators.modbus_rtu import LineCounters, RtuLine
from simulators.unit import FixedRegisters, Unit

BAR = 0.95
UNITS = (1, 2, 3, 4)
BAUD = 9600
FORMAT = "8E1"
TURNAROUND_S = 0.02  # a quick meter: the quicker the meter, the more our own time counts
SECONDS = 20.0
REGISTERS = 400
START_S = 20.0


def run() -> list[Row]:
    """Measure for about 20 seconds."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_line, args=(theirs,), daemon=True)
    child.start()
    try:
        if not ours.poll(START_S):
            raise OSError("the simulated line did not start")
        measured, limit, readings = uvloop.run(_measure(ours.recv()))
        ours.send("stop")
        counters: LineCounters = ours.recv()
    finally:
        child.join(0.0 if sys.exc_info()[0] else START_S)
        child.terminate()
        child.join()
    ratio = limit / measured
    wrong = counters.early + counters.collisions + counters.bad_frames
    return [
        Row(
            name="rtu-bus",
            ours=measured,
            unit="s a cycle",
            against="frames, silent intervals and turnarounds",
            other=limit,
            ratio=ratio,
            bar=f"ratio >= {BAR}, no silent interval cut short, no collision",
            holds=ratio >= BAR and not wrong,
            note=f"{len(UNITS)} meters, {readings / measured:.0f} readings/s, turnaround {TURNAROUND_S * 1000:.0f} ms; "
            f"{counters.requests} requests, early {counters.early}, collisions {counters.collisions}",
        )
    ]


def _line(parent: Connection) -> None:
    """Be the line until the parent says stop (or is gone), then tell what was heard."""
    chance = random.Random(1)
    image = b"".join(struct.pack(">f", chance.uniform(0, 1)) for _ in range(REGISTERS // 2))
    registers = FixedRegisters({3: image, 4: image})
    line = RtuLine({unit: Unit(unit, registers, turnaround_s=TURNAROUND_S) for unit in UNITS}, baud=BAUD)
    try:
        parent.send(str(line.start()))
        parent.recv()
        parent.send(line.counters)
    except EOFError:
        pass
    finally:
        line.close()


async def _read(reader: ModbusReader, blocks: list[Block], transact: Transact) -> None:
    await reader.read(ModbusTalk(transact), slot=None, source=Source.POLL, into=blocks)


async def _measure(port: str) -> tuple[float, float, int]:
    """Return the measured and the least seconds of a cycle, and its readings."""
    profile = load_profile("eastron_sdm630").model_copy(update={"turnaround": TURNAROUND_S})
    gap = rtu_max_gap(BAUD, parse_format(FORMAT).bits, TURNAROUND_S)
    readers = {unit: ModbusReader(profile, str(unit), unit, max_gap=gap) for unit in UNITS}
    bus = Bus(RtuLink(port, BAUD, FORMAT, opened="8N1"))
    limit = cycle_time(bus.link.parameters, [e for reader in readers.values() for e in reader.exchanges()])
    cycles = math.ceil(SECONDS / limit)

    async def poll(unit: int, times: int) -> int:
        reader, count = readers[unit], 0
        for _ in range(times):
            blocks: list[Block] = []
            await bus.submit(Lane.SCHEDULE, str(unit), partial(_read, reader, blocks))
            count += sum(len(block.values) for block in blocks)
        return count

    try:
        await asyncio.gather(*(poll(unit, 1) for unit in UNITS))
        begun = time.monotonic()
        counts = await asyncio.gather(*(poll(unit, cycles) for unit in UNITS))
        return (time.monotonic() - begun) / cycles, limit, sum(counts) // cycles
    finally:
        await bus.close()
