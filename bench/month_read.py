"""`month-read`: one meter's month, 2,976 readings, by the API on the embedded store. A real server, one connection."""

import http.client
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types
import uvicorn

from api.app import SERVER, create_app, settle
from bench.row import Row
from headend.registry import MemoryRegistry
from headend.service import Office
from headend.tokens import TokenBook
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Device, Expectation, Installation, Kind, Layout, MeterPoint, Source
from metering.timing import from_rfc3339
from storage.embedded import EmbeddedStore

METERS = 40
REQUESTS = 300
WARM_UP = 20
SLOTS = 2_976  # 31 days of quarter hours
BAR_MS = 15.0
START = from_rfc3339("2026-10-01T00:00:00Z")
PATH = "/v1/meter-points/p7/readings?from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:00Z&kind=register&limit=10000"
LAYOUT = Layout(Kind.REGISTER, Source.POLL, 900, (Column("1-0:1.8.0*255", "kWh", -2, "int"),))

_SERVER = """
import sys
from bench.month_read import serve
serve(sys.argv[1])
"""


def fill(folder: Path) -> None:
    """Write a month of many meters, day by day as it would come."""
    store = EmbeddedStore(folder / "readings.db")
    promises = [
        Expectation(f"m{meter}", LAYOUT.kind, LAYOUT.source, 900, ("1-0:1.8.0*255",), START) for meter in range(METERS)
    ]
    store.write([Batch(START, expectations=promises)])
    for first in range(0, SLOTS, 96):
        blocks = [
            Block(LAYOUT, f"m{meter}", at, at + 300_000 + at % 7919, (1_000_000 + index * 7 + meter,), slot)
            for index in range(first, first + 96)
            for slot in (START + index * 900 * SECOND,)
            for meter in range(METERS)
            for at in (slot + 2 * SECOND + (index * 104_729 + meter * 15_485_863) % SECOND,)  # no two alike
        ]
        store.write([Batch(START, blocks)])
    store.close()


def serve(folder: str) -> None:
    """Run the API in a process of its own; its port and a token go to standard output."""
    names = range(METERS)
    registry = MemoryRegistry(
        [MeterPoint(f"p{name}", "js/nj") for name in names],
        [Device(f"m{name}", str(name), "x") for name in names],
        [Installation(f"p{name}", f"m{name}", str(name), 0, None, {}, {}, "40", "1", "secondary") for name in names],
    )
    tokens = TokenBook(Path(folder) / "state.db")
    listening = socket.create_server(("127.0.0.1", 0))
    token = tokens.create("bench", ["readings:read"], [""])
    print(listening.getsockname()[1], token, flush=True)
    office = Office(registry, EmbeddedStore(Path(folder) / "readings.db"), None, tokens)
    app = create_app(office)
    settle()
    uvicorn.Server(uvicorn.Config(app, log_level="warning", **SERVER)).run([listening])


def ask(port: int, token: str) -> tuple[list[float], int]:
    """Return the sorted milliseconds of the requests, each to its last byte, and the size of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took = []
    size = 0
    for index in range(WARM_UP + REQUESTS):
        began = time.perf_counter()
        connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        if index >= WARM_UP:
            took.append((time.perf_counter() - began) * 1000)
        if answer.status != 200 or body.count(b'"obis"') != SLOTS:
            raise RuntimeError(f"not a month: {answer.status} {body[:200]!r}")
        size = len(body)
    connection.close()
    return sorted(took), size


def run() -> list[Row]:
    """Measure it."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        with subprocess.Popen([sys.executable, "-c", _SERVER, folder], stdout=subprocess.PIPE, text=True) as server:
            try:
                port, token = server.stdout.readline().split() if server.stdout is not None else ("0", "")
                before = sum(psutil.Process(server.pid).cpu_times()[:2])
                took, size = ask(int(port), token)
                spent = (sum(psutil.Process(server.pid).cpu_times()[:2]) - before) / (WARM_UP + REQUESTS) * 1000
            finally:
                server.terminate()
    half, most = took[len(took) // 2], took[len(took) * 99 // 100]
    note = (
        f"p50 {half:.1f} ms, server {spent:.1f} ms of CPU each; {REQUESTS} requests of {SLOTS:,} readings, "
        f"{size // 1024} KiB each; {METERS} meters"
    )
    ratio = most / BAR_MS
    return [Row("month-read", most, "ms p99", "the budget", BAR_MS, ratio, "p99 <= 15 ms", ratio <= 1, note)]


if __name__ == "__main__":
    for row in run():
        print(row)
