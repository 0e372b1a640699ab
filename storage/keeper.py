"""Carries retention out: measures disk and age, accounts for the oldest segment, and unlinks it. It decides nothing."""

import os
from collections.abc import Callable, Sequence

from metering.errors import LogFullError
from metering.model import Skipped
from storage.appender import Appender
from storage.codec import Counts
from storage.retention import AgeClock, LogLimits, Oldest, account, must_go
from storage.shelf import Segment, Shelf, recount
from storage.tombstones import Totals

SLACK_BYTES = 64 * 1024  # the filesystem's and our own books want room too: a new segment's name, the tombstones


class Keeper:
    """Works under the log's disk lock; each step is durable before the next."""

    def __init__(
        self, shelf: Shelf, appender: Appender, age: AgeClock, limits: LogLimits, count: Callable[[bytes], Counts]
    ) -> None:
        self._shelf = shelf
        self._appender = appender
        self._age = age
        self._limits = limits
        self._count = count

    def shortage(self, need: int) -> str:
        """Return why `need` bytes more would leave too little free disk space; empty where they would not."""
        disk = os.statvfs(self._shelf.directory)
        free = disk.f_bavail * disk.f_frsize
        if free - need - SLACK_BYTES >= self._limits.min_free_bytes:
            return ""
        return f"disk full: {free} bytes free, {self._limits.min_free_bytes + SLACK_BYTES} are to stay free"

    def make_room(self, need: int) -> None:
        """Drop what is beyond the limits once `need` bytes more are there; what was delivered gives way to a full disk.

        Raises:
            LogFullError: too little disk space, and nothing left that may go.
            OSError: the account of what would go could not be made durable; so it stayed.

        """
        why_not = self.shortage(need)
        if not why_not and self._shelf.bytes() + need <= self._limits.max_bytes:
            return  # ages are `trim`'s business
        while self._step(need, short=bool(why_not)):
            why_not = self.shortage(need)
        if why_not:
            raise LogFullError(why_not)

    def give_way(self) -> None:
        """Drop the oldest segment if all of it was delivered: the disk has just refused a write for want of space."""
        self._step(0, short=True)

    def trim(self) -> None:
        """Drop what is beyond the limits. Raises OSError as `make_room`."""
        while self._step(0, short=bool(self.shortage(0))):
            pass

    def _step(self, need: int, *, short: bool) -> bool:
        """Let the oldest segment go if it must. The newest is never touched: it tells the next seq."""
        segments = self._shelf.view().segments
        if len(segments) < 2:
            return False
        oldest, following = segments[0], segments[1]
        positions = self._shelf.positions()
        known = Oldest(following.first_seq, oldest.size, following.age)
        passed = min(positions, default=0)
        if not must_go(known, self._shelf.bytes() + need, passed, self._age.now(), self._limits, short=short):
            return False
        self._evict(oldest, following.first_seq, positions)
        return True

    def _evict(self, segment: Segment, end_seq: int, positions: Sequence[int]) -> None:
        """Account for the segment durably, then unlink it. What every cursor has passed is trimmed, not evicted."""
        first = min(max(segment.first_seq, min(positions, default=0)), end_seq)
        delivered = first - segment.first_seq
        tombstones: list[Skipped] = []
        records = 0
        if first < end_seq:
            try:
                found = self._shelf.walk(segment, segment.size, first, end_seq)
                tombstones, records = account(found, (first, end_seq - 1), positions, self._count)
            except FileNotFoundError:
                tombstones, records = account((), (first, end_seq - 1), positions, self._count)

        def totals(before: Totals) -> Totals:
            return recount(before, tombstones, records, delivered)

        if tombstones:
            self._shelf.bury(tombstones, totals, end_seq, must=True)
        self._appender.set_floor(end_seq)
        self._shelf.replace([one for one in self._shelf.segments if one is not segment])
        segment.path.unlink(missing_ok=True)
        if not tombstones:
            # Nothing is missing here, and a full disk has no room for the books before the segment is gone.
            self._shelf.bury((), totals, end_seq, must=False)
