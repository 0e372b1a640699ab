"""A wire and its meters: exchanges, repeats, circuits and the account of the wire's time. Knows no protocol.

A wire has one owner at a time: the job whose turn it is (`collector.turns`). Jobs run in their callers' tasks, so a
caller that is cancelled takes nothing of the bus along.
"""

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from collector.bus_status import BusStatus, Load
from collector.circuit import Circuit, State, count_failing
from collector.exchange import Answer, Exchange, Transact
from collector.forecast import cycle_time
from collector.lanes import DEPTHS, Lane
from collector.links.link import CrosstalkError, Link
from collector.turns import BusyError, GaveWayError, Job, LateError, Meter, Turns, left_alone
from metering import timing
from metering.errors import FrameError, LinkDownError, MeterError, NoAnswerError, RefusedError
from metering.model import SECOND

__all__ = [
    "Answer",
    "Bus",
    "BusLimits",
    "BusStatus",
    "BusyError",
    "Exchange",
    "GaveWayError",
    "Lane",
    "LateError",
    "Transact",
    "cycle_time",
]

T = TypeVar("T")

RETRIES = 1
DISTURBANCES = 2  # how often a job repeats what another meter's late answer spoiled; these are no failures of its own
TARGET_SILENT = 11  # a TCP gateway's exception: the meter behind it did not answer (V1.1b3 section 7)


@dataclass(frozen=True)
class BusLimits:
    """How many jobs may wait in each lane, and how often a job may repeat a failed exchange."""

    depths: dict[Lane, int] = field(default_factory=lambda: dict(DEPTHS))
    retries: int = RETRIES


