"""Reads meters' own profiles, logs of events and clocks: by schedule, and piece by piece for whoever fills holes.

Each scheduled read asks from the newest held row on, one piece at most: what lies further back is a hole, and holes are
filled elsewhere (`gateway.backfill`).
"""

import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog

from collector.bus import Lane
from collector.capabilities import ClockReading, Talk
from gateway.clock import Clock
from gateway.clocks import Clocks, Correction, offset_block
from gateway.grid import DAY_S, Grid
from gateway.intake import Intake, ProfileTask, depth_s
from gateway.ledger import Account, Span
from gateway.meters import BusMeter
from gateway.schedule import Schedule, ScheduledRead, spread_offset
from gateway.work import MeterWork
from metering import events
from metering.errors import MeterError, RefusedError
from metering.model import SECOND, Block, Event

HOUR_S = 3_600  # a load profile is read each hour, or each interval where that is longer
SETTLE_S = 60  # after a boundary, so that the meter has written its row
SPREAD_S = 900  # over which the meters' profile reads are spread
A_WINTER_DAY = 20_454  # 2026-01-01: in summer a daily read comes an hour later after midnight
MAX_REQUESTS = 64  # for the rows of one read that come when the meter makes them
PERSON_S = 300.0  # a person's order to set a clock is given up when its turn has not come by then

logger = structlog.get_logger(__name__)

Take = Callable[[list[Block]], None]
RaiseEvent = Callable[..., None]


