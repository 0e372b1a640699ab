"""Invocation counters on disk: reserved ahead in blocks, so that no value is given out twice over any crash.

Counters that may have gone back (a disk put back, a meter that came from another gateway) stand still until the words
of the head-end and of the meter say how far they were used. It knows nothing of meters' protocols.
"""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.counter_file import Account, CounterFile
from metering.errors import AuthError, HaltedError

BLOCK = 256  # values reserved with one write; what is left of a block at a crash is given up
LARGEST_RAISE = 10_000  # how far an unauthenticated word of the meter may move a counter at a time
LARGEST_FLOOR = 1 << 24  # how far the head-end's word may: ten years of a meter that is read each minute
CEILING = 0xF000_0000  # no word of a meter or of the head-end moves a counter beyond this
LAST = 0xFFFF_FFFF  # the counter has 32 bits (Green Book, invocation field)
START_HOLD_S = 60.0  # after a start: for the head-end's word; then the meter is asked for its own

UNHEARD = -1  # of a counter that is halted: the head-end has not said yet how far it was reserved


class Counters:
    """All counters of one gateway. A name is `METER KEY TITLE`: whatever tells key and client title of a meter apart.

    `epoch` is that under which the log goes up: when it is another than the journal's, this disk has been restored or
    replaced, and all counters are halted. With a `headend` a halted one waits for its word as well as for the meter's.
    `on_reserved` is told each reservation once it is durable. Safe for several threads; one process at a time.
    """

    def __init__(
        self,
        path: Path,
        epoch: str = "",
        *,
        headend: bool = False,
    ) -> None:
        self._file = CounterFile(path)
        self._headend = headend
        self.on_reserved: Callable[[str, int], None] | None = None
        self._sure: set[str] | None = None  # meters whose counters fit what the head-end knows; None: nobody asks it
        self._hold_until = 0.0
        self._mutex = threading.RLock()
        found = self._file.load()
        self._reserved, self._halted = found.reserved, found.halted  # by name; by meter: the head-end's floor
        if epoch and found.epoch and found.epoch != epoch:
            self._halted = dict.fromkeys(map(meter_of, self._reserved), UNHEARD)
        self._epoch = epoch or found.epoch
        if self._file.is_long or self._epoch != found.epoch or not path.exists():
            self._rewrite()

    def counter(self, name: str, floor: int | None, begins: Callable[[], None] | None = None) -> "Counter":
        """Return the counter of this name. `floor` is a person's word of where it begins (None: nobody said).

        `begins` is called before the first value of all is given out.
        """
        return Counter(self, name, floor, begins)

    def reserved(self, name: str) -> int | None:
        """Return the first value that is not reserved yet; None where nothing was ever reserved."""
        return self._reserved.get(name)

    def reservations(self) -> dict[str, int]:
        """Return the first value of each counter that is not reserved yet."""
        with self._mutex:
            return dict(self._reserved)

    def highest(self, meter: str) -> int:
        """Return the first value that is reserved for no key of a meter; 0 where nothing ever was."""
        return max((until for name, until in self.reservations().items() if meter_of(name) == meter), default=0)

    # --- halting ------------------------------------------------------------------------------------------------------

    def floor(self, meter: str) -> int | None:
        """Return the head-end's floor of a halted meter (UNHEARD: it has not said); None where it is not halted."""
        return self._halted.get(meter)

    def is_unsure(self, meter: str) -> bool:
        """Tell whether nobody has confirmed since this start that the journal is not an old one."""
        return self._sure is not None and meter not in self._sure

    def waits(self, meter: str) -> str:
        """Return why a meter's counters are not to be used, whatever the meter says; empty where they may be."""
        floor = self.floor(meter)
        if floor == UNHEARD and self._headend:
            return "its invocation counter is halted until the head-end has told how far it was reserved"
        if floor is None and self.is_unsure(meter) and time.monotonic() < self._hold_until:
            return "its invocation counter waits after the start for the head-end's word"
        return ""

    def halt(self, meter: str, floor: int = UNHEARD) -> None:
        """Let a meter's counters stand still, durably, until they exceed `floor` and the meter's own word.

        Raises:
            StorageError: the disk refused.

        """
        with self._mutex:
            self._halted[meter] = floor
            self._rewrite()

    def halt_all(self, epoch: str) -> None:
        """Let all counters stand still, durably: the disk was put back to an earlier state. Raises `StorageError`."""
        with self._mutex:
            self._epoch = epoch
            self._halted |= dict.fromkeys(map(meter_of, self._reserved), UNHEARD)
            self._rewrite()

    def ask_headend(self) -> None:
        """Use no counter until the head-end has spoken, or START_HOLD_S have passed."""
        self._sure = set()
        self._hold_until = time.monotonic() + START_HOLD_S

    def hear(self, floors: Mapping[str, int]) -> list[str]:
        """Take the head-end's word of how far each meter's counters were reserved; return whose are halted by it.

        A floor above our own reservations says that this journal is an old one. Raises `StorageError`.
        """
        with self._mutex:
            behind = []
            for meter, floor in floors.items():
                if (known := self._halted.get(meter)) is not None:
                    self._halted[meter] = max(known, floor)
                elif floor > self.highest(meter):
                    self._halted[meter] = floor
                    behind.append(meter)
                elif self._sure is not None:
                    self._sure.add(meter)
            if behind or floors.keys() & self._halted.keys():
                self._rewrite()
            return behind

    def all_heard(self) -> None:
        """Note that the head-end has told all that it knows: whatever it did not name was never reserved here."""
        self._sure = None
        with self._mutex:
            unheard = [meter for meter, floor in self._halted.items() if floor == UNHEARD]
            if unheard:
                self._halted |= dict.fromkeys(unheard, 0)
                self._rewrite()

    # --- the journal --------------------------------------------------------------------------------------------------

    def reserve(self, name: str, until: int) -> None:
        """Make durable that values below `until` may be used; what halted the counter is settled by it.

        Raises:
            StorageError: the disk refused; no value may be used.

        """
        with self._mutex:
            self._file.append(name, until)
            self._reserved[name] = until
            if self._halted.pop(meter_of(name), None) is not None:
                self._rewrite()
            if self._sure is not None:
                self._sure.add(meter_of(name))
        if self.on_reserved is not None:
            self.on_reserved(name, until)

    def _rewrite(self) -> None:
        self._file.rewrite(Account(self._epoch, self._reserved, self._halted))


