"""Segment files of the log: their bytes, and how reading goes on after damage. It never writes and holds no policy.

A segment begins with a header (magic, version, epoch, first seq, time, age, CRC). Each record has a header (magic,
length, seq, time, age, CRC of the payload, CRC of the header) and its payload. Header CRCs start from the CRC of the
log's epoch, so that bytes of another log, or one carried inside a payload, never pass for a record of this one.
Because the header has a CRC of its own, a flipped length cannot swallow what follows: the next record is found again
by its magic, header CRC and a seq that goes up.
"""

import os
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from metering.errors import StorageError
from storage.files import read_at

FORMAT = 1
SUFFIX = ".seg"
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
SEQ_LIMIT = 2**63
INDEX_STEP = 128 * 1024  # bytes of segment for one entry of the index: 256 kB of memory for a log of 2 GiB
READ_CHUNK = 256 * 1024

SEGMENT_MAGIC = b"MGLOG\r\n\x1a"
RECORD_MAGIC = b"\xa7MGr"
_SEGMENT = struct.Struct("<8sHH16sQqII")
_RECORD = struct.Struct("<4sIQqIII")
SEGMENT_HEADER = _SEGMENT.size
RECORD_HEADER = _RECORD.size


class SegmentHeader(NamedTuple):
    """The first bytes of a segment. `age` is the log's own clock in seconds, which only goes forward."""

    epoch: str
    first_seq: int
    created_at: int
    age: int


class Entry(NamedTuple):
    """A record whose header is whole; its payload is still to be checked. Bytes `offset` to `end` of the segment."""

    offset: int
    end: int
    seq: int
    appended_at: int
    age: int
    crc: int


class Damage(NamedTuple):
    """Bytes that are no record. `seq` where the header still tells it; `torn`: the end of a write never finished."""

    offset: int
    end: int
    seq: int | None
    torn: bool


class Record(NamedTuple):
    """One record as it was appended. `appended_at` is the wall clock then, in microseconds since 1970 UTC."""

    seq: int
    payload: bytes
    appended_at: int


class Gap(NamedTuple):
    """Sequence numbers `first` to `last` (inclusive) that the segment should hold and does not."""

    first: int
    last: int
    damages: tuple[Damage, ...]


class End(NamedTuple):
    """Where a walk ended: the seq that comes next, where the last whole record ends, its age, what stood after it."""

    expected: int
    offset: int
    age: int
    damages: tuple[Damage, ...]


def segment_name(first_seq: int) -> str:
    """Return the file name; names sort as their sequence numbers do."""
    return f"{first_seq:020d}{SUFFIX}"


def list_segments(directory: Path) -> list[tuple[int, Path]]:
    """Return (first seq, path) of the segments in a directory, in order."""
    return sorted((int(path.stem), path) for path in directory.glob(f"*{SUFFIX}") if path.stem.isdigit())


def seed_of(epoch: str) -> int:
    """Return what the header CRCs of a log begin with."""
    return zlib.crc32(epoch.encode())


def pack_header(header: SegmentHeader) -> bytes:
    """Return the first bytes of a segment."""
    epoch, first_seq, created_at, age = header
    packed = _SEGMENT.pack(SEGMENT_MAGIC, FORMAT, SEGMENT_HEADER, epoch.encode(), first_seq, created_at, age, 0)[:-4]
    return packed + zlib.crc32(packed).to_bytes(4, "little")


@contextmanager
def open_for_reading(path: Path) -> Iterator[tuple[int, int]]:
    """Open a file; its descriptor and its length. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd, os.fstat(fd).st_size
    finally:
        os.close(fd)


def parse_header(data: bytes) -> SegmentHeader | None:
    """Return the header, or None where it is damaged or cut.

    Raises:
        StorageError: it is whole and of a version that this program does not read.

    """
    if len(data) < SEGMENT_HEADER:
        return None
    magic, version, _, epoch, first_seq, created_at, age, crc = _SEGMENT.unpack_from(data)
    if magic != SEGMENT_MAGIC or crc != zlib.crc32(data[: SEGMENT_HEADER - 4]):
        return None
    if version != FORMAT:
        raise StorageError(f"log segment of version {version}; this program reads version {FORMAT}", retry=False)
    return SegmentHeader(epoch.decode("ascii", "replace"), first_seq, created_at, age)


def read_header(path: Path) -> SegmentHeader | None:
    """Return the header of a segment file, as `parse_header`."""
    with open_for_reading(path) as (fd, _):
        return parse_header(read_at(fd, 0, SEGMENT_HEADER))


def pack_record(seq: int, payload: bytes, appended_at: int, age: int, seed: int) -> bytes:
    """Return a record's header; the payload follows it."""
    packed = _RECORD.pack(RECORD_MAGIC, len(payload), seq, appended_at, age, zlib.crc32(payload), 0)[:-4]
    return packed + zlib.crc32(packed, seed).to_bytes(4, "little")


