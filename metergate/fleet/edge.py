"""One gateway of a simulated fleet: the true gateway, its log and its uplink, over meters in this process."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from threading import Lock

from gateway.schedule import gateway_offset
from gateway.settings_bus import BusSettings
from metergate.edge import EdgeParts
from metergate.fleet.link import InProcessLink
from metergate.fleet.plan import POINTS, Fleet, buses_of, gateway_file, load_kw
from metergate.fleet.report import Delays, Edge, Report
from metering import timing
from metering.model import SECOND
from simulators.faults import Faults
from simulators.steady import SteadyTotals
from simulators.unit import Unit

_FAILURES = ("no_answer", "frame_errors", "refused", "late")
_GOOD = Faults()  # no meter of the fleet misbehaves: one for all


class FleetGateway:
    """A gateway that runs between `start` and `close`. Making it opens its log: blocking."""

    def __init__(self, fleet: Fleet, number: int, delays: Delays) -> None:
        self._file = gateway_file(fleet, number)
        self._interval = fleet.interval
        self._buses = buses_of(fleet, number)
        self._id = self._file.gateway.id
        self._delays = delays
        self._unanswered: deque[tuple[int, float]] = deque()  # last seq of a commit, and when it was durable
        self._unanswered_lock = Lock()
        parts = EdgeParts(self._file, self._link, self._receipt)
        self.log, self.gateway, self.uplink = parts.log, parts.gateway, parts.uplink
        self._stop, self._late_stop = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._began = self._ended = 0  # when it planned its reads and when it was told to end, UTC microseconds

    def start(self) -> None:
        """Begin to read and to send."""
        self._tasks = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self.uplink.run(self._late_stop)),
            asyncio.create_task(self._watch()),
        ]

    async def end_reading(self) -> None:
        """Stop the meters' reads and commit what is there; the uplink goes on."""
        self._ended = timing.now()
        self._stop.set()
        await self._tasks[0]

    async def close(self) -> None:
        """End the uplink and close the log."""
        self._late_stop.set()
        await self._tasks[1]
        self._tasks[2].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks[2]
        await asyncio.to_thread(self.log.close)

    def failed(self) -> BaseException | None:
        """Return why a part of it ended that should run; None while all is well."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    def delivered(self) -> bool:
        """Tell whether the head-end has all that is in the log."""
        return self.uplink.status().contiguous == self.log.next_seq - 1

    def report(self, *, final: bool = False) -> Report:
        """Return how it fares; what went wrong and what to account for only at the end."""
        recorder, uplink = self.gateway.recorded(), self.uplink.status()
        edge = Edge(self._id, uplink.epoch, self.log.next_seq - 1, recorder.readings)
        return Report(
            gateways=1,
            up=int(uplink.contiguous > 0),
            due=self._due(),
            taken=recorder.readings,
            pending=recorder.pending,
            dropped=recorder.dropped,
            behind=self.log.next_seq - 1 - uplink.contiguous,
            sent=uplink.sent,
            sent_again=uplink.sent_again,
            put_back=uplink.put_back,
            errors=self._errors() if final else {},
            edges=[edge] if final else [],
            final=final,
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _link(self, bus: BusSettings) -> InProcessLink:
        units = {
            unit: Unit(unit, SteadyTotals(load_kw(meter)), faults=_GOOD) for unit, meter in self._buses[bus.id].items()
        }
        return InProcessLink(bus.id, units)

    async def _read(self) -> None:
        self._began = timing.now()  # its schedule is made in this very step
        await self.gateway.run(self._stop)

    def _errors(self) -> dict[str, int]:
        """Return what went wrong, counted by kind."""
        errors: Counter[str] = Counter()
        for bus in self.gateway.status().buses.values():
            for meter in bus.meters.values():
                errors.update({f"meter {name}": count for name in _FAILURES if (count := getattr(meter, name))})
        if failures := self.uplink.status().connection.failures:
            errors["connection"] = failures
        if self.uplink.told_to_leave.is_set():
            errors["told to leave"] = 1
        if self.gateway.recorded().refusal:
            errors["log refuses"] = 1
        return dict(errors)

    def _due(self) -> int:
        """Return the readings that the schedule called for until now: one of each point at each boundary."""
        if not self._began:
            return 0
        offset = round(gateway_offset(self._id, self._file.gateway.jitter, self._interval) * SECOND)
        step = self._interval * SECOND
        boundaries = ((self._ended or timing.now()) - offset) // step - (self._began - offset) // step
        return int(boundaries) * len(self._file.meter) * len(POINTS)

    async def _watch(self) -> None:
        """Note when each commit of the log was durable, until the reads end: then all end at once, as no fleet does."""
        while True:
            await self.log.wait_for(self.log.next_seq)
            if self._ended:
                return
            with self._unanswered_lock:
                self._unanswered.append((self.log.next_seq - 1, time.monotonic()))

    def _receipt(self, contiguous: int) -> None:
        """Note how long the receipt of each commit took; in a thread of the uplink."""
        now = time.monotonic()
        with self._unanswered_lock:
            while self._unanswered and self._unanswered[0][0] <= contiguous:
                self._delays.add(now - self._unanswered.popleft()[1])
