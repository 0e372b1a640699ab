"""A site in virtual time: real buses, schedule, recorder, accounts and backfill over wires and meters made here."""

import asyncio
import random
import selectors
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.bus import Bus
from collector.capabilities import ClockReading, Depth
from collector.exchange import Answer, Exchange, Transact
from collector.links.link import LinkParameters, LinkStatus
from gateway.accounts import Accounts
from gateway.backfill import Backfill
from gateway.clock import Clock
from gateway.clock_work import ClockWork
from gateway.clocks import Clocks
from gateway.compare import Compare
from gateway.intake import Intake
from gateway.ledger import Account, Counts
from gateway.meters import BusMeter
from gateway.profiles import ProfileReads
from gateway.reading import Reading
from gateway.recorder import Recorder
from gateway.schedule import Schedule
from gateway.settings import MeterSettings, ScheduleSettings
from gateway.work import MeterWork
from metering.batch import Batch
from metering.errors import LinkDownError, NoAnswerError
from metering.model import SECOND, Block, Column, Event, Kind, Layout, Source
from metering.timing import from_rfc3339
from storage.codec import unpack
from storage.quarantine import Quarantine

NOON = from_rfc3339("2026-06-01T12:00:00Z")
OBIS = "1-0:1.8.0*255"
STEP = 900 * SECOND
DAY = 86_400 * SECOND
STARTS_AT = 1000.0  # of the steady clock, as NOON is of the wall clock


class VirtualTime(selectors.SelectSelector):
    """A clock that jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = STARTS_AT

    def __call__(self) -> float:
        return self.now

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits for something that will never come"
        self.now += max(0.0, timeout)
        return super().select(0)


class Wire:
    """A wire on which each exchange takes the time that its request says; units and the wire itself may be down."""

    name = "wire"
    parameters = LinkParameters()
    sent_at = 0.0

    def __init__(self) -> None:
        self.down = False
        self.silent: set[int] = set()
        self.began: list[tuple[float, int, bytes]] = []

    async def exchange(self, exchange: Exchange, timeout_s: float) -> bytes:
        self.sent_at = time.monotonic()
        self.began.append((self.sent_at, exchange.unit, exchange.pdu))
        if self.down:
            await asyncio.sleep(0.1)
            raise LinkDownError("the wire is down")
        if exchange.unit in self.silent:
            await asyncio.sleep(timeout_s)
            raise NoAnswerError("nothing came")
        await asyncio.sleep(exchange.turnaround_s)
        return b""

    def timeout(self, exchange: Exchange) -> float:
        return exchange.turnaround_s + 1

    def wire_time(self, exchange: Exchange) -> float:
        return exchange.turnaround_s

    def ready_at(self, unit: int) -> float:
        del unit
        return 0.0

    def reachable(self) -> bool:
        return not self.down

    def status(self) -> LinkStatus:
        return LinkStatus(not self.down, 1, 0, "")

    async def close(self) -> None:
        """Be gone."""


class Conversation:
    """The open conversation of a meter made here."""

    def __init__(self, transact: Transact) -> None:
        self.transact = transact


class Meter:
    """A meter with a load profile, a clock and a log of events. Driver, readers and clock in one."""

    # As a profile reader
    name = "load"
    interval = 900
    depth = Depth(days=60)
    piece_rows = 96
    row_s = 0.05
    channels = ((Kind.REGISTER, (OBIS,)),)
    # As a reader of registers
    points = ()
    holes = ()
    # As a clock
    shift_limit_s = 900
    reaches_line = False

    def __init__(self, unit: int, wall: Callable[[], int]) -> None:
        self.unit = unit
        self.id = f"m{unit}"
        self.wall = wall
        self.gone: set[int] = set()  # slots that its memory does not have
        self.marks: dict[int, int] = {}  # quality of rows
        self.offset = 0
        self.told: list[Event] = []
        self.done: list[str] = []
        self.busy_s = 0.1
        self.layout = Layout(Kind.REGISTER, Source.PROFILE, 900, (Column(OBIS, "kWh", -2, "int"),))
        self.polled = Layout(Kind.REGISTER, Source.POLL, 900, (Column(OBIS, "kWh", -2, "int"),))

    def bus_meter(self, zone: str = "UTC") -> BusMeter:
        settings = MeterSettings(id=self.id, profile="x", point="p", region="r", bus="b", unit=self.unit, zone=zone)
        return BusMeter(
            settings, self, "here", ScheduleSettings(), self, self, None, self, [self], self, self, whole=True
        )  # type: ignore[arg-type] # all that is used of a model

    @asynccontextmanager
    async def talk(self, transact: Transact) -> AsyncIterator[Conversation]:
        yield Conversation(transact)

    async def identify(self, talk: Conversation) -> str | None:
        del talk
        return None

    async def ask(self, talk: Conversation, what: bytes, seconds: float) -> Answer:
        return await talk.transact(Exchange(self.unit, what, 1, seconds))

    async def read(self, talk: Conversation, *, slot: int | None, source: Source, into: list[Block]) -> None:
        del source
        answer = await self.ask(talk, b"poll", self.busy_s)
        at = (answer.asked_at + answer.answered_at) // 2
        into.append(Block(self.polled, self.id, at, answer.answered_at, (self.shows(at),), slot))

    def shows(self, instant: int) -> int:
        return instant // STEP

    async def prepare(self, talk: Conversation) -> None:
        await self.ask(talk, b"shape", 0.1)

    async def read_profile(self, talk: Conversation, start: int, end: int, *, into: list[Block]) -> None:
        newest = (self.wall() + self.offset) // STEP * STEP
        oldest = newest - (self.depth.days + 1) * DAY  # a little more than it promises
        slots = range(start // STEP * STEP + STEP, min(end, newest) + 1, STEP)
        rows = [slot for slot in slots if slot > oldest and slot not in self.gone][: self.piece_rows]
        answer = await self.ask(talk, b"rows", self.busy_s + self.row_s * len(rows))
        self.done.append(f"{len(rows)} rows")
        for slot in rows:
            value = (self.shows(slot),)
            into.append(Block(self.layout, self.id, slot, answer.answered_at, value, slot, (self.marks.get(slot, 0),)))

    async def get(self, talk: Conversation) -> ClockReading:
        answer = await self.ask(talk, b"clock", 0.1)
        at = (answer.asked_at + answer.answered_at) // 2
        return ClockReading(at + self.offset, at, (answer.answered_at - answer.asked_at) // 2)

    async def shift(self, talk: Conversation, seconds: int) -> None:
        await self.ask(talk, b"shift", 0.1)
        self.done.append(f"shift {seconds}")
        self.offset += seconds * SECOND

    async def set(self, talk: Conversation, instant: int) -> None:
        await self.ask(talk, b"set", 0.1)
        self.done.append("set")
        self.offset = instant - self.wall()

    async def read_events(self, talk: Conversation, since: int, *, into: list[Event]) -> None:
        await self.ask(talk, b"events", 0.1)
        into += [event for event in self.told if event.time >= since]


class MemoryLog:
    """Takes batches at once, or refuses them."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    async def append(self, payload: bytes) -> int:
        self.batches.append(unpack(payload))
        return len(self.batches)


