"""What a log directory holds, for a person or record by record. It reads only: no lock, no repair."""

from collections.abc import Iterator
from pathlib import Path

from metering.errors import StorageError
from metering.model import Skipped
from metering.timing import to_rfc3339
from storage.appender import STATE_FILE
from storage.cursor import load_cursors
from storage.files import load_numbers
from storage.quarantine import read_items
from storage.recovery import CURSORS, EPOCH_FILE, QUARANTINE
from storage.segment import (
    SEGMENT_HEADER,
    SEQ_LIMIT,
    Damage,
    Gap,
    Record,
    Window,
    list_segments,
    open_for_reading,
    read_header,
    seed_of,
    walk,
)
from storage.shelf import TOMBSTONES_FILE
from storage.tombstones import load_tombstones

MAX_QUARANTINE_LINES = 50
PREVIEW_BYTES = 60


def describe(directory: Path) -> Iterator[str]:
    """Yield lines: the log, its segments with what is damaged in them, tombstones, cursors, quarantine.

    Raises:
        StorageError: there is no log in the directory.

    """
    segments = list_segments(directory)
    if not segments and not (directory / EPOCH_FILE).exists():
        raise StorageError(f"{directory} holds no log", retry=False)
    epoch = _epoch(directory)
    yield f"log {directory}  epoch {epoch or 'unreadable'}  segments {len(segments)}{_floor(directory)}"
    for at, (first_seq, path) in enumerate(segments):
        below = segments[at + 1][0] if at + 1 < len(segments) else SEQ_LIMIT
        try:
            yield from _segment(path, first_seq, below, epoch)
        except FileNotFoundError:
            yield f"  {path.name}  went while we looked"
        except (OSError, StorageError) as error:
            yield f"  {path.name}  cannot be read: {error}"
    yield from _tombstones(directory)
    for name, position in load_cursors(directory / CURSORS, epoch).items():
        yield f"  cursor {name}  {'damaged' if position is None else f'next seq {position}'}"
    yield from _quarantine(directory / QUARANTINE)


def records(directory: Path) -> Iterator[Record]:
    """Yield the records of a log that are whole, in order, beside whoever writes it; what is not is passed over.

    Raises:
        StorageError: there is no log in the directory, or a file of it cannot be read.

    """
    segments = list_segments(directory)
    if not segments and not (directory / EPOCH_FILE).exists():
        raise StorageError(f"{directory} holds no log", retry=False)
    seed = seed_of(_epoch(directory))
    for at, (first_seq, path) in enumerate(segments):
        below = segments[at + 1][0] if at + 1 < len(segments) else SEQ_LIMIT
        try:
            with open_for_reading(path) as (fd, length):
                for found in walk(Window(fd, length), (SEGMENT_HEADER, first_seq - 1), seed, first_seq, below):
                    if isinstance(found, Record):
                        yield found
        except FileNotFoundError:  # evicted while we looked
            continue
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}", retry=True) from None


def _epoch(directory: Path) -> str:
    try:
        return (directory / EPOCH_FILE).read_text(errors="replace").strip()
    except OSError:
        return ""


def _floor(directory: Path) -> str:
    try:
        state = load_numbers(directory / STATE_FILE)
    except OSError:
        state = None
    return f"  floor {state.first}" if state is not None else "  state file missing or damaged"


def _segment(path: Path, first_seq: int, below: int, epoch: str) -> Iterator[str]:
    """Yield one line for the segment and one for each gap in it, reading it in pieces."""
    header = read_header(path)
    remarks: list[str] = []
    records = size = 0
    first = last = None
    with open_for_reading(path) as (fd, length):
        for found in walk(Window(fd, length), (SEGMENT_HEADER, first_seq - 1), seed_of(epoch), first_seq, below):
            if isinstance(found, Record):
                records += 1
                size += len(found.payload)
                first, last = first or found, found
            elif isinstance(found, Gap):
                remarks.append(f"    seq {found.first} to {found.last} missing{_damages(found.damages)}")
            elif below != SEQ_LIMIT and found.expected < below:
                remarks.append(f"    seq {found.expected} to {below - 1} missing{_damages(found.damages)}")
            elif found.damages:
                # The newest segment may be read in the middle of a write.
                remarks.append(f"    after the last whole record{_damages(found.damages)}")
    damaged = "" if header is not None else "  header damaged"
    span = "no record"
    if first is not None and last is not None:
        times = f"{to_rfc3339(first.appended_at)} to {to_rfc3339(last.appended_at)}"
        span = f"seq {first.seq} to {last.seq}  records {records}  payload {size} B  {times}"
    yield f"  {path.name}  {length} B  {span}{damaged}"
    yield from remarks


def _damages(damages: tuple[Damage, ...]) -> str:
    parts = [f"; bytes {one.offset} to {one.end} {'not (yet) whole' if one.torn else 'damaged'}" for one in damages[:3]]
    return "".join(parts) + (f"; and {len(damages) - 3} more places" if len(damages) > 3 else "")


def _tombstones(directory: Path) -> Iterator[str]:
    try:
        buried = load_tombstones(directory / TOMBSTONES_FILE)
    except OSError:
        return
    if buried is None:
        yield "  tombstones damaged"
        return
    totals = buried.totals
    yield (
        f"  evicted {totals.evicted_records} records ({totals.evicted_readings} readings)  "
        f"quarantined {totals.quarantined_records}  lost {totals.lost_records}  trimmed {totals.trimmed_records}"
    )
    for item in buried.items:
        yield f"  tombstone {_tombstone(item)}"


def _tombstone(item: Skipped) -> str:
    times = ""
    if item.first is not None and item.last is not None:
        times = f"  measured {to_rfc3339(item.first)} to {to_rfc3339(item.last)}"
    readings = f"  {sum(item.readings.values())} readings of {len(item.readings)} devices" if item.readings else ""
    return f"seq {item.from_seq} to {item.to_seq}  {item.reason}{readings}{times}"


def _quarantine(directory: Path) -> Iterator[str]:
    for number, item in enumerate(read_items(directory)):
        if number >= MAX_QUARANTINE_LINES:
            yield f"  quarantine: more than {MAX_QUARANTINE_LINES} entries in {directory}"
            return
        preview = ascii(item.payload[:PREVIEW_BYTES].decode("latin-1"))
        yield f"  quarantine {to_rfc3339(item.at)}  {item.origin!r}  {item.reason!r}  {item.size} B  {preview}"
