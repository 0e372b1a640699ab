"""Which partitions of the fleet this head-end owns, shared out among those that live. It reads no message.

A head-end shows that it lives by a number in the shared state that it counts up. Others watch that number by their own
clocks: one that stands still for LEASE_S is dead, and its partitions are taken. No clocks are compared. Safety does
not rest on that time: taking a partition raises its fence, and what is committed is only written down under the fence
that still holds (`headend.state.ledgers`), so that a head-end that slept finds itself relieved before any receipt.
"""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog

from headend.seqs import Ledger, hash_of
from headend.state.ledgers import NOBODY, CommittedSeqs, Owned, Ownership, Sight
from headend.state.store import State
from metering.errors import StorageError
from storage.codec import Origin

LEASE_S = 10.0  # without a beat, then a head-end counts as dead
TICK_S = 1.0  # between two beats

_log = structlog.get_logger(__name__)


class _Seen(NamedTuple):
    beat: int
    at: float  # by our own clock


class Tenure:
    """`headend.books.Books` over the shared state. `run` until told to stop; `on_taken` is told of new partitions."""

    def __init__(
        self, state: State, head_end: str, partitions: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.owner = f"{head_end}-{secrets.token_hex(4)}"
        self.on_taken: Callable[[], None] = lambda: None
        self.last_error = ""
        self._ownership = Ownership(state)
        self._committed = CommittedSeqs(state, partitions)
        self._count = partitions
        self._clock = clock
        self._ledger = Ledger()
        self._fences: dict[int, int] = {}  # of the partitions that are ours
        self._lock = threading.Lock()  # of ledger and fences together: ticks and commits run in threads
        self._seen: dict[str, _Seen] = {}
        self._beat = 0
        self._renewed = clock()

    # --- books --------------------------------------------------------------------------------------------------------

    def load(self) -> Ledger:
        """Return the ledger of what is owned, which changes with that."""
        return self._ledger

    def held(self) -> frozenset[int]:
        """Return the partitions that are ours, none where the state was not reached for LEASE_S."""
        return frozenset(self._fences) if self._clock() - self._renewed < LEASE_S else frozenset()

    def holds(self, gateway: str) -> bool:
        """Tell whether a gateway's partition is ours."""
        return hash_of(gateway) % self._count in self.held()

    def leads(self) -> bool:
        """Tell whether the work that only one head-end of all is to do is ours: that goes with the first partition."""
        return 0 in self.held()

    def fence(self, gateway: str) -> int:
        """Return the fence of a gateway's partition."""
        return self._fences.get(hash_of(gateway) % self._count, 0)

    def note(self, origins: Sequence[Origin]) -> frozenset[str]:
        """Write down what the log has; return the gateways of partitions that were taken from us."""
        with self._lock:
            gone = self._committed.add(self.owner, self._fences, origins)
            self._lose(gone)
            return frozenset(each.gateway for each in origins if hash_of(each.gateway) % self._count in gone)

    def save(self, ledger: Ledger, position: int) -> None:
        """Do nothing: all of it is written down already."""

    # --- owning -------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Beat, take and give until `stop`; give all up at the end."""
        while not stop.is_set():
            try:
                if await asyncio.to_thread(self.tick):
                    self.on_taken()
                self.last_error = ""
            except StorageError as error:
                if not self.last_error:
                    _log.error("partitions cannot be shared out", reason=str(error))
                self.last_error = str(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TICK_S)
        with contextlib.suppress(StorageError):  # the others find it out by themselves
            await asyncio.to_thread(self.leave)

    def tick(self) -> list[int]:
        """Beat once, and bring what is ours to our share; return what was taken. Raises `StorageError`. Blocking."""
        self._beat += 1
        self._ownership.beat(self.owner, self._beat)
        sight = self._ownership.look()
        self._renewed = self._clock()
        living = self._living(sight)
        with self._lock:
            self._lose(n for n in list(self._fences) if sight.owned.get(n) != Owned(self.owner, self._fences[n]))
        share = -(-self._count // len(living))
        self._give(sorted(self._fences)[share:])
        taken = []
        for number in range(self._count):
            before = sight.owned.get(number)
            free = before is None or before.owner == NOBODY or before.owner not in living
            if free and len(self._fences) < share and self._take(number, before):
                taken.append(number)
        for owner in sight.beats.keys() - living:
            self._ownership.forget(owner, sight.beats[owner])
        return taken

    def leave(self) -> None:
        """Give all partitions up, for others to take at once. Raises `StorageError`. Blocking."""
        self._give(list(self._fences))
        self._ownership.forget(self.owner, self._beat)

    def _living(self, sight: Sight) -> set[str]:
        now = self._clock()
        for owner, beat in sight.beats.items():
            seen = self._seen.get(owner)
            if seen is None or seen.beat != beat:
                self._seen[owner] = _Seen(beat, now)
        self._seen = {owner: seen for owner, seen in self._seen.items() if owner in sight.beats}
        return {owner for owner, seen in self._seen.items() if now - seen.at < LEASE_S} | {self.owner}

    def _take(self, number: int, before: Owned | None) -> bool:
        taken = self._ownership.take(number, self.owner, before)
        if taken is None:
            return False
        saved = self._committed.load(number)  # after the fence was raised: nobody adds to it any more
        with self._lock:
            self._forget(number)
            self._ledger.load(saved)
            self._fences[number] = taken.fence
        _log.info("partition taken", partition=number, fence=taken.fence)
        return True

    def _give(self, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        with self._lock:
            self._lose(numbers)
        self._ownership.give(self.owner, numbers)

    def _lose(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self._fences.pop(number, None) is not None:
                _log.info("partition given up", partition=number)
                self._forget(number)

    def _forget(self, number: int) -> None:
        self._ledger.drop(name for name in self._ledger.gateways() if hash_of(name) % self._count == number)
