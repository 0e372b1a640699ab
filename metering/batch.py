"""A batch: what one log record holds, and its bytes. Version byte, then MessagePack, optionally zstd.

The version byte has the major version in bits 0-6 and bit 7 set where the rest is zstd. An unknown version is refused
and told; unknown fields are skipped on reading and stay in the stored bytes. Compression is the caller's (`storage`),
because this package needs nothing but msgspec.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from metering.model import Block, Event, Expectation, JournalEntry, Layout, Skipped

VERSION = 1
COMPRESSED = 0x80


class Batch(msgspec.Struct, frozen=True):
    """Typed records of one log entry. `created_at` is when the gateway closed it."""

    created_at: int
    blocks: Sequence[Block] = ()
    events: Sequence[Event] = ()
    expectations: Sequence[Expectation] = ()
    skipped: Sequence[Skipped] = ()
    journal: Sequence[JournalEntry] = ()

    def count(self) -> int:
        """Return the number of readings: one for each column of each block."""
        return sum(len(block.values) for block in self.blocks)


class Outline(NamedTuple):
    """What a batch is about. `devices` have blocks or promises, `told` have events; `latest` is of its blocks.

    The journal comes along as it is: whoever looks at the rest needs no second look for it.
    """

    devices: set[str]
    told: set[str]
    readings: int
    latest: int | None
    journal: Sequence[JournalEntry]


class _WireBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    layout: int
    device: str
    measured_at: int
    received_at: int
    slot: int | None
    revision: int
    values: Sequence[int | float | None]
    quality: Sequence[int]


class _WireBatch(msgspec.Struct, frozen=True, omit_defaults=True):
    t: int
    l: list[Layout] = []  # noqa: E741 - one letter on the wire: it is sent by the million
    b: list[_WireBlock] = []
    e: Sequence[Event] = ()
    x: Sequence[Expectation] = ()
    s: Sequence[Skipped] = ()
    j: Sequence[JournalEntry] = ()


class _WireJournal(msgspec.Struct, frozen=True):
    j: Sequence[JournalEntry] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_WireBatch)
_journal_decoder = msgspec.msgpack.Decoder(_WireJournal)


def encode(batch: Batch) -> bytes:
    """Return the MessagePack body of a batch, without the version byte. Layouts stand in it once."""
    layouts: dict[int, int] = {}
    distinct: list[Layout] = []
    blocks: list[_WireBlock] = []
    for block in batch.blocks:
        index = layouts.get(id(block.layout))
        if index is None:
            index = layouts[id(block.layout)] = len(distinct)
            distinct.append(block.layout)
        blocks.append(
            _WireBlock(
                index,
                block.device,
                block.measured_at,
                block.received_at,
                block.slot,
                block.revision,
                block.values,
                block.quality,
            )
        )
    return _encoder.encode(
        _WireBatch(batch.created_at, distinct, blocks, batch.events, batch.expectations, batch.skipped, batch.journal)
    )


def decode(body: bytes | memoryview) -> Batch:
    """Return the batch of a MessagePack body.

    Raises:
        ValueError: it is not a batch (msgspec's errors are ValueErrors), or a block does not fit its layout.

    """
    wire = _checked(body)
    layouts = wire.l
    blocks = [
        Block(
            layouts[raw.layout],
            raw.device,
            raw.measured_at,
            raw.received_at,
            raw.values,
            raw.slot,
            raw.quality,
            raw.revision,
        )
        for raw in wire.b
    ]
    return Batch(wire.t, blocks, wire.e, wire.x, wire.s, wire.j)


def outline(body: bytes | memoryview) -> Outline:
    """Return what a MessagePack body is about, checked as `decode` checks it, without building blocks. Raises as it."""
    wire = _checked(body)
    devices = {raw.device for raw in wire.b}
    devices.update(promise.device for promise in wire.x)
    readings = sum([len(raw.values) for raw in wire.b])
    latest = max([raw.measured_at for raw in wire.b], default=None)
    return Outline(devices, {event.device for event in wire.e}, readings, latest, wire.j)


def _checked(body: bytes | memoryview) -> _WireBatch:
    """Return a body as it stands on the wire, every block fitting its layout."""
    wire = _decoder.decode(body)
    widths = [len(layout.columns) for layout in wire.l]
    known = len(widths)
    for raw in wire.b:
        if not 0 <= raw.layout < known:
            raise ValueError(f"block of {raw.device!r} names layout {raw.layout}; the batch has {known}")
        width = widths[raw.layout]
        if len(raw.values) != width or (raw.quality and len(raw.quality) != width):
            raise ValueError(f"block of {raw.device!r} has {len(raw.values)} values for {width} columns")
    return wire


def decode_journal(body: bytes | memoryview) -> Sequence[JournalEntry]:
    """Return only the journal of a MessagePack body: its readings are skipped, not built.

    Raises:
        ValueError: it is not a batch.

    """
    return _journal_decoder.decode(body).j
