"""The figures of collection: counts of slots, their sums and their rates. Pure: no store, no clock.

expected = held + recovered + no_supply + lost + missing, counted as completeness counts: a slot of each channel. What
lies inside a recorded power failure is taken out of what a rate is held against.
"""

import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from metering.model import SECOND

DAY = 86_400 * SECOND
BUCKET = 900 * SECOND  # a day's figures are kept by quarter hours
BUCKETS = DAY // BUCKET
LIMITS_S = (900, 3_600, 14_400, 86_400)  # how long after its slot a reading may come and be on time: one of these


class Figures(NamedTuple):
    """Counts of slots. `first_try` of those held came by the scheduled read; `within[i]` came within LIMITS_S[i]."""

    expected: int = 0
    held: int = 0
    recovered: int = 0
    no_supply: int = 0
    lost: int = 0
    first_try: int = 0
    within_900: int = 0
    within_3600: int = 0
    within_14400: int = 0
    within_86400: int = 0

    @property
    def missing(self) -> int:
        """Return how many slots nothing accounts for."""
        return self.expected - self.held - self.recovered - self.no_supply - self.lost

    @property
    def backfilled(self) -> int:
        """Return how many came by a later read of the meter's own memory."""
        return self.held - self.first_try + self.recovered

    @property
    def success_rate(self) -> float | None:
        """Return the part of what could come that did; None where nothing could."""
        return self._rate(self.held + self.recovered)

    @property
    def first_try_rate(self) -> float | None:
        """Return the part of what could come that the scheduled read brought."""
        return self._rate(self.first_try)

    def on_time(self, limit_s: int) -> int:
        """Return how many came within one of LIMITS_S."""
        return int(self[FIELDS.index(f"within_{limit_s}")])

    def on_time_rate(self, limit_s: int) -> float | None:
        """Return the part of what could come that came within one of LIMITS_S."""
        return self._rate(self.on_time(limit_s))

    def plus(self, other: Sequence[int]) -> "Figures":
        """Return the sums."""
        return Figures(*(mine + yours for mine, yours in zip(self, other, strict=True)))

    def _rate(self, part: int) -> float | None:
        could = self.expected - self.no_supply
        return part / could if could else None


FIELDS = Figures._fields


def total(parts: Iterable[Sequence[int]]) -> Figures:
    """Return the sums of several figures."""
    columns = list(zip(*parts, strict=True))
    return Figures(*map(sum, columns)) if columns else Figures()


class Buckets:
    """A day's figures by quarter hours: what is counted while a day is judged."""

    def __init__(self) -> None:
        self._counts = {name: [0] * BUCKETS for name in FIELDS}

    def count(self, name: str, buckets: Iterable[int], times: int) -> None:
        """Count `times` for each of these buckets, which may repeat."""
        counts = self._counts[name]
        for bucket in buckets:
            counts[bucket] += times

    def figures(self) -> list[Figures]:
        """Return the figures of each bucket."""
        return [Figures(*counts) for counts in zip(*self._counts.values(), strict=True)]

    def sum(self) -> Figures:
        """Return the figures of the day."""
        return Figures(*map(sum, self._counts.values()))

    def packed(self) -> bytes:
        """Return them as bytes: most days of most meters give the same ones."""
        return zlib.compress(array("I", [each for counts in self._counts.values() for each in counts]).tobytes(), 6)


def unpacked(packed: Mapping[bytes, int]) -> list[Figures]:
    """Return the figures of each bucket, summed over packed days and how often each of them stands there."""
    sums = [[0] * BUCKETS for _ in FIELDS]
    for each, times in packed.items():
        counts = array("I")
        counts.frombytes(zlib.decompress(each))
        for at, column in enumerate(sums):
            part = counts[at * BUCKETS : (at + 1) * BUCKETS]
            column[:] = [known + times * count for known, count in zip(column, part, strict=True)]
    return [Figures(*counts) for counts in zip(*sums, strict=True)]
