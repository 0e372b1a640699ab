"""What the log may keep: its limits, its own clock for ages, which segment goes next, and the account of what goes."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metering.model import SECOND, Skipped
from metering.timing import now
from storage.codec import Counts
from storage.segment import End, Gap, Record

DAY_S = 86_400.0
MIN_LOG_BYTES = 64 * 1024
SEGMENTS_AT_LEAST = 4  # the log never has fewer segments to its bytes: what goes, goes in steps of a quarter at most
SPAN_PARTS = 16  # a segment spans at most this part of the shortest age limit
MAX_OFF_S = 7 * DAY_S  # time without power counted at most at one start: a clock wrong by years evicts nothing at once
CLOCK_BEGINS = 1_735_689_600 * SECOND  # 2025-01-01: a clock before it was never set


@dataclass(frozen=True)
class LogLimits:
    """How much is kept, and for how long. Bytes are those of the segment files; 0 means no limit for the ages."""

    max_bytes: int = 2 * 1024**3
    max_age_s: float = 40 * DAY_S
    segment_bytes: int = 8 * 1024 * 1024
    min_free_bytes: int = 16 * 1024 * 1024  # free disk space below which nothing is accepted
    keep_s: float = 40 * DAY_S  # what every cursor has passed stays this long for the feed of changes

    def __post_init__(self) -> None:
        if self.max_bytes < MIN_LOG_BYTES or self.segment_bytes <= 0:
            raise ValueError(f"a log of {self.max_bytes} bytes is too small; at least {MIN_LOG_BYTES}")
        if min(self.max_age_s, self.min_free_bytes, self.keep_s) < 0:
            raise ValueError("a limit of the log is negative")

    @property
    def segment_size(self) -> int:
        """Bytes after which a segment is closed."""
        return min(self.segment_bytes, self.max_bytes // SEGMENTS_AT_LEAST)

    @property
    def segment_span_s(self) -> float:
        """Seconds after which a segment is closed; 0 where no age limits the log."""
        return min((age for age in (self.max_age_s, self.keep_s) if age), default=0.0) / SPAN_PARTS


def _steady() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Clocks:
    """Where time comes from: the wall clock (microseconds since 1970 UTC) and one that only goes forward (seconds)."""

    wall: Callable[[], int] = now
    steady: Callable[[], float] = _steady


class AgeClock:
    """Seconds of the log's own life. It never goes back, and a stepping wall clock does not move it.

    While the log is open it follows the steady clock. The time in between is taken from the wall clock, where both
    ends of it are believable, and up to MAX_OFF_S: to keep a record too long is harmless, to evict it is not.
    """

    def __init__(self, age: int, last_wall: int, clocks: Clocks) -> None:
        off = (clocks.wall() - last_wall) / SECOND if last_wall >= CLOCK_BEGINS else 0.0
        self._clocks = clocks
        self._base = age + min(max(off, 0.0), MAX_OFF_S) - clocks.steady()

    def now(self) -> int:
        """Return the age of the log in whole seconds."""
        return int(self._base + self._clocks.steady())


class Oldest(NamedTuple):
    """The oldest closed segment: the seq after its last one, its bytes, and when (by age) the next one was begun."""

    end_seq: int
    size: int
    newest_age: int


def must_go(oldest: Oldest, total: int, passed: int, age: int, limits: LogLimits, *, short: bool) -> bool:
    """Tell whether the oldest segment must go. `passed`: all below this seq was delivered to every cursor.

    `short`: disk space is needed; then what was delivered gives way, and nothing else does.
    """
    old = age - oldest.newest_age
    if total > limits.max_bytes or (limits.max_age_s and old > limits.max_age_s):
        return True
    return oldest.end_seq <= passed and (short or bool(limits.keep_s and old > limits.keep_s))


class _Piece:
    """The account of one range while it is being counted."""

    def __init__(self, first: int, last: int) -> None:
        self.range = first, last
        self.readings: dict[str, int] = {}
        self.times: list[int] = []

    def take(self, counts: Counts) -> None:
        for device, number in counts.readings.items():
            self.readings[device] = self.readings.get(device, 0) + number
        self.times = [t for t in (*self.times, counts.first, counts.last) if t is not None]
        self.times = [min(self.times), max(self.times)] if self.times else []


def account(
    found: Iterable[Record | Gap | End],
    span: tuple[int, int],
    positions: Sequence[int],
    count: Callable[[bytes], Counts],
) -> tuple[list[Skipped], int]:
    """Return the tombstones of an evicted span (first and last seq), and how many records were in it.

    The span is cut where a cursor stands inside it, so that each reader is told of exactly what it will not get.
    """
    starts = sorted({span[0], *(p for p in positions if span[0] < p <= span[1])})
    ends = [*(start - 1 for start in starts[1:]), span[1]]
    pieces = [_Piece(first, last) for first, last in zip(starts, ends, strict=True)]
    records = 0
    for one in found:
        if not isinstance(one, Record):
            continue
        records += 1
        try:
            counts = count(one.payload)
        except ValueError:
            continue  # whole on disk but no batch: its seq is in the range, its readings nobody could have read
        pieces[bisect_right(starts, one.seq) - 1].take(counts)
    return [
        Skipped(*piece.range, "evicted", piece.readings, *(piece.times or (None, None))) for piece in pieces
    ], records
