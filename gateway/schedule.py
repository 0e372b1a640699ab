"""When to read: boundaries of the wall clock in UTC, each task at its own offset. It reads nothing itself."""

import asyncio
import heapq
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from gateway.clock import Clock
from metering.model import SECOND
from metering.timing import slot_at_or_before

LONGEST_SLEEP_S = 1.0  # the wall clock may step: it is looked at again at least this often
TIMER_S = 0.001  # event loops round to milliseconds: a sleep that ends before its time is slept again and again
OFFSET_SHARE = 0.1  # an offset never takes more than this share of the interval


@dataclass(frozen=True)
class ScheduledRead:
    """Something to do at each boundary of `interval` seconds, `offset_s` after it. `start` is given the boundary."""

    name: str
    interval: int
    offset_s: float
    start: Callable[[int], None]


def gateway_offset(gateway: str, jitter_s: float, interval: int) -> float:
    """Return this gateway's own offset in seconds, always the same, so that a fleet does not speak at once."""
    share = zlib.crc32(gateway.encode()) / 2**32
    return share * min(jitter_s, interval * OFFSET_SHARE)


def spread_offset(name: str, interval: int) -> float:
    """Return a task's own place inside its interval: for values that need no common boundary."""
    return zlib.crc32(name.encode()) / 2**32 * interval


class Schedule:
    """Starts each read when it is due. A boundary that was missed is never made up: it is missing, and told so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reads: list[ScheduledRead] = []
        self._due: list[tuple[int, int]] = []  # (instant, index of the read)
        self.started = 0

    def add(self, read: ScheduledRead) -> None:
        """Add a read; its first boundary is the next one."""
        self._reads.append(read)
        heapq.heappush(self._due, (self._next(read, self._clock.now()), len(self._reads) - 1))

    def take_over(self, earlier: "Schedule") -> None:
        """Go on where an earlier schedule stood with the reads that both have: no boundary is missed or read twice."""
        due = earlier.due()
        self._due = [(due.get(_key_of(self._reads[index]), instant), index) for instant, index in self._due]
        heapq.heapify(self._due)

    def due(self) -> dict[tuple[str, int, float], int]:
        """Return when each read, by name, interval and offset, is due next."""
        return {_key_of(self._reads[index]): instant for instant, index in self._due}

    def restart(self) -> None:
        """Begin anew from the present: the clock has stepped."""
        now = self._clock.now()
        self._due = [(self._next(read, now), index) for index, read in enumerate(self._reads)]
        heapq.heapify(self._due)

    async def run(self, stop: asyncio.Event) -> None:
        """Start reads until `stop`."""
        while not stop.is_set():
            wait_s = max(self.start_due(), 0.0) + TIMER_S
            await asyncio.sleep(min(wait_s, LONGEST_SLEEP_S))

    def start_due(self) -> float:
        """Start all that is due; return the seconds until the next one."""
        now = self._clock.now()
        while self._due and self._due[0][0] <= now:
            due, index = self._due[0]
            read = self._reads[index]
            heapq.heapreplace(self._due, (self._next(read, now), index))
            self.started += 1
            read.start(due - round(read.offset_s * SECOND))
        return (self._due[0][0] - now) / SECOND if self._due else LONGEST_SLEEP_S

    @staticmethod
    def _next(read: ScheduledRead, after: int) -> int:
        """Return the first instant after `after` at which the read is due."""
        offset = round(read.offset_s * SECOND)
        return slot_at_or_before(after - offset, read.interval) + read.interval * SECOND + offset


def _key_of(read: ScheduledRead) -> tuple[str, int, float]:
    return read.name, read.interval, read.offset_s
