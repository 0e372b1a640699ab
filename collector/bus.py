"""Who may speak on a wire, and when: lanes, circuits, retries and the account of the wire's time. Knows no protocol.

A wire has one owner at a time: the job whose turn it is. Jobs run in their callers' tasks, so a caller that is
cancelled takes nothing of the bus along.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from collector.bus_status import BusStatus, Load, MeterAccount
from collector.circuit import Circuit, State, count_failing
from collector.exchange import Exchange, Transact
from collector.lanes import DEPTHS, Lane, Lanes
from collector.links.link import Link, LinkParameters
from collector.protocols import modbus_times
from metering.errors import (
    CircuitOpenError,
    FrameError,
    LinkDownError,
    MeterError,
    NoAnswerError,
    RefusedError,
    TransportError,
)

__all__ = ["Bus", "BusLimits", "BusStatus", "BusyError", "Exchange", "Lane", "LateError", "Transact", "cycle_time"]

T = TypeVar("T")

RETRIES = 1
TARGET_SILENT = 11  # a TCP gateway's exception: the meter behind it did not answer (V1.1b3 section 7)


class BusyError(TransportError):
    """The lane is full: nothing was asked. The meter is not to blame."""

    kind = "busy"


class LateError(TransportError):
    """The job's deadline passed before its turn came: nothing was asked. The meter is not to blame."""

    kind = "late"


@dataclass(frozen=True)
class BusLimits:
    """How many jobs may wait in each lane, and how often a job may repeat a failed exchange."""

    depths: dict[Lane, int] = field(default_factory=lambda: dict(DEPTHS))
    retries: int = RETRIES


class _Meter:
    """What the bus knows of one meter."""

    __slots__ = ("account", "circuit", "holder", "id", "ready_at")

    def __init__(self, name: str, circuit: Circuit) -> None:
        self.id = name
        self.circuit = circuit
        self.account = MeterAccount()
        self.holder: _Job | None = None
        self.ready_at = 0.0


class _Job:
    """One caller's work on one meter. It holds a link while it is its turn."""

    __slots__ = ("bus", "deadline", "lane", "link", "meter", "retries", "timer", "turn", "used")

    def __init__(self, bus: "Bus", lane: Lane, meter: _Meter, deadline: float | None, retries: int) -> None:
        self.bus = bus
        self.lane = lane
        self.meter = meter
        self.deadline = deadline
        self.retries = retries
        self.link: Link | None = None
        self.turn: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.used = False

    async def transact(self, exchange: Exchange) -> bytes:
        """Carry one exchange over the wire: see `Transact`. Between two of them, more urgent jobs have their turn."""
        bus = self.bus
        if self.used and bus.lanes.more_urgent(self.lane):
            await bus.give_way(self)
        self.used = True
        while True:
            if self.meter.circuit.state is State.OPEN:  # it opened under this job
                raise _left_alone(self.meter, time.monotonic())
            try:
                return await bus.exchange(self, exchange)
            except (NoAnswerError, FrameError, LinkDownError) as error:
                if not bus.may_repeat(self, error):
                    raise
            await bus.repeat_later(self)


