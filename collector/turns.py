"""Who has a bus's wire now, and who waits for it: idle links, lanes, jobs set aside. It exchanges nothing itself."""

import asyncio
import time
from collections.abc import Callable, Sequence

from collector.bus_status import MeterAccount
from collector.circuit import Circuit, State
from collector.lanes import Lane, Lanes
from collector.links.link import Link
from metering.errors import CircuitOpenError, LinkDownError, MeterError, TransportError


class BusyError(TransportError):
    """The lane is full: nothing was asked. The meter is not to blame."""

    kind = "busy"


class LateError(TransportError):
    """The job's deadline passed before its turn came: nothing was asked. The meter is not to blame."""

    kind = "late"


class GaveWayError(TransportError):
    """A command for the same meter came: the rest of a long read is asked for later. The meter is not to blame."""

    kind = "gave-way"


class Meter:
    """What a bus knows of one meter. `ready_at` (0: at once) is when it may be asked again, `unit` its last address."""

    __slots__ = ("account", "circuit", "holder", "id", "ready_at", "unit")

    def __init__(self, name: str, circuit: Circuit) -> None:
        self.id = name
        self.circuit = circuit
        self.account = MeterAccount()
        self.holder: Job | None = None
        self.ready_at = 0.0
        self.unit = -1


class Job:
    """One caller's work on one meter. It holds a link while it is its turn, and, where it is `whole`, its meter longer.

    A whole job is the meter's holder from its first turn to its end, a job that is not only while it is its turn. One
    that `yields` is `called_off` by a command for its meter, and ends before its next exchange.
    """

    __slots__ = (
        "called_off",
        "deadline",
        "disturbances",
        "lane",
        "link",
        "meter",
        "retries",
        "timer",
        "turn",
        "used",
        "whole",
        "yields",
    )

    def __init__(
        self,
        lane: Lane,
        meter: Meter,
        deadline: float | None,
        retries: int,
        disturbances: int,
        *,
        whole: bool = False,
        yields: bool = False,
    ) -> None:
        self.yields = yields
        self.called_off = False
        self.lane = lane
        self.meter = meter
        self.deadline = deadline
        self.retries = retries
        self.disturbances = disturbances
        self.whole = whole
        self.link: Link | None = None
        self.turn: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.used = False

    def refuse(self, error: MeterError) -> None:
        """End its wait with an error."""
        if self.turn is not None and not self.turn.done():
            self.turn.set_exception(error)


