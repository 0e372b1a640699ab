"""What is known of the meters' clocks: offsets, drift, corrections, and whether a small shift is allowed. Sets nothing.

Offset is how far a meter is ahead of us. A correction is never made across a boundary of the meter's profile: each
interval stays as long as the meter says it is.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from collector.capabilities import ClockReading
from gateway.checks import with_quality
from gateway.grid import Grid
from gateway.statefile import StateFile
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.quality import Quality

LIMIT_S = 60.0  # an offset past this is told
MIN_SHIFT_S = 1.0  # a smaller offset is left alone
GUARD_S = 5.0  # a shift keeps this far from a boundary on either side
MAX_OFFSETS = 64  # that a meter's drift is estimated from
MAX_CORRECTIONS = 16
JUMP_S = 2.0  # an offset that changes by more than this and the drift begins a new series: somebody set the clock
MAX_DRIFT = 10.0 / 86_400  # of a clock that works; half a second a day is what the standard allows (IEC 62054-21)
DRIFT_POINTS = 3
DRIFT_SPAN_S = 6 * 3_600  # over less than this an estimate says nothing
DAY_S = 86_400

OBIS = "0-0:1.0.0*255"
_LAYOUT = Layout(Kind.INSTANTANEOUS, Source.POLL, 0, (Column(OBIS, "s", -3, "int"),))
_MILLISECOND = SECOND // 1_000


class Correction(msgspec.Struct, frozen=True, array_like=True):
    """A meter's clock was corrected at `at` (us UTC, ours): it showed `before` and then `after`."""

    at: int
    before: int
    after: int

    @property
    def span(self) -> tuple[int, int]:
        """Return the earlier and the later of the two."""
        return min(self.before, self.after), max(self.before, self.after)


class _Kept(msgspec.Struct):
    offsets: list[tuple[int, int]] = []  # (when, offset), us, since the last correction or jump
    corrections: list[Correction] = []
    told: bool = False


class ClockStatus(NamedTuple):
    """A meter's clock: offset in seconds (None: never read) and drift in seconds a day (None: not known yet)."""

    offset: float | None
    drift: float | None


class Clocks:
    """The clocks of all meters, kept in one file that is small and may be lost: offsets are also in the log."""

    def __init__(self, path: Path, limit_s: float = LIMIT_S) -> None:
        self._file = StateFile(path, dict[str, _Kept])
        self._known = self._file.load() or {}
        self._limit = round(limit_s * SECOND)

    def note(self, device: str, reading: ClockReading) -> bool:
        """Remember a reading. Return True when the clock has just been found past the limit."""
        known = self._known.setdefault(device, _Kept())
        if known.offsets and self._jumped(known.offsets[-1], reading):
            known.offsets = []
        known.offsets = [*known.offsets, (reading.at, reading.offset)][-MAX_OFFSETS:]
        size = abs(reading.offset)
        if size > self._limit and not known.told:
            known.told = True
            return True
        if size < self._limit // 2:
            known.told = False
        return False

    def offset(self, device: str) -> int | None:
        """Return how far the meter was ahead when its clock was read last, in us; None where it never was."""
        known = self._known.get(device)
        return known.offsets[-1][1] if known is not None and known.offsets else None

    def status(self, device: str) -> ClockStatus:
        """Return offset and drift."""
        offset = self.offset(device)
        known = self._known.get(device)
        return ClockStatus(None if offset is None else offset / SECOND, drift(known.offsets) if known else None)

    def shift_s(self, reading: ClockReading, grids: Iterable[Grid], limit_s: int) -> int:
        """Return by how many whole seconds the clock may be shifted now; 0: not at all, or not now.

        `limit_s` is what the meter takes in one shift. The shift lies inside one interval of each of `grids` and
        inside one day.
        """
        offset = reading.offset
        if not reading.trusted or abs(offset) > min(limit_s * SECOND, self._limit):
            return 0
        if abs(offset) < MIN_SHIFT_S * SECOND + reading.uncertainty:
            return 0
        seconds = -round(offset / SECOND)
        guard = round(GUARD_S * SECOND)
        early = min(reading.shown, reading.shown + seconds * SECOND) - guard
        late = max(reading.shown, reading.shown + seconds * SECOND) + guard
        for grid in [*grids, Grid(DAY_S)]:
            if grid.at_or_before(early) != grid.at_or_before(late):
                return 0
        return seconds

    def corrected(self, device: str, correction: Correction) -> None:
        """Remember that a clock was corrected: the intervals that this touches are marked when they come."""
        known = self._known.setdefault(device, _Kept())
        known.corrections = [*known.corrections, correction][-MAX_CORRECTIONS:]
        known.offsets = []
        known.told = False

    def corrections(self, device: str) -> Sequence[Correction]:
        """Return the last corrections of a meter's clock, in order."""
        known = self._known.get(device)
        return known.corrections if known is not None else ()

    def mark(self, block: Block, begin: int, end: int) -> Block:
        """Return a row of the interval from `begin` to `end`, marked where a correction touched it."""
        for correction in self.corrections(block.device):
            low, high = correction.span
            if begin <= high and end >= low:
                quality = block.quality or [0] * len(block.values)
                return with_quality(block, [flags | Quality.CLOCK_ADJUSTED for flags in quality])
        return block

    def snapshot(self, devices: Iterable[str]) -> object:
        """Return what is to be written, as it is now, for these devices."""
        return {device: msgspec.structs.replace(self._known[device]) for device in devices if device in self._known}

    def write(self, snapshot: object) -> None:
        """Make a snapshot durable; safe in a thread.

        Raises:
            OSError: the disk refused; the former file stands.

        """
        self._file.save(snapshot)  # type: ignore[arg-type] # it is what `snapshot` returned

    @staticmethod
    def _jumped(last: tuple[int, int], reading: ClockReading) -> bool:
        at, offset = last
        allowed = JUMP_S * SECOND + abs(reading.at - at) * MAX_DRIFT + reading.uncertainty
        return abs(reading.offset - offset) > allowed


def offset_block(device: str, reading: ClockReading) -> Block:
    """Return the offset as a reading, in ms."""
    quality = () if reading.trusted else (int(Quality.CLOCK_SUSPECT),)
    return Block(_LAYOUT, device, reading.at, reading.at, (round(reading.offset / _MILLISECOND),), None, quality)


def drift(offsets: Sequence[tuple[int, int]]) -> float | None:
    """Return by how many seconds a day the clock gains, by least squares; None where too little is known.

    Points far beside the line (a slow answer on a busy line) are left out once.
    """
    slope = _slope(offsets)
    if slope is None:
        return None
    middle_at = sum(at for at, _ in offsets) / len(offsets)
    middle = sum(offset for _, offset in offsets) / len(offsets)
    beside = [abs(offset - middle - slope * (at - middle_at)) for at, offset in offsets]
    near = 3 * sorted(beside)[len(beside) // 2] + _MILLISECOND
    kept = [point for point, far in zip(offsets, beside, strict=True) if far <= near]
    better = _slope(kept)
    return (slope if better is None else better) * DAY_S


def _slope(points: Sequence[tuple[int, int]]) -> float | None:
    """Return offset per time, both in us."""
    if len(points) < DRIFT_POINTS or points[-1][0] - points[0][0] < DRIFT_SPAN_S * SECOND:
        return None
    if any(other[0] < one[0] for one, other in pairwise(points)):
        return None
    middle = sum(at for at, _ in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * offset for at, offset in points) / spread