class Bus:
    """One serial line or endpoint. `more` are further connections to the same endpoint, where somebody asked for them.

    `on_circuit(meter, opened, reason)` is told when a meter's circuit opens and when it closes again. `clock` gives the
    UTC microseconds that answers are stamped with.
    """

    def __init__(
        self,
        link: Link,
        limits: BusLimits | None = None,
        *,
        more: Sequence[Link] = (),
        clock: Callable[[], int] = timing.now,
        on_circuit: Callable[[str, bool, str], None] | None = None,
    ) -> None:
        self.link = link
        self.limits = limits or BusLimits()
        self._links = (link, *more)
        self._turns = Turns(link.name, self._links, self.limits.depths)
        self._meters: dict[str, Meter] = {}
        self._load = Load(time.monotonic())
        self._clock = clock
        self._on_circuit = on_circuit

    # --- for the application ------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then close."""
        try:
            await stop.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Disconnect; jobs that wait end with `LinkDownError`, and so does every later one."""
        self._turns.close()
        await self._disconnect()

    async def _disconnect(self) -> None:
        for link in self._links:
            await link.close()

    async def submit(
        self,
        lane: Lane,
        meter: str,
        work: Callable[[Transact], Awaitable[T]],
        *,
        deadline: float | None = None,
        whole: bool = False,
        yields: bool = False,
    ) -> T:
        """Run `work` for one meter when its turn comes, and return what it returns.

        `work` is given the `Transact` to speak with; the wire is its own until it ends, more urgent lanes excepted.
        `deadline` (`time.monotonic`) is when it is too late to begin. A job may repeat `BusLimits.retries` exchanges.
        `whole` work is one conversation (an association): while more urgent jobs go first between its exchanges, those
        of the same meter wait until it has ended. A long read `yields`: a command for its meter ends it
        before its next exchange, at a block border, and it is asked for again later.

        Raises:
            BusyError: the lane is full.
            LateError: the deadline passed first.
            CircuitOpenError: the meter has been failing; it is asked again later. A command asks all the same.
            GaveWayError: a command ended what yields.
            LinkDownError: the wire is down.
            MeterError: whatever `work` let through.

        """
        turns = self._turns
        known = self._meters.get(meter) or self._meet(meter)
        job = Job(lane, known, deadline, self.limits.retries, DISTURBANCES, whole=whole, yields=yields)
        try:
            if not turns.begin_at_once(job):
                await turns.queue(job)
            return await work(partial(self._transact, job))
        finally:
            turns.leave(job)
            if turns.closed:  # it may have connected once more meanwhile
                await self._disconnect()

    def status(self) -> BusStatus:
        """Return load, queues and each meter's account."""
        now = time.monotonic()
        return BusStatus(
            name=self.link.name,
            links=tuple(link.status() for link in self._links),
            load=self._load.fraction(now),
            busy_s=self._load.total_s,
            waiting={lane: self._turns.lanes.depth(lane) for lane in Lane},
            meters={meter.id: meter.account.status(meter.circuit) for meter in self._meters.values()},
        )

    def forget(self, meter: str) -> None:
        """Forget a meter's account and circuit: it hangs here no more, or is another one now."""
        self._meters.pop(meter, None)

    def _meet(self, name: str) -> Meter:
        meters = self._meters
        circuit = Circuit(lambda now: count_failing((meter.circuit for meter in meters.values()), now))
        meters[name] = meter = Meter(name, circuit)
        return meter

    # --- for jobs that have their turn --------------------------------------------------------------------------------

    async def _transact(self, job: Job, exchange: Exchange) -> Answer:
        """Carry one exchange over the wire: see `Transact`. Between two of them, more urgent jobs have their turn."""
        if job.used and self._turns.lanes.more_urgent(job.lane):
            await self._turns.give_way(job)
        job.used = True
        # A receiver remembers what came: a repeat is heard by one that has heard nothing.
        spare = copy.deepcopy(exchange.receiver) if exchange.receiver is not None and not exchange.once else None
        while True:
            if job.called_off:
                raise GaveWayError("a command for the same meter goes first", meter=job.meter.id)
            if job.meter.circuit.state is State.OPEN:  # it opened under this job
                raise left_alone(job.meter, time.monotonic())
            try:
                return await self._exchange(job, exchange)
            except CrosstalkError:
                if not job.disturbances or exchange.once or self._turns.closed:
                    raise
                job.disturbances -= 1
                continue
            except (NoAnswerError, FrameError, LinkDownError) as error:
                if not self._may_repeat(job, exchange, error):
                    raise
            if spare is not None:
                exchange = exchange._replace(receiver=copy.deepcopy(spare))
            await self._turns.repeat_later(job)

    def _may_repeat(self, job: Job, exchange: Exchange, error: MeterError) -> bool:
        """Tell whether a failed exchange is tried again: within the plan, and not on a meter that is left alone."""
        if not job.retries or exchange.once or self._turns.closed or job.meter.circuit.state is not State.CLOSED:
            return False
        if isinstance(error, LinkDownError) and not (job.link is not None and job.link.reachable()):
            return False
        job.retries -= 1
        job.meter.account.retries += 1
        return True

    async def _exchange(self, job: Job, exchange: Exchange) -> Answer:
        """Speak once, and put the time and the outcome to the account of the meter that it is due to."""
        link, meter = job.link, job.meter
        if link is None:
            raise RuntimeError("a job speaks only while it is its turn, and one exchange at a time")
        meter.unit = exchange.unit
        account = meter.account
        started = time.monotonic()
        try:
            reply = await link.exchange(exchange, link.timeout(exchange))
        except MeterError as error:
            error.meter = meter.id
            raise self._failed(meter, link, exchange, error, self._load.add(started, time.monotonic())) from None
        except asyncio.CancelledError:
            account.busy_s += self._load.add(started, time.monotonic())
            raise
        ended = time.monotonic()
        answered_at = self._clock()
        account.busy_s += self._load.add(started, ended)
        if not exchange.reply_length and exchange.receiver is None:  # to all: that it went out tells of no meter
            return Answer(reply, answered_at - round((ended - link.sent_at) * SECOND), answered_at)
        account.ok += 1
        circuit = meter.circuit
        if circuit.failures or circuit.state is not State.CLOSED:
            self._answered(meter)
        return Answer(reply, answered_at - round((ended - link.sent_at) * SECOND), answered_at)

    def _answered(self, meter: Meter) -> None:
        if meter.circuit.succeed() and self._on_circuit is not None:
            self._on_circuit(meter.id, False, "it answers again")  # noqa: FBT003 - (meter, opened, reason)

    def _failed(self, meter: Meter, link: Link, exchange: Exchange, error: MeterError, cost: float) -> MeterError:
        """Charge a failure to whom it is due and return the error to raise."""
        meter.account.last_error = str(error)
        if isinstance(error, LinkDownError):
            return error
        if isinstance(error, RefusedError) and (error.code != TARGET_SILENT or exchange.receiver is not None):
            meter.account.busy_s += cost
            meter.account.refused += 1
            self._answered(meter)
            return error
        if isinstance(error, CrosstalkError):
            speaker = next((other for other in self._meters.values() if other.unit == error.unit), meter)
            self._charge(speaker, error, cost)
            return error
        if isinstance(error, RefusedError):
            error = NoAnswerError(f"behind its gateway, unit {exchange.unit} did not answer", meter=meter.id)
        meter.ready_at = link.ready_at(exchange.unit)
        self._charge(meter, error, cost)
        return error

    def _charge(self, meter: Meter, error: MeterError, cost: float) -> None:
        """Put a failure and the wire's time that it took to a meter's account."""
        account = meter.account
        account.busy_s += cost
        account.last_error = str(error)
        if isinstance(error, FrameError):
            account.frame_errors += 1
        else:
            account.no_answer += 1
        if meter.circuit.fail(time.monotonic(), cost) and self._on_circuit is not None:
            self._on_circuit(meter.id, True, str(error))  # noqa: FBT003 - (meter, opened, reason)
