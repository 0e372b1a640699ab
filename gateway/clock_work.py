"""Reads, shifts and sets meters' clocks, in conversations with them. What may be done is judged in `gateway.clocks`."""

import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import structlog

from collector.bus import Lane
from collector.capabilities import ClockReading, Talk
from gateway.clock import Clock
from gateway.clocks import Clocks, Correction, offset_block
from gateway.grid import DAY_S, Grid
from gateway.intake import Intake
from gateway.ledger import Account
from gateway.meters import BusMeter
from gateway.profiles import ProfileReads
from gateway.work import MeterWork, RaiseEvent
from metering import events
from metering.errors import FrameError, RefusedError, TransportError
from metering.model import SECOND, Block

PERSON_S = 300.0  # a person's order to set a clock is given up when its turn has not come by then

logger = structlog.get_logger(__name__)


class ClockWork:
    """The clocks of a gateway's meters. `take` is given offsets as readings.

    `shift` allows small corrections by themselves: inside one interval, after the rows before it were read.
    """

    def __init__(
        self,
        reads: Callable[[], ProfileReads],
        work: MeterWork,
        intake: Intake,
        clocks: Clocks,
        clock: Clock,
        *,
        take: Callable[[list[Block]], None],
        raise_event: RaiseEvent,
        shift: bool = False,
    ) -> None:
        self._reads = reads
        self._work = work
        self._intake = intake
        self._clocks = clocks
        self._clock = clock
        self._take = take
        self._raise_event = raise_event
        self._shift = shift

    async def after_read(self, meter: BusMeter, talk: Talk) -> None:
        """Read the clock; correct it where that is allowed and no profile of the meter is being read.

        Raises:
            MeterError: it could not be done.

        """
        if meter.clock is None:
            return
        reading = await self._measure(meter, talk)
        if not self._shift or self._clock.suspect or self._reads().is_reading(meter.id):
            return
        seconds = self._clocks.shift_s(reading, self._grids(meter), meter.clock.shift_limit_s)
        if seconds and self._is_read_out(meter) and self._work.may_use_secrets(meter):
            wanted = reading.offset + seconds * SECOND
            await self._correct(meter, reading, wanted, "shifted", talk, partial(meter.clock.shift, talk, seconds))

    async def read(self, meter: BusMeter) -> ClockReading:
        """Read a meter's clock now, for a person. Raises `MeterError`."""
        return await self._work.work_on(
            meter, Lane.ON_DEMAND, partial(self._measure, meter), time.monotonic() + PERSON_S
        )

    async def set(self, meter: BusMeter, by: str) -> tuple[ClockReading, ClockReading]:
        """Set a meter's clock by ours on a person's order; return how it was before and after.

        The rows that this touches are read first.

        Raises:
            RefusedError: the meter's clock cannot be set, ours is not trusted, or a profile is being read.
            MeterError: it could not be done.

        """
        if not await self._intake.flush():
            raise RefusedError("the log does not take the rows that this touches", code=0, meter=meter.id)
        clock = meter.clock
        if clock is None or clock.shift_limit_s < 0:
            raise RefusedError("its clock cannot be set", code=0, meter=meter.id)
        if self._clock.suspect:
            raise RefusedError("the gateway's own clock is not trusted now", code=0, meter=meter.id)
        if clock.reaches_line and self._was_told(meter):
            raise RefusedError("its line was told the time today: once a day is the rule", code=0, meter=meter.id)
        return await self._work.work_on(
            meter, Lane.ON_DEMAND, partial(self._set, meter, by), time.monotonic() + PERSON_S, keyed=True
        )

    async def _set(self, meter: BusMeter, by: str, talk: Talk) -> tuple[ClockReading, ClockReading]:
        before = await self._measure(meter, talk)
        await self._reads().read_events(meter, talk)
        for task in self._reads().tasks_of(meter.id):
            await self._reads().read_out(task, min(before.shown, before.at), before.shown, talk)
        if not await self._intake.flush():
            raise RefusedError("the log does not take the rows that this touches", code=0, meter=meter.id)
        clock = meter.clock
        if clock is None or self._reads().is_reading(meter.id):
            raise RefusedError("a profile of it is being read; try again in a minute", code=0, meter=meter.id)
        change = partial(clock.set, talk, self._clock.now() + before.uncertainty)
        after = await self._correct(meter, before, 0, f"set by {by}", talk, change)
        if clock.reaches_line:
            self._moved_along(meter, by)
        return before, after

    def _was_told(self, meter: BusMeter) -> bool:
        """Tell whether a clock of the meter's line was corrected today, before a restart as well."""
        days = Grid(DAY_S, meter.settings.zone)
        today = days.at_or_before(self._clock.now())
        line = [meter, *self._reads().meters_on(meter.settings.bus)]
        told = (correction.at for each in line for correction in self._clocks.corrections(each.id))
        return any(days.at_or_before(at) == today for at in told)

    def _moved_along(self, meter: BusMeter, by: str) -> None:
        """Take the other clocks of a line for set too, as far off as they were when they were read last."""
        now = self._clock.now()
        for other in self._reads().meters_on(meter.settings.bus):
            offset = self._clocks.offset(other.id)
            if other is not meter and offset is not None:
                before, after = ClockReading(now + offset, now, 0), ClockReading(now, now, 0)
                self._tell(other, before, after, f"set with {meter.id} by {by}, not confirmed")

    async def _measure(self, meter: BusMeter, talk: Talk) -> ClockReading:
        reading = await self._get(meter, talk)
        if not self._clock.suspect and self._clocks.note(meter.id, reading):
            seconds = f"{reading.offset / SECOND:+.3f}"
            logger.warning("the meter's clock is off", meter=meter.id, seconds=seconds)
            self._raise_event(events.METER_CLOCK_OFF, meter.id, seconds=seconds)
        return reading

    async def _get(self, meter: BusMeter, talk: Talk) -> ClockReading:
        if meter.clock is None:
            raise RefusedError("it has no clock that can be read", code=0, meter=meter.id)
        reading = await meter.clock.get(talk)
        self._take([offset_block(meter.id, reading)])
        return reading

    async def _correct(
        self,
        meter: BusMeter,
        before: ClockReading,
        wanted: int,
        how: str,
        talk: Talk,
        change: Callable[[], Awaitable[None]],
    ) -> ClockReading:
        """Make a correction, read the clock again, and note and tell what was corrected.

        Where the meter does not confirm it, the offset `wanted` (us) is taken for what it is now: it may be.
        """
        try:
            await change()
            after = await self._get(meter, talk)
        except (TransportError, FrameError):
            now = self._clock.now()
            self._tell(meter, before, ClockReading(now + wanted, now, 0), f"{how}, not confirmed")
            raise
        self._tell(meter, before, after, how)
        return after

    def _tell(self, meter: BusMeter, before: ClockReading, after: ClockReading, how: str) -> None:
        correction = Correction(after.at, after.at + before.offset, after.shown)
        self._clocks.corrected(meter.id, correction)
        self._clocks.note(meter.id, after)
        seconds = round((after.offset - before.offset) / SECOND, 3)
        logger.info("a meter's clock was corrected", meter=meter.id, how=how, seconds=seconds)
        self._raise_event(
            events.METER_CLOCK_CORRECTED,
            meter.id,
            how=how,
            before=f"{before.offset / SECOND:+.3f}",
            after=f"{after.offset / SECOND:+.3f}",
        )
        for task in self._reads().tasks_of(meter.id):
            self._intake.reopen(task, *correction.span)

    def _grids(self, meter: BusMeter) -> Iterator[Grid]:
        yield Grid(DAY_S, meter.settings.zone)
        for task in self._reads().tasks_of(meter.id):
            if task.reader.interval:
                yield Grid(task.reader.interval, meter.settings.zone)

    def _is_read_out(self, meter: BusMeter) -> bool:
        """Tell whether the newest row of each of the meter's profiles came: it lies before what a shift touches."""
        now = self._clock.now() + (self._clocks.offset(meter.id) or 0)
        for task in self._reads().tasks_of(meter.id):
            rows = self._intake.rows_of(task)
            if isinstance(rows, Account) and not task.absent and not rows.has(rows.grid.at_or_before(now)):
                return False
        return True