class Bus:
    """One serial line or endpoint. `more` are further connections to the same endpoint, where somebody asked for them.

    `on_circuit(meter, opened, reason)` is told when a meter's circuit opens and when it closes again.
    """

    def __init__(
        self,
        link: Link,
        limits: BusLimits | None = None,
        *,
        more: Sequence[Link] = (),
        on_circuit: Callable[[str, bool, str], None] | None = None,
    ) -> None:
        self.link = link
        self.limits = limits or BusLimits()
        self.lanes: Lanes[_Job] = Lanes(self.limits.depths)
        self._links = (link, *more)
        self._idle: list[Link] = list(self._links)
        self._meters: dict[str, _Meter] = {}
        self._parked: set[_Job] = set()
        self._load = Load(time.monotonic())
        self._on_circuit = on_circuit
        self._closed = False

    # --- for the application ------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then close."""
        try:
            await stop.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Disconnect; jobs that wait end with `LinkDownError`, and so does every later one."""
        self._closed = True
        gone = LinkDownError(f"{self.link.name}: the bus is closed")
        for job in [*self._parked, *(job for lane in Lane for job in self.lanes.waiting(lane))]:
            self._remove(job)
            _refuse(job, gone)
        await self._disconnect()

    async def _disconnect(self) -> None:
        for link in self._links:
            await link.close()

    async def submit(
        self, lane: Lane, meter: str, work: Callable[[Transact], Awaitable[T]], *, deadline: float | None = None
    ) -> T:
        """Run `work` for one meter when its turn comes, and return what it returns.

        `work` is given the `Transact` to speak with; the wire is its own until it ends, more urgent lanes excepted.
        `deadline` (`time.monotonic`) is when it is too late to begin. A job may repeat `BusLimits.retries` exchanges.

        Raises:
            BusyError: the lane is full.
            LateError: the deadline passed first.
            CircuitOpenError: the meter has been failing; it is asked again later. A command asks all the same.
            LinkDownError: the wire is down.
            MeterError: whatever `work` let through.

        """
        job = _Job(self, lane, self._meters.get(meter) or self._meet(meter), deadline, self.limits.retries)
        try:
            if not self._begin_at_once(job):
                await self._queue(job)
            return await work(job.transact)
        finally:
            self._leave(job)
            if self._closed:  # it may have connected once more meanwhile
                await self._disconnect()

    def status(self) -> BusStatus:
        """Return load, queues and each meter's account."""
        now = time.monotonic()
        return BusStatus(
            name=self.link.name,
            links=tuple(link.status() for link in self._links),
            load=self._load.fraction(now),
            busy_s=self._load.total_s,
            waiting={lane: self.lanes.depth(lane) for lane in Lane},
            meters={meter.id: meter.account.status(meter.circuit) for meter in self._meters.values()},
        )

    # --- turns --------------------------------------------------------------------------------------------------------

    def _meet(self, name: str) -> _Meter:
        meters = self._meters
        circuit = Circuit(lambda now: count_failing((meter.circuit for meter in meters.values()), now))
        meters[name] = meter = _Meter(name, circuit)
        return meter

    def _begin_at_once(self, job: _Job) -> bool:
        """Take an idle link for a job that nothing stands in the way of."""
        meter = job.meter
        if (
            not self._idle
            or meter.circuit.state is not State.CLOSED
            or meter.holder is not None
            or meter.ready_at
            or self._closed
            or self.lanes
            or (job.deadline is not None and job.deadline < time.monotonic())
        ):
            return False
        job.link = self._idle.pop()
        meter.holder = job
        return True

    async def _queue(self, job: _Job) -> None:
        meter = job.meter
        now = time.monotonic()
        if self._closed:
            raise LinkDownError(f"{self.link.name}: the bus is closed", meter=meter.id)
        if job.lane is not Lane.COMMAND and meter.circuit.refuses(now):
            raise _left_alone(meter, now)
        if not self.lanes.push(job.lane, job):
            self._drop_late(job.lane, now)
            if not self.lanes.push(job.lane, job):
                raise BusyError(f"{self.lanes.depth(job.lane)} jobs wait on {self.link.name} already", meter=meter.id)
        await self._turn(job)

    async def _turn(self, job: _Job) -> None:
        job.turn = asyncio.get_running_loop().create_future()
        self._grant()
        try:
            await job.turn
        finally:
            job.turn = None

    def _grant(self) -> None:
        """Give idle links to those whose turn it is."""
        while self._idle and (job := self.lanes.pop()) is not None:
            if job.turn is None or job.turn.done():  # cancelled in this very moment
                continue
            now = time.monotonic()
            meter = job.meter
            if job.deadline is not None and now > job.deadline and not job.used:
                meter.account.late += 1
                _refuse(job, LateError(f"no turn on {self.link.name} before the deadline", meter=meter.id))
            elif meter.holder is not None:
                self._park(job, None)
            elif meter.ready_at > now:
                self._park(job, meter.ready_at - now)
            elif not meter.circuit.admit(now, force=job.lane is Lane.COMMAND):
                _refuse(job, _left_alone(meter, now))
            else:
                meter.ready_at = 0.0
                job.link = self._idle.pop()
                meter.holder = job
                job.turn.set_result(None)

    def _park(self, job: _Job, seconds: float | None) -> None:
        """Set a job aside: until its meter may be asked again, or (None) until its meter's other job is over."""
        self._parked.add(job)
        if seconds is not None:
            job.timer = asyncio.get_running_loop().call_later(seconds, self._unpark, job)

    def _unpark(self, job: _Job) -> None:
        self._parked.discard(job)
        job.timer = None
        self.lanes.push_front(job.lane, job)
        self._grant()

    def _release(self, job: _Job) -> None:
        """Take the link back from a job."""
        link, job.link = job.link, None
        if link is None:
            return
        job.meter.holder = None
        job.meter.circuit.withdraw()
        self._idle.append(link)
        if self._parked:
            for other in [parked for parked in self._parked if parked.meter is job.meter and parked.timer is None]:
                self._parked.discard(other)
                self.lanes.push_front(other.lane, other)

    def _leave(self, job: _Job) -> None:
        if job.link is not None:
            self._release(job)
        else:
            self._remove(job)
        if self.lanes:
            self._grant()

    def _remove(self, job: _Job) -> None:
        self._parked.discard(job)
        if job.timer is not None:
            job.timer.cancel()
            job.timer = None
        self.lanes.remove(job.lane, job)

    def _drop_late(self, lane: Lane, now: float) -> None:
        for job in self.lanes.waiting(lane):
            if job.deadline is not None and now > job.deadline and not job.used:
                self.lanes.remove(lane, job)
                job.meter.account.late += 1
                _refuse(job, LateError(f"no turn on {self.link.name} before the deadline", meter=job.meter.id))

    # --- for jobs that have their turn --------------------------------------------------------------------------------

    async def give_way(self, job: _Job) -> None:
        """Let more urgent jobs go first and come back at the head of its lane."""
        self._release(job)
        self.lanes.push_front(job.lane, job)
        await self._turn(job)

    def may_repeat(self, job: _Job, error: MeterError) -> bool:
        """Tell whether a failed exchange is tried again: within the plan, and not on a meter that is left alone."""
        if not job.retries or self._closed or job.meter.circuit.state is not State.CLOSED:
            return False
        if isinstance(error, LinkDownError) and not (job.link is not None and job.link.reachable()):
            return False
        job.retries -= 1
        job.meter.account.retries += 1
        return True

    async def repeat_later(self, job: _Job) -> None:
        """Wait behind everybody else of the lane, so that a failing meter's second attempt delays nobody."""
        self._release(job)
        self.lanes.push_back(job.lane, job)
        await self._turn(job)

    async def exchange(self, job: _Job, exchange: Exchange) -> bytes:
        """Speak once, and put the time and the outcome to the meter's account."""
        link, meter = job.link, job.meter
        if link is None:
            raise RuntimeError("a job speaks only while it is its turn, and one exchange at a time")
        account = meter.account
        started = time.monotonic()
        try:
            reply = await link.exchange(exchange, link.timeout(exchange))
        except MeterError as error:
            cost = self._load.add(started, time.monotonic())
            error.meter = meter.id
            account.last_error = str(error)
            if isinstance(error, LinkDownError):
                raise
            account.busy_s += cost
            if isinstance(error, RefusedError) and error.code != TARGET_SILENT:
                account.refused += 1
                self._answered(meter)
                raise
            raise self._failed(meter, link, exchange, error, cost) from None
        except asyncio.CancelledError:
            account.busy_s += self._load.add(started, time.monotonic())
            raise
        account.busy_s += self._load.add(started, time.monotonic())
        account.ok += 1
        circuit = meter.circuit
        if circuit.failures or circuit.state is not State.CLOSED:
            self._answered(meter)
        return reply

    def _answered(self, meter: _Meter) -> None:
        if meter.circuit.succeed() and self._on_circuit is not None:
            self._on_circuit(meter.id, False, "it answers again")  # noqa: FBT003 - (meter, opened, reason)

    def _failed(self, meter: _Meter, link: Link, exchange: Exchange, error: MeterError, cost: float) -> MeterError:
        """Charge a failure to its meter and return the error to raise."""
        now = time.monotonic()
        if isinstance(error, FrameError):
            meter.account.frame_errors += 1
        else:
            meter.account.no_answer += 1
            if isinstance(error, RefusedError):
                error = NoAnswerError(f"behind its gateway, unit {exchange.unit} did not answer", meter=meter.id)
        meter.ready_at = link.ready_at(exchange.unit)
        if meter.circuit.fail(now, cost) and self._on_circuit is not None:
            self._on_circuit(meter.id, True, str(error))  # noqa: FBT003 - (meter, opened, reason)
        return error


def _refuse(job: _Job, error: MeterError) -> None:
    if job.turn is not None and not job.turn.done():
        job.turn.set_exception(error)


def _left_alone(meter: _Meter, now: float) -> CircuitOpenError:
    left = max(0.0, meter.circuit.probe_at - now)
    return CircuitOpenError(
        f"left alone after {meter.circuit.failures} failures, next probe in {left:.0f} s", meter=meter.id
    )


def cycle_time(parameters: LinkParameters, exchanges: Sequence[Exchange]) -> float:
    """Return the seconds that one round of these exchanges takes on such a link when every meter behaves.

    On a serial line: the characters of requests and replies, silent intervals and each meter's own turnaround.
    """
    if not parameters.baud:
        return sum(parameters.latency_s + exchange.turnaround_s for exchange in exchanges)
    bits = modbus_times.parse_format(parameters.line_format).bits
    return sum(
        parameters.latency_s
        + modbus_times.exchange_time(
            len(exchange.pdu), exchange.reply_length, parameters.baud, bits, exchange.turnaround_s
        )
        for exchange in exchanges
    )