class Turns:
    """The turns of one bus. Jobs run in their callers' tasks: one that is cancelled takes nothing along."""

    def __init__(self, name: str, links: Sequence[Link], depths: dict[Lane, int]) -> None:
        self.name = name
        self.lanes: Lanes[Job] = Lanes(depths)
        self.closed = False
        self._several = len(links) > 1
        self._idle: list[Link] = list(links)
        self._parked: dict[Job, None] = {}  # in their order

    def close(self) -> None:
        """End every wait, now and from now on, with `LinkDownError`."""
        self.closed = True
        for job in [*self._parked, *(job for lane in Lane for job in self.lanes.waiting(lane))]:
            self._remove(job)
            job.refuse(self._gone(job.meter))

    def begin_at_once(self, job: Job) -> bool:
        """Take an idle link for a job that nothing stands in the way of."""
        meter = job.meter
        if (
            not self._idle
            or meter.circuit.state is not State.CLOSED
            or meter.holder is not None
            or meter.ready_at
            or self.closed
            or self.lanes
            or (job.deadline is not None and job.deadline < time.monotonic())
        ):
            return False
        job.link = self._idle.pop()
        meter.holder = job
        return True

    async def queue(self, job: Job) -> None:
        """Wait for the first turn. Raises what `Bus.submit` says."""
        meter = job.meter
        now = time.monotonic()
        if self.closed:
            raise self._gone(meter)
        if job.lane is not Lane.COMMAND and meter.circuit.refuses(now):
            raise left_alone(meter, now)
        if not self.lanes.push(job.lane, job):
            self._drop_late(job.lane, now)
            if not self.lanes.push(job.lane, job):
                raise BusyError(f"{self.lanes.depth(job.lane)} jobs wait on {self.name} already", meter=meter.id)
        await self._turn(job)

    async def give_way(self, job: Job) -> None:
        """Let more urgent jobs go first and come back at the head of its lane."""
        await self._come_back(job, self.lanes.push_front)

    async def repeat_later(self, job: Job) -> None:
        """Wait behind everybody else of the lane, so that a failing meter's second attempt delays nobody."""
        await self._come_back(job, self.lanes.push_back)

    def leave(self, job: Job) -> None:
        """End a job, whether it has its turn or waits."""
        if job.link is not None:
            self._release(job)
        else:
            self._remove(job)
        self._free(job)
        if self.lanes:
            self._grant()

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _come_back(self, job: Job, push: Callable[[Lane, Job], None]) -> None:
        if job.whole and self._several:  # its conversation may belong to its connection, and others have theirs
            return
        self._release(job)
        if not job.whole:
            self._free(job)
        push(job.lane, job)
        await self._turn(job)

    async def _turn(self, job: Job) -> None:
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
            if self._is_late(job, now):
                self._refuse_late(job)
            elif meter.holder is not None and meter.holder is not job:
                self._park(job, None)
                meter.holder.called_off = meter.holder.yields and job.lane is Lane.COMMAND
                self._hurry(meter.holder, job.lane)
            elif meter.ready_at > now:
                self._park(job, meter.ready_at - now)
            elif not meter.circuit.admit(now, force=job.lane is Lane.COMMAND):
                job.refuse(left_alone(meter, now))
            else:
                meter.ready_at = 0.0
                job.link = self._idle.pop()
                meter.holder = job
                job.turn.set_result(None)

    def _park(self, job: Job, seconds: float | None) -> None:
        """Set a job aside: until its meter may be asked again, or (None) until its meter's other job is over."""
        self._parked[job] = None
        if seconds is not None:
            job.timer = asyncio.get_running_loop().call_later(seconds, self._unpark, job)

    def _unpark(self, job: Job) -> None:
        self._parked.pop(job, None)
        job.timer = None
        self.lanes.push_front(job.lane, job)
        self._grant()

    def _hurry(self, holder: Job, lane: Lane) -> None:
        """Let a job be as urgent as the one that waits for its end."""
        if holder.lane <= lane:
            return
        if holder.link is None and holder not in self._parked:
            self.lanes.remove(holder.lane, holder)
            self.lanes.push_front(lane, holder)
        holder.lane = lane

    def _release(self, job: Job) -> None:
        """Take the link back from a job."""
        link, job.link = job.link, None
        if link is None:
            return
        job.meter.circuit.withdraw()
        self._idle.append(link)

    def _free(self, job: Job) -> None:
        """Let others ask the meter that a job has held."""
        if job.meter.holder is not job:
            return
        job.meter.holder = None
        if self._parked:
            waited = [parked for parked in self._parked if parked.meter is job.meter and parked.timer is None]
            for other in reversed(waited):
                self._parked.pop(other)
                self.lanes.push_front(other.lane, other)

    def _remove(self, job: Job) -> None:
        self._parked.pop(job, None)
        if job.timer is not None:
            job.timer.cancel()
            job.timer = None
        self.lanes.remove(job.lane, job)

    def _drop_late(self, lane: Lane, now: float) -> None:
        for job in self.lanes.waiting(lane):
            if self._is_late(job, now):
                self.lanes.remove(lane, job)
                self._refuse_late(job)

    @staticmethod
    def _is_late(job: Job, now: float) -> bool:
        return job.deadline is not None and now > job.deadline and not job.used

    def _refuse_late(self, job: Job) -> None:
        job.meter.account.late += 1
        job.refuse(LateError(f"no turn on {self.name} before the deadline", meter=job.meter.id))

    def _gone(self, meter: Meter) -> LinkDownError:
        return LinkDownError(f"{self.name}: the bus is closed", meter=meter.id)


def left_alone(meter: Meter, now: float) -> CircuitOpenError:
    """Return the error of a job whose meter is not asked now."""
    left = max(0.0, meter.circuit.probe_at - now)
    return CircuitOpenError(
        f"left alone after {meter.circuit.failures} failures, next probe in {left:.0f} s", meter=meter.id
    )
