"""Groups what is read into batches and commits them to the log. It buffers for one commit, and for nothing else."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from gateway.clock import Clock
from gateway.unbroken import to_its_end
from metering.batch import Batch
from metering.errors import StorageError
from metering.events import READINGS_DROPPED, EventType
from metering.model import Block, Event, Expectation, JournalEntry
from storage.codec import pack
from storage.log import Log

MAX_BATCH_READINGS = 2_000  # a batch stays well below what a broker or a store takes at once
BATCHES_A_COMMIT = 8  # handed to the log together: they share one fdatasync
MAX_PENDING_READINGS = 100_000  # while the log does not accept: beyond this the newest are dropped, counted and told
RETRY_S = 1.0  # how long to wait before a refused commit is tried again

logger = structlog.get_logger(__name__)


class RecorderStatus(NamedTuple):
    """What went into the log since the start, and what could not."""

    readings: int
    batches: int
    pending: int
    dropped: int
    refusal: str  # why the log does not accept; empty while it does


class Recorder:
    """Collects blocks, events and expectations, and appends them to the log each `commit_every_s` seconds.

    `on_committed` is told which blocks the log has.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        source: str,
        *,
        commit_every_s: float = 1.0,
        on_committed: Callable[[Sequence[Block]], None] | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._source = source
        self._every = commit_every_s
        self._on_committed = on_committed
        self._blocks: list[Block] = []
        self._events: list[Event] = []
        self._expectations: list[Expectation] = []
        self._journal: list[JournalEntry] = []
        self._pending = 0
        self._dropped: Counter[str] = Counter()
        self._total_dropped = 0
        self._readings = 0
        self._batches = 0
        self._refusal = ""
        self._full = asyncio.Event()
        self._committing = asyncio.Lock()

    def add(self, blocks: list[Block]) -> None:
        """Take blocks for the next commit. Never blocks; drops and counts when the log has not accepted for long."""
        for block in blocks:
            size = len(block.values)
            if self._pending + size > MAX_PENDING_READINGS:
                self._dropped[block.device] += size
                self._total_dropped += size
                continue
            self._blocks.append(block)
            self._pending += size
        if self._pending >= MAX_BATCH_READINGS:
            self._full.set()

    def note(self, event: Event) -> None:
        """Take an event for the next commit."""
        if len(self._events) < MAX_PENDING_READINGS:
            self._events.append(event)

    def raise_event(self, kind: EventType, device: str = "", **detail: str) -> None:
        """Note an event of the gateway's own, now."""
        now = self._clock.now()
        self.note(Event(device or self._source, now, kind.code, kind.name, now, detail))

    def journal(self, kind: str, name: str, state: str, **detail: str) -> None:
        """Note an entry of the gateway's journal for the next commit."""
        if len(self._journal) < MAX_PENDING_READINGS:
            self._journal.append(JournalEntry(self._clock.now(), kind, name, state, detail))

    def promise(self, expectations: list[Expectation]) -> None:
        """Take changes of what is promised to be read."""
        self._expectations.extend(expectations)

    def status(self) -> RecorderStatus:
        """Return the counts since the start."""
        return RecorderStatus(self._readings, self._batches, self._pending, self._total_dropped, self._refusal)

    async def run(self, stop: asyncio.Event) -> None:
        """Commit until `stop`, then once more."""
        while not stop.is_set():
            await self._pause(stop)
            await self.commit()
        await self.commit()

    async def _pause(self, stop: asyncio.Event) -> None:
        """Wait for the next commit: its time, a full batch, or the end; while the log refuses, a fixed time."""
        if self._refusal:
            waits = [asyncio.ensure_future(stop.wait())]
            delay = RETRY_S
        else:
            waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._full.wait())]
            delay = self._every
        await asyncio.wait(waits, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def commit(self) -> None:
        """Append all that is pending, in batches of bounded size. What the log refuses stays pending, in order.

        A caller that is cancelled meanwhile still waits for the log: what it took would be appended once more.
        """
        await to_its_end(self._commit_alone())

    async def _commit_alone(self) -> None:
        async with self._committing:
            await self._commit()

    async def _commit(self) -> None:
        self._full.clear()
        if self._dropped and not self._refusal:
            self._tell_dropped()
        left = len(self._blocks)  # what comes meanwhile waits for its own commit: small commits wear flash out
        while left or self._events or self._expectations or self._journal:
            batches = self._take(left)
            left -= sum(len(batch.blocks) for batch in batches)
            if not await self._append(batches):
                return
            if self._refusal:
                logger.info("the log accepts again", after=self._refusal)
                self._refusal = ""
            if self._dropped:
                self._tell_dropped()

    async def _append(self, batches: list[Batch]) -> bool:
        """Append some batches in one commit; take those out that the log has, and tell whether it has them all."""
        appends = [asyncio.ensure_future(self._log.append(pack(batch))) for batch in batches]
        refused: list[Block] = []
        reason = ""
        for batch, append in zip(batches, appends, strict=True):
            try:
                await append
            except StorageError as error:
                reason = str(error)
                refused.extend(batch.blocks)
                continue
            del self._events[: len(batch.events)]
            del self._expectations[: len(batch.expectations)]
            del self._journal[: len(batch.journal)]
            size = batch.count()
            self._pending -= size
            self._readings += size
            self._batches += 1
            if self._on_committed is not None:
                self._on_committed(batch.blocks)
        self._blocks[: sum(len(batch.blocks) for batch in batches)] = refused
        if reason:
            self._refuse(reason)
        return not reason

    def _take(self, count: int) -> list[Batch]:
        """Return the next batches from the first `count` blocks; events and promises go with the first of them."""
        created = self._clock.now()
        batches: list[Batch] = []
        start = size = 0
        for index in range(count):
            size += len(self._blocks[index].values)
            if size > MAX_BATCH_READINGS and index > start:
                batches.append(self._batch(created, start, index, first=not batches))
                if len(batches) == BATCHES_A_COMMIT:
                    return batches
                start, size = index, len(self._blocks[index].values)
        batches.append(self._batch(created, start, count, first=not batches))
        return batches

    def _batch(self, created: int, start: int, end: int, *, first: bool) -> Batch:
        blocks = self._blocks[start:end]
        if first:
            return Batch(created, blocks, tuple(self._events), tuple(self._expectations), journal=tuple(self._journal))
        return Batch(created, blocks)

    def _refuse(self, reason: str) -> None:
        if reason != self._refusal:
            logger.error("the log does not accept readings", reason=reason)
        self._refusal = reason

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, Counter()
        for device, count in dropped.items():
            self.raise_event(READINGS_DROPPED, device, readings=str(count), reason="the log did not accept")