class Site:
    """Meters on one bus with all that reads them. Must be made inside the loop that it runs in."""

    def __init__(self, folder: Path, count: int = 1, *, shift: bool = False) -> None:
        self.clock = Clock(wall=self.wall, monotonic=time.monotonic)
        self.wire = Wire()
        self.log = MemoryLog()
        self.accounts = Accounts(folder / "accounts")
        self.clocks = Clocks(folder / "clocks")
        self.recorder = Recorder(self.log, self.clock, "gateway:g", on_committed=self.accounts.committed)  # type: ignore[arg-type] # all that it uses of a log
        self.meters = [Meter(unit, self.wall) for unit in range(1, count + 1)]
        self.bus_meters = [meter.bus_meter() for meter in self.meters]
        self.bus = Bus(self.wire, clock=self.wall, on_circuit=self.circuit)
        self.compare = Compare(dict.fromkeys((meter.id for meter in self.meters), 100_000.0))
        self.quarantine = Quarantine(folder / "quarantine")
        self.work = MeterWork({"b": self.bus}, self.recorder.raise_event)
        self.intake = Intake(
            self.accounts, self.clocks, self.compare, self.recorder, self.quarantine, self.clock, lambda *_: self.since
        )
        self.tasks: set[asyncio.Task[None]] = set()
        self.clock_work = ClockWork(
            lambda: self.reads,
            self.work,
            self.intake,
            self.clocks,
            self.clock,
            take=self.take,
            raise_event=self.recorder.raise_event,
            shift=shift,
        )
        self.reads = ProfileReads(
            self.bus_meters,
            self.work,
            self.intake,
            after=self.clock_work.after_read,
            spawn=self.spawn,
            learned=lambda: None,
        )
        self.backfill = Backfill("b", self.reads, self.intake, self.recorder, self.clock)
        self.schedule = Schedule(self.clock)
        self.since: int | None = None
        self.stop = asyncio.Event()

    @staticmethod
    def wall() -> int:
        return NOON + round((time.monotonic() - STARTS_AT) * SECOND)

    async def run(self, hours: float, *, filling: bool = True, polling: bool = True) -> None:
        """Let the site run for so long."""
        if polling:
            Reading(self.work, self.clock, self.take, self.spawn, lambda: None).plan(
                self.schedule, self.bus_meters, "g", 5.0
            )
        self.reads.plan(self.schedule)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.recorder.run(self.stop))
            group.create_task(self.schedule.run(self.stop))
            if filling:
                group.create_task(self.backfill.run(self.stop))
            await asyncio.sleep(hours * 3600)
            self.stop.set()
            for task in self.tasks:
                task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def take(self, blocks: list[Block]) -> None:
        for block in blocks:
            self.compare.remember(block)
        self.recorder.add(blocks)

    def circuit(self, meter: str, opened: bool, reason: str) -> None:  # noqa: FBT001 - the bus's own signature
        del reason
        if not opened:
            self.backfill.wake(meter)

    def counts(self, device: str = "m1") -> Counts:
        """Return the account of a meter's profile as of the last hour."""
        rows = self.intake.rows_of(self.reads.tasks_of(device)[0])
        assert isinstance(rows, Account)
        return rows.counts(rows.grid.at_or_before(self.wall() - 3600 * SECOND))

    def events(self, name: str) -> list[Event]:
        return [event for batch in self.log.batches for event in batch.events if event.name == name]

    def blocks(self, source: Source = Source.PROFILE) -> list[Block]:
        return [block for batch in self.log.batches for block in batch.blocks if block.layout.source is source]

    async def attempt(self) -> None:
        """Make one attempt to fill all holes, and have it in the log."""
        self.backfill.wake()
        await self.backfill.fill(self.stop)
        await self.recorder.commit()


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return what runs a coroutine in virtual time."""

    def run(work: Coroutine[Any, Any, None]) -> None:
        random.seed(7)  # the jitter of probes
        clock = VirtualTime()
        with monkeypatch.context() as patched:
            patched.setattr(time, "monotonic", clock)
            loop = asyncio.SelectorEventLoop(clock)
            try:
                loop.run_until_complete(work)
            finally:
                loop.close()

    return run


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Site]:
    """Return what makes a site with so many meters; call it inside `virtual`."""
    return lambda count=1, **more: Site(tmp_path, count, **more)
