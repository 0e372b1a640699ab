"""The processes of a simulated fleet: its head-end and its workers, started, asked and ended. It counts nothing."""

import asyncio
import contextlib
import http.client
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from headend.state.registrar import Registrar
from metergate.fleet.plan import Fleet, headend_file, registry_of
from metergate.fleet.report import Report, total
from metergate.fleet.worker import Work
from metergate.headend_file import load_headend, open_state
from metering import timing
from metering.errors import StorageError
from simulators.broker import free_port

HEADEND_START_S = 120.0  # until the head-end is ready: it reads the whole registry
ASK_S = 10.0  # for one answer of its API
LOOK_S = 0.2
GOODBYE_S = 60.0  # until a process has ended that was asked to; then it is killed
MAX_LINE = 16 << 20  # of a report: the last one names every gateway of a worker


class Headend:
    """`metergate headend` as a process of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "headend"
        self._file = folder / "headend.toml"
        self._said = folder / "headend.err"
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Return its process; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    async def start(self, fleet: Fleet, broker: int) -> None:
        """Start it and return when it is ready. Raises `StorageError` with its own last words."""
        self._file.write_text(headend_file(fleet, self.data, f"127.0.0.1:{self._port}"), encoding="utf-8")
        await asyncio.to_thread(self._fill_registry, fleet)
        with self._said.open("wb") as said:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "metergate.fleet.tied", str(broker), "headend", str(self._file)),
                stdin=asyncio.subprocess.PIPE,
                stdout=said,
                stderr=said,
                start_new_session=True,  # Ctrl-C is for us, who end it in order
            )
        async with asyncio.timeout(HEADEND_START_S):
            while (await self._get("/readyz"))[0] != http.HTTPStatus.OK:
                if self._process.returncode is not None:
                    raise StorageError(f"the head-end did not start: {self.last_words()}", retry=False)
                await asyncio.sleep(LOOK_S)

    def _fill_registry(self, fleet: Fleet) -> None:
        with contextlib.closing(open_state(load_headend(self._file))) as state:
            Registrar(state).take_in(registry_of(fleet), timing.now())

    async def measures(self) -> dict[str, float]:
        """Return its numbers without their labels' parts; empty where it does not answer in time."""
        status, text = await self._get("/metrics")
        if status != http.HTTPStatus.OK:
            return {}
        return {name: float(value) for name, value in re.findall(r"^metergate_(\w+) (\S+)$", text, re.MULTILINE)}

    def ended_badly(self) -> bool:
        """Tell whether it did not end by itself and in order; to be asked when it has ended."""
        return self._process is None or self._process.returncode != 0

    def last_words(self) -> str:
        """Return the last line that it said."""
        lines = self._said.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    async def end(self) -> None:
        """Ask it to end, and kill it when it does not."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await _await_end(self._process)

    async def _get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(_get, self._port, path)


class Worker:
    """A worker process; `report` is what it told last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.report = Report()

    async def listen(self) -> None:
        """Take its reports until its last one. Raises `StorageError` where it ends without."""
        assert self.process.stdout is not None  # noqa: S101 - asked for at the start
        while line := await self.process.stdout.readline():
            self.report = msgspec.json.decode(line, type=Report)
            if self.report.final:
                return
        raise StorageError("a worker of the fleet ended early; its last words are above", retry=False)

    def order(self, word: bytes) -> None:
        """Give it an order, as `worker` says."""
        assert self.process.stdin is not None  # noqa: S101 - asked for at the start
        self.process.stdin.write(word + b"\n")


class Workers:
    """All worker processes of a fleet."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers
        self.pids = [each.process.pid for each in workers]

    def total(self) -> Report:
        """Return the sum of what they told last."""
        return total(each.report for each in self._workers)

    async def listen(self) -> None:
        """Take all reports until all are final. Raises `StorageError` where a worker ends without its last one."""
        await asyncio.gather(*(each.listen() for each in self._workers))

    def ended_badly(self) -> int:
        """Return how many did not end by themselves and in order; to be asked when all have ended."""
        return sum(each.process.returncode != 0 for each in self._workers)

    def order(self, word: bytes) -> None:
        """Give all an order: `count` or `stop`, as `worker` says."""
        for each in self._workers:
            each.order(word)


@asynccontextmanager
async def running_headend(folder: Path, fleet: Fleet, broker: int) -> AsyncIterator[Headend]:
    """Run a head-end for this fleet. It ends with this process, and ends the process `broker` then."""
    headend = Headend(folder)
    try:
        await headend.start(fleet, broker)
        yield headend
    finally:
        await headend.end()


@asynccontextmanager
async def running_workers(fleet: Fleet) -> AsyncIterator[Workers]:
    """Run the fleet's gateways. Workers end with this process, however it ends: their input closes."""
    workers: list[Worker] = []
    try:
        for numbers in fleet.workers():
            work = msgspec.json.encode(Work(fleet, numbers.start, numbers.stop)).decode()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "metergate.fleet.worker", work),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE,
                start_new_session=True,  # Ctrl-C is for us, who end them in order
            )
            workers.append(Worker(process))
        yield Workers(workers)
    finally:
        for each in workers:
            if each.process.stdin is not None:
                each.process.stdin.close()
        await asyncio.gather(*(_await_end(each.process) for each in workers))


async def _await_end(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), GOODBYE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
