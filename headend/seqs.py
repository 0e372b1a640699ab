"""Which seqs of which gateway and epoch the head-end has committed. Pure: no log, no clock, no broker.

Seqs of one epoch count up from 1. What is committed is a set of ranges; a receipt says the highest seq below which
nothing is missing, and the ranges above it. A gateway whose log was replaced or put back comes with a new epoch: the
same seqs then mean other records, and nothing of one epoch is ever a duplicate of another.
"""

from collections.abc import Iterable, Iterator

import msgspec

from metering.ranges import Ranges
from metering.wire import MAX_HELD

FNV_BASIS, FNV_PRIME = 2166136261, 16777619  # FNV-1a of 32 bits, as NATS spreads subjects over partitions
MAX_EPOCHS = 64  # of one gateway; further ones are refused until a person has looked


def hash_of(gateway: str) -> int:
    """Return the number of a gateway that, modulo the count of partitions, is its partition."""
    found = FNV_BASIS
    for byte in gateway.encode():
        found = (found ^ byte) * FNV_PRIME & 0xFFFFFFFF
    return found


class SavedEpoch(msgspec.Struct, frozen=True):
    """One epoch as it is written down: half-open ranges, and the check of the highest seq."""

    gateway: str
    epoch: str
    ranges: list[tuple[int, int]]
    check: tuple[int, int] | None


class EpochSeqs:
    """The committed seqs of one epoch. `check` is the highest of them and the CRC-32 of its record."""

    __slots__ = ("check", "ranges")

    def __init__(self, saved: SavedEpoch | None = None) -> None:
        self.ranges = Ranges(saved.ranges if saved is not None else ())
        self.check = saved.check if saved is not None else None

    @property
    def contiguous(self) -> int:
        """Return the highest seq that has nothing missing below it; 0 where the first is missing."""
        for start, end in self.ranges:
            return end - 1 if start <= 1 else 0
        return 0

    def held(self) -> list[tuple[int, int]]:
        """Return the lowest ranges above `contiguous`, inclusive: at most MAX_HELD."""
        found = [(start, end - 1) for start, end in self.ranges if start > 1]
        return found[:MAX_HELD]

    def missing(self) -> list[tuple[int, int]]:
        """Return what is missing below the highest committed seq, inclusive."""
        last = self.ranges.last
        return [(start, end - 1) for start, end in self.ranges.gaps(1, last + 1)] if last is not None else []

    def add(self, first: int, last: int, crc: int) -> None:
        """Take `first` to `last` as committed; `crc` is that of the record, 0 for a skipped range."""
        self.ranges.add(first, last + 1)
        if self.check is None or last > self.check[0]:
            self.check = (last, crc)


class Ledger:
    """All gateways' epochs. `add` only what is durable: receipts are made of it."""

    def __init__(self) -> None:
        self._epochs: dict[str, dict[str, EpochSeqs]] = {}

    def epochs(self, gateway: str) -> list[str]:
        """Return the epochs of a gateway in the order in which they came."""
        return list(self._epochs.get(gateway, ()))

    def knows(self, gateway: str, epoch: str) -> bool:
        """Tell whether anything of this epoch is committed."""
        return epoch in self._epochs.get(gateway, ())

    def room(self, gateway: str, epoch: str) -> bool:
        """Tell whether records of this epoch may be taken: it is known, or there are not MAX_EPOCHS yet."""
        return self.knows(gateway, epoch) or len(self._epochs.get(gateway, ())) < MAX_EPOCHS

    def of(self, gateway: str, epoch: str) -> EpochSeqs:
        """Return what is committed of an epoch; an empty one where it is not known (it is not remembered)."""
        return self._epochs.get(gateway, {}).get(epoch) or EpochSeqs()

    def has(self, gateway: str, epoch: str, first: int, last: int) -> bool:
        """Tell whether all seqs from `first` to `last` are committed."""
        return self.of(gateway, epoch).ranges.count(first, last + 1) == last + 1 - first

    def add(self, gateway: str, epoch: str, first: int, last: int, crc: int) -> None:
        """Take seqs as committed."""
        self._epochs.setdefault(gateway, {}).setdefault(epoch, EpochSeqs()).add(first, last, crc)

    def save(self) -> list[SavedEpoch]:
        """Return all of it, to be written down."""
        return [SavedEpoch(g, e, list(each.ranges), each.check) for g, e, each in self._all()]

    def load(self, saved: list[SavedEpoch]) -> None:
        """Take up what was written down."""
        for each in saved:
            self._epochs.setdefault(each.gateway, {})[each.epoch] = EpochSeqs(each)

    def gateways(self) -> list[str]:
        """Return the gateways of which anything is known."""
        return list(self._epochs)

    def drop(self, gateways: Iterable[str]) -> None:
        """Forget gateways: another head-end answers for them."""
        for gateway in gateways:
            self._epochs.pop(gateway, None)

    def _all(self) -> Iterator[tuple[str, str, EpochSeqs]]:
        for gateway, epochs in self._epochs.items():
            for epoch, seqs in epochs.items():
                yield gateway, epoch, seqs
