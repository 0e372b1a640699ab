"""Opening a log that may have been left in any state: what it holds, where it goes on, what is missing."""

import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from metering.model import Skipped
from storage.appender import MAX_SEGMENT_RECORDS, STATE_FILE
from storage.cursor import load_cursors
from storage.files import Numbers, load_numbers, read_at, replace_file
from storage.quarantine import Quarantine
from storage.segment import (
    RECORD_MAGIC,
    SEGMENT_HEADER,
    SEQ_LIMIT,
    Damage,
    End,
    Gap,
    Record,
    SegmentHeader,
    SparseIndex,
    list_segments,
    open_for_reading,
    read_header,
)
from storage.shelf import TOMBSTONES_FILE, Segment, Shelf
from storage.tombstones import Tombstones, load_tombstones, uncovered

EPOCH_FILE = "epoch"
CURSORS = "cursors"
QUARANTINE = "quarantine"
MAX_NOTES = 50  # remarks about damage that are kept for the status; the first ones tell the story
_EPOCH = re.compile(r"[0-9a-f]{16}")


@dataclass
class Recovered:
    """What was found. `whole`: the newest segment ends with a whole record and may be written on."""

    shelf: Shelf
    floor: int
    state: Numbers | None
    cursors: dict[str, int | None]
    age: int
    last_wall: int
    whole: bool
    notes: list[str] = field(default_factory=list)


def recover(directory: Path) -> Recovered:
    """Read the directory's state and account for what is missing. The caller holds the directory's lock.

    Raises:
        OSError: the directory cannot be read or a new epoch cannot be written.
        StorageError: a segment of a newer version.

    """
    notes: list[str] = []
    for leftover in [*directory.glob("*.tmp"), *(directory / CURSORS).glob("*.tmp")]:
        leftover.unlink(missing_ok=True)
    headers = {path: read_header(path) for _, path in list_segments(directory)}
    epoch = _epoch(directory, headers, notes)
    cursors = load_cursors(directory / CURSORS, epoch)
    state = _load_state(directory, epoch, notes)
    shelf = Shelf(directory, epoch, Quarantine(directory / QUARANTINE), _load_buried(directory, epoch, notes))
    segments = _segments(directory, headers, notes)
    floor = max(1, state.first) if state else (segments[0].first_seq if segments else 1)
    while len(segments) > 1 and segments[1].first_seq <= floor:
        segments.pop(0).path.unlink(missing_ok=True)  # its eviction was durable, its removal was not
    shelf.replace(segments)
    found = Recovered(shelf, floor, state, cursors, 0, 0, whole=False, notes=notes)
    if segments:
        _recover_newest(found)
        if segments[0].first_seq > floor:
            shelf.mark_gap(Gap(floor, segments[0].first_seq - 1, ()), segments[0])
    return found


def _epoch(directory: Path, headers: dict[Path, SegmentHeader | None], notes: list[str]) -> str:
    """Return the log's epoch; a new one where no segment is left, as then nothing tells which seqs were used."""
    path = directory / EPOCH_FILE
    known = path.read_text(errors="replace").strip() if path.exists() else ""
    if headers:
        if _EPOCH.fullmatch(known):
            return known
        told = [header.epoch for header in headers.values() if header is not None]
        if told:
            notes.append("the epoch file was damaged; the epoch was taken from a segment")
            replace_file(path, told[-1].encode() + b"\n")
            return told[-1]
        for segment in headers:
            segment.replace(segment.with_suffix(".unreadable"))
        headers.clear()
        notes.append("neither the epoch file nor a segment tells the epoch; the segments were set aside")
    elif known:
        notes.append(f"no segment is left of epoch {known}; a new epoch begins")
    epoch = secrets.token_hex(8)
    replace_file(path, epoch.encode() + b"\n")
    return epoch