class Counter:
    """One key's counter towards one meter (`collector.keys.InvocationCounter`)."""

    def __init__(
        self, counters: Counters, name: str, floor: int | None, begins: Callable[[], None] | None = None
    ) -> None:
        self._counters = counters
        self._begins = begins
        self._name = name
        self._meter = meter_of(name)
        self._floor = floor
        self._next = 0
        self._until = 0

    @property
    def halted(self) -> bool:
        """Tell whether it stands still because the disk was restored or replaced since it was used."""
        return self._counters.floor(self._meter) is not None and not self.known

    @property
    def known(self) -> bool:
        """Tell whether values may be given out."""
        reserved = self._counters.reserved(self._name)
        told = self._counters.floor(self._meter)
        if told is not None:
            return self._floor is not None and self._floor >= max(reserved or 0, told)
        if self._counters.is_unsure(self._meter):
            return self._floor is not None and reserved is not None and self._floor >= reserved
        return self._floor is not None or reserved is not None

    @property
    def waits(self) -> str:
        """Return why it is not to be used, whatever the meter says; empty where it may be."""
        return "" if self.known else self._counters.waits(self._meter)

    def next(self) -> int:
        """Return a value that was never given out; reserves the next block, durably, where the last one is used up.

        Raises:
            AuthError: the counter is at its end, or has to be learned first.
            HaltedError: it was halted since.
            StorageError: the disk refused the reservation.

        """
        halted = self._counters.floor(self._meter) is not None
        if halted or self._next >= self._until:
            if not self.known:
                if halted:
                    raise HaltedError("its invocation counter is halted", meter=self._meter)
                raise AuthError("the invocation counter is not known: read the meter's own, or say it: metergate key")
            self._reserve(self._ours)
        value = self._next
        if value > LAST:
            raise AuthError("the invocation counter is at its end: the meter needs a new key")
        self._next += 1
        return value

    def raise_to(self, expected: int) -> None:
        """Go on at the meter's expectation, which was read without authentication, and one block above it.

        Where it is halted: one block above the larger of that and the head-end's word.

        Raises:
            AuthError: one of the two is too far ahead of ours to be believed, or beyond `CEILING`.
            HaltedError: the head-end has not spoken yet.
            StorageError: the disk refused the reservation.

        """
        if waits := self.waits:
            raise HaltedError(waits, meter=self._meter)
        ours = self._ours
        told = self._counters.floor(self._meter) or 0
        if told - max(expected, ours) > LARGEST_FLOOR or told > CEILING:
            raise AuthError(
                f"the head-end says that the invocation counter was reserved up to {told}, the meter that it stands at "
                f"{expected}, ours at {ours}: not believed; if it is true, say it: metergate key"
            )
        if expected - max(ours, told) > LARGEST_RAISE or expected > CEILING:
            raise AuthError(
                f"the meter says that its invocation counter stands at {expected}, ours at {max(ours, told)}: more "
                f"than {LARGEST_RAISE} ahead is not believed without authentication; if it is true, say it: "
                "metergate key"
            )
        if self.known and expected <= (self._next if self._next < self._until else ours):
            return
        self._reserve(max(expected, ours, told) + BLOCK)

    def skip(self) -> bool:
        """Go on LARGEST_RAISE above ours where the meter tells nothing and the only doubt is that of a start."""
        if self._counters.floor(self._meter) is not None or not self._counters.is_unsure(self._meter):
            return False
        if self._floor is None and self._counters.reserved(self._name) is None:
            return False
        self._reserve(self._ours + LARGEST_RAISE)
        return True

    @property
    def _ours(self) -> int:
        return max(self._next, self._floor or 0, self._counters.reserved(self._name) or 0)

    def _reserve(self, begin: int) -> None:
        if begin > LAST:
            raise AuthError("the invocation counter is at its end: the meter needs a new key")
        until = min(begin + BLOCK, LAST + 1)
        if self._begins is not None and self._counters.reserved(self._name) is None:
            self._begins()
        self._counters.reserve(self._name, until)
        self._next, self._until = begin, until


def meter_of(name: str) -> str:
    """Return the meter of a counter's name."""
    return name.partition(" ")[0]
