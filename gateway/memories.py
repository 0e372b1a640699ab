"""All that a gateway does with its meters' own memories and clocks, put together: accounts, reads, filling, clocks.

It decides nothing itself.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine
from typing import Any, NamedTuple

import structlog

from collector.capabilities import ClockReading
from gateway.accounts import Accounts
from gateway.backfill import Backfill, BackfillStatus
from gateway.clock import Clock
from gateway.clock_work import ClockWork
from gateway.clocks import Clocks, ClockStatus
from gateway.compare import Compare
from gateway.intake import Intake
from gateway.meters import BusMeter
from gateway.profiles import ProfileReads
from gateway.promised import Promised
from gateway.recorder import Recorder
from gateway.schedule import Schedule
from gateway.settings import GatewayFile
from gateway.work import MeterWork
from metering.model import Block
from storage.quarantine import Quarantine

KEEP_S = 600.0  # how often the accounts are written: what they lack after a crash is read once more

logger = structlog.get_logger(__name__)


class MemoryStatus(NamedTuple):
    """What is known of a meter's own memory and clock; None: it has none that is read."""

    profiles: BackfillStatus | None
    clock: ClockStatus | None


class Kept(NamedTuple):
    """The files of a gateway's data folder that this rests on."""

    accounts: Accounts
    clocks: Clocks

    @classmethod
    def of(cls, file: GatewayFile) -> "Kept":
        """Read them."""
        return cls(Accounts(file.gateway.data / "accounts"), Clocks(file.gateway.data / "clocks", file.clock.limit))


class Memories:
    """The memories of the meters on buses."""

    def __init__(
        self,
        file: GatewayFile,
        kept: Kept,
        meters: Collection[BusMeter],
        work: MeterWork,
        recorder: Recorder,
        clock: Clock,
        quarantine: Quarantine,
        promised: Promised,
        *,
        take: Callable[[list[Block]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        learned: Callable[[], None],
    ) -> None:
        self._kept = kept
        self._meters = meters
        self._recorder = recorder
        self._compare = Compare({meter.id: meter.settings.max_power_kw * 1000 for meter in meters if meter.profiles})
        intake = Intake(kept.accounts, kept.clocks, self._compare, recorder, quarantine, clock, promised.since)
        self._clock_work = ClockWork(
            lambda: self._reads,
            work,
            intake,
            kept.clocks,
            clock,
            take=take,
            raise_event=recorder.raise_event,
            shift=file.clock.policy == "shift",
        )
        self._reads = ProfileReads(
            meters, work, intake, after=self._clock_work.after_read, spawn=spawn, learned=learned
        )
        self._fillers = {bus.id: Backfill(bus.id, self._reads, intake, recorder, clock) for bus in file.bus}

    def plan(self, schedule: Schedule) -> None:
        """Put all scheduled reads into the schedule."""
        self._reads.plan(schedule)

    async def run(self, stop: asyncio.Event) -> None:
        """Fill holes and keep the accounts until `stop`."""
        async with asyncio.TaskGroup() as group:
            for filler in self._fillers.values():
                group.create_task(filler.run(stop))
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), KEEP_S)
                await self.keep()

    async def keep(self) -> None:
        """Write the accounts, after the log has all that they rest on."""
        await self._recorder.commit()
        if self._recorder.status().refusal:
            return
        accounts, clocks = self._kept
        kept = accounts.snapshot(), clocks.snapshot([meter.id for meter in self._meters])
        try:
            await asyncio.to_thread(accounts.write, kept[0])
            await asyncio.to_thread(clocks.write, kept[1])
        except OSError as error:  # tried again later; a file that is older only lets rows be read once more
            logger.warning("the accounts of the meters' profiles could not be written", reason=str(error))

    def polled(self, block: Block) -> None:
        """Remember what was polled, to hold the meter's own rows against it."""
        self._compare.remember(block)

    def back(self, meter: BusMeter) -> None:
        """Read at once what was missed of a meter that answers again."""
        filler = self._fillers.get(meter.settings.bus or "")
        if filler is not None:
            filler.wake(meter.id)

    def ask_again(self, device: str, start: int, end: int) -> str:
        """Have the intervals with start < end of interval <= end (us) read anew; return why not, or nothing."""
        meter = next((each for each in self._meters if each.id == device), None)
        if meter is None:
            return "there is no such meter on a bus here"
        filler = self._fillers.get(meter.settings.bus or "")
        if filler is None or not filler.reopen(device, start, end):
            return "the meter has no profile of these intervals"
        return ""

    async def read_clock(self, meter: BusMeter) -> ClockReading:
        """Read a meter's clock now. Raises `MeterError`."""
        return await self._clock_work.read(meter)

    async def set_clock(self, meter: BusMeter, by: str) -> tuple[ClockReading, ClockReading]:
        """Set a meter's clock on a person's order: see `ClockWork.set`."""
        return await self._clock_work.set(meter, by)

    def status(self) -> dict[str, MemoryStatus]:
        """Return what is known of the meters that have a memory or a clock."""
        profiles = {device: each for filler in self._fillers.values() for device, each in filler.status().items()}
        return {
            meter.id: MemoryStatus(
                profiles.get(meter.id), self._kept.clocks.status(meter.id) if meter.clock is not None else None
            )
            for meter in self._meters
            if meter.profiles or meter.clock is not None
        }
