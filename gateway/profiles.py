"""Reads meters' own profiles and logs of events: by schedule, and piece by piece for whoever fills holes.

Each scheduled read asks from the newest held row on, one piece at most: what lies further back is a hole, and holes are
filled elsewhere (`gateway.backfill`).
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog

from collector.bus import Lane
from collector.capabilities import Talk
from gateway.grid import DAY_S, Grid
from gateway.intake import Intake, ProfileTask, depth_s
from gateway.ledger import Account, Span
from gateway.meters import BusMeter
from gateway.schedule import Schedule, ScheduledRead, spread_offset
from gateway.work import MeterWork
from metering.errors import MeterError, RefusedError
from metering.model import SECOND, Block, Event

HOUR_S = 3_600  # a load profile is read each hour, or each interval where that is longer
EVENTS_S = 1_800  # a meter's events are not read more often than this
SETTLE_S = 60  # after a boundary, so that the meter has written its row
SPREAD_S = 900  # over which the meters' profile reads are spread
A_WINTER_DAY = 20_454  # 2026-01-01: in summer a daily read comes an hour later after midnight
MAX_REQUESTS = 64  # for the rows of one read that come when the meter makes them

logger = structlog.get_logger(__name__)


class ProfileReads:
    """All reads of profiles of a gateway.

    `after` is done in the same conversation after each scheduled read; `learned` is told when it became known what a
    profile holds.
    """

    def __init__(
        self,
        meters: Iterable[BusMeter],
        work: MeterWork,
        intake: Intake,
        *,
        after: Callable[[BusMeter, Talk], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        learned: Callable[[], None],
    ) -> None:
        self._meters = list(meters)
        self._tasks = {meter.id: [ProfileTask(meter, reader) for reader in meter.profiles] for meter in self._meters}
        self._work = work
        self._intake = intake
        self._after = after
        self._spawn = spawn
        self._learned = learned
        self._events_at: dict[str, float] = {}
        self._reading: Counter[str] = Counter()  # profile reads under way, by meter

    def tasks(self, bus: str) -> list[ProfileTask]:
        """Return the profiles of the meters on a bus."""
        return [task for meter in self._meters if meter.settings.bus == bus for task in self._tasks[meter.id]]

    def meters_on(self, bus: str | None) -> list[BusMeter]:
        """Return the meters on a bus."""
        return [meter for meter in self._meters if meter.settings.bus == bus]

    def tasks_of(self, device: str) -> Sequence[ProfileTask]:
        """Return the profiles of a meter."""
        return self._tasks.get(device, ())

    # --- the schedule -------------------------------------------------------------------------------------------------

    def plan(self, schedule: Schedule) -> None:
        """Put every profile into the schedule, and the clocks and events of meters that have no profile."""
        for meter in self._meters:
            tasks = self._tasks[meter.id]
            for task in tasks:
                period, offset = timing_of(task)
                start = self._start if task.reader.interval else self._start_if_due
                schedule.add(ScheduledRead(task.name, period, offset, partial(start, task, period)))
            if not tasks and (meter.clock is not None or meter.events is not None):
                period = HOUR_S if meter.events is not None else DAY_S
                start = partial(self._start_besides, meter, period)
                schedule.add(ScheduledRead(f"{meter.id}/clock", period, spread_offset(meter.id, period), start))

    def _start(self, task: ProfileTask, period: int, slot: int) -> None:
        del slot
        task.due = True
        self._spawn(self._scheduled(task.name, self.read(task, Lane.SCHEDULE, time.monotonic() + period)))

    def _start_if_due(self, task: ProfileTask, period: int, slot: int) -> None:
        """Read a profile whose interval was not known when it was planned: each hour, or once a day where it has none.

        Only the meter itself may know at which interval it writes rows.
        """
        interval = task.reader.interval
        day = Grid(DAY_S, task.meter.settings.zone).at_or_before(slot + period * SECOND)
        known = task.reader.name in task.meter.prepared
        if known and not 0 < interval < DAY_S and task.day == day:
            return
        task.day = day
        self._start(task, period, slot)

    def _start_besides(self, meter: BusMeter, period: int, slot: int) -> None:
        del slot
        read = self._work.work_on(meter, Lane.SCHEDULE, partial(self._read_besides, meter), time.monotonic() + period)
        self._spawn(self._scheduled(f"{meter.id}/clock", read))

    @staticmethod
    async def _scheduled(name: str, read: Coroutine[Any, Any, None]) -> None:
        try:
            await read
        except MeterError as error:
            logger.debug("not read", read=name, kind=error.kind, reason=str(error))

    # --- reads --------------------------------------------------------------------------------------------------------

    async def read(self, task: ProfileTask, lane: Lane, deadline: float | None = None) -> None:
        """Read what is new in a profile, the meter's events, and its clock.

        Raises:
            MeterError: it could not be read; what came before is in the log all the same.

        """
        await self._work.work_on(task.meter, lane, partial(self._read_new, task), deadline, yields=True)
        task.due = False

    async def read_piece(self, task: ProfileTask, piece: Span) -> None:
        """Read the intervals low <= n < high of a profile, as one job behind all others. Raises `MeterError`."""
        await self._work.work_on(task.meter, Lane.BACKFILL, partial(self._read_piece, task, piece), yields=True)

    async def _read_new(self, task: ProfileTask, talk: Talk) -> None:
        """Do a scheduled read: events first, since they say which intervals have no supply.

        A meter has several profiles, which are read soon after one another: its events are read with one of them.
        """
        device, now = task.meter.id, time.monotonic()
        if now - self._events_at.get(device, float("-inf")) >= EVENTS_S:
            await self.read_events(task.meter, talk)
            self._events_at[device] = now
        await self._prepare(task, talk)
        rows = self._intake.rows_of(task)
        if isinstance(rows, Account):
            end = rows.grid.at_or_before(self._intake.end(task.meter.id))
            newest = rows.newest
            low = max(rows.first if newest is None else newest + 1, end + 1 - task.reader.piece_rows)
            if low <= end:
                await self._read_piece(task, (low, end + 1), talk)
        else:
            await self._read_irregular(task, rows.newest, talk)
        await self._after(task.meter, talk)

    async def _read_besides(self, meter: BusMeter, talk: Talk) -> None:
        await self.read_events(meter, talk)
        await self._after(meter, talk)

    async def _read_piece(self, task: ProfileTask, piece: Span, talk: Talk) -> None:
        await self._prepare(task, talk)
        rows = self._intake.rows_of(task)
        if not isinstance(rows, Account):
            return
        low, high = piece
        blocks: list[Block] = []
        try:
            with self._under_way(task.meter.id):
                start, end = rows.grid.window(low, high)
                await task.reader.read_profile(talk, start, end, into=blocks)
        finally:
            self._intake.take(task, blocks)
        self._intake.answered(task, low, high, blocks)

    async def _read_irregular(self, task: ProfileTask, newest: int, talk: Talk) -> None:
        end = self._intake.end(task.meter.id)
        start = max(newest or end - depth_s(task.reader) * SECOND, task.meter.settings.installed)
        for _ in range(MAX_REQUESTS):
            blocks: list[Block] = []
            try:
                with self._under_way(task.meter.id):
                    await task.reader.read_profile(talk, start, end, into=blocks)
            finally:
                self._intake.take(task, blocks)
            last = max((block.measured_at for block in blocks), default=start)
            if last <= start:
                return
            start = last

    async def read_out(self, task: ProfileTask, since: int, shown: int, talk: Talk) -> None:
        """Read all rows of a profile that are not held, newest first: from the newest held one on, and after `since`.

        `shown` is the meter's own time, after which it can have none. Raises `MeterError`.
        """
        await self._prepare(task, talk)
        rows = self._intake.rows_of(task)
        if not isinstance(rows, Account):
            await self._read_irregular(task, rows.newest, talk)
            return
        newest, oldest = rows.grid.at_or_before(shown), rows.grid.at_or_before(since)
        if rows.newest is not None:
            oldest = min(oldest, rows.newest + 1)
        for _ in range(MAX_REQUESTS):
            piece = rows.piece(newest, task.reader.piece_rows, oldest, again=True)
            if piece is None:
                return
            await self._read_piece(task, piece, talk)
            newest = piece[0] - 1

    async def _prepare(self, task: ProfileTask, talk: Talk) -> None:
        if task.reader.name not in task.meter.prepared:
            try:
                await task.reader.prepare(talk)
            except RefusedError:
                task.absent = True
                raise
            task.absent = False
            task.meter.prepared |= {task.reader.name}
            self._learned()

    async def read_events(self, meter: BusMeter, talk: Talk) -> None:
        """Read what is new in a meter's log of events, as far as it lets us. Raises `MeterError`."""
        if meter.events is None:
            return
        found: list[Event] = []
        whole = False
        meter.events.words = self._intake.words_of(meter.id)
        try:
            await meter.events.read_events(talk, self._intake.events_since(meter.id), into=found)
            whole = True
        except RefusedError as error:  # that is no reason to go without its profiles
            logger.debug("events not read", meter=meter.id, reason=str(error))
        finally:
            self._intake.take_events(meter.id, found, whole=whole)

    def is_reading(self, device: str) -> bool:
        """Tell whether a profile of a meter is being read."""
        return self._reading[device] > 0

    @contextmanager
    def _under_way(self, device: str) -> Iterator[None]:
        """Count a profile read of a meter while it lasts."""
        self._reading[device] += 1
        try:
            yield
        finally:
            self._reading[device] -= 1


def timing_of(task: ProfileTask) -> tuple[int, float]:
    """Return how often a profile is read, in seconds, and how long after the boundary of UTC.

    Load profiles: each hour, or each interval where that is longer. What comes by days: each day, soon after the
    meter's own midnight. Where the interval is not known yet: each hour.
    """
    interval = task.reader.interval
    spread = SETTLE_S + spread_offset(task.name, SPREAD_S)
    if interval < DAY_S:
        return max(HOUR_S, interval), min(spread, interval / 2) if interval else spread
    midnight = Grid(DAY_S, task.meter.settings.zone)
    return DAY_S, midnight.slot(A_WINTER_DAY) // SECOND % DAY_S + spread
