"""Writes batches into InfluxDB so that nothing stored is ever overwritten by something else, in any order of arrival.

Above a series' high-water mark in time a block is written directly; at or below it the stored copies are read first,
and a block that differs from all of them becomes one more in `versions`. What is stored for a block is a set of copies
that only grows; which of them is current is decided when they are read, so arrival never decides.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import structlog

from metering.batch import Batch
from metering.errors import StorageError
from metering.model import SECOND, Block, Layout
from metering.ports import Rejected, WriteResult
from storage.influx_link import InfluxLink
from storage.influx_notes import APART, note_lines, runs
from storage.influx_read import DEVICES_PER_QUESTION, Catalogue, copies_between, series_ends
from storage.line_protocol import (
    Copy,
    LayoutLines,
    layout_line,
    tag,
)
from storage.versions import Version

READINGS_PER_REQUEST = 25_000  # of joined lines in one body: 0.8 MB, with a point for each reading 3.5 MB
COMPARED_BLOCKS = 5_000  # blocks that are compared with what is stored at a time
DAY = 86_400 * SECOND
NEVER = -(2**63)
DAYS = range(-(2**63) // 1000 // DAY + 2, 2**63 // 1000 // DAY - 1)  # InfluxDB keeps nanoseconds in 64 bits

_log = structlog.get_logger(__name__)


class _Place(NamedTuple):
    device: str
    time: int


class _Tally:
    """What became of a write so far."""

    def __init__(self) -> None:
        self.stored = self.duplicates = self.versions = 0
        self.rejected: list[Rejected] = []

    def result(self) -> WriteResult:
        return WriteResult(self.stored, self.duplicates, self.versions, self.rejected)


class InfluxWriter:
    """The one writer of a bucket: keeps the high-water marks in memory, and reads them anew after any failure."""

    def __init__(self, link: InfluxLink, catalogue: Catalogue) -> None:
        self._link = link
        self._catalogue = catalogue
        self._marks: dict[str, dict[str, int]] = defaultdict(dict)  # by layout, then device
        self._known: set[str] = set()  # devices whose marks are in memory
        self._announced: set[tuple[str, int]] = set()  # (layout, day) whose definition is stored
        self._lines: dict[Layout, LayoutLines] = {}
        self._kin: dict[str, list[LayoutLines]] = {}  # layouts that share a channel with this one, itself included

    def write(self, batches: Sequence[Batch]) -> WriteResult:
        """Store readings, events and expectations; durable on return. Raises StorageError, and then knows nothing."""
        try:
            return self._write(batches)
        except StorageError:
            # A write without an answer may have been stored, so every mark may be too low: ask the server again.
            self._marks.clear()
            self._known.clear()
            self._announced.clear()
            self._kin.clear()
            raise

    def _write(self, batches: Sequence[Batch]) -> WriteResult:
        tally = _Tally()
        blocks = [block for batch in batches for block in batch.blocks]
        lines_of = self._prepare(blocks)
        compare: list[Block] = []
        direct: list[str] = []
        direct_blocks: list[Block] = []
        room = READINGS_PER_REQUEST
        layout = None
        for block in blocks:
            if block.layout is not layout:
                layout = block.layout
                lines = lines_of[id(layout)]
                width, make = len(lines.names), lines.line
                marks = self._marks[lines.key]
                kin = [self._marks[one.key] for one in self._kin[lines.key] if one.key != lines.key]
            device, time = block.device, block.measured_at
            if time <= marks.get(device, NEVER) or (kin and any(time <= held.get(device, NEVER) for held in kin)):
                compare.append(block)
                continue
            try:
                direct.append(make(block))
            except ValueError as error:
                tally.rejected.append(Rejected(block, str(error)))
                continue
            direct_blocks.append(block)
            marks[device] = time
            room -= width
            if room <= 0:
                self._send(direct, direct_blocks, tally)
                direct, direct_blocks, room = [], [], READINGS_PER_REQUEST
        self._send(direct, direct_blocks, tally)
        for at in range(0, len(compare), COMPARED_BLOCKS):
            self._compare(compare[at : at + COMPARED_BLOCKS], lines_of, tally)
        self._send_quietly(note_lines(self._link, batches))
        return tally.result()

    def _prepare(self, blocks: Sequence[Block]) -> dict[int, LayoutLines]:
        """Return id(layout) -> its lines; marks are read and definitions stored where they are new."""
        layouts = {id(block.layout): block.layout for block in blocks}
        days = {(id(block.layout), block.measured_at // DAY) for block in blocks}
        devices = {block.device for block in blocks}
        if layouts and not self._kin:
            self._catalogue.refresh()
        lines_of = {}
        for identity, layout in layouts.items():
            lines = self._lines.get(layout)
            if lines is None:
                lines = self._lines[layout] = self._catalogue.add(layout)
            lines_of[identity] = lines
        if any(lines.key not in self._kin for lines in lines_of.values()):
            self._relate()
        # The definition goes with every day's data, so that it lives as long as they do, and before them.
        new = {(lines_of[identity].key, day): lines_of[identity] for identity, day in days if day in DAYS}
        new = {key: lines for key, lines in new.items() if key not in self._announced}
        self._send_quietly([layout_line(lines.layout, day * DAY) for (_, day), lines in new.items()])
        self._announced.update(new)
        strange = sorted(devices - self._known)
        for (device, key), end in series_ends(self._link, strange).items():
            self._marks[key][device] = end
        self._known.update(strange)
        return lines_of

    def _relate(self) -> None:
        layouts = self._catalogue.all()
        self._kin = {one.key: [other for other in layouts if _shares_a_channel(one, other)] for one in layouts}

    def _send(self, lines: Sequence[str], blocks: Sequence[Block], tally: _Tally) -> None:
        refused = self._link.write(lines)
        tally.stored += sum(len(block.values) for block in blocks)
        for index, reason in refused.items():
            tally.stored -= len(blocks[index].values)
            tally.rejected.append(Rejected(blocks[index], reason))

    def _send_quietly(self, lines: Sequence[str]) -> None:
        for index, reason in self._link.write(lines).items():
            _log.warning("InfluxDB refuses a line that is no reading", line=lines[index][:200], reason=reason)

    def _compare(self, blocks: Sequence[Block], lines_of: dict[int, LayoutLines], tally: _Tally) -> None:
        """Read what is stored at these blocks' times, and write what is not there yet."""
        stored: dict[_Place, dict[str, dict[int, Copy]]] = defaultdict(lambda: defaultdict(dict))
        for lines, devices, first, last in self._questions(blocks, lines_of):
            for found in copies_between(self._link, lines, devices, first, last):
                stored[_Place(found.device, found.time)][lines.key][found.version] = found.copy
        changed: dict[tuple[_Place, str, int], tuple[str, Block, int, int]] = {}
        for block in blocks:
            lines = lines_of[id(block.layout)]
            place = _Place(block.device, block.measured_at)
            try:
                tag(block.device)
                copy = lines.copy_of(block)
            except ValueError as error:
                tally.rejected.append(Rejected(block, str(error)))
                continue
            known = stored[place]
            version, merged = _place_for(known[lines.key], copy)
            new, versions = (0, 0) if version in known[lines.key] else self._count(lines, known, copy)
            if merged is not None:
                line = lines.copy_line(block.device, block.measured_at, merged, version)
                known[lines.key][version] = merged
                before = changed.get((place, lines.key, version), ("", block, 0, 0))
                changed[place, lines.key, version] = (line, block, new + before[2], versions + before[3])
            tally.stored += new
            tally.versions += versions
            tally.duplicates += len(copy.values) - new - versions
            marks = self._marks[lines.key]
            marks[block.device] = max(marks.get(block.device, NEVER), block.measured_at)
        self._send_changed(list(changed.values()), tally)

    def _send_changed(self, changed: Sequence[tuple[str, Block, int, int]], tally: _Tally) -> None:
        at = 0
        while at < len(changed):
            end, room = at, READINGS_PER_REQUEST
            while end < len(changed) and room > 0:
                room -= len(changed[end][1].values)
                end += 1
            for index, reason in self._link.write([line for line, _, _, _ in changed[at:end]]).items():
                _, block, new, versions = changed[at + index]
                tally.stored -= new
                tally.versions -= versions
                tally.rejected.append(Rejected(block, reason))
            at = end

    def _questions(
        self, blocks: Sequence[Block], lines_of: dict[int, LayoutLines]
    ) -> Iterator[tuple[LayoutLines, list[str], int, int]]:
        """Yield (layout, devices, first, last) so that few questions cover the blocks' times without much else."""
        times: dict[tuple[str, str], set[int]] = defaultdict(set)
        by_key: dict[str, LayoutLines] = {}
        for block in blocks:
            for kin in self._kin[lines_of[id(block.layout)].key]:
                by_key[kin.key] = kin
                times[kin.key, block.device].add(block.measured_at)
        together: dict[tuple[str, int, int], list[tuple[str, int, int]]] = defaultdict(list)
        for (key, device), instants in times.items():
            if device not in self._marks[key]:
                continue  # nothing of this layout is stored for the device
            for first, last in runs(sorted(instants)):
                together[key, first // APART, last // APART].append((device, first, last))
        for (key, _, _), parts in together.items():
            for at in range(0, len(parts), DEVICES_PER_QUESTION):
                some = parts[at : at + DEVICES_PER_QUESTION]
                devices = sorted({device for device, _, _ in some})
                yield by_key[key], devices, min(run[1] for run in some), max(run[2] for run in some)

    def _count(self, lines: LayoutLines, known: dict[str, dict[int, Copy]], copy: Copy) -> tuple[int, int]:
        """Return how many of a copy's values are the first of their channel and time, and how many differ."""
        new = versions = 0
        kin = [(one, copies.values()) for one in self._kin[lines.key] if (copies := known.get(one.key))]
        if not kin:
            return len(copy.values), 0
        for index, column in enumerate(lines.layout.columns):
            held = {
                _identity(other, place)
                for one, copies in kin
                for place, theirs in enumerate(one.layout.columns)
                if theirs == column
                for other in copies
            }
            new += not held
            versions += bool(held) and _identity(copy, index) not in held
        return new, versions


def _shares_a_channel(one: LayoutLines, other: LayoutLines) -> bool:
    mine, theirs = one.layout, other.layout
    same = (mine.kind, mine.source, mine.interval) == (theirs.kind, theirs.source, theirs.interval)
    return same and not set(mine.columns).isdisjoint(theirs.columns)


def _place_for(copies: dict[int, Copy], copy: Copy) -> tuple[int, Copy | None]:
    """Return the version number under which a copy belongs, and what is to be written there (None: nothing)."""
    for version, held in copies.items():
        # As text as well: 0.0 and -0.0 are equal and not the same digits.
        if held[:2] == copy[:2] and repr(held.values) == repr(copy.values):
            merged = merge(held, copy)
            return version, None if merged == held else merged
    return (max(copies) + 1 if copies else 0), copy


def _identity(copy: Copy, place: int) -> tuple[int, bool, float, bool]:
    return Version(copy.values[place], copy.quality[place], 0, None, 0).identity()


def merge(one: Copy, other: Copy) -> Copy:
    """Return one copy of two with the same values and qualities: first received, last revised, whatever the order."""
    slots = [slot for slot in (one.slot, other.slot) if slot is not None]
    return Copy(
        one.values,
        one.quality,
        min(one.received, other.received),
        max(slots, default=None),
        max(one.revision, other.revision),
    )
