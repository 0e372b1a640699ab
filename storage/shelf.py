"""What the log holds: its segments, its tombstones, and reading across both. It neither appends nor evicts."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from metering.model import Skipped
from storage.files import read_at
from storage.quarantine import MAX_ITEM_BYTES, Quarantine
from storage.segment import (
    Damage,
    End,
    Gap,
    Record,
    SparseIndex,
    Window,
    open_for_reading,
    seed_of,
    walk,
)
from storage.tombstones import Tombstones, Totals

TOMBSTONES_FILE = "tombstones"


@dataclass(eq=False)
class Segment:
    """One file. `size` ends where the last committed record does; `age` is the log's when the segment was begun."""

    path: Path
    first_seq: int
    size: int
    age: int
    created_at: int
    index: SparseIndex = field(init=False)

    def __post_init__(self) -> None:
        self.index = SparseIndex(self.first_seq)


class View(NamedTuple):
    """The state that one read sees: never half of a commit, never half of an eviction."""

    segments: tuple[Segment, ...]
    newest_size: int  # the sizes of the others do not change any more
    tombstones: Tombstones
    next_seq: int


class Shelf:
    """The state that writer, retention and readers share. `lock` is held for moments only, never across disk work."""

    def __init__(self, directory: Path, epoch: str, quarantine: Quarantine, tombstones: Tombstones) -> None:
        self.directory = directory
        self.epoch = epoch
        self.seed = seed_of(epoch)
        self.quarantine = quarantine
        self.lock = threading.Lock()
        self.segments: tuple[Segment, ...] = ()
        self._closed_bytes = 0
        self.tombstones = tombstones
        self.next_seq = 1
        self.unsaved = False  # tombstones that the disk refused; the damage itself still stands in the segments
        self.positions: Callable[[], Sequence[int]] = tuple
        self._burial = threading.RLock()
        self._indexing = threading.Lock()

    @property
    def first_seq(self) -> int:
        """The oldest seq that is still held (or the next one)."""
        with self.lock:
            return self.segments[0].first_seq if self.segments else self.next_seq

    def view(self) -> View:
        """Return the state of this moment."""
        with self.lock:
            newest_size = self.segments[-1].size if self.segments else 0
            return View(self.segments, newest_size, self.tombstones, self.next_seq)

    def bytes(self) -> int:
        """Return the bytes of all segments."""
        with self.lock:
            return self._closed_bytes + (self.segments[-1].size if self.segments else 0)

    def replace(self, segments: Sequence[Segment]) -> None:
        """Take a new list of segments, in order."""
        with self.lock:
            self.segments = tuple(segments)
            self._closed_bytes = sum(segment.size for segment in segments[:-1])

    def bury(self, new: Sequence[Skipped], change: Callable[[Totals], Totals], floor: int, *, must: bool) -> None:
        """Add tombstones and make them durable.

        Raises:
            OSError: `must` is set and the disk refused; then nothing has changed.

        """
        with self._burial:
            changed = self.tombstones.added(new, change(self.tombstones.totals), floor, self.positions())
            try:
                changed.save(self.directory / TOMBSTONES_FILE)
            except OSError:
                if must:
                    raise
                self.unsaved = True
            else:
                self.unsaved = False
            with self.lock:
                self.tombstones = changed

    def read(self, from_seq: int, max_records: int, max_bytes: int) -> list[Record | Skipped]:
        """Return what stands from `from_seq` on, in order and without a hole; at least one item where there is any."""
        out: list[Record | Skipped] = []
        size, position = 0, from_seq
        while len(out) < max_records and (size < max_bytes or not out):
            step = self._step(self.view(), position, max_records - len(out), max_bytes - size)
            if not step:
                break
            out.extend(step)
            size += sum(len(one.payload) for one in step if isinstance(one, Record))
            last = step[-1]
            position = last.seq + 1 if isinstance(last, Record) else last.to_seq + 1
        return out

    def _step(self, view: View, position: int, max_records: int, max_bytes: int) -> list[Record | Skipped]:
        """Return the next tombstone, or records and gaps of one segment; empty at the end of the log."""
        if position >= view.next_seq:
            return []
        buried = view.tombstones.at(position)
        if buried is not None:
            return [msgspec.structs.replace(buried, from_seq=position)]
        at = bisect_right(view.segments, position, key=lambda segment: segment.first_seq) - 1
        following = view.segments[at + 1].first_seq if at + 1 < len(view.segments) else view.next_seq
        below = min(following, view.tombstones.next_from(position) or following)
        if at < 0:  # delivered to every cursor and trimmed: too old, not missing
            return [Skipped(position, below - 1, "evicted")]
        segment = view.segments[at]
        size = view.newest_size if at == len(view.segments) - 1 else segment.size
        try:
            return self._from_segment(segment, size, (position, below), max_records, max_bytes)
        except FileNotFoundError:
            with self.lock:
                if segment not in self.segments:
                    return self._gone(position, below)
            return [self.mark_gap(Gap(position, below - 1, ()), segment)]

    def _gone(self, position: int, below: int) -> list[Record | Skipped]:
        """Return what is said of a segment that was evicted while we looked: its tombstone, by now durable."""
        buried = self.tombstones.at(position)
        if buried is None:
            return [Skipped(position, below - 1, "evicted")]
        return [msgspec.structs.replace(buried, from_seq=position)]

    def _from_segment(
        self, segment: Segment, size: int, span: tuple[int, int], max_records: int, max_bytes: int
    ) -> list[Record | Skipped]:
        out: list[Record | Skipped] = []
        position, below = span
        for found in self.walk(segment, size, position, below):
            if isinstance(found, Record):
                out.append(found)
                max_bytes -= len(found.payload)
            elif isinstance(found, Gap):
                out.append(self.mark_gap(found, segment))
            elif found.expected < below:
                out.append(self.mark_gap(Gap(found.expected, below - 1, found.damages), segment))
            if len(out) >= max_records or max_bytes <= 0:
                break
        return out

    def walk(self, segment: Segment, size: int, position: int, below: int) -> Iterator[Record | Gap | End]:
        """Yield what a segment holds from `position` on and below `below`, as `segment.walk`.

        Raises:
            FileNotFoundError: the file is gone.

        """
        with open_for_reading(segment.path) as (fd, length):
            window = Window(fd, min(size, length))
            with self._indexing:
                segment.index.extend(window, self.seed)
                start = segment.index.locate(position, segment.first_seq)
            yield from walk(window, start, self.seed, position, below)

    def mark_gap(self, gap: Gap, segment: Segment) -> Skipped:
        """Keep the bytes of the damage in quarantine, write the tombstone, and return it."""
        damages = [damage for damage in gap.damages if not damage.torn]
        skipped = Skipped(gap.first, gap.last, "quarantined" if damages else "lost")
        number = gap.last - gap.first + 1
        with self._burial:
            known = self.tombstones.at(gap.first)
            if known is not None:
                return msgspec.structs.replace(known, from_seq=gap.first, to_seq=gap.last)
            self._keep(damages, gap, segment)
            name = "quarantined_records" if damages else "lost_records"
            self.bury(
                [skipped],
                lambda totals: msgspec.structs.replace(totals, **{name: getattr(totals, name) + number}),
                floor=0,
                must=False,
            )
        return skipped

    def _keep(self, damages: Sequence[Damage], gap: Gap, segment: Segment) -> None:
        for damage in damages:
            what = f"record {damage.seq}: its payload fails its CRC" if damage.seq else "bytes that are no record"
            with open_for_reading(segment.path) as (fd, _):
                data = read_at(fd, damage.offset, min(damage.end - damage.offset, MAX_ITEM_BYTES))
            where = f"{segment.path.name} at {damage.offset}"
            self.quarantine.put(f"log {self.epoch} {where}", f"{what}; seq {gap.first} to {gap.last}", data)


def recount(totals: Totals, skipped: Sequence[Skipped], records: int, trimmed: int) -> Totals:
    """Return the totals after an eviction: `records` undelivered ones with these tombstones, `trimmed` delivered."""
    readings = sum(sum(one.readings.values()) for one in skipped)
    return msgspec.structs.replace(
        totals,
        evicted_records=totals.evicted_records + records,
        evicted_readings=totals.evicted_readings + readings,
        trimmed_records=totals.trimmed_records + trimmed,
    )