class Window:
    """The bytes of one open segment up to `end`, read in chunks."""

    def __init__(self, fd: int, end: int) -> None:
        self.end = end
        self._fd = fd
        self._start = 0
        self._data = b""

    def get(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`, fewer only at the end."""
        size = min(size, self.end - offset)
        at = offset - self._start
        if at < 0 or at + size > len(self._data):
            self._data = read_at(self._fd, offset, min(max(size, READ_CHUNK), self.end - offset))
            self._start, at = offset, 0
        return self._data[at : at + size]


def _entry_at(window: Window, offset: int, seed: int) -> Entry | None:
    head = window.get(offset, RECORD_HEADER)
    if len(head) < RECORD_HEADER or head[:4] != RECORD_MAGIC:
        return None
    _, length, seq, appended_at, age, crc, own = _RECORD.unpack(head)
    if own != zlib.crc32(head[:-4], seed) or length > MAX_PAYLOAD_BYTES:
        return None
    return Entry(offset, offset + RECORD_HEADER + length, seq, appended_at, age, crc)


def _next_entry(window: Window, offset: int, seed: int, after: int) -> Entry | None:
    """Return the first record header from `offset` on that is whole and has a seq above `after`."""
    while offset < window.end:
        chunk = window.get(offset, READ_CHUNK)
        at = chunk.find(RECORD_MAGIC)
        while at >= 0:
            entry = _entry_at(window, offset + at, seed)
            if entry is not None and entry.seq > after:
                return entry
            at = chunk.find(RECORD_MAGIC, at + 1)
        if offset + len(chunk) >= window.end or len(chunk) < len(RECORD_MAGIC):
            return None
        offset += len(chunk) - len(RECORD_MAGIC) + 1
    return None


def _only_zeros(window: Window, offset: int) -> bool:
    while offset < window.end:
        chunk = window.get(offset, READ_CHUNK)
        if chunk.count(0) != len(chunk) or not chunk:
            return False
        offset += len(chunk)
    return True


def scan(window: Window, offset: int, seed: int, after: int, below: int) -> Iterator[Entry | Damage]:
    """Yield what stands from `offset` on: records with after < seq < below in order, and the damage between them.

    A record at or above `below` was never acknowledged (a later segment took over there): it ends the scan.
    """
    while offset < window.end:
        entry = _entry_at(window, offset, seed)
        if entry is None or entry.seq <= after:
            found = _next_entry(window, offset + 1, seed, after)
            end = found.offset if found is not None else window.end
            torn = found is None and (window.end - offset < RECORD_HEADER or _only_zeros(window, offset))
            yield Damage(offset, end, None, torn)
            offset = end
        elif entry.seq >= below or entry.end > window.end:
            yield Damage(offset, window.end, None, torn=True)
            return
        else:
            yield entry
            after, offset = entry.seq, entry.end


def walk(window: Window, start: tuple[int, int], seed: int, from_seq: int, below: int) -> Iterator[Record | Gap | End]:
    """Yield the records from `from_seq` on whose payload is whole, the gaps between them, and at last where it ended.

    `start` is an offset of a record's header and the seq before it. A gap at the end is the caller's to see: it shows
    as `End.expected` < `below`.
    """
    expected, good, age = from_seq, start[0], 0
    damages: list[Damage] = []
    for found in scan(window, start[0], seed, start[1], below):
        if isinstance(found, Damage):
            damages.append(found)
            continue
        if found.seq < from_seq:
            damages.clear()
            good, age = found.end, found.age
            continue
        payload = window.get(found.offset + RECORD_HEADER, found.end - found.offset - RECORD_HEADER)
        if zlib.crc32(payload) != found.crc:
            damages.append(Damage(found.offset, found.end, found.seq, torn=False))
            continue
        if found.seq > expected:
            yield Gap(expected, found.seq - 1, tuple(damages))
        damages.clear()
        yield Record(found.seq, payload, found.appended_at)
        expected, good, age = found.seq + 1, found.end, found.age
    yield End(expected, good, age, tuple(damages))


class SparseIndex:
    """Where in a segment some of its records stand, built as the segment is first read. Callers serialise."""

    def __init__(self, first_seq: int) -> None:
        self._seqs = array("Q")
        self._offsets = array("Q")
        self._scanned = SEGMENT_HEADER
        self._last = first_seq - 1

    def extend(self, window: Window, seed: int) -> None:
        """Take in what was appended since; `window` ends where the last whole record does."""
        for found in scan(window, self._scanned, seed, self._last, SEQ_LIMIT):
            self._scanned = found.end
            if isinstance(found, Damage):
                continue
            self._last = found.seq
            if not self._offsets or found.offset - self._offsets[-1] >= INDEX_STEP:
                self._seqs.append(found.seq)
                self._offsets.append(found.offset)

    def locate(self, seq: int, first_seq: int) -> tuple[int, int]:
        """Return (offset of a record's header, the seq before it) from where to look for `seq`."""
        at = bisect_right(self._seqs, seq) - 1
        if at < 0:
            return SEGMENT_HEADER, first_seq - 1
        return self._offsets[at], self._seqs[at] - 1
