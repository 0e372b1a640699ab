"""The durable log: append returns when the disk has it, cursors read it, limits bound it. It knows no readings."""

import asyncio
import contextlib
import errno
import os
from bisect import insort
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Lock, RLock
from typing import Literal

import msgspec

from metering.errors import LogFullError, StorageError
from metering.model import Skipped
from storage.appender import STATE_FILE, Appender
from storage.codec import Counts, count
from storage.commit import GroupCommit, call_loop, release
from storage.cursor import Cursor, Cursors
from storage.files import Numbers, NumbersFile, lock_directory, sync_directory
from storage.keeper import Keeper
from storage.recovery import CURSORS, MAX_NOTES, Recovered, recover
from storage.retention import AgeClock, Clocks, LogLimits
from storage.segment import MAX_PAYLOAD_BYTES, RECORD_HEADER, SEGMENT_HEADER, Gap, Record
from storage.shelf import Segment
from storage.status import LogStatus

__all__ = ["Clocks", "Cursor", "Log", "LogLimits", "LogStatus", "Record"]

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class Log:
    """Records in order of their seq. All methods are safe in any thread; those that are not async may wait for disk."""

    def __init__(
        self, lock_fd: int, found: Recovered, limits: LogLimits, count: Callable[[bytes], Counts], clocks: Clocks
    ) -> None:
        self._lock_fd = lock_fd
        self._shelf = found.shelf
        self._notes = found.notes
        self._why_not = ""
        self._short = 0  # bytes that were refused for want of space: the refusal ends when there is room for them
        self._disk = RLock()  # one at a time: a commit, or a step of retention
        self._cursors = Cursors(found.shelf.directory / CURSORS, found.shelf.epoch, self._bounds)
        self._waiters_lock = Lock()
        self._waiters: list[tuple[int, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        age = AgeClock(found.age, found.last_wall, clocks)
        state = NumbersFile(found.shelf.directory / STATE_FILE)
        if found.state is None:
            state.create(Numbers(found.shelf.epoch, found.floor))
        self._appender = Appender(self._shelf, state, found.floor, age, (limits, clocks))
        self._keeper = Keeper(self._shelf, self._appender, age, limits, count)
        self._shelf.positions = self._cursors.positions
        found.notes += self._cursors.take(found.cursors, found.floor)
        self._adopt(found)
        self._writer = GroupCommit(self._commit)

    @classmethod
    def open(
        cls,
        directory: Path,
        limits: LogLimits | None = None,
        *,
        count: Callable[[bytes], Counts] = count,
        clocks: Clocks | None = None,
    ) -> "Log":
        """Open the log of a directory, which is made where there is none, and recover what a crash left.

        Raises:
            StorageError: another process has it open; it is of a newer version; the directory cannot be used.

        """
        try:
            (directory / CURSORS).mkdir(parents=True, exist_ok=True)
            sync_directory(directory.parent)
            lock_fd = lock_directory(directory)
        except OSError as error:
            raise StorageError(f"the log {directory} cannot be opened: {error}", retry=True) from error
        try:
            return cls(lock_fd, recover(directory), limits or LogLimits(), count, clocks or Clocks())
        except OSError as error:
            os.close(lock_fd)
            raise StorageError(f"the log {directory} cannot be opened: {error}", retry=True) from error
        except StorageError:
            os.close(lock_fd)
            raise

    @property
    def epoch(self) -> str:
        """The random id that was made with the log's directory: seqs count within it."""
        return self._shelf.epoch

    @property
    def next_seq(self) -> int:
        """The seq that the next record gets."""
        return self._shelf.next_seq

    @property
    def first_seq(self) -> int:
        """The oldest seq that is still held; what lies before is tombstones or was delivered to all."""
        return self._shelf.first_seq

    async def append(self, payload: bytes) -> int:
        """Store one record; return its seq when it is durable. Cancelled, it may still be stored: once, and whole.

        Raises:
            LogFullError: the disk is full or failing, or too much waits for it: not stored, try again later.
            StorageError: the log is closed, or the payload is above MAX_PAYLOAD_BYTES.

        """
        _check_size(payload)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[int] = loop.create_future()
        self._writer.submit((payload,), loop, waiter)
        return await waiter

    def append_now(self, payloads: Sequence[bytes]) -> range:
        """Store records in one commit; return their seqs when they are durable. Blocking. Raises as `append`."""
        for payload in payloads:
            _check_size(payload)
        if not payloads:
            return range(self.next_seq, self.next_seq)
        waiter: Future[int] = Future()
        self._writer.submit(payloads, None, waiter)
        first = waiter.result()
        return range(first, first + len(payloads))

    def cursor(self, name: str, start: Literal["first", "end"] = "first") -> Cursor:
        """Return the cursor of this name; a new one begins at the oldest record or at the end.

        Raises:
            ValueError: no cursor's name, or MAX_CURSORS are there already.
            StorageError: the disk refused a new one.

        """
        with self._disk:
            return self._cursors.get(name, start)

    def drop_cursor(self, name: str) -> None:
        """Forget a cursor whose reader is gone for good, so that nothing is kept or counted for it."""
        with self._disk:
            self._cursors.drop(name)

    def read(self, from_seq: int, max_records: int = 100, max_bytes: int = 1024 * 1024) -> list[Record | Skipped]:
        """Return what stands from `from_seq` on, in order: each seq is a record or inside a `Skipped` range.

        Empty only at the end of the log. Stops after the record that reaches `max_bytes`. A range that begins before
        `from_seq` is cut there and keeps its counts; at a cursor's own position they are exact. A `Skipped` of
        reason "evicted" without counts was delivered to every cursor before it was trimmed.
        """
        return self._shelf.read(max(from_seq, 1), max_records, max_bytes)

    async def wait_for(self, seq: int) -> None:
        """Return when the record `seq` is there to be read."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        entry = (seq, id(waiter), loop, waiter)
        with self._waiters_lock:
            if self.next_seq > seq:
                return
            insort(self._waiters, entry)
        try:
            await waiter
        finally:
            with self._waiters_lock, contextlib.suppress(ValueError):
                self._waiters.remove(entry)

    def tombstones(self) -> list[Skipped]:
        """Return the ranges that will never be delivered, in order, as far as they are known."""
        return list(self._shelf.tombstones.items)

    def trim(self) -> None:
        """Drop what is beyond the limits; try whether a disk that was full accepts again. Blocking; call now and then.

        Raises:
            StorageError: the disk refused the account of what would go; so nothing went.

        """
        try:
            with self._disk:
                if self._shelf.unsaved:
                    self._shelf.bury([], lambda totals: totals, self._appender.floor, must=True)
                if self._appender.active is not None and self._appender.wants_roll(0, 0):
                    self._appender.roll()
                self._keeper.trim()
                self._why_not = self._still_refused()
        except OSError as error:
            raise StorageError(f"the log cannot be trimmed: {error}", retry=True) from error

    def status(self) -> LogStatus:
        """Return how the log is, from memory and one look at the disk's free space."""
        view, totals = self._shelf.view(), self._shelf.tombstones.totals
        first = view.segments[0].first_seq if view.segments else view.next_seq
        absent = sum(
            item.to_seq - max(item.from_seq, first) + 1 for item in view.tombstones.items if item.to_seq >= first
        )
        why_not = self._still_refused()
        return LogStatus(
            epoch=self.epoch,
            first_seq=first,
            next_seq=view.next_seq,
            records=view.next_seq - first - absent,
            bytes=self._shelf.bytes(),
            oldest_at=view.segments[0].created_at if view.next_seq > first else None,
            accepting=not why_not,
            why_not=why_not,
            **msgspec.structs.asdict(totals),
            quarantine_items=len(self._shelf.quarantine),
            quarantine_dropped=self._shelf.quarantine.dropped,
            commits=self._appender.commits,
            bytes_written=self._appender.bytes_written,
            depth={name: max(0, view.next_seq - at) for name, at in self._cursors.by_name().items()},
            notes=tuple(self._notes[:MAX_NOTES]),
        )

    def close(self) -> None:
        """Write what waits, then let the directory go. Later appends raise `StorageError`."""
        self._writer.close()
        with self._disk:
            self._appender.close()
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
            self._lock_fd = -1

    def _bounds(self) -> tuple[int, int]:
        return self.first_seq, self.next_seq

    def _adopt(self, found: Recovered) -> None:
        """Go on in the newest segment where it ends well; otherwise the first append begins a new one."""
        try:
            if found.whole:
                self._appender.adopt(self._shelf.segments[-1])
            else:
                self._appender.roll()
        except OSError as error:
            self._refuse(error, SEGMENT_HEADER)

    def _commit(self, payloads: list[bytes]) -> int:
        """Write one group; the writer thread's work."""
        # With room for the headers of a segment begun now and of one begun at the next start.
        need = sum(map(len, payloads)) + RECORD_HEADER * len(payloads) + 2 * SEGMENT_HEADER
        with self._disk:
            segment = self._appender.active
            try:
                self._keeper.make_room(need)
                if self._appender.wants_roll(need, len(payloads)):
                    self._appender.roll()
                segment = self._appender.active
                first = self._appender.write(payloads)
            except LogFullError as error:
                self._why_not, self._short = str(error), need
                raise
            except OSError as error:
                if segment is not None and self._appender.active is None:
                    self._verify(segment)
                refusal = self._refuse(error, need)
                if self._short:
                    with contextlib.suppress(OSError):
                        self._keeper.give_way()
                raise refusal from error
            self._why_not, self._short = "", 0
        self._wake()
        return first

    def _refuse(self, error: OSError, need: int) -> LogFullError:
        """Remember why nothing is accepted, and return it as the error for those who wait."""
        self._short = need if error.errno in NO_SPACE else 0
        self._why_not = f"disk full: {error}" if self._short else f"the disk fails: {error}"
        return LogFullError(self._why_not)

    def _still_refused(self) -> str:
        """Return why nothing is accepted. Want of space ends with it; a failing disk must first take an append."""
        return self._keeper.shortage(self._short) if self._short else self._why_not

    def _verify(self, segment: Segment) -> None:
        """Read a segment again after a failed write: what was acknowledged must still be there, or be told as gone."""
        with contextlib.suppress(OSError):
            for found in self._shelf.walk(segment, segment.size, segment.first_seq, self.next_seq):
                if isinstance(found, Gap):
                    self._shelf.mark_gap(found, segment)

    def _wake(self) -> None:
        """Tell those who wait for a seq that is there now."""
        with self._waiters_lock:
            ready = [entry for entry in self._waiters if entry[0] < self.next_seq]
            del self._waiters[: len(ready)]
        for _, _, loop, waiter in ready:
            call_loop(loop, release, waiter)


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise StorageError(f"a record of {len(payload)} bytes; the limit is {MAX_PAYLOAD_BYTES}", retry=False)
