"""The ports: what a driver, a store and a registry can be asked, as Protocols with their questions and answers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from metering.batch import Batch
from metering.model import Block, Column, Device, Event, Expectation, Installation, Kind, MeterPoint, Source


class Channel(msgspec.Struct, frozen=True):
    """One device's column in one layout: what `GET readings` returns series of."""

    device: str
    kind: Kind
    source: Source
    interval: int
    column: Column


class Reading(msgspec.Struct, frozen=True):
    """One value of one channel as a store gives it back. `version` counts up from 1; `current` marks the default."""

    channel: Channel
    measured_at: int
    received_at: int
    value: float | None
    slot: int | None = None
    quality: int = 0
    revision: int = 0
    current: bool = True


class ReadingsQuery(msgspec.Struct, frozen=True):
    """Readings of one device. Intervals: start < interval end <= end; instants: start <= measured_at < end.

    `after` is where the last page ended: the (measured_at, channel order) key of its last reading, opaque to callers.
    """

    device: str
    start: int
    end: int
    obis: tuple[str, ...] = ()  # empty: all
    kinds: tuple[Kind, ...] = ()
    sources: tuple[Source, ...] = ()
    versions: bool = False  # True: all versions, not only the current one
    limit: int = 1000
    after: str = ""


class Page(msgspec.Struct, frozen=True):
    """One page of readings in the order of (measured_at, obis, kind, source); `cursor` is empty on the last one."""

    readings: Sequence[Reading]
    cursor: str


class Rejected(msgspec.Struct, frozen=True):
    """A block that a store refused for good, with the reason in its own words."""

    block: Block
    reason: str


class WriteResult(msgspec.Struct, frozen=True):
    """What became of a write: new values, values that were there already, new versions, and what was refused."""

    stored: int = 0
    duplicates: int = 0
    versions: int = 0
    rejected: Sequence[Rejected] = ()


class SlotsQuery(msgspec.Struct, frozen=True):
    """Which slots of one scheduled channel hold a value: snapshots start <= slot < end, intervals start < end <= end.

    `kind`, `source` and `interval` are those of the expectation that promised them.
    """

    device: str
    obis: str
    kind: Kind
    source: Source
    interval: int
    start: int
    end: int


class Arrivals(msgspec.Struct, frozen=True):
    """When the blocks of one layout of a device came: `received[i]` (us, earliest) is that of the slot `slots[i]`.

    Slots (interval ends) are distinct and in order.
    """

    kind: Kind
    source: Source
    interval: int
    obis: tuple[str, ...]
    slots: Sequence[int]
    received: Sequence[int]


class ReadingsStore(Protocol):
    """A view of the log that can be asked. Blocking calls; callers on an event loop use a thread.

    Every write is idempotent, in any order, and durable when it returns. All methods raise `StorageError`.
    Safe for one writer and several readers in different threads.
    """

    def write(self, batches: Sequence[Batch]) -> WriteResult:
        """Store readings, events and expectations; what was there already stays one record."""
        ...

    def readings(self, query: ReadingsQuery) -> Page:
        """Return one page of one device's readings."""
        ...

    def latest(self, devices: Sequence[str], kinds: Sequence[Kind] = ()) -> Iterator[Reading]:
        """Yield the current value at the latest time of each channel of these devices."""
        ...

    def count_slots(self, query: SlotsQuery) -> int:
        """Return the number of distinct slots that hold a record (a value, or a marked absence of one)."""
        ...

    def slots(self, query: SlotsQuery) -> Iterator[int]:
        """Yield the distinct slots (interval ends) that hold a record, in order."""
        ...

    def arrivals(self, device: str, first: int, last: int) -> Sequence[Arrivals]:
        """Return when each slot (interval end) with first <= slot <= last of a device came, layout by layout.

        All of it is held in memory: ask for a day or two at a time.
        """
        ...

    def events(
        self, devices: Sequence[str], start: int, end: int, limit: int, after: str = ""
    ) -> tuple[Sequence[Event], str]:
        """Return events with start <= time < end in the order of (time, id), and the cursor of the next page."""
        ...

    def expectations(self, device: str) -> Sequence[Expectation]:
        """Return all promises to read this device, in the order of `since`."""
        ...

    def ping(self) -> None:
        """Return quietly when the store can be read and written; raise `StorageError` otherwise."""
        ...

    def close(self) -> None:
        """Release files and connections; later calls raise `StorageError`."""
        ...


class Registry(Protocol):
    """Who is supplied where by which meter, and when. Ids resolve by date."""

    def points(self, regions: Sequence[str]) -> Iterable[MeterPoint]:
        """Return the meter points inside these region prefixes (`""` is everywhere), in the order of their ids."""
        ...

    def point(self, point_id: str) -> MeterPoint | None:
        """Return the meter point, or None where there is none."""
        ...

    def devices(self, regions: Sequence[str]) -> Iterable[Device]:
        """Return the devices that are or were installed inside these region prefixes, in the order of their ids."""
        ...

    def device(self, device_id: str) -> Device | None:
        """Return the device, or None where there is none."""
        ...

    def installations_at(self, point_id: str) -> Sequence[Installation]:
        """Return all installations at a meter point in the order of `valid_from`."""
        ...

    def installations_of(self, device_id: str) -> Sequence[Installation]:
        """Return all installations of a device in the order of `valid_from`."""
        ...
