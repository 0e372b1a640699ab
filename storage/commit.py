"""Group commit: one thread writes, and all appends that wait share its next write. It knows no files."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from metering.errors import LogFullError, StorageError

MAX_WAITING_BYTES = 32 * 1024 * 1024  # payloads that wait for the disk; beyond it an append is refused, not queued
MAX_GROUP_BYTES = 4 * 1024 * 1024
MAX_GROUP_RECORDS = 1024

Outcome = int | StorageError


class _Ticket(NamedTuple):
    payloads: Sequence[bytes]
    size: int
    loop: asyncio.AbstractEventLoop | None
    waiter: "asyncio.Future[int] | Future[int]"


class GroupCommit:
    """Calls `commit(payloads) -> first seq` for one group after the other, in the order of arrival.

    A waiter that is cancelled leaves its payload in the queue: it is written once, whole, and nobody hears of it.
    """

    def __init__(self, commit: Callable[[list[bytes]], int]) -> None:
        self._commit = commit
        self._ready = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._bytes = 0
        self._closed = ""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def submit(
        self,
        payloads: Sequence[bytes],
        loop: asyncio.AbstractEventLoop | None,
        waiter: "asyncio.Future[int] | Future[int]",
    ) -> None:
        """Queue payloads that are written together; `waiter` gets the seq of the first, or the error.

        Raises:
            LogFullError: MAX_WAITING_BYTES wait already.
            StorageError: the log is closed.

        """
        size = sum(map(len, payloads))
        with self._ready:
            if self._closed:
                raise StorageError(self._closed, retry=False)
            if self._waiting and self._bytes + size > MAX_WAITING_BYTES:
                raise LogFullError(f"{self._bytes} bytes wait for the disk already")
            self._waiting.append(_Ticket(payloads, size, loop, waiter))
            self._bytes += size
            self._ready.notify()

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._ready:
            self._closed = self._closed or "the log is closed"
            self._ready.notify()
        self._thread.join()

    def _take(self) -> list[_Ticket]:
        """Return the next group; empty when all is written and the log closes."""
        with self._ready:
            while not self._waiting and not self._closed:
                self._ready.wait()
            size = records = taken = 0
            for ticket in self._waiting:
                size += ticket.size
                records += len(ticket.payloads)
                if taken and (size > MAX_GROUP_BYTES or records > MAX_GROUP_RECORDS):
                    break
                taken += 1
            group, self._waiting = self._waiting[:taken], self._waiting[taken:]
            self._bytes -= sum(ticket.size for ticket in group)
            return group

    def _run(self) -> None:
        group: list[_Ticket] = []
        try:
            while group := self._take():
                try:
                    outcome: Outcome = self._commit([payload for ticket in group for payload in ticket.payloads])
                except StorageError as error:
                    outcome = error
                _settle(group, outcome)
        except BaseException as error:
            # A fault of our own: nobody may wait for ever on a thread that is gone.
            with self._ready:
                self._closed = f"the log's writer failed: {error!r}"
                group, self._waiting = group + self._waiting, []
            _settle(group, StorageError(self._closed, retry=False))
            raise


def _settle(group: list[_Ticket], outcome: Outcome) -> None:
    """Tell each waiter; those of one event loop with one wake-up of it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], Outcome]]] = {}
    for ticket in group:
        waiter = ticket.waiter
        if isinstance(waiter, Future):
            _tell(waiter, outcome)
        elif ticket.loop is not None:
            by_loop.setdefault(ticket.loop, []).append((waiter, outcome))
        if isinstance(outcome, int):
            outcome += len(ticket.payloads)
    for loop, told in by_loop.items():
        call_loop(loop, _tell_all, told)


def call_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> None:
    """Have an event loop call something, from any thread; one that is closed has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _tell_all(told: list[tuple["asyncio.Future[int]", Outcome]]) -> None:
    for waiter, outcome in told:
        _tell(waiter, outcome)


def _tell(waiter: "asyncio.Future[int] | Future[int]", outcome: Outcome) -> None:
    if waiter.done():
        return
    if isinstance(outcome, int):
        waiter.set_result(outcome)
    else:
        waiter.set_exception(outcome)


def release(waiter: "asyncio.Future[None]") -> None:
    """End a wait that has no result; on the waiter's own loop."""
    if not waiter.done():
        waiter.set_result(None)
