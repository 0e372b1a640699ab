"""The file of the invocation counters: a journal of reservations, and whose are halted. It decides nothing.

One line each with a checksum; a line that is torn at the end was never acted upon.
"""

import os
import zlib
from pathlib import Path
from typing import NamedTuple

from metering.errors import StorageError
from storage.files import replace_file, write_all

COMPACT_LINES = 4096  # a longer journal is written anew when it is opened
_EPOCH = "epoch"
_HALTED = "halted "


class Account(NamedTuple):
    """What the file says: its log's epoch, the first value not reserved by name, and the floors of halted meters."""

    epoch: str
    reserved: dict[str, int]
    halted: dict[str, int]


class CounterFile:
    """The file at `path`; one owner at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_long = False

    def load(self) -> Account:
        """Return what it says; nothing where there is no file yet."""
        account = Account("", {}, {})
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return account
        self.is_long = len(lines) > COMPACT_LINES
        for line in lines:
            name, _, value = _checked(line).rpartition(" ")
            if name == _EPOCH:
                account = account._replace(epoch=value)
            elif name.startswith(_HALTED):
                account.halted[name.removeprefix(_HALTED)] = int(value)
            elif name:
                account.reserved[name] = max(account.reserved.get(name, 0), int(value))
        return account

    def append(self, name: str, until: int) -> None:
        """Make a reservation durable.

        Raises:
            StorageError: the disk refused; no value may be used.

        """
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                # At the end, after a line's end of its own where the last line was torn.
                write_all(fd, _line(f"{name} {until}"), os.fstat(fd).st_size)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageError(f"{self._path}: no counter can be reserved: {error.strerror}", retry=True) from None

    def rewrite(self, account: Account) -> None:
        """Put `account` in the place of the whole file. Raises `StorageError`."""
        lines = [_line(f"{_EPOCH} {account.epoch}")] if account.epoch else []
        lines += [_line(f"{name} {until}") for name, until in sorted(account.reserved.items())]
        lines += [_line(f"{_HALTED}{meter} {floor}") for meter, floor in sorted(account.halted.items())]
        try:
            replace_file(self._path, b"".join(lines))
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}", retry=True) from None
        self.is_long = False


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
