"""What gateway and head-end say to each other: the types, their topics and their bytes. No broker, no log, no clock.

A payload is one version byte and MessagePack. An unknown version is refused and told (`UnknownVersionError`); unknown
fields are skipped, so that an older side understands a newer one of the same version. A record inside `Up` is the
bytes of the gateway's log as they are: nothing is encoded anew between the meter's gateway and the head-end's log.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import msgspec

from metering.model import Skipped

VERSION = 1
MAX_UP_BYTES = 1 << 20  # of one `up` payload; a longer one is refused before it is looked into
MAX_SMALL_BYTES = 64 * 1024  # of every other payload, but
MAX_OFFER_BYTES = 512 * 1024  # of a configuration
MAX_CONFIG_BYTES = 1 << 20  # of its TOML: some 4,000 meters
MAX_RECORDS = 1024  # in one `Up`
MAX_HELD = 256  # ranges in one receipt: the lowest ones
MAX_SEQ = 2**62
ROOT = "m/v1"

Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]
Text = Annotated[str, msgspec.Meta(max_length=256)]
_Message = TypeVar("_Message", bound=msgspec.Struct)


class WireError(ValueError):
    """A payload that is not what its topic carries; the text says why."""


class UnknownVersionError(WireError):
    """A payload of a version that this program does not read."""


class Up(msgspec.Struct, frozen=True):
    """Records of one gateway's log with consecutive seqs from `first_seq` on; a `Skipped` counts for all its seqs."""

    epoch: Name
    first_seq: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQ)]
    records: Annotated[Sequence[bytes | Skipped], msgspec.Meta(min_length=1, max_length=MAX_RECORDS)]
    boot: Text = ""  # `Status.boot` of the run that sends it


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the head-end has committed of one epoch: all seqs up to `contiguous`, and `held` ranges (inclusive) above.

    `check` is the highest committed seq and the CRC-32 of its record: a gateway that has another record there, or none
    yet, was put back to an earlier state. `boot` is the `Status.boot` that the head-end last heard. Where several
    head-ends share a fleet, `fence` counts up with each change of the one that answers for a gateway: a receipt with a
    lower one is late.
    """

    epoch: Name
    contiguous: Seq
    held: Sequence[tuple[Seq, Seq]] = ()
    at: int = 0
    check: tuple[Seq, int] | None = None
    boot: Text = ""
    fence: int = 0


class Status(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a gateway is. `boot` is a random id of this run; `receipt` the contiguous seq that it knows of.

    Published when it comes (birth), now and then, and by the broker with `online` False when it vanishes (last will).
    """

    gateway: Name
    epoch: Name
    boot: Text
    version: Text = ""
    meters: int = 0
    log_first: Seq = 0
    log_next: Seq = 0
    receipt: Seq = 0
    clock_suspect: bool = False
    clock_offset_ms: int | None = None  # how far its clock is ahead of the head-end's, as its receipts tell
    online: bool = True
    at: int = 0
    config_version: int = 0


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the head-end asks of a gateway, by `kind`.

    `replay`: seqs `first` to `last` of `epoch` once more; `afresh`: all of it. `call`: whether the run `boot` is there,
    answered by its status; `leave`: the run `boot` is to end, another gateway of this id is at work. `backfill`: have
    the intervals of `device` with start < end of interval <= end from its own memory. `counters`: how far the
    invocation counters of each device were reserved (`floors`), to the run `boot`, as part `first` of `last`. `keys`:
    wrapped keys (`body`) of `device` in their `version`, to be used under this `lease`; `release`: those of this lease
    and of all before it are to be used no more. `go`: policy still allows the supply command of `body`
    (`metering.supply.Go`). `anchor`: a signed head of the audit (`body`), to be kept in the log.
    """

    id: Name
    kind: Literal["replay", "afresh", "call", "leave", "backfill", "counters", "keys", "release", "go", "anchor"]
    epoch: Text = ""
    first: Seq = 0
    last: Seq = 0
    boot: Text = ""
    device: Text = ""
    start: int = 0
    end: int = 0
    floors: dict[str, int] = {}
    version: int = 0
    lease: int = 0
    body: bytes = b""


class ConfigOffer(msgspec.Struct, frozen=True):
    """A version of a gateway's configuration: `body` is its TOML, compressed with zstd.

    It carries no signature: the connection says who speaks, and what a thief of the head-end must never change, who
    may cut a supply, is no part of any configuration.
    """

    version: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    body: bytes


def topic(gateway: str, leaf: str) -> str:
    """Return `m/v1/{gateway}/{leaf}`."""
    return f"{ROOT}/{gateway}/{leaf}"


def gateway_of(name: str) -> tuple[str, str]:
    """Return gateway and leaf of a topic.

    Raises:
        WireError: it is none of ours.

    """
    parts = name.split("/")
    if len(parts) != 4 or f"{parts[0]}/{parts[1]}" != ROOT or not parts[2]:
        raise WireError(f"{name!r} is no topic of a gateway")
    return parts[2], parts[3]


def end_of(up: Up) -> int:
    """Return the seq after the last one of an `Up`.

    Raises:
        WireError: a `Skipped` does not lie where its seqs say.

    """
    seq = up.first_seq
    for record in up.records:
        if not isinstance(record, Skipped):
            seq += 1
            continue
        if record.from_seq != seq or not seq <= record.to_seq < MAX_SEQ:
            raise WireError(f"skipped {record.from_seq} to {record.to_seq} stands at {seq}")
        seq = record.to_seq + 1
    return seq


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type[msgspec.Struct], msgspec.msgpack.Decoder[msgspec.Struct]] = {}
_HEAD = bytes((VERSION,))


def encode(message: msgspec.Struct) -> bytes:
    """Return the payload of a message."""
    return _HEAD + _encoder.encode(message)


def decode(payload: bytes | memoryview, kind: type[_Message]) -> _Message:
    """Return the message of a payload. Its cost is bounded by its length, however deep it is nested.

    Raises:
        UnknownVersionError: of a version that this program does not read.
        WireError: too long, or not such a message.

    """
    limit = {Up: MAX_UP_BYTES, ConfigOffer: MAX_OFFER_BYTES}.get(kind, MAX_SMALL_BYTES)
    if len(payload) > limit:
        raise WireError(f"a payload of {len(payload)} bytes; the limit is {limit}")
    if not payload:
        raise WireError("an empty payload")
    if payload[0] != VERSION:
        raise UnknownVersionError(f"a payload of version {payload[0]}; this program reads version {VERSION}")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(memoryview(payload)[1:])  # type: ignore[return-value]  # the decoder of this very kind
    except RecursionError:
        raise WireError("the payload is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise WireError(f"not a message of this kind: {error}") from None
