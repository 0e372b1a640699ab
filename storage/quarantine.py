"""Bytes that could not be used, kept with the reason for a person to look at. Bounded; it never stops its caller."""

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from metering.timing import now
from storage.files import replace_file

MAX_BYTES = 16 * 1024 * 1024
MAX_ITEMS = 1000
MAX_ITEM_BYTES = 1024 * 1024  # of one payload; the rest is cut and its true size told
MAX_TEXT = 500  # characters of origin and reason
MAX_PER_HOUR = 1000  # writes: a source that babbles must not wear out the flash disk
HOUR_S = 3600.0
SUFFIX = ".bad"


class QuarantineItem(NamedTuple):
    """One refused payload. `size` is its true length; `payload` holds at most MAX_ITEM_BYTES of it."""

    origin: str
    reason: str
    at: int
    size: int
    payload: bytes


class _Head(msgspec.Struct):
    origin: str
    reason: str
    at: int
    size: int


class Quarantine:
    """A folder of refused payloads: the oldest give way, the same bytes from the same origin are kept once.

    Safe for use in several threads. `dropped` counts what gave way or was never written since this object was made.
    """

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._hour_began = time.monotonic()
        self._written = 0
        self.dropped = 0
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob("*.tmp"):
            leftover.unlink(missing_ok=True)
        files = sorted(directory.glob(f"*{SUFFIX}"))
        self._sizes = {path: path.stat().st_size for path in files}
        self._serial = itertools.count(1 + max((_serial_of(path) for path in files), default=0))

    def __len__(self) -> int:
        return len(self._sizes)

    def put(self, origin: str, reason: str, payload: bytes) -> bool:
        """Keep a payload. False: the disk refused it or the hour's writes are used up, and it is counted as dropped."""
        digest = hashlib.blake2b(payload, digest_size=8, key=origin.encode()[:64]).hexdigest()
        head = _Head(origin[:MAX_TEXT], reason[:MAX_TEXT], now(), len(payload))
        data = msgspec.json.encode(head) + b"\n" + payload[:MAX_ITEM_BYTES]
        with self._lock:
            if any(path.stem.endswith(digest) for path in self._sizes):
                return True
            if not self._may_write():
                self.dropped += 1
                return False
            path = self._directory / f"{next(self._serial):012d}-{digest}{SUFFIX}"
            try:
                replace_file(path, data)
            except OSError:
                self.dropped += 1
                return False
            self._sizes[path] = len(data)
            self._make_room()
            return True

    def items(self) -> Iterator[QuarantineItem]:
        """Yield what is kept, oldest first."""
        yield from read_items(self._directory)

    def _may_write(self) -> bool:
        if time.monotonic() - self._hour_began > HOUR_S:
            self._hour_began, self._written = time.monotonic(), 0
        self._written += 1
        return self._written <= MAX_PER_HOUR

    def _make_room(self) -> None:
        while len(self._sizes) > MAX_ITEMS or (sum(self._sizes.values()) > self._max_bytes and len(self._sizes) > 1):
            oldest = next(iter(self._sizes))
            oldest.unlink(missing_ok=True)
            del self._sizes[oldest]
            self.dropped += 1


def read_items(directory: Path) -> Iterator[QuarantineItem]:
    """Yield the payloads kept in a folder, oldest first; what cannot be read says so in its reason."""
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            head, _, payload = path.read_bytes().partition(b"\n")
            known = msgspec.json.decode(head, type=_Head)
        except FileNotFoundError:
            continue  # it gave way while we looked
        except (OSError, msgspec.MsgspecError) as error:
            yield QuarantineItem(path.name, f"this entry is itself unreadable: {error}", 0, 0, b"")
            continue
        yield QuarantineItem(known.origin, known.reason, known.at, known.size, payload)


def _serial_of(path: Path) -> int:
    serial = path.stem.partition("-")[0]
    return int(serial) if serial.isdigit() else 0
