"""`metergate simulate fleet`: many true gateways against a true broker and head-end on this machine, and an account."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from metergate.fleet.accounts import Account, account, read_log
from metergate.fleet.children import Headend, Workers, running_headend, running_workers
from metergate.fleet.machine import allow_open_files, cost, size_of
from metergate.fleet.plan import Fleet
from metergate.fleet.report import Report
from metergate.fleet.summary import Moment, Outcome, kept, lines, progress
from metergate.fleet.worker import DELIVERY_S
from metergate.logging import configure_logging
from metergate.parts import log_directory
from metergate.signals import stop_on_signals
from metering.errors import StorageError
from simulators.broker import Broker, find_broker, running

PROGRESS_S = 5.0
LOOK_S = 0.5
MORE_FILES = 500  # that the broker needs beside its connections
UP_S = 1.0  # a fleet comes up within START_S and this for each gateway
START_S = 60.0
STORE_S = 300.0  # for the store to catch up with the head-end's log after the last read


def run_fleet(gateways: int, meters: int, seconds: float, interval: int) -> int:
    """Run a fleet, print how it fared, and return the exit code: 1 when something was lost or stands twice."""
    fleet = Fleet(gateways, meters, interval, "")
    fleet.check()
    allow_open_files(gateways + MORE_FILES, f"the connections of {gateways} gateways at the broker")
    configure_logging(quiet=True)
    with tempfile.TemporaryDirectory(prefix="metergate-fleet-") as folder:
        outcome = uvloop.run(_run(msgspec.structs.replace(fleet, folder=folder), seconds))
    for line in lines(outcome):
        print(line, flush=True)
    return 0 if kept(outcome) else 1


class _Run:
    """One run under way: what its processes tell and cost."""

    def __init__(self, workers: Workers, headend: Headend, broker: Broker) -> None:
        self._workers = workers
        self._headend = headend
        self._broker = broker
        self._started = time.monotonic()
        self.highest_lag = 0
        self.lag: int | None = None

    def moment(self) -> Moment:
        """Return the fleet as it is now."""
        costs = cost(self._workers.pids), cost([self._broker.pid]), cost([self._headend.pid])
        return Moment(time.monotonic(), self.total().taken, costs)

    def total(self) -> Report:
        """Return what all workers told last."""
        return self._workers.total()

    async def look(self) -> None:
        """Ask the head-end how far its store is."""
        found = (await self._headend.measures()).get("store_lag")
        self.lag = None if found is None else int(found)
        self.highest_lag = max(self.highest_lag, self.lag or 0)

    async def watch(self) -> None:
        """Print a line now and then."""
        while True:
            await asyncio.sleep(PROGRESS_S)
            await self.look()
            print(progress(time.monotonic() - self._started, self.total(), self.lag), flush=True)


async def _run(fleet: Fleet, seconds: float) -> Outcome:
    stop = asyncio.Event()
    stop_on_signals(stop)
    broker = find_broker()
    async with running(broker):
        fleet = msgspec.structs.replace(fleet, host=broker.host, port=broker.port)
        folder = Path(fleet.folder)
        async with running_headend(folder, fleet, broker.pid) as headend:
            outcome = await _drive(fleet, broker, headend, seconds, stop)
    if headend.ended_badly():
        outcome = outcome._replace(problems=(*outcome.problems, f"the head-end ended badly: {headend.last_words()}"))
    if outcome.final.behind:
        return outcome  # what the gateways' logs still have is not lost
    return outcome._replace(account=await asyncio.to_thread(_account, outcome.final, folder, headend.data))


async def _drive(fleet: Fleet, broker: Broker, headend: Headend, seconds: float, stop: asyncio.Event) -> Outcome:
    async with running_workers(fleet) as workers:
        run = _Run(workers, headend, broker)
        told = asyncio.ensure_future(workers.listen())
        watch = asyncio.ensure_future(run.watch())
        try:
            await _all_up(run, fleet, told, stop)
            workers.order(b"count")
            begin = run.moment()
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({stopping, told}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            stopped = run.moment()
            await run.look()
            lag = run.lag or 0
            workers.order(b"stop")
            await told
            problems = await _stored(run)
            end = run.moment()
        finally:
            watch.cancel()
            told.cancel()
    if bad := workers.ended_badly():
        problems.append(f"{bad} worker processes did not end by themselves")
    load = os.getloadavg()[0]
    return Outcome(
        fleet, broker.name, begin, stopped, end, run.total(), None, lag, run.highest_lag, load, tuple(problems)
    )


async def _all_up(run: _Run, fleet: Fleet, told: asyncio.Future[None], stop: asyncio.Event) -> None:
    """Return when the head-end has answered every gateway. Raises `StorageError` when that takes too long."""
    until = time.monotonic() + START_S + UP_S * fleet.gateways
    while run.total().up < fleet.gateways and not stop.is_set():
        if told.done():
            await told
        if time.monotonic() > until:
            raise StorageError(f"only {run.total().up} of {fleet.gateways} gateways came up", retry=False)
        await asyncio.sleep(LOOK_S)


async def _stored(run: _Run) -> list[str]:
    """Wait until the store has all that the head-end's log has; return what kept anything from getting there."""
    problems = []
    if behind := run.total().behind:
        problems.append(f"{behind} records had no receipt {DELIVERY_S:.0f} s after the last read; the logs keep them")
    until = time.monotonic() + STORE_S
    await run.look()
    while run.lag != 0 and time.monotonic() < until:
        await asyncio.sleep(LOOK_S)
        await run.look()
    if run.lag != 0:
        problems.append(f"the store was {run.lag} records behind {STORE_S:.0f} s after the last read")
    return problems


def _account(final: Report, folder: Path, data: Path) -> Account:
    """Return the account of a fleet whose processes have ended."""
    store = data / "readings.db"
    made = account(final.edges, read_log(data), store)
    logs = sum(size_of(log_directory(folder / edge.gateway)) for edge in final.edges)
    return msgspec.structs.replace(made, disk=(logs, size_of(log_directory(data)), store.stat().st_size))