class ProfileReads:
    """All reads of profiles and clocks of a gateway.

    `shift` allows small corrections of clocks by themselves. `learned` is told when it became known what a profile
    holds. `take` is given readings that are no profile's rows.
    """

    def __init__(
        self,
        meters: Iterable[BusMeter],
        work: MeterWork,
        intake: Intake,
        clocks: Clocks,
        clock: Clock,
        *,
        take: Take,
        raise_event: RaiseEvent,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        learned: Callable[[], None],
        shift: bool = False,
    ) -> None:
        self._meters = list(meters)
        self._tasks = {meter.id: [ProfileTask(meter, reader) for reader in meter.profiles] for meter in self._meters}
        self._work = work
        self._intake = intake
        self._clocks = clocks
        self._clock = clock
        self._take = take
        self._raise_event = raise_event
        self._spawn = spawn
        self._learned = learned
        self._shift = shift
        self._reading: Counter[str] = Counter()  # profile reads under way, by meter

    def tasks(self, bus: str) -> list[ProfileTask]:
        """Return the profiles of the meters on a bus."""
        return [task for meter in self._meters if meter.settings.bus == bus for task in self._tasks[meter.id]]

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
                schedule.add(ScheduledRead(task.name, period, offset, partial(self._start, task, period)))
            if not tasks and (meter.clock is not None or meter.events is not None):
                period = HOUR_S if meter.events is not None else DAY_S
                start = partial(self._start_besides, meter, period)
                schedule.add(ScheduledRead(f"{meter.id}/clock", period, spread_offset(meter.id, period), start))

    def _start(self, task: ProfileTask, period: int, slot: int) -> None:
        del slot
        task.due = True
        self._spawn(self._scheduled(task.name, self.read(task, Lane.SCHEDULE, time.monotonic() + period)))

    def _start_besides(self, meter: BusMeter, period: int, slot: int) -> None:
        del slot
        read = self._work.work_on(meter, Lane.SCHEDULE, partial(self._besides, meter, None), time.monotonic() + period)
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
        await self._work.work_on(task.meter, lane, partial(self._read_new, task), deadline)
        task.due = False

    async def read_piece(self, task: ProfileTask, piece: Span) -> None:
        """Read the intervals low <= n < high of a profile, as one job behind all others. Raises `MeterError`."""
        await self._work.work_on(task.meter, Lane.BACKFILL, partial(self._read_piece, task, piece))

    async def _read_new(self, task: ProfileTask, talk: Talk) -> None:
        """Do a scheduled read: events first, since they say which intervals have no supply."""
        await self._read_events(task.meter, talk)
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
        await self._besides(task.meter, task, talk)

    async def _read_piece(self, task: ProfileTask, piece: Span, talk: Talk) -> None:
        await self._prepare(task, talk)
        rows = self._intake.rows_of(task)
        if not isinstance(rows, Account):
            return
        low, high = piece
        blocks: list[Block] = []
        try:
            with self._under_way(task.meter.id):
                start, end = rows.grid.slot(low - 1), rows.grid.slot(high - 1)
                await task.reader.read_profile(talk, start, end, into=blocks)
        finally:
            self._intake.take(task, blocks)
        self._intake.answered(task, low, high, blocks)

    async def _read_irregular(self, task: ProfileTask, newest: int, talk: Talk) -> None:
        end = self._intake.end(task.meter.id)
        start = newest or end - depth_s(task.reader) * SECOND
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

    async def _prepare(self, task: ProfileTask, talk: Talk) -> None:
        if task.reader.name not in task.meter.prepared:
            await task.reader.prepare(talk)
            task.meter.prepared.add(task.reader.name)
            self._learned()

    async def _read_events(self, meter: BusMeter, talk: Talk) -> None:
        if meter.events is None:
            return
        found: list[Event] = []
        await meter.events.read_events(talk, self._intake.events_since(meter.id), into=found)
        self._intake.take_events(meter.id, found)

    # --- clocks -------------------------------------------------------------------------------------------------------

    async def _besides(self, meter: BusMeter, task: ProfileTask | None, talk: Talk) -> None:
        """Read the clock, and what else was not read with a profile; correct the clock where that is allowed."""
        if task is None:
            await self._read_events(meter, talk)
        if meter.clock is None:
            return
        reading = await self._measure(meter, talk)
        if task is None or not self._shift or self._clock.suspect or self._reading[meter.id]:
            return
        seconds = self._clocks.shift_s(reading, self._grids(meter), meter.clock.shift_limit_s)
        if seconds and self._is_read_out(meter):
            shown = reading.shown + self._clock.now() - reading.at
            await meter.clock.shift(talk, seconds)
            self._corrected(meter, shown, shown + seconds * SECOND, "shifted")
            await self._measure(meter, talk)

    async def _measure(self, meter: BusMeter, talk: Talk) -> ClockReading:
        if meter.clock is None:
            raise RefusedError("it has no clock that can be read", code=0, meter=meter.id)
        reading = await meter.clock.get(talk)
        self._take([offset_block(meter.id, reading)])
        if not self._clock.suspect and self._clocks.note(meter.id, reading):
            seconds = f"{reading.offset / SECOND:+.3f}"
            logger.warning("the meter's clock is off", meter=meter.id, seconds=seconds)
            self._raise_event(events.METER_CLOCK_OFF, meter.id, seconds=seconds)
        return reading

    async def set_clock(self, meter: BusMeter) -> tuple[ClockReading, ClockReading]:
        """Set a meter's clock by ours on a person's order; return how it was before and after.

        The rows that this touches are read first.

        Raises:
            RefusedError: the meter's clock cannot be set, ours is not trusted, or a profile is being read.
            MeterError: it could not be done.

        """
        clock = meter.clock
        if clock is None or clock.shift_limit_s < 0:
            raise RefusedError("its clock cannot be set", code=0, meter=meter.id)
        if self._clock.suspect:
            raise RefusedError("the gateway's own clock is not trusted now", code=0, meter=meter.id)
        return await self._work.work_on(meter, Lane.ON_DEMAND, partial(self._set, meter), time.monotonic() + PERSON_S)

    async def _set(self, meter: BusMeter, talk: Talk) -> tuple[ClockReading, ClockReading]:
        before = await self._measure(meter, talk)
        await self._read_events(meter, talk)
        for task in self._tasks[meter.id]:
            await self._read_out(task, min(before.shown, before.at), talk)
        if meter.clock is None or self._reading[meter.id]:
            raise RefusedError("a profile of it is being read; try again in a minute", code=0, meter=meter.id)
        shown = before.shown + self._clock.now() - before.at
        await meter.clock.set(talk, self._clock.now() + before.uncertainty)
        after = await self._measure(meter, talk)
        self._corrected(meter, shown, after.shown, "set")
        return before, after

    async def _read_out(self, task: ProfileTask, since: int, talk: Talk) -> None:
        """Read all rows of a profile that lie after `since` and are not held, newest first."""
        await self._prepare(task, talk)
        rows = self._intake.rows_of(task)
        if not isinstance(rows, Account):
            await self._read_irregular(task, rows.newest, talk)
            return
        newest = rows.grid.at_or_before(self._intake.end(task.meter.id))
        oldest = rows.grid.at_or_before(since)
        for _ in range(MAX_REQUESTS):
            piece = rows.piece(newest, task.reader.piece_rows, oldest)
            if piece is None:
                return
            await self._read_piece(task, piece, talk)
            newest = piece[0] - 1

    def _corrected(self, meter: BusMeter, before: int, after: int, how: str) -> None:
        now = self._clock.now()
        correction = Correction(now, before, after)
        self._clocks.corrected(meter.id, correction)
        logger.info("a meter's clock was corrected", meter=meter.id, how=how, seconds=(after - before) / SECOND)
        self._raise_event(
            events.METER_CLOCK_CORRECTED,
            meter.id,
            how=how,
            before=f"{(before - now) / SECOND:+.3f}",
            after=f"{(after - now) / SECOND:+.3f}",
        )
        for task in self._tasks[meter.id]:
            self._intake.reopen(task, *correction.span)

    def _grids(self, meter: BusMeter) -> Iterator[Grid]:
        yield Grid(DAY_S, meter.settings.zone)
        for task in self._tasks[meter.id]:
            if task.reader.interval:
                yield Grid(task.reader.interval, meter.settings.zone)

    def _is_read_out(self, meter: BusMeter) -> bool:
        """Tell whether the newest row of each of the meter's profiles came: it lies before what a shift touches."""
        now = self._clock.now() + (self._clocks.offset(meter.id) or 0)
        for task in self._tasks[meter.id]:
            rows = self._intake.rows_of(task)
            if isinstance(rows, Account) and not rows.has(rows.grid.at_or_before(now)):
                return False
        return True

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

    Load profiles: each hour, or each interval where that is longer. What comes by days or when the meter makes it: each
    day, soon after the meter's own midnight.
    """
    interval = task.reader.interval
    spread = SETTLE_S + spread_offset(task.name, SPREAD_S)
    if 0 < interval < DAY_S:
        return max(HOUR_S, interval), min(spread, interval / 2)
    midnight = Grid(DAY_S, task.meter.settings.zone)
    return DAY_S, midnight.slot(A_WINTER_DAY) // SECOND % DAY_S + spread
