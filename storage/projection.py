"""From the log into a readings store: a cursor, a worker thread, and a back-off while the store is down.

The cursor moves only after the store has said that the write is durable; a write that is repeated after a crash is
harmless, because stores are idempotent. What waits, waits in the log: memory stays flat however long a store is down.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from metering.batch import Batch
from metering.errors import StorageError
from metering.model import Skipped
from metering.ports import ReadingsStore, Rejected
from storage.codec import pack, unpack
from storage.log import Log, Record
from storage.quarantine import Quarantine

RECORDS_AT_ONCE = 256  # records that are read from the log at a time,
BYTES_AT_ONCE = 1024 * 1024  # and their payloads together
READINGS_PER_WRITE = 25_000  # a write ends after the record that reaches it
FIRST_PAUSE_S = 0.5  # after a failure; each further one doubles it
LONGEST_PAUSE_S = 60.0
PAUSE_SPREAD = 0.5  # a pause is shortened by up to this part, by chance, so that many gateways do not come at once

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ProjectionStatus:
    """How far the store is. The counts are of this run of the program; `last_error` is empty while all is well."""

    lag: int  # records of the log that the store has not
    last_error: str = ""
    stored: int = 0  # readings
    duplicates: int = 0
    versions: int = 0
    rejected: int = 0  # blocks that the store refused for good; they are in the quarantine
    undecodable: int = 0  # records that are no batch; they are in the quarantine
    skipped: int = 0  # sequence numbers that the log could not deliver


@dataclass
class Stored:
    """What the store has just been brought: records with their batches, and ranges that the log could not deliver."""

    batches: list[tuple[Record, Batch]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class Projection:
    """Keeps one store up with the log, from the cursor of this name.

    `on_stored` is told what the store now has, in the worker thread and before the cursor moves: what it raises is
    like a failure of the store, and it is told again what it was told before a crash.
    """

    def __init__(self, log: Log, store: ReadingsStore, cursor: str, quarantine: Quarantine) -> None:
        self._log = log
        self._store = store
        self._name = cursor
        self._cursor = log.cursor(cursor, "first")
        self._quarantine = quarantine
        self.on_stored: Callable[[Stored], None] | None = None
        self._status = ProjectionStatus(0)

    def rewind(self) -> None:
        """Begin again at the log's first record: for a store that was made anew. Not while `run` runs. Blocking."""
        self._cursor.move(self._log.first_seq)

    def status(self) -> ProjectionStatus:
        """Return how far the store is and what became of the records."""
        return replace(self._status, lag=max(0, self._log.next_seq - self._cursor.position))

    async def run(self, stop: asyncio.Event) -> None:
        """Bring the log into the store until `stop`, through every failure of the store.

        A failure that the store calls final (`retry=False`) is tried again too, at the longest pause: the readings
        are safe in the log, and somebody may repair the store meanwhile. `status().last_error` says what is wrong.
        """
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                progress = await asyncio.to_thread(self.step)
            except Exception as error:  # noqa: BLE001 - the one supervisor: a view must never take the gateway with it
                final = not (isinstance(error, StorageError) and error.retry)
                pause = LONGEST_PAUSE_S if final else pause
                self._tell(error)
                await self._rest(stop, pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
                continue
            pause = FIRST_PAUSE_S
            if self._status.last_error:
                _log.info("the store takes records again", cursor=self._name)
                self._status = replace(self._status, last_error="")
            if not progress:
                await self._wait_for_more(stop)

    def step(self) -> bool:
        """Bring the next records into the store; False when there are none. Blocking. Raises StorageError."""
        items = self._log.read(self._cursor.position, RECORDS_AT_ONCE, BYTES_AT_ONCE)
        found = Stored()
        readings = undecodable = skipped = 0
        position = self._cursor.position
        for item in items:
            if isinstance(item, Skipped):
                skipped += item.to_seq - max(item.from_seq, position) + 1
                found.skipped.append(item)
                position = item.to_seq + 1
                continue
            try:
                batch = unpack(item.payload)
            except ValueError as error:
                undecodable += 1
                self._put_aside(f"log record {item.seq}", str(error), item.payload)
            else:
                found.batches.append((item, batch))
                readings += batch.count()
            position = item.seq + 1
            if readings >= READINGS_PER_WRITE:
                break
        if position == self._cursor.position:
            return False
        counted = self._write([batch for _, batch in found.batches])
        if self.on_stored is not None:
            self.on_stored(found)
        self._cursor.move(position)
        self._status = replace(
            counted, undecodable=counted.undecodable + undecodable, skipped=counted.skipped + skipped
        )
        return True

    def _write(self, batches: Sequence[Batch]) -> ProjectionStatus:
        """Write batches, put aside what the store refuses for good, and return the status as it then is."""
        if not batches:
            return self._status
        result = self._store.write(batches)
        for refused in result.rejected:
            self._reject(refused)
        was = self._status
        return replace(
            was,
            stored=was.stored + result.stored,
            duplicates=was.duplicates + result.duplicates,
            versions=was.versions + result.versions,
            rejected=was.rejected + len(result.rejected),
        )

    def _reject(self, refused: Rejected) -> None:
        block = refused.block
        payload = pack(Batch(block.received_at, [block]))  # the same bytes when it is refused again
        self._put_aside(f"block of {block.device}", refused.reason, payload)

    def _put_aside(self, origin: str, reason: str, payload: bytes) -> None:
        kept = self._quarantine.put(f"{self._name}: {origin}", reason, payload)
        _log.warning("put aside", cursor=self._name, origin=origin, reason=reason, kept=kept)

    def _tell(self, error: Exception) -> None:
        """Report a failure once, and a different one again."""
        text = str(error) or type(error).__name__
        if text != self._status.last_error:
            unexpected = not isinstance(error, StorageError)
            _log.warning("the store takes no records", cursor=self._name, error=text, exc_info=unexpected)
            self._status = replace(self._status, last_error=text)

    @staticmethod
    async def _rest(stop: asyncio.Event, pause: float) -> None:
        shortened = pause * (1 - PAUSE_SPREAD * random.random())  # noqa: S311 - spreads load, guards nothing
        try:
            await asyncio.wait_for(stop.wait(), shortened)
        except TimeoutError:
            return

    async def _wait_for_more(self, stop: asyncio.Event) -> None:
        waits = {
            asyncio.ensure_future(stop.wait()),
            asyncio.ensure_future(self._log.wait_for(self._cursor.position)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
