"""The change feed: all that is new or corrected, read from the log. Delivered at least once, with stable ids.

The cursor is opaque: a vector over partitions of (epoch, seq, items already given of that record), one partition so
far. A change's id is a digest of what it says, so that the same reading is the same change however often it arrives.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from metering.batch import Batch
from metering.model import Block, Event, Skipped
from metering.ports import Channel, Reading
from storage.log import Log, Record

READ_RECORDS = 64
READ_BYTES = 1 << 20
SCAN_RECORDS = 1024  # records looked at for one page, however few of them are for the asker


class Unpack(Protocol):
    """`storage.codec.unpack`: the batch of a payload, `ValueError` where it is none."""

    def __call__(self, payload: bytes, /) -> Batch:
        """Return the batch."""
        ...


class TooOldError(Exception):
    """The cursor points before what the log still holds, or into another log."""


class Position(NamedTuple):
    """The next record to look at, and how many of its items were given already."""

    seq: int
    item: int


@dataclass(frozen=True)
class Change:
    """One item of the feed, and the position after it."""

    id: str
    item: Reading | Event | Skipped
    after: Position


def cursor_text(epoch: str, position: Position) -> str:
    """Return the opaque cursor of a position."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode([[epoch, *position]])).decode().rstrip("=")


def cursor_position(text: str, epoch: str) -> Position:
    """Return the position of a cursor.

    Raises:
        ValueError: it is no cursor of this feed.
        TooOldError: it belongs to a log that is no more.

    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        ((found, seq, item),) = msgspec.msgpack.decode(raw, type=list[tuple[str, int, int]])
    except (binascii.Error, ValueError) as error:
        raise ValueError("this is no cursor of the change feed") from error
    if not 0 <= seq < 1 << 63 or item < 0:
        raise ValueError("this is no cursor of the change feed")
    if found != epoch:
        raise TooOldError("the cursor belongs to a log that has been replaced")
    return Position(seq, item)


class Feed:
    """Reads changes from a log. Blocking; safe in several threads."""

    def __init__(self, log: Log, unpack: Unpack) -> None:
        self._log = log
        self._unpack = unpack

    def start(self, after: str) -> Position:
        """Return where to begin: after a cursor, or at the oldest record where it is empty.

        Raises:
            ValueError: it is no cursor of this feed.
            TooOldError: what follows it was let go, and no tombstone tells of it.

        """
        if not after:
            tombs = [tomb.from_seq for tomb in self._log.tombstones()]
            return Position(min([self._log.first_seq, *tombs]), 0)
        position = cursor_position(after, self._log.epoch)
        if position.seq > self._log.next_seq:
            raise TooOldError("the cursor is ahead of this log: the log was put back to an earlier state")
        told = position.seq
        for tomb in sorted(self._log.tombstones(), key=lambda each: each.from_seq):
            if tomb.from_seq <= told <= tomb.to_seq:
                told = tomb.to_seq + 1
        if told < self._log.first_seq:
            raise TooOldError("the cursor is older than what the log still holds")
        return position

    def changes(self, position: Position) -> Iterator[Change | Position]:
        """Yield the changes from a position on, and after each record the bare position that follows it."""
        scanned = 0
        while scanned < SCAN_RECORDS:
            found = list(self._log.read(position.seq, READ_RECORDS, READ_BYTES))
            if not found:
                return
            for record in found:
                skip = position.item
                end = Position((record.to_seq if isinstance(record, Skipped) else record.seq) + 1, 0)
                items = self._items(record)
                for index, item in enumerate(items):
                    if index >= skip:
                        yield Change(_change_id(item), item, Position(end.seq - 1, index + 1))
                position = end
                yield position
            scanned += len(found)

    def _items(self, record: Record | Skipped) -> Iterator[Reading | Event | Skipped]:
        if isinstance(record, Skipped):
            yield record
            return
        try:
            batch = self._unpack(record.payload)
        except ValueError:
            yield Skipped(record.seq, record.seq, "quarantined")
            return
        for block in batch.blocks:
            yield from readings_of(block)
        yield from batch.events
        yield from batch.skipped


def readings_of(block: Block) -> Iterator[Reading]:
    """Yield the readings of a block, one for each column."""
    layout = block.layout
    for index, column in enumerate(layout.columns):
        yield Reading(
            Channel(block.device, layout.kind, layout.source, layout.interval, column),
            block.measured_at,
            block.received_at,
            block.values[index],
            block.slot,
            block.quality_of(index),
            block.revision,
        )


def _change_id(item: Reading | Event | Skipped) -> str:
    if isinstance(item, Event):
        return f"e-{item.id}"
    if isinstance(item, Skipped):
        said: object = (item.from_seq, item.to_seq, item.reason, sorted(item.readings.items()), item.first, item.last)
        return f"g-{_digest(said)}"
    # The revision belongs to it: the same value may come again as the latest word.
    value = item.value if not isinstance(item.value, int) else str(item.value)
    return f"r-{_digest((item.channel, item.measured_at, value, item.quality, item.revision))}"


def _digest(said: object) -> str:
    return hashlib.blake2b(msgspec.msgpack.encode(said), digest_size=12).hexdigest()
