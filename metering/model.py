"""Meter points, devices, installations, channels, readings and events as they are stored and sent.

All instants are integers: microseconds since 1970-01-01T00:00:00Z, in UTC. `interval` is in seconds.
"""

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import msgspec

SECOND = 1_000_000  # microseconds

Number = Literal["int", "float32", "float64"]


class Kind(StrEnum):
    """What a channel's values are."""

    REGISTER = "register"  # the state of a running total at an instant (register snapshot)
    INTERVAL = "interval"  # a quantity that belongs to an interval
    AVERAGE = "average"
    INSTANTANEOUS = "instantaneous"
    MAXIMUM_DEMAND = "maximum-demand"


class Source(StrEnum):
    """Where a channel's values come from."""

    PROFILE = "profile"  # the meter's own load profile
    POLL = "poll"
    PUSH = "push"  # the meter published it by itself
    COMMAND = "command"  # taken before or after a supply command
    DERIVED = "derived"  # computed from register snapshots
    ESTIMATE = "estimate"
    ON_DEMAND = "on-demand"  # asked for by a person or by the office


class Column(msgspec.Struct, frozen=True, array_like=True):
    """One channel's attributes inside a layout: the value shown is `stored value` x 10^`scale` `unit`."""

    obis: str  # full form A-B:C.D.E*F
    unit: str  # V, A, W, var, VA, kWh, kvarh, Hz, deg, "" ...
    scale: int  # decimal exponent
    number: Number  # what the meter sends: an integer, a float32, a float64


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """The channels that are read together, in order. Blocks of the same layout share one object."""

    kind: Kind
    source: Source
    interval: int  # seconds of the recording interval; 0 where there is none
    columns: tuple[Column, ...]

    @property
    def key(self) -> str:
        """Return 16 hex digits that stay the same for the same layout, on every machine and at every time."""
        return layout_key(self)


class Block(msgspec.Struct, frozen=True, gc=False):  # it comes by the million, and is in no circle of references
    """Readings of one device at one instant: one value for each column of the layout.

    `measured_at` is the true instant on the source's clock, or the interval's end for kinds that have an interval.
    `slot` is the nominal boundary that a scheduled snapshot belongs to. `values[i]` is None where there is no value.
    `quality` is empty when all are valid, otherwise one `Quality` number for each column.
    """

    layout: Layout
    device: str
    measured_at: int
    received_at: int
    values: Sequence[float | None]
    slot: int | None = None
    quality: Sequence[int] = ()
    revision: int = 0

    def quality_of(self, index: int) -> int:
        """Return the quality flags of the column at `index`."""
        return self.quality[index] if self.quality else 0


class Event(msgspec.Struct, frozen=True):
    """Something that happened at a device or a gateway, in the shared words of IEC 61968-9.

    `device` is a device's id, or `gateway:<id>`. `code` is the EndDeviceEventType
    `type.domain.subdomain.index`; `name` is our short word for it. `detail` has plain strings.
    """

    device: str
    time: int
    code: str
    name: str
    received_at: int
    detail: dict[str, str] = {}

    @property
    def id(self) -> str:
        """Return an id that is the same however often the event arrives."""
        raw = msgspec.msgpack.encode((self.device, self.time, self.code, sorted(self.detail.items())))
        return hashlib.blake2b(raw, digest_size=8).hexdigest()


class Expectation(msgspec.Struct, frozen=True, array_like=True):
    """A promise to read: from `since` until `until` (None: still), one reading each `interval` for these channels.

    Completeness rests on it: what was promised and is not held is missing. Stamped when a schedule starts or ends;
    the same (device, kind, source, interval, obis, since) arriving again replaces `until`.
    """

    device: str
    kind: Kind
    source: Source
    interval: int
    obis: tuple[str, ...]
    since: int
    until: int | None = None


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """What a gateway did about something it was asked for, or must have remembered elsewhere: one typed log record.

    `kind` says about what (`config`, `backfill`, `counter`, ...), `id` names it as the head-end did, `state` is what
    became of it. `detail` has plain strings. The same entry arriving again changes nothing.
    """

    at: int
    kind: str
    id: str
    state: str
    detail: dict[str, str] = {}


class Skipped(msgspec.Struct, frozen=True):
    """Sequence numbers of a log that will never be delivered: evicted or unreadable, counted and with the reason."""

    from_seq: int
    to_seq: int  # inclusive
    reason: Literal["evicted", "quarantined", "lost"]
    readings: dict[str, int] = {}  # device -> number of values gone
    first: int | None = None  # earliest and latest measured_at among them, where it is known
    last: int | None = None


class MeterPoint(msgspec.Struct, frozen=True):
    """Where a customer is supplied. `region` is a path (`js/nj/st12/area7`), `zone` an IANA time zone.

    `customer` is the class of the customer, as rule sets have it (resident, business); empty: not said.
    """

    id: str
    region: str
    zone: str = "UTC"
    name: str = ""
    customer: str = ""


class Device(msgspec.Struct, frozen=True):
    """A meter. `profile` names its model's file, `memory_days` how far back its own load profile reaches (0: none)."""

    id: str
    serial: str
    profile: str
    gateway: str = ""
    maker: str = ""
    model: str = ""
    memory_days: int = 0


class Installation(msgspec.Struct, frozen=True):
    """A device at a meter point for a time, half-open: valid_from <= t < valid_to.

    Ratios and registers are decimal strings, applied exactly and once, in billing reads. `registers` says whether the
    device's registers already show primary values (then ratios are not applied) or secondary ones.
    """

    point: str
    device: str
    serial: str
    valid_from: int
    valid_to: int | None = None
    initial: dict[str, str] = {}  # OBIS -> register when it was installed, in the channel's unit
    removal: dict[str, str] = {}
    ct_ratio: str = "1"
    pt_ratio: str = "1"
    registers: Literal["primary", "secondary"] = "primary"


def layout_key(layout: Layout) -> str:
    """Return the layout's stable key: 16 hex digits of BLAKE2b over its MessagePack form."""
    return hashlib.blake2b(msgspec.msgpack.encode(layout), digest_size=8).hexdigest()
