"""Reads of meters: by schedule, where what came before an error counts, and on demand. It stores nothing."""

import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import structlog

from collector.bus import Lane
from collector.capabilities import Reader, Talk
from gateway.clock import Clock
from gateway.meters import BusMeter
from gateway.schedule import Schedule, ScheduledRead, gateway_offset, spread_offset
from gateway.work import MeterWork
from metering.errors import MeterError
from metering.model import SECOND, Block, Source

ON_DEMAND_S = 10.0  # an on-demand read that has not had its turn by then is given up

logger = structlog.get_logger(__name__)


class Reading:
    """Reads meters through `work` and hands their blocks to `take`.

    `spawn` runs a task until it ends or the gateway does; `learned` is told when a meter shows again what it has.
    """

    def __init__(
        self,
        work: MeterWork,
        clock: Clock,
        take: Callable[[list[Block]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        learned: Callable[[], None],
    ) -> None:
        self._work = work
        self._clock = clock
        self._take = take
        self._spawn = spawn
        self._learned = learned

    def plan(self, schedule: Schedule, meters: Iterable[BusMeter], gateway: str, jitter: float) -> None:
        """Put every scheduled read of these meters into the schedule."""
        for meter in meters:
            if meter.registers is not None and meter.schedule.registers is not None:
                interval = int(meter.schedule.registers)
                self._add(schedule, meter, meter.registers, interval, gateway_offset(gateway, jitter, interval))
            if meter.moments is not None and meter.schedule.instantaneous is not None:
                period = int(meter.schedule.instantaneous)
                self._add(schedule, meter, meter.moments, period, spread_offset(meter.id, period))

    async def read_now(self, meter: BusMeter) -> list[Block]:
        """Read all values of a meter on demand: recorded as such, and returned. Raises what `work_on` raises."""
        blocks: list[Block] = []
        job = partial(self._read, meter, meter.everything, None, Source.ON_DEMAND, blocks)
        await self._work.work_on(meter, Lane.ON_DEMAND, job, time.monotonic() + ON_DEMAND_S)
        self._take(blocks)
        return blocks

    def _add(self, schedule: Schedule, meter: BusMeter, reader: Reader, interval: int, offset: float) -> None:
        schedule.add(ScheduledRead(meter.id, interval, offset, partial(self._start, meter, reader, interval, offset)))

    def _start(self, meter: BusMeter, reader: Reader, interval: int, offset: float, slot: int) -> None:
        due_s = slot / SECOND + offset
        late_s = self._clock.now() / SECOND - due_s
        self._spawn(self._read_scheduled(meter, reader, slot, time.monotonic() + interval - late_s))

    async def _read_scheduled(self, meter: BusMeter, reader: Reader, slot: int, deadline: float) -> None:
        blocks: list[Block] = []
        try:
            job = partial(self._read, meter, reader, slot, Source.POLL, blocks)
            await self._work.work_on(meter, Lane.SCHEDULE, job, deadline)
        except MeterError as error:
            logger.debug("not read", meter=meter.id, slot=slot, kind=error.kind, reason=str(error))
        finally:
            self._take(blocks)

    async def _read(
        self, meter: BusMeter, reader: Reader, slot: int | None, source: Source, blocks: list[Block], talk: Talk
    ) -> None:
        afresh = reader in meter.afresh
        if afresh:
            reader.forget()
        await reader.read(talk, slot=slot, source=source, into=blocks)
        if afresh:  # promised is again what it does have: only now is that known
            meter.afresh -= {reader}
            self._learned()
