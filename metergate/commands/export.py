"""`metergate export`: readings out of the store, row for row as the API gives them, in bounded memory."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from api.render import csv_header, csv_lines, ndjson
from headend.completeness import Wanted
from headend.readings import BadRequestError, Question, ReadingsDesk
from headend.registry import MemoryRegistry
from headend.rows import Row
from metergate.parts import open_store
from metergate.site import SiteFile, devices_of, installations_of, load_site, moduli_of, points_of
from metering import timing
from metering.errors import ConfigError, StorageError

PAGE_ROWS = 5_000
TELL_S = 1.0  # between two lines of progress

_FORMS: dict[str, tuple[Callable[[], bytes], Callable[[Sequence[Row]], bytes]]] = {
    "csv": (csv_header, csv_lines),
    "ndjson": (bytes, ndjson),
}


def run_export(file: Path, start: str, end: str, points: Sequence[str], form: str, out: Path | None) -> None:
    """Write the readings of meter points, all without a name, from `start` until before `end`.

    Raises:
        ConfigError: an unknown format or meter point, or a time that is none.
        StorageError: the store cannot be read, or the file cannot be written.

    """
    site = load_site(file)
    if form not in _FORMS:
        raise ConfigError(f"--format: there is no format {form!r}; choose of {', '.join(_FORMS)}")
    span = _instant("--from", start), _instant("--to", end)
    chosen = _points(site, points)
    if not site.gateway.data.is_dir():
        raise StorageError(f"there is no data folder {site.gateway.data}: nothing was ever stored here", retry=False)
    store = open_store(site)
    try:
        registry = MemoryRegistry(points_of(site), devices_of(site), installations_of(site))
        desk = ReadingsDesk(registry, store, moduli_of(site), timing.now)
        with _target(out) as target:
            _write(desk, chosen, span, form, target)
    finally:
        store.close()


def _instant(option: str, text: str) -> int:
    try:
        return timing.from_rfc3339(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def _points(site: SiteFile, wanted: Sequence[str]) -> list[str]:
    known = [point.id for point in points_of(site)]
    for point in wanted:
        if point not in known:
            raise ConfigError(f"--point: there is no meter point {point!r} in the file")
    return sorted(wanted or known)


@contextmanager
def _target(out: Path | None) -> Iterator[BinaryIO]:
    """Yield where the rows go. A file appears under its name only when it is whole."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _write(desk: ReadingsDesk, points: Sequence[str], span: tuple[int, int], form: str, target: BinaryIO) -> None:
    head, lines = _FORMS[form]
    target.write(head())
    progress = _Progress(len(points))
    for point in points:
        progress.begin(point)
        question = Question(point, "", *span, Wanted())
        cursor = ""
        while True:
            try:
                rows, cursor = desk.page(question, ("",), PAGE_ROWS, cursor)
            except BadRequestError as error:
                raise ConfigError(f"--{error.field}: {error}") from None
            target.write(lines(rows))
            progress.add(len(rows))
            if not cursor:
                break
    progress.end()


class _Progress:
    """How far it is, on standard error: one line that changes on a terminal, plain lines elsewhere."""

    def __init__(self, points: int) -> None:
        self._points = points
        self._done = 0
        self._rows = 0
        self._point = ""
        self._told_at = time.monotonic()

    def begin(self, point: str) -> None:
        """Note the next meter point."""
        self._done += 1
        self._point = point

    def add(self, rows: int) -> None:
        """Note rows, and tell now and then."""
        self._rows += rows
        if time.monotonic() - self._told_at >= TELL_S:
            self._told_at = time.monotonic()
            self._tell(f"{self._point} ({self._done} of {self._points} meter points), {self._rows} readings so far")

    def end(self) -> None:
        """Tell the sum."""
        self._tell(f"{self._rows} readings of {self._points} meter points")
        if sys.stderr.isatty():
            print(file=sys.stderr)

    def _tell(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
