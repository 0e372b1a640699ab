"""Load records (06xxxxxx): blocks of A0 A0, length, stamp and up to six classes parted by AA, checksum and E5.

The layout was not seen on a real meter by all who describe it, so each part of it is a parameter (`RecordLayout`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from collector.protocols.dlt645.identifiers import LOAD_RECORD
from collector.protocols.dlt645.times import ByteOrder, decode_stamp, encode_stamp
from collector.protocols.dlt645.values import bcd
from metering.errors import FrameError

OLDEST, GIVEN_TIME, NEWEST = 0, 1, 2
MAX_BLOCKS = 99  # the number of blocks in a request is one BCD byte
_STAMP = 5


class RecordLayout(NamedTuple):
    """How a block is laid out.

    `sizes` are the bytes of each class, in the order in which they stand (number, size; 0: up to the separator, which
    digits of BCD never make). `length_counts` says what the
    length byte counts: the `body` (stamp to the last separator) or also the `tail` behind it.
    """

    sizes: tuple[tuple[int, int], ...]
    header: bytes = b"\xa0\xa0"
    separator: bytes = b"\xaa"
    trailer: bytes = b"\xe5"
    has_checksum: bool = True
    length_counts: Literal["body", "tail"] = "body"
    stamp_order: ByteOrder = "low-first"

    @property
    def tail(self) -> int:
        """Return the bytes behind the body."""
        return int(self.has_checksum) + len(self.trailer)


class Record(NamedTuple):
    """One block: the civil time it is stamped with, and the bytes of each class that it has, by number."""

    stamp: datetime
    classes: dict[int, bytes]


def record_di(class_number: int, what: int) -> str:
    """Return the identifier that asks for load records of a class (0: all)."""
    return LOAD_RECORD.format(class_number=class_number, what=what)


def record_argument(blocks: int, start: datetime | None = None) -> bytes:
    """Return what stands behind the identifier in a request: how many blocks, and from when on (mm hh DD MM YY)."""
    return bcd(blocks) + (encode_stamp(start) if start is not None else b"")


def parse_records(layout: RecordLayout, data: bytes, limit: int = MAX_BLOCKS) -> list[Record]:
    """Return the blocks of one answer, in their order.

    Raises:
        FrameError: something is not laid out as `layout` says.

    """
    records: list[Record] = []
    at = 0
    while at < len(data):
        if len(records) == limit:
            raise FrameError(f"more than the {limit} load records that were asked for")
        record, at = _parse(layout, data, at)
        if record is not None:
            records.append(record)
    return records


def build_record(layout: RecordLayout, record: Record) -> bytes:
    """Return one block."""
    body = encode_stamp(record.stamp, _STAMP, layout.stamp_order)
    for number, _ in layout.sizes:
        body += record.classes.get(number, b"") + layout.separator
    length = len(body) + (layout.tail if layout.length_counts == "tail" else 0)
    block = layout.header + bytes((length,)) + body
    return block + (bytes((sum(block) & 0xFF,)) if layout.has_checksum else b"") + layout.trailer


def _parse(layout: RecordLayout, data: bytes, at: int) -> tuple[Record | None, int]:
    start = at
    if not data.startswith(layout.header, at) or len(data) < at + len(layout.header) + 1:
        raise FrameError("a load record does not begin as its layout says")
    at += len(layout.header)
    length = data[at] - (layout.tail if layout.length_counts == "tail" else 0)
    at += 1
    end = at + length
    if length < _STAMP or end + layout.tail > len(data):
        raise FrameError(f"a load record claims {length} bytes; {len(data) - at} are there")
    if layout.has_checksum and sum(data[start:end]) & 0xFF != data[end]:
        raise FrameError("a load record has a wrong checksum")
    if layout.trailer and data[end + int(layout.has_checksum) : end + layout.tail] != layout.trailer:
        raise FrameError("a load record does not end as its layout says")
    stamp, classes = _body(layout, data[at:end])
    return (Record(stamp, classes) if stamp is not None else None), end + layout.tail


def _body(layout: RecordLayout, body: bytes) -> tuple[datetime | None, dict[int, bytes]]:
    try:
        stamp = decode_stamp(body[:_STAMP], layout.stamp_order)
    except ValueError:
        raise FrameError("a load record's stamp is no time") from None
    # An absent class is its separator alone.
    return stamp, dict(_sections(layout, body[_STAMP:]))


def _sections(layout: RecordLayout, rest: bytes) -> Sequence[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    for number, size in layout.sizes:
        if not rest.startswith(layout.separator):
            length = size or rest.find(layout.separator)
            if not 0 < length <= len(rest):
                raise FrameError(f"class {number} of a load record has {len(rest)} bytes, not {size}")
            found.append((number, rest[:length]))
            rest = rest[length:]
        if not rest.startswith(layout.separator):
            raise FrameError(f"class {number} of a load record is not as long as it should be")
        rest = rest[len(layout.separator) :]
    if rest:
        raise FrameError(f"{len(rest)} bytes follow the classes of a load record")
    return found
