"""Invocation counters on disk: reserved ahead in blocks, so that no value is given out twice over any crash.

A journal of reservations, one line each with a checksum; a line that is torn at the end was never acted upon. It knows
nothing of meters' protocols.
"""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

from metering.errors import AuthError, StorageError
from storage.files import replace_file, write_all

BLOCK = 256  # values reserved with one write; what is left of a block at a crash is given up
LARGEST_RAISE = 10_000  # how far an unauthenticated word of the meter may move a counter at a time
CEILING = 0xF000_0000  # no word of a meter moves a counter beyond this
LAST = 0xFFFF_FFFF  # the counter has 32 bits (Green Book, invocation field)
COMPACT_LINES = 4096  # a longer journal is written anew when it is opened

_EPOCH = "epoch"


class Counters:
    """All counters of one gateway. `name` is whatever tells key and client title apart; one owner at a time.

    `epoch` is the log's: when it is another than the journal's, this disk has been restored or replaced, and no counter
    is believed until the meter's own is known (see `Counter.raise_to`).
    """

    def __init__(self, path: Path, epoch: str = "") -> None:
        self._path = path
        self._reserved: dict[str, int] = {}
        self._halted: set[str] = set()
        self._lines = 0
        known = self._load()
        if epoch and known and known != epoch:
            self._halted = set(self._reserved)
        self._epoch = epoch or known
        if self._lines > COMPACT_LINES or self._epoch != known or not path.exists():
            self._rewrite()

    def counter(self, name: str, floor: int | None, begins: Callable[[], None] | None = None) -> "Counter":
        """Return the counter of this name. `floor` is a person's word of where it begins (None: nobody said).

        `begins` is called before the first value of all is given out.
        """
        return Counter(self, name, floor, begins)

    def reserved(self, name: str) -> int | None:
        """Return the first value that is not reserved yet; None where nothing was ever reserved."""
        return self._reserved.get(name)

    def is_halted(self, name: str) -> bool:
        """Tell whether the disk may have been restored since, so that the meter has to be asked first."""
        return name in self._halted

    def reserve(self, name: str, until: int) -> None:
        """Make durable that values below `until` may be used.

        Raises:
            StorageError: the disk refused; no value may be used.

        """
        line = _line(f"{name} {until}")
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                # At the end, after a line's end of its own where the last line was torn.
                write_all(fd, line, os.fstat(fd).st_size)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageError(f"{self._path}: no counter can be reserved: {error.strerror}", retry=True) from None
        self._reserved[name] = until
        if name in self._halted:
            self._halted.discard(name)
            self._rewrite()

    def _load(self) -> str:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return ""
        epoch = ""
        for line in raw.split(b"\n"):
            name, _, value = _checked(line).rpartition(" ")
            self._lines += 1
            if not name:
                continue
            if name == _EPOCH:
                epoch = value
            elif name.startswith("halted "):
                self._halted.add(name[7:])
                self._reserved.setdefault(name[7:], int(value))
            else:
                self._reserved[name] = max(self._reserved.get(name, 0), int(value))
        return epoch

    def _rewrite(self) -> None:
        lines = [_line(f"{_EPOCH} {self._epoch}")] if self._epoch else []
        for name, until in sorted(self._reserved.items()):
            lines.append(_line(f"{'halted ' if name in self._halted else ''}{name} {until}"))
        try:
            replace_file(self._path, b"".join(lines))
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}", retry=True) from None
        self._lines = len(lines)


class Counter:
    """One key's counter towards one meter (`collector.keys.InvocationCounter`)."""

    def __init__(
        self, counters: Counters, name: str, floor: int | None, begins: Callable[[], None] | None = None
    ) -> None:
        self._counters = counters
        self._begins = begins
        self._name = name
        self._floor = floor
        self._next = 0
        self._until = 0

    @property
    def halted(self) -> bool:
        """Tell whether it stands still because the disk was restored or replaced since it was used."""
        return self._counters.is_halted(self._name) and not self.known

    @property
    def known(self) -> bool:
        """Tell whether values may be given out."""
        if self._counters.is_halted(self._name):
            reserved = self._counters.reserved(self._name) or 0
            return self._floor is not None and self._floor >= reserved
        return self._floor is not None or self._counters.reserved(self._name) is not None

    def next(self) -> int:
        """Return a value that was never given out; reserves the next block, durably, where the last one is used up.

        Raises:
            AuthError: the counter is at its end, or has to be learned first.
            StorageError: the disk refused the reservation.

        """
        if self._next >= self._until:
            if not self.known:
                raise AuthError("the invocation counter is not known: read the meter's own, or say it: metergate key")
            begin = max(self._floor or 0, self._counters.reserved(self._name) or 0, self._next)
            self._reserve(begin)
        value = self._next
        if value > LAST:
            raise AuthError("the invocation counter is at its end: the meter needs a new key")
        self._next += 1
        return value

    def raise_to(self, expected: int) -> None:
        """Go on at the meter's expectation, which was read without authentication, and one block above it.

        Raises:
            AuthError: it is more than `LARGEST_RAISE` ahead of ours, or beyond `CEILING`.
            StorageError: the disk refused the reservation.

        """
        ours = max(self._next, self._floor or 0, self._counters.reserved(self._name) or 0)
        if expected - ours > LARGEST_RAISE or expected > CEILING:
            raise AuthError(
                f"the meter says that its invocation counter stands at {expected}, ours at {ours}: more than "
                f"{LARGEST_RAISE} ahead is not believed without authentication; if it is true, say it: metergate key"
            )
        if self.known and expected <= (self._next if self._next < self._until else ours):
            return
        self._reserve(max(expected, ours) + BLOCK)

    def _reserve(self, begin: int) -> None:
        if begin > LAST:
            raise AuthError("the invocation counter is at its end: the meter needs a new key")
        until = min(begin + BLOCK, LAST + 1)
        if self._begins is not None and self._counters.reserved(self._name) is None:
            self._begins()
        self._counters.reserve(self._name, until)
        self._next, self._until = begin, until


def _line(text: str) -> bytes:
    # The line's end stands at both sides: a torn line before this one then spoils nothing but itself.
    return f"\n{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _checked(line: bytes) -> str:
    """Return a line's text; empty where it is torn or damaged."""
    crc, _, text = line.partition(b" ")
    try:
        good = int(crc, 16) == zlib.crc32(text)
    except ValueError:
        return ""
    return text.decode("ascii", "replace") if good else ""
