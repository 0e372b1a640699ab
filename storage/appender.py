"""The one place that writes records: the open segment, its roll-over, and what a failed write leaves behind."""

import contextlib
import os
from collections.abc import Sequence

from storage.files import Numbers, NumbersFile, sync_directory, write_all
from storage.retention import AgeClock, Clocks, LogLimits
from storage.segment import SEGMENT_HEADER, SegmentHeader, pack_header, pack_record, segment_name
from storage.shelf import Segment, Shelf

STATE_FILE = "state"
MAX_SEGMENT_RECORDS = 65_536  # so that the seqs of a newest segment that vanished are bounded, and never used again


class Appender:
    """Writes at the end of the newest segment. Callers serialise; every failure is an OSError and stores nothing.

    After a failed write or fdatasync the descriptor is closed and never asked again: the kernel may have dropped the
    dirty pages and call the next fdatasync a success. What the failure left is cut off, and the next append begins a
    new segment; a reader stops at its first seq, so that no remnant can pass for a record.
    """

    def __init__(
        self, shelf: Shelf, state: NumbersFile, floor: int, age: AgeClock, setup: tuple[LogLimits, Clocks]
    ) -> None:
        self.floor = floor
        self.commits = 0
        self.bytes_written = 0
        self._shelf = shelf
        self._state = state
        self._age = age
        self._limits, self._clocks = setup
        self._fd = -1
        self._segment: Segment | None = None

    @property
    def active(self) -> Segment | None:
        """The segment that is open for writing."""
        return self._segment

    def adopt(self, segment: Segment) -> None:
        """Go on writing a segment that was found at the start, once what it holds is surely on the disk.

        Raises:
            OSError: it cannot be cut or made durable.

        """
        fd = os.open(segment.path, os.O_RDWR)
        try:
            os.ftruncate(fd, segment.size)
            os.fdatasync(fd)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._segment = fd, segment

    def wants_roll(self, size: int, records: int) -> bool:
        """Tell whether the next group belongs into a new segment."""
        segment = self._segment
        if segment is None:
            return True
        held = self._shelf.next_seq - segment.first_seq
        if held == 0:
            return False
        span = self._limits.segment_span_s
        return (
            segment.size + size > self._limits.segment_size
            or held + records > MAX_SEGMENT_RECORDS
            or bool(span and self._age.now() - segment.age > span)
        )

    def roll(self) -> None:
        """Close the segment and begin the next one; durable, name and all, when this returns."""
        self._close()
        first, created, age = self._shelf.next_seq, self._clocks.wall(), self._age.now()
        path = self._shelf.directory / segment_name(first)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            write_all(fd, pack_header(SegmentHeader(self._shelf.epoch, first, created, age)), 0)
            os.fdatasync(fd)
            sync_directory(path.parent)
            self._state.store(Numbers(self._shelf.epoch, self.floor, first))
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            self._shelf.replace([one for one in self._shelf.segments if one.path != path])
            raise
        segment = Segment(path, first, SEGMENT_HEADER, age, created)
        # An empty one of the same name was opened before and could not be written: this one takes its place.
        self._shelf.replace([*(one for one in self._shelf.segments if one.path != path), segment])
        self._fd, self._segment = fd, segment

    def write(self, payloads: Sequence[bytes]) -> int:
        """Write one group and return its first seq when all of it is durable; only then do readers see it."""
        segment = self._segment
        if segment is None:
            raise OSError("no segment is open")
        first, wall, age, seed = self._shelf.next_seq, self._clocks.wall(), self._age.now(), self._shelf.seed
        parts: list[bytes] = []
        for seq, payload in enumerate(payloads, first):
            parts += (pack_record(seq, payload, wall, age, seed), payload)
        data = b"".join(parts)
        try:
            write_all(self._fd, data, segment.size)
            os.fdatasync(self._fd)
            _check_linked(self._fd, segment)
        except OSError:
            self._abandon(segment)
            raise
        self.commits += 1
        self.bytes_written += len(data)
        with self._shelf.lock:
            segment.size += len(data)
            self._shelf.next_seq = first + len(payloads)
        return first

    def set_floor(self, floor: int) -> None:
        """Make durable that nothing below `floor` is to be expected any more.

        Raises:
            OSError: the disk refused; the old floor stands.

        """
        segments = self._shelf.view().segments
        self._state.store(Numbers(self._shelf.epoch, floor, segments[-1].first_seq if segments else floor))
        self.floor = floor

    def close(self) -> None:
        """Close the segment."""
        self._close()

    def _abandon(self, segment: Segment) -> None:
        """Cut off what a failed write left, as far as the disk lets us, and leave the segment for good."""
        self._close()
        with contextlib.suppress(OSError):
            fd = os.open(segment.path, os.O_RDWR)
            try:
                os.ftruncate(fd, segment.size)
                os.fdatasync(fd)
                # Read again from the disk, not from pages that a failed write may have left looking clean.
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._segment = -1, None


def _check_linked(fd: int, segment: Segment) -> None:
    if os.fstat(fd).st_nlink == 0:
        raise OSError(f"{segment.path.name} was removed while it was being written")
