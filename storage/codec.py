"""A batch as the bytes of one log record: version byte, MessagePack, zstd where it pays. No files.

A record of the head-end's log has a second form: where it came from (gateway, epoch, seqs), then the gateway's own
record, byte for byte. `unpack` and `count` read both.
"""

import struct
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import zstandard

from metering.batch import COMPRESSED, VERSION, Batch, Outline, decode, decode_journal, encode, outline
from metering.model import JournalEntry

MAX_BATCH_BYTES = 64 * 1024 * 1024  # a payload that unpacks to more is refused before it is unpacked
MIN_COMPRESS_BYTES = 128  # below it the frame's own header eats the gain
ZSTD_LEVEL = 1  # measured on 1,000 readings: level 3 takes half as long again and saves nothing
ORIGIN = 0x40  # the first byte of the form with an origin: no version of a batch, which follows with a byte of its own
QUIET = 0x41  # the same where the batch is known to have no journal: whoever looks for journals need not open it
MAX_NAME = 255  # bytes of a gateway's id or an epoch
_ORIGIN = struct.Struct("<BBBQQI")  # form, length of gateway and of epoch, first and last seq, check

_Found = TypeVar("_Found")

_local = threading.local()  # zstandard's contexts serve one thread at a time


class Counts(NamedTuple):
    """What a payload holds, for the account of what was evicted: readings by device, first and last measured_at."""

    readings: dict[str, int]
    first: int | None
    last: int | None


class Origin(NamedTuple):
    """Where a record of the head-end's log came from: the seqs `first` to `last` of a gateway's log of this epoch.

    `check` is the CRC-32 of the record as the gateway sent it, 0 where it sent that these seqs are skipped.
    """

    gateway: str
    epoch: str
    first: int
    last: int
    check: int = 0


def with_origin(origin: Origin, payload: bytes, *, quiet: bool = False) -> bytes:
    """Return the record of the head-end's log for a gateway's record, which stays as it is.

    `quiet` says that it has no journal.

    Raises:
        ValueError: a name is longer than MAX_NAME bytes, or a seq does not fit.

    """
    form, gateway, epoch = QUIET if quiet else ORIGIN, origin.gateway.encode(), origin.epoch.encode()
    try:
        head = _ORIGIN.pack(form, len(gateway), len(epoch), origin.first, origin.last, origin.check)
    except struct.error as error:
        raise ValueError(f"{origin} cannot be written: {error}") from None
    return b"".join((head, gateway, epoch, payload))


def origin_of(payload: bytes | memoryview) -> Origin | None:
    """Return where a record came from; None where it is of the log's own gateway.

    Raises:
        ValueError: the record is cut off in its origin.

    """
    if not payload or payload[0] not in {ORIGIN, QUIET}:
        return None
    return _split(payload)[0]


def is_quiet(payload: bytes | memoryview) -> bool:
    """Tell whether a record is known to hold no journal, without opening it."""
    return bool(payload) and payload[0] == QUIET


def _split(payload: bytes | memoryview) -> tuple[Origin, memoryview]:
    """Return the origin and the gateway's own record behind it."""
    view = memoryview(payload)
    try:
        _, gateway, epoch, first, last, check = _ORIGIN.unpack_from(view)
    except struct.error:
        raise ValueError("the record is cut off in its origin") from None
    names, end = _ORIGIN.size, _ORIGIN.size + gateway + epoch
    if end > len(view):
        raise ValueError("the record is cut off in its origin")
    gateway_id, epoch_id = str(view[names : names + gateway], "utf-8"), str(view[names + gateway : end], "utf-8")
    return Origin(gateway_id, epoch_id, first, last, check), view[end:]


def pack(batch: Batch) -> bytes:
    """Return the payload of a batch.

    Raises:
        ValueError: the batch does not fit MAX_BATCH_BYTES.

    """
    body = encode(batch)
    if len(body) > MAX_BATCH_BYTES:
        raise ValueError(f"a batch of {len(body)} bytes is above the limit of {MAX_BATCH_BYTES}")
    if len(body) >= MIN_COMPRESS_BYTES:
        smaller = _compressor().compress(body)
        if len(smaller) < len(body):
            return bytes((VERSION | COMPRESSED,)) + smaller
    return bytes((VERSION,)) + body


def unpack(payload: bytes | memoryview) -> Batch:
    """Return the batch of a payload.

    Raises:
        ValueError: an unknown version (which is told), not a batch, or one that unpacks to more than MAX_BATCH_BYTES.

    """
    return _opened(payload, decode)


def unpack_outline(payload: bytes | memoryview) -> Outline:
    """Return what a payload's batch is about, checked as `unpack` does, for less than its cost. Raises as `unpack`."""
    return _opened(payload, outline)


def unpack_journal(payload: bytes | memoryview) -> Sequence[JournalEntry]:
    """Return only the journal of a payload's batch, for a fraction of the cost. Raises as `unpack`."""
    return _opened(payload, decode_journal)


def _opened(payload: bytes | memoryview, decode_body: Callable[[bytes | memoryview], _Found]) -> _Found:
    if len(payload) and payload[0] in {ORIGIN, QUIET}:
        payload = _split(payload)[1]
    if len(payload) == 0:
        raise ValueError("an empty payload is no batch")
    version = payload[0] & ~COMPRESSED
    if version != VERSION:
        raise ValueError(f"batch of version {version}; this program reads version {VERSION}")
    body = memoryview(payload)[1:]
    if payload[0] & COMPRESSED:
        body = memoryview(_decompress(body))
    elif len(body) > MAX_BATCH_BYTES:
        raise ValueError(f"a batch of {len(body)} bytes is above the limit of {MAX_BATCH_BYTES}")
    try:
        return decode_body(body)
    except RecursionError:
        raise ValueError("the batch is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a batch: {error}") from None


def count(payload: bytes) -> Counts:
    """Return what a payload holds: the log asks before it evicts a record that a cursor has not passed.

    Raises:
        ValueError: as `unpack`.

    """
    readings: dict[str, int] = {}
    batch = unpack(payload)
    for block in batch.blocks:
        readings[block.device] = readings.get(block.device, 0) + len(block.values)
    times = [block.measured_at for block in batch.blocks]
    return Counts(readings, min(times, default=None), max(times, default=None))


def _compressor() -> zstandard.ZstdCompressor:
    found: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if found is None:
        found = _local.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    return found


def _decompress(body: memoryview) -> bytes:
    """Return the bytes of one zstd frame, having looked first at the size that it claims."""
    decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_BATCH_BYTES)
    try:
        claimed = zstandard.get_frame_parameters(body).content_size
        if claimed not in {zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR} and claimed > MAX_BATCH_BYTES:
            raise ValueError(f"the batch claims {claimed} bytes; the limit is {MAX_BATCH_BYTES}")
        return decompressor.decompress(body, max_output_size=MAX_BATCH_BYTES, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a zstd frame of at most {MAX_BATCH_BYTES} bytes: {error}") from None
