"""A gateway of 500 meters without the API, as a process of its own: its memory, and how soon the first reading is safe.

It is `metergate gateway` as users run it, with the embedded store; the meters are static servers in another process.
"""

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.row import Row
from metering import timing
from metering.model import SECOND
from simulators.static_server import StaticServer
from storage.codec import unpack
from storage.log import Log, LogLimits, Record

METERS = 500
ENDPOINTS = 10
UNITS = METERS // ENDPOINTS
PROFILE = "eastron_sdm630"
PERIOD_S = 10  # of the momentary values: all meters are read several times while we wait
RUN_S = 25.0
STARTS = 3  # further ones, for the time of a start alone
START_S = 6.0
STOP_S = 15.0

MEMORY_BAR_MB = 96.0
START_BAR_S = 3.0
MB = 1e6

# 25 float32 values: 21 momentary ones and 4 running totals.
NAMES = (
    *(f"{what}_l{phase}" for what in ("voltage", "current", "active_power") for phase in (1, 2, 3)),
    *(f"{what}_l{phase}" for what in ("apparent_power", "reactive_power", "power_factor") for phase in (1, 2, 3)),
    *("current", "active_power", "frequency"),
    *("active_energy_import", "active_energy_export", "reactive_energy_import", "reactive_energy_export"),
)


def run() -> list[Row]:
    """Start the gateway, let it read for a while, and look at it."""
    directory = Path(tempfile.mkdtemp(prefix=".bench-gateway-", dir=Path.cwd()))
    try:
        with StaticServer(ENDPOINTS, range(1, UNITS + 1), struct.pack(">f", 0.5) * 300) as server:
            lives = [_live(directory / str(n), server.ports, START_S) for n in range(STARTS)]
            return _rows(_live(directory / "long", server.ports, RUN_S), lives)
    finally:
        shutil.rmtree(directory)


class _Life(NamedTuple):
    """One run of the gateway: seconds to the first reading, readings, and the sizes in /proc in bytes."""

    start_s: float
    readings: int
    memory: dict[str, int]


def _live(directory: Path, ports: Sequence[int], seconds: float) -> _Life:
    directory.mkdir()
    data, file = directory / "data", directory / "site.toml"
    file.write_text(_site(data, ports), encoding="utf-8")
    started = timing.now()
    child = subprocess.Popen([sys.executable, "-m", "metergate", "gateway", str(file)], stderr=subprocess.DEVNULL)
    try:
        time.sleep(seconds)
        memory = _memory(child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(STOP_S)
    first, readings = _first_reading(data)
    return _Life((first - started) / SECOND if first else seconds, readings, memory)


def _rows(long: _Life, starts: Sequence[_Life]) -> list[Row]:
    # Other work on the machine only ever delays a start.
    start_s = min(life.start_s for life in (long, *starts))
    memory, readings = long.memory, long.readings
    resident, peak = memory["VmRSS"] / MB, memory["VmHWM"] / MB
    expected = METERS * 21 * (RUN_S / PERIOD_S - 1)
    complete = readings >= expected
    note = f"{METERS} meters, {readings} readings in the log{'' if complete else ': TOO FEW'}; peak {peak:.0f} MB"
    return [
        Row(
            "gateway-memory",
            resident,
            "MB resident",
            "budget",
            MEMORY_BAR_MB,
            resident / MEMORY_BAR_MB,
            "ratio <= 1",
            resident <= MEMORY_BAR_MB and complete,
            note,
        ),
        Row(
            "gateway-start",
            start_s,
            "s from start to first reading in the log",
            "budget",
            START_BAR_S,
            start_s / START_BAR_S,
            "ratio <= 1",
            start_s <= START_BAR_S and complete,
            f"least of {STARTS + 1} starts; durable, by the record's own time; load average {os.getloadavg()[0]:.1f}",
        ),
    ]


def _site(data: Path, ports: Sequence[int]) -> str:
    parts = [
        f'[gateway]\nid = "bench"\ndata = "{data}"\n[schedule]\nregisters = "15min"\ninstantaneous = "{PERIOD_S}s"\n'
    ]
    parts += [
        f'[[bus]]\nid = "b{n}"\nkind = "tcp"\nhost = "127.0.0.1"\nport = {port}\n' for n, port in enumerate(ports)
    ]
    names = ", ".join(f'"{name}"' for name in NAMES)
    parts += [
        f'[[meter]]\nid = "m{n}"\nbus = "b{n % ENDPOINTS}"\nunit = {n // ENDPOINTS + 1}\nprofile = "{PROFILE}"\n'
        f'point = "p{n}"\nregion = "bench"\nonly = [{names}]\n'
        for n in range(METERS)
    ]
    return "\n".join(parts)


def _memory(pid: int) -> dict[str, int]:
    """Return the sizes in /proc/PID/status, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return {name: int(kib) * 1024 for name, kib in re.findall(r"(\w+):\s+(\d+) kB", status)}


def _first_reading(data: Path) -> tuple[int, int]:
    """Return when the first record with readings was durable, and how many readings the log holds."""
    log = Log.open(data / "log", LogLimits(min_free_bytes=0))
    first = readings = 0
    try:
        at = log.first_seq
        while at < log.next_seq:
            for item in log.read(at, 200, 1 << 24):
                at = item.seq + 1 if isinstance(item, Record) else item.to_seq + 1
                count = unpack(item.payload).count() if isinstance(item, Record) else 0
                if count and isinstance(item, Record):
                    first = first or item.appended_at
                    readings += count
    finally:
        log.close()
    return first, readings
