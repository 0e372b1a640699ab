"""What this gateway has promised to read, kept across restarts: completeness rests on it, not on what is running."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from metering.errors import StorageError
from metering.model import Expectation
from storage.files import replace_file


class Promises:
    """The promises that are open, in one small file that is replaced when they change, and only then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open = self._load()
        self._next = self._open

    @property
    def open(self) -> Sequence[Expectation]:
        """Return the promises that were open when they were last kept."""
        return self._open

    def settle(self, wanted: Iterable[Expectation], now: int) -> list[Expectation]:
        """Return what is new to say: ended promises with their end, new ones with their beginning.

        `wanted` are promises with any `since`; one that is open already keeps the `since` it has. Call `keep` once
        the log holds what this returned.
        """
        open_now = {_subject(promise): promise for promise in self._open}
        told: list[Expectation] = []
        kept: list[Expectation] = []
        for promise in wanted:
            known = open_now.pop(_subject(promise), None)
            if known is None:
                told.append(promise)
            kept.append(known or promise)
        ended = [msgspec.structs.replace(promise, until=max(now, promise.since)) for promise in open_now.values()]
        self._next = kept
        return ended + told

    def keep(self) -> None:
        """Make the last `settle` durable."""
        if self._next == self._open:
            return
        replace_file(self._path, msgspec.json.encode(self._next))
        self._open = self._next

    def _load(self) -> list[Expectation]:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return []
        try:
            return msgspec.json.decode(raw, type=list[Expectation])
        except ValueError as error:
            raise StorageError(
                f"{self._path} is damaged ({error}); remove it: promises then begin anew, from now on", retry=False
            ) from error


def _subject(promise: Expectation) -> tuple[str, str, str, int, tuple[str, ...]]:
    return promise.device, promise.kind, promise.source, promise.interval, promise.obis
