"""Tells each run of a gateway how far the invocation counters of its devices were reserved. It decides no lease.

A gateway whose disk was put back, or is a new one, learns by it which of its counters are not to be believed.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from headend.journal import Entries
from headend.state.keys import KeyBook
from metering import timing, wire
from metering.model import SECOND
from metering.wire import Control

FIRST_WAIT_S = 10.0  # for an answer; then the same is sent again, after a time that doubles
LONGEST_WAIT_S = 3600.0
MAX_FLOORS = 500  # in one control
MAX_TOLD = 100_000  # gateways of which is remembered what they were told


class Publish(Protocol):
    """Sends to gateways (`headend.inbox.port.Inbox.publish`)."""

    async def __call__(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send a message. Raises `LinkDownError`."""
        ...


class Run(NamedTuple):
    """A run of a gateway that is there: its boot, and the epoch under which it sends."""

    boot: str
    epoch: str


class _Told:
    """What a run was told about floors, and when it is told again."""

    def __init__(self, run: Run, seq: int) -> None:
        self.run = run
        self.seq = seq  # of the head-end's log when the run was first seen: what was reported before it counts
        self.tries = 0
        self.next_at = 0
        self.waits: set[str] = set()  # ids of controls without an answer
        self.heard = False


class FloorTeller:
    """Tells the runs that `runs` names. `progress` is how far journals were read, and where the log ends."""

    def __init__(
        self,
        book: KeyBook,
        publish: Publish,
        runs: Callable[[], Mapping[str, Run]],
        progress: Callable[[], tuple[int, int]],
        clock: Callable[[], int] = timing.now,
    ) -> None:
        self._book = book
        self._publish = publish
        self._runs = runs
        self._progress = progress
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def heard(self, entries: Entries) -> None:
        """Take the answers."""
        for gateway, entry in entries:
            told = self._told.get(gateway)
            if told is not None and entry.id in told.waits:
                told.waits.discard(entry.id)
                told.heard = not told.waits

    async def step(self) -> None:
        """Tell whoever has not heard. Raises `StorageError`, `LinkDownError`."""
        for gateway, run in list(self._runs().items()):
            await self._tell(gateway, run)

    async def _tell(self, gateway: str, run: Run) -> None:
        """Tell a run how far its devices' counters were reserved, until it has heard."""
        position, end = self._progress()
        told = self._told.get(gateway)
        if told is None or told.run != run:
            while len(self._told) >= MAX_TOLD:
                del self._told[next(iter(self._told))]
            told = self._told[gateway] = _Told(run, end)
        if told.heard or self._clock() < told.next_at or position < told.seq:
            return
        floors = await asyncio.to_thread(self._book.floors, gateway)
        if not floors and await asyncio.to_thread(self._book.transport, gateway) is None:
            return  # it has no keys
        items = sorted(floors.items())
        parts = [dict(items[first : first + MAX_FLOORS]) for first in range(0, len(items), MAX_FLOORS)] or [{}]
        ids = [secrets.token_hex(8) for _ in parts]
        told.waits = set(ids)
        told.tries, told.next_at = told.tries + 1, self._clock() + wait_us(told.tries)
        for number, (ident, part) in enumerate(zip(ids, parts, strict=True), 1):
            control = Control(ident, "counters", boot=run.boot, first=number, last=len(parts), floors=part)
            await self._publish(wire.topic(gateway, "control"), wire.encode(control), retain=False)


def wait_us(tries: int) -> int:
    """Return how long to wait for an answer, after so many tries, in microseconds."""
    return int(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(tries, 10)) * SECOND)
