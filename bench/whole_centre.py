"""A head-end as users run it, each part a process: Mosquitto, InfluxDB behind haproxy, `metergate headend`."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from bench.influxdb_server import InfluxServer
from bench.load import Load
from bench.load_gateways import Seen
from bench.processes import children, cpu_s
from headend.kpi.figures import DAY
from headend.state.collection import CollectionDays, Progress
from headend.state.registrar import Registrar, Wanted
from headend.state.store import State
from headend.tokens import TokenBook
from metering import timing
from metering.model import Device, Installation, MeterPoint
from simulators.broker import MosquittoBroker, free_port

READY_S = 30.0
STOP_S = 30.0
LOOK_S = 0.25
DATABASE = "meters"
FILE = "headend.toml"
SAID = "headend.err"
LINE_BYTES = 16 << 20
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: past any proxy
_MEASURE = re.compile(r"^metergate_(\w+) (\S+)$", re.MULTILINE)


class Centre:
    """The running processes. `cpu` is of each kind of them since the last `mark`."""

    def __init__(self, directory: Path, influx: InfluxServer, port: int, api: str, token: str, pid: int) -> None:
        self.directory = directory
        self.influx = influx
        self.broker_port = port
        self.api = api
        self.token = token
        self.pid = pid
        self._marked: dict[str, float] = {}

    def measures(self) -> dict[str, float]:
        """Return the head-end's own numbers, those without labels. Empty while it does not answer."""
        try:
            text = self.ask("/metrics").decode()
        except OSError:
            return {}
        return {name.removesuffix("_total"): float(value) for name, value in _MEASURE.findall(text)}

    def ask(self, path: str, form: str = "*/*") -> bytes:
        """Return what the API answers. Raises OSError."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": form}
        request = urllib.request.Request(f"http://{self.api}{path}", headers=headers)
        with _opener.open(request, timeout=READY_S) as answer:
            body: bytes = answer.read()
            return body

    async def stored(self, readings: int, within_s: float) -> None:
        """Return when the head-end has taken so many readings and its store has all of them.

        Raises:
            TimeoutError: not in this time.

        """
        async with asyncio.timeout(within_s):
            while True:
                found = await asyncio.to_thread(self.measures)
                if found.get("intake_readings", 0) >= readings and found.get("store_lag") == 0:
                    return
                await asyncio.sleep(LOOK_S)

    def mark(self) -> None:
        """Count CPU from here."""
        self._marked = self._used()

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds of gateways, broker, head-end and InfluxDB (with the proxy) since `mark`."""
        return {name: used - self._marked.get(name, 0.0) for name, used in self._used().items()}

    def _used(self) -> dict[str, float]:
        names = {"mosquitto": "broker", "influxd": "InfluxDB", "haproxy": "InfluxDB"}
        found: dict[str, float] = {}
        for pid, name in children(os.getpid()):
            kind = "head-end" if pid == self.pid else names.get(name, "gateways")
            with contextlib.suppress(OSError):
                found[kind] = found.get(kind, 0.0) + cpu_s(pid)
        return found

    def points(self) -> tuple[int, int]:
        """Return how many points and how many readings InfluxDB holds."""
        series = self.influx.query('SELECT count(*) FROM "readings"', DATABASE)
        counted = dict(zip(series[0]["columns"], series[0]["values"][0], strict=True)) if series else {}
        points = counted.get("count_received", 0)
        readings = sum(number for name, number in counted.items() if name.endswith(("_i", "_f")))
        return points, readings


@contextmanager
def temporary() -> Iterator[Path]:
    """Give a folder in the working directory: /tmp is often memory."""
    directory = Path(tempfile.mkdtemp(prefix=".bench-way-", dir=Path.cwd()))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@asynccontextmanager
async def centre(directory: Path, loads: Sequence[Load]) -> AsyncIterator[Centre]:
    """Run broker, InfluxDB and head-end for the gateways of some loads."""
    broker = MosquittoBroker()
    await broker.start()
    try:
        with InfluxServer(directory / "influxdb") as influx:
            influx.create_database(DATABASE)
            api = f"127.0.0.1:{free_port()}"
            token = _prepare(directory, influx, broker.port, api, loads)
            async with _headend(directory) as pid:
                made = Centre(directory, influx, broker.port, api, token, pid)
                await _until_ready(made)
                yield made
    finally:
        await broker.stop()


@asynccontextmanager
async def _headend(directory: Path) -> AsyncIterator[int]:
    with (directory / SAID).open("wb") as said:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "metergate", "headend", str(directory / FILE), stdout=said, stderr=said
        )
    try:
        yield child.pid
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
        await asyncio.wait_for(child.wait(), STOP_S)


async def _until_ready(made: Centre) -> None:
    try:
        async with asyncio.timeout(READY_S):
            while not await asyncio.to_thread(made.measures):  # noqa: ASYNC110 - another process comes up
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        said = (made.directory / SAID).read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the head-end did not start: {said[-1000:]}") from None


def _prepare(directory: Path, influx: InfluxServer, port: int, api: str, loads: Sequence[Load]) -> str:
    """Write what the head-end needs, and return a token for its API."""
    data = directory / "centre"
    data.mkdir()
    (directory / "token").write_text(influx.token, encoding="utf-8")
    (directory / FILE).write_text(
        f'[headend]\ndata = "{data}"\n[broker]\nhost = "127.0.0.1"\nport = {port}\n'
        f'[store]\nkind = "influxdb"\nurl = "{influx.url}"\ntoken = "file:{directory / "token"}"\n'
        f'bucket = "{DATABASE}/autogen"\n[api]\nlisten = "{api}"\n',
        encoding="utf-8",
    )
    state = State.open(data / "state.db")
    try:
        Registrar(state).take_in(_fleet(loads), timing.now())
        CollectionDays(state).record([], Progress(timing.now() // DAY))  # a head-end that has judged the past already
        return TokenBook(state).create("bench", ["readings:read", "admin"], [""])
    finally:
        state.close()


def _fleet(loads: Sequence[Load]) -> Wanted:
    devices = [
        Device(device, "", "eastron_sdm630", gateway)
        for load in loads
        for gateway in load.names()
        for device in load.devices(gateway)
    ]
    return Wanted(
        [gateway for load in loads for gateway in load.names()],
        [MeterPoint(f"p-{each.id}", "bench") for each in devices],
        devices,
        [Installation(f"p-{each.id}", each.id, "", 0) for each in devices],
    )


class Sender:
    """The gateways of one load in a process of their own."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    def go(self) -> None:
        """Let the uplinks begin."""
        assert self._child.stdin is not None
        self._child.stdin.write(b"go\n")

    async def seen(self) -> Seen:
        """Return what the gateways saw, when the head-end has a receipt for everything."""
        assert self._child.stdout is not None
        return msgspec.json.decode(await self._child.stdout.readline(), type=Seen)


@asynccontextmanager
async def sender(made: Centre, load: Load) -> AsyncIterator[Sender]:
    """Start the gateways of a load, with their logs filled and their uplinks not begun."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.load_gateways", str(made.directory / "gateways"), str(made.broker_port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(msgspec.json.encode(load) + b"\n")
        if await child.stdout.readline() != b"ready\n":
            raise RuntimeError("the gateways did not start")
        yield Sender(child)
    finally:
        child.stdin.close()
        await asyncio.wait_for(child.wait(), STOP_S)
