"""Where decisions wait that must not wait for the audit: a restore goes ahead, and joins the chain when it takes it.

One file, a line each with a checksum, durable before the decision goes on. Bounded: beyond it even a restore waits,
and the gateways' own journals still tell all of it.
"""

import os
import threading
import zlib
from pathlib import Path

import msgspec

from headend.audit.chain import Entry, Trail
from metering.errors import StorageError
from storage.files import replace_file

MAX_BYTES = 16 << 20
AT_ONCE = 200  # entries that join the chain in one transaction


class _Line(msgspec.Struct, frozen=True):
    crc: int
    entry: msgspec.Raw


class Spool:
    """Entries on their way into a chain. Safe in several threads; one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def put(self, entry: Entry) -> None:
        """Keep an entry: durable when this returns.

        Raises:
            StorageError: it is full, or the disk refuses.

        """
        raw = msgspec.json.encode(entry)
        line = msgspec.json.encode(_Line(zlib.crc32(raw), msgspec.Raw(raw))) + b"\n"
        with self._lock:
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
                try:
                    if os.fstat(fd).st_size + len(line) > MAX_BYTES:
                        raise self.full()
                    os.write(fd, line)
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
            except OSError as error:
                raise StorageError(f"{self._path} cannot be written: {error.strerror}", retry=True) from None

    def waiting(self) -> list[Entry]:
        """Return what waits, in order; a torn last line was never acted upon."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return []
        found = []
        for line in raw.splitlines():
            try:
                made = msgspec.json.decode(line, type=_Line)
                if zlib.crc32(made.entry) == made.crc:
                    found.append(msgspec.json.decode(made.entry, type=Entry))
            except msgspec.MsgspecError:
                continue
        return found

    def drain(self, trail: Trail) -> int:
        """Let all that waits join the chain, in order; return how many did. Raises `StorageError`.

        A crash between chain and file lets entries join twice: the same decision is then told twice, never not at all.
        """
        with self._lock:
            entries = self.waiting()
            for start in range(0, len(entries), AT_ONCE):
                trail.write(*entries[start : start + AT_ONCE])
            if entries:
                self.clear()
            return len(entries)

    def clear(self) -> None:
        """Forget what has joined. Raises `StorageError`."""
        try:
            replace_file(self._path, b"")
        except OSError as error:
            raise StorageError(f"{self._path} cannot be emptied: {error.strerror}", retry=True) from None

    def full(self) -> StorageError:
        """Return the error of one that takes no more."""
        return StorageError(f"{self._path} is full: the audit takes nothing for too long", retry=True)
