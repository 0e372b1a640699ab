"""Small durable files: whole-file replacement, two-page records that survive a torn write, reads past bad sectors."""

import contextlib
import errno
import fcntl
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from metering.errors import StorageError

PAGE = 4096  # what a disk tears or loses at once; also the step in which an unreadable area is passed

LOCK_FILE = "lock"

_MAGIC = b"MGSL"
_SLOT = struct.Struct("<4sQ16sQQQI")  # magic, generation, epoch, three numbers, CRC-32 of all before


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: a file that was made, renamed or removed is so after a power cut too."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock_directory(directory: Path) -> int:
    """Take a directory for this process alone and return the descriptor that holds it.

    The lock goes with the process, however it ends.

    Raises:
        StorageError: another process has it.

    """
    fd = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StorageError(f"{directory} is in use by process {owner}", retry=False) from None
    with contextlib.suppress(OSError):  # the number is for the message only; a full disk may refuse it
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all bytes at `offset`; a short write goes on where it stopped until the system says why."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest = rest[written:]
        offset += written


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file: after a crash either the old content stands there or the new one.

    Raises:
        OSError: the disk refused; the old content is untouched.

    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            write_all(fd, data, 0)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_at(fd: int, offset: int, size: int) -> bytes:
    """Return up to `size` bytes (fewer at the end of the file), with zeros where the disk cannot read a page.

    A bad sector must not take its neighbours along: the zeros fail their checksum and are passed like other damage.
    """
    parts: list[bytes] = []
    while size > 0:
        try:
            part = os.pread(fd, size, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            part = _read_page(fd, offset, min(size, PAGE - offset % PAGE))
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_page(fd: int, offset: int, size: int) -> bytes:
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return bytes(size)


class Numbers(NamedTuple):
    """Up to three unsigned numbers of a log with this epoch, as one durable record."""

    epoch: str
    first: int
    second: int = 0
    third: int = 0


def load_numbers(path: Path) -> Numbers | None:
    """Return what was stored last, or None where neither page is whole.

    Where the last write was torn, the one before it is returned.

    Raises:
        FileNotFoundError: there is no such file.

    """
    fd = os.open(path, os.O_RDONLY)
    try:
        found = [_parse_page(read_at(fd, page * PAGE, _SLOT.size)) for page in (0, 1)]
    finally:
        os.close(fd)
    whole = [entry for entry in found if entry is not None]
    return max(whole)[1] if whole else None


class NumbersFile:
    """Two pages written in turn, each with generation and CRC: atomic and durable for one page written.

    Cheaper than a rename (no journal commit for a new file, half the flash written) and works on a full disk, because
    the space is there already. Callers serialise.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._generation = 0

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    def create(self, numbers: Numbers) -> None:
        """Write the file anew, both pages.

        Raises:
            OSError: the disk refused; a former file is untouched.

        """
        first, second = _page(1, numbers), _page(2, numbers)
        replace_file(self._path, first.ljust(PAGE, b"\0") + second.ljust(PAGE, b"\0"))
        self._generation = 2

    def store(self, numbers: Numbers) -> None:
        """Replace the older of the two pages and return when that is durable.

        Each call opens the file anew: after a failed fdatasync the same descriptor may report success for bytes that
        never reached the disk.

        Raises:
            OSError: the disk refused; the last stored numbers still stand.

        """
        fd = os.open(self._path, os.O_RDWR)
        try:
            generation = (self._generation or _highest_generation(fd)) + 1
            write_all(fd, _page(generation, numbers), generation % 2 * PAGE)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        self._generation = generation


def _page(generation: int, numbers: Numbers) -> bytes:
    body = _SLOT.pack(_MAGIC, generation, numbers.epoch.encode(), numbers.first, numbers.second, numbers.third, 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def _parse_page(data: bytes) -> tuple[int, Numbers] | None:
    if len(data) < _SLOT.size:
        return None
    magic, generation, epoch, first, second, third, crc = _SLOT.unpack(data)
    if magic != _MAGIC or crc != zlib.crc32(data[:-4]):
        return None
    return generation, Numbers(epoch.decode("ascii", "replace"), first, second, third)


def _highest_generation(fd: int) -> int:
    pages = [_parse_page(read_at(fd, page * PAGE, _SLOT.size)) for page in (0, 1)]
    return max((page[0] for page in pages if page is not None), default=0)
