"""The embedded readings store: one SQLite file, a row for each block, versions kept. A view of the log, not the log.

What is stored for a block depends on the set of blocks that came and never on their order: each distinct content of
one series and time is a row, and a row that comes again keeps its earliest arrival, latest slot and highest revision.
Which row's value is the current one is decided on reading, channel by channel, across layouts.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from metering.batch import Batch
from metering.errors import StorageError
from metering.model import Event, Expectation, Kind
from metering.ports import Arrivals, Page, Reading, ReadingsQuery, SlotsQuery, WriteResult
from storage import schema
from storage.embedded_ask import SlotScan, read_arrivals, read_events, read_expectations
from storage.embedded_read import DEVICES_AT_ONCE, read_latest, read_page
from storage.embedded_rows import Packings
from storage.embedded_write import BlockWriter

READERS = 4  # connections for questions; further askers wait for one
READER_WAIT_S = 10.0

_Found = TypeVar("_Found")

_HOLDS_ANYTHING = (
    "SELECT EXISTS (SELECT 1 FROM series) OR EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM expectations)"
)

# The earliest arrival and the smallest name, so that order of arrival does not show.
_EVENT = """
INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET received_at = min(received_at, excluded.received_at), name = min(name, excluded.name)
WHERE received_at > excluded.received_at OR name > excluded.name
"""
# A promise that has ended stays ended: without order of arrival only the earliest known end can be kept.
_EXPECTATION = """
INSERT INTO expectations VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET until = min(coalesce(until, excluded.until), coalesce(excluded.until, until))
WHERE until IS NOT min(coalesce(until, excluded.until), coalesce(excluded.until, until))
"""


class EmbeddedStore:
    """`ReadingsStore` in one file beside the program.

    `is_empty` tells that nothing was stored yet when it was opened: its projection must then begin at the log's first
    record (`Projection.rewind`), wherever its cursor stands.

    Raises:
        StorageError: `retry=False` where the file is damaged or foreign; nothing is changed then. The message says
            what to do. It is never replaced unasked: the log may reach back less far than the file.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = False
        self._lock = threading.Lock()
        self._made = 0
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._making = threading.Lock()
        self._packings = Packings()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{path.parent}: {error.strerror}", retry=True) from error
        with schema.told(path):
            self._connection = schema.connect(path, writer=True)
            try:
                schema.prepare(self._connection, path)
                self.is_empty = not self._connection.execute(_HOLDS_ANYTHING).fetchone()[0]
                self._blocks = BlockWriter(self._connection)
            except BaseException:
                self._connection.close()
                raise

    def write(self, batches: Sequence[Batch]) -> WriteResult:
        """Store readings, events and expectations in one transaction, on the disk when it returns."""
        with self._lock, schema.told(self.path):
            self._check_open()
            connection = self._connection
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = self._blocks.write(block for batch in batches for block in batch.blocks)
                connection.executemany(_EVENT, _event_rows(batches))
                connection.executemany(_EXPECTATION, _expectation_rows(batches))
                connection.execute("COMMIT")
            except BaseException:
                self._blocks.forget()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._bound_wal()
            return result

    def readings(self, query: ReadingsQuery) -> Page:
        """Return one page of one device's readings; versions come with the current one first."""
        if query.limit < 1:
            raise StorageError("a page has at least one reading", retry=False)
        with self._reader() as connection:
            return read_page(connection, self._packings, query)

    def latest(self, devices: Sequence[str], kinds: Sequence[Kind] = ()) -> Iterator[Reading]:
        """Yield the current value at the latest time of each channel, device by device in the given order."""
        distinct = list(dict.fromkeys(devices))
        for at in range(0, len(distinct), DEVICES_AT_ONCE):
            with self._reader() as connection:
                found = read_latest(connection, self._packings, distinct[at : at + DEVICES_AT_ONCE], kinds)
            yield from found

    def count_slots(self, query: SlotsQuery) -> int:
        """Return the number of distinct slots that hold a record."""
        return sum(self._scanned(query, SlotScan.count_next))

    def slots(self, query: SlotsQuery) -> Iterator[int]:
        """Yield the distinct slots (interval ends) that hold a record, in order."""
        for some in self._scanned(query, SlotScan.next):
            yield from some

    def arrivals(self, device: str, first: int, last: int) -> Sequence[Arrivals]:
        """Return when each slot (interval end) with first <= slot <= last of a device came, layout by layout."""
        with self._reader() as connection:
            return read_arrivals(connection, self._packings, device, first, last)

    def _scanned(
        self, query: SlotsQuery, step: Callable[[SlotScan, sqlite3.Connection], _Found | None]
    ) -> Iterator[_Found]:
        with self._reader() as connection:
            scan = SlotScan(connection, self._packings, query)
        while True:
            with self._reader() as connection:
                found = step(scan, connection)
            if found is None:
                return
            yield found

    def events(
        self, devices: Sequence[str], start: int, end: int, limit: int, after: str = ""
    ) -> tuple[Sequence[Event], str]:
        """Return events with start <= time < end in the order of (time, id), and the cursor of the next page."""
        if limit < 1:
            raise StorageError("a page has at least one event", retry=False)
        with self._reader() as connection:
            return read_events(connection, devices, start, end, limit, after)

    def expectations(self, device: str) -> Sequence[Expectation]:
        """Return all promises to read this device, in the order of `since`."""
        with self._reader() as connection:
            return read_expectations(connection, device)

    def ping(self) -> None:
        """Return quietly when the file can be read and written; raise `StorageError` otherwise."""
        with self._lock, schema.told(self.path):
            self._check_open()
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Release the file; later calls raise `StorageError`. A question under way ends first."""
        with self._lock, schema.told(self.path):
            if self._closed:
                return
            self._closed = True
            for _ in range(self._made):
                try:
                    self._idle.get(timeout=READER_WAIT_S).close()
                except queue.Empty:
                    raise StorageError(f"{self.path}: a question did not end", retry=True) from None
            self._connection.close()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for one short read transaction: one snapshot, and never longer than the question."""
        self._check_open()
        with schema.told(self.path):
            connection = self._borrow()
            try:
                connection.execute("BEGIN")
                try:
                    yield connection
                finally:
                    connection.execute("ROLLBACK")
            finally:
                self._idle.put(connection)

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            pass
        with self._making:
            if self._made < READERS:
                connection = schema.connect(self.path, writer=False)
                self._made += 1
                return connection
        try:
            return self._idle.get(timeout=READER_WAIT_S)
        except queue.Empty:
            raise StorageError(f"{self.path}: {READERS} questions are under way", retry=True) from None

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self.path} is closed", retry=False)

    def _bound_wal(self) -> None:
        """Empty the WAL where readers kept it from starting again."""
        try:
            size = self.path.with_name(self.path.name + "-wal").stat().st_size
        except FileNotFoundError:
            return
        if size > schema.WAL_LIMIT_BYTES:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _event_rows(batches: Sequence[Batch]) -> Iterable[tuple[int, str, str, str, str, int, str]]:
    for batch in batches:
        for event in batch.events:
            detail = msgspec.json.encode(event.detail, order="sorted").decode()
            yield event.time, event.id, event.device, event.code, event.name, event.received_at, detail


def _expectation_rows(batches: Sequence[Batch]) -> Iterable[tuple[str, int, str, str, int, str, int | None]]:
    for batch in batches:
        for one in batch.expectations:
            obis = msgspec.json.encode(one.obis).decode()
            yield one.device, one.since, one.kind.value, one.source.value, one.interval, obis, one.until