def _load_state(directory: Path, epoch: str, notes: list[str]) -> Numbers | None:
    try:
        state = load_numbers(directory / STATE_FILE)
    except FileNotFoundError:
        return None
    if state is None:
        notes.append("the state file was damaged; the oldest segment is taken for the log's beginning")
    return state if state is not None and state.epoch == epoch else None


def _load_buried(directory: Path, epoch: str, notes: list[str]) -> Tombstones:
    try:
        buried = load_tombstones(directory / TOMBSTONES_FILE)
    except FileNotFoundError:
        return Tombstones(epoch)
    if buried is None:
        notes.append("the file of tombstones was damaged; the counts of what was evicted before are lost")
    return buried if buried is not None and buried.epoch == epoch else Tombstones(epoch)


def _segments(directory: Path, headers: dict[Path, SegmentHeader | None], notes: list[str]) -> list[Segment]:
    segments: list[Segment] = []
    age = created = 0
    for first_seq, path in list_segments(directory):
        header = headers.get(path)
        if header is None:
            notes.append(f"the header of {path.name} is damaged; its records are read by their own")
        else:
            age, created = max(age, header.age), header.created_at
        segments.append(Segment(path, first_seq, path.stat().st_size, age, created))
    return segments


def _recover_newest(found: Recovered) -> None:
    """Find where the newest segment ends, cut what was never acknowledged, and fix the next seq above all evidence."""
    shelf, newest = found.shelf, found.shelf.segments[-1]
    _forget_cached(newest.path)
    found.age, found.last_wall = newest.age, newest.created_at
    end = End(newest.first_seq, SEGMENT_HEADER, newest.age, ())
    for one in shelf.walk(newest, newest.size, newest.first_seq, SEQ_LIMIT):
        if isinstance(one, Record):
            found.last_wall = one.appended_at
        elif isinstance(one, Gap):
            shelf.mark_gap(one, newest)
        else:
            end = one
    found.age = max(found.age, end.age)
    bad = [damage for damage in end.damages if not damage.torn]
    burnt = _burnt(newest, bad, end.expected)
    if burnt > end.expected:
        shelf.mark_gap(Gap(end.expected, burnt - 1, tuple(bad)), newest)
    header_whole = newest.size >= SEGMENT_HEADER and read_header(newest.path) is not None
    newest.size = max(end.offset, SEGMENT_HEADER)
    newest.index = SparseIndex(newest.first_seq)  # it must not remember what is cut off
    used = [position for position in found.cursors.values() if position is not None]
    used += [item.to_seq + 1 for item in shelf.tombstones.items]
    if found.state is not None:
        used.append(found.state.first)
        if found.state.second > newest.first_seq:
            found.notes.append(f"the newest segment, from seq {found.state.second} on, is gone")
            used.append(found.state.second + MAX_SEGMENT_RECORDS)
    shelf.next_seq = max([burnt, *used])
    if shelf.next_seq > burnt:
        for part in _not_buried(shelf.tombstones, burnt, shelf.next_seq - 1):
            shelf.mark_gap(part, newest)
    found.whole = header_whole and not bad and shelf.next_seq == end.expected


def _burnt(segment: Segment, bad: list[Damage], expected: int) -> int:
    """Return the first seq that the damaged bytes at the end cannot have used; they may have been acknowledged."""
    if not bad:
        return expected
    with open_for_reading(segment.path) as (fd, _):
        for damage in bad:
            if damage.seq is not None:
                expected = max(expected, damage.seq + 1)
            else:
                data = read_at(fd, damage.offset, damage.end - damage.offset)
                expected += max(1, data.count(RECORD_MAGIC))
    return expected


def _not_buried(tombstones: Tombstones, first: int, last: int) -> list[Gap]:
    parts = uncovered(Skipped(first, last, "lost"), tombstones.items)
    return [Gap(part.from_seq, part.to_seq, ()) for part in parts]


def _forget_cached(path: Path) -> None:
    """Have the next read come from the disk: pages in memory may never have reached it."""
    with open_for_reading(path) as (fd, _):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
