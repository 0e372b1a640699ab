"""CPU for each reading with 100, 1,000 and 20,000 meters: the same readings a second of ever more meters.

The true gateway runs in this process, wire to committed log, against static meters in another. The rate is the same at
each size, so what differs is what the number of meters costs: schedule, buses, watches, the garbage collector.
"""

import asyncio
import shutil
import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog
import uvloop

from bench.gateway_memory import NAMES, PROFILE
from bench.row import Row
from gateway.app import Gateway
from gateway.settings import GatewayFile
from simulators.static_server import StaticServer
from storage.log import Log, LogLimits
from storage.quarantine import Quarantine

ENDPOINTS = 100
READS_PER_S = 100  # of meters, at each size: as many as the fewest meters give at one second
SIZES = (100, 1_000, 20_000)
WARM_UP_S = 9.0  # the promises of 20,000 meters are one long first commit, which reads wait behind
MEASURED_S = 8.0
EVEN = 0.1  # the share by which the readings counted may differ from those due in that time
BAR = 1.20


class _Cost(NamedTuple):
    """Microseconds of CPU for a reading, and how many readings were measured."""

    us: float
    readings: int


def run() -> list[Row]:
    """Measure each size; the ratio is to the fewest meters."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    units = max(SIZES) // ENDPOINTS
    with StaticServer(ENDPOINTS, range(1, units + 1), struct.pack(">f", 0.5) * 300) as server:
        costs = {size: _at(size, server.ports) for size in SIZES}
    least = costs[SIZES[0]]
    return [_row(size, cost, least) for size, cost in costs.items() if size != SIZES[0]]


def _row(size: int, cost: _Cost, least: _Cost) -> Row:
    ratio = cost.us / least.us
    even = abs(cost.readings / least.readings - 1) <= EVEN
    return Row(
        f"growth {size:,} meters",
        cost.us,
        "us of CPU a reading",
        f"{SIZES[0]} meters",
        least.us,
        ratio,
        f"ratio <= {BAR}",
        ratio <= BAR and even,
        f"{cost.readings} and {least.readings} readings at {READS_PER_S} reads/s; commits and idle time included",
    )


def _at(size: int, ports: Sequence[int]) -> _Cost:
    directory = Path(tempfile.mkdtemp(prefix=".bench-growth-", dir=Path.cwd()))
    log = Log.open(directory / "log", LogLimits(min_free_bytes=0))
    try:
        return uvloop.run(_measure(Gateway(_file(size, directory, ports), log, Quarantine(directory / "quarantine"))))
    finally:
        log.close()
        shutil.rmtree(directory)


def _file(size: int, directory: Path, ports: Sequence[int]) -> GatewayFile:
    meters = [
        {
            "id": f"m{n}",
            "profile": PROFILE,
            "point": f"p{n}",
            "region": "bench",
            "bus": f"b{n % ENDPOINTS}",
            "unit": n // ENDPOINTS + 1,
            "only": list(NAMES),
        }
        for n in range(size)
    ]
    return GatewayFile.model_validate(
        {
            "gateway": {"id": "bench", "data": str(directory)},
            "schedule": {"registers": "off", "instantaneous": f"{size // READS_PER_S}s"},
            "bus": [{"id": f"b{n}", "kind": "tcp", "host": "127.0.0.1", "port": p} for n, p in enumerate(ports)],
            "meter": meters,
        }
    )


async def _measure(gateway: Gateway) -> _Cost:
    stop = asyncio.Event()
    running = asyncio.create_task(gateway.run(stop))
    await asyncio.sleep(WARM_UP_S)
    readings, cpu = gateway.status().recorder.readings, time.process_time()
    await asyncio.sleep(MEASURED_S)
    cpu = time.process_time() - cpu
    readings = gateway.status().recorder.readings - readings
    stop.set()
    await running
    return _Cost(cpu / readings * 1e6, readings)
