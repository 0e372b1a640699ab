"""A cursor: the durable, named position of one reader of the log. It reads nothing itself."""

import contextlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from metering.errors import StorageError
from storage.files import Numbers, NumbersFile, load_numbers

SUFFIX = ".cursor"
MAX_CURSORS = 64
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Cursor:
    """`position` is the next seq to read; all before it was delivered. One owner moves it."""

    def __init__(self, name: str, path: Path, epoch: str, bounds: Callable[[], tuple[int, int]]) -> None:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no cursor's name; it has 1 to 64 of A-Z a-z 0-9 _ -")
        self.name = name
        self._file = NumbersFile(path)
        self._epoch = epoch
        self._bounds = bounds
        self._lock = threading.Lock()
        self.position = 0

    def begin(self, position: int) -> None:
        """Make the cursor's file anew at `position`.

        Raises:
            StorageError: the disk refused; it may be tried again.

        """
        try:
            self._file.create(Numbers(self._epoch, position))
        except OSError as error:
            raise StorageError(f"cursor {self.name} cannot be made: {error}", retry=True) from error
        self.position = position

    def resume(self, position: int) -> None:
        """Take the position that the file was found to hold."""
        self.position = position

    def move(self, seq: int) -> None:
        """Set the position, forward or (to read again) back; it is durable when this returns. Blocking.

        Raises:
            ValueError: the log holds nothing there: `seq` is above the next one, or below the oldest record.
            StorageError: the disk refused; the position stays, and the call may be tried again.

        """
        first, following = self._bounds()
        if seq > following or seq < min(first, self.position):
            raise ValueError(f"cursor {self.name} cannot move to {seq}; the log holds {first} to {following - 1}")
        with self._lock:
            if seq == self.position:
                return
            try:
                self._file.store(Numbers(self._epoch, seq))
            except FileNotFoundError:
                self.begin(seq)  # somebody removed the file under us
            except OSError as error:
                raise StorageError(f"cursor {self.name} cannot move: {error}", retry=True) from error
            self.position = seq


class Cursors:
    """All cursors of a log, found in its directory or made on demand. Callers serialise `get` and `drop`."""

    def __init__(self, directory: Path, epoch: str, bounds: Callable[[], tuple[int, int]]) -> None:
        self._directory = directory
        self._epoch = epoch
        self._bounds = bounds
        self._cursors: dict[str, Cursor] = {}

    def take(self, found: dict[str, int | None], oldest: int) -> list[str]:
        """Take up what was found; a damaged one starts again at the oldest record, and is told of."""
        notes = []
        for name, position in found.items():
            cursor = self._cursors[name] = self._make(name)
            if position is not None:
                cursor.resume(position)
                continue
            notes.append(f"the cursor {name} was damaged and starts again at the oldest record")
            cursor.resume(oldest)
            with contextlib.suppress(StorageError):  # on a full disk the damaged file stays, and is found again
                cursor.begin(oldest)
        return notes

    def get(self, name: str, start: Literal["first", "end"]) -> Cursor:
        """Return the cursor of this name, made where there is none. Raises as `Log.cursor`."""
        if name not in self._cursors:
            if len(self._cursors) >= MAX_CURSORS:
                raise ValueError(f"the log has {MAX_CURSORS} cursors already")
            made = self._make(name)
            first, following = self._bounds()
            made.begin(first if start == "first" else following)
            self._cursors = {**self._cursors, name: made}
        return self._cursors[name]

    def drop(self, name: str) -> None:
        """Forget a cursor, file and all."""
        if name not in self._cursors:
            return
        self._cursors = {known: cursor for known, cursor in self._cursors.items() if known != name}
        (self._directory / f"{name}{SUFFIX}").unlink(missing_ok=True)

    def positions(self) -> list[int]:
        """Return where the cursors stand."""
        return [cursor.position for cursor in self._cursors.values()]

    def by_name(self) -> dict[str, int]:
        """Return the positions by the cursors' names."""
        return {name: cursor.position for name, cursor in self._cursors.items()}

    def _make(self, name: str) -> Cursor:
        return Cursor(name, self._directory / f"{name}{SUFFIX}", self._epoch, self._bounds)


def load_cursors(directory: Path, epoch: str) -> dict[str, int | None]:
    """Return the position of each cursor file; None where it is damaged or belongs to another log."""
    found: dict[str, int | None] = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if _NAME.fullmatch(path.stem) is None:
            continue
        try:
            numbers = load_numbers(path)
        except OSError:
            numbers = None
        found[path.stem] = numbers.first if numbers is not None and numbers.epoch == epoch else None
    return found
