"""Which version of a reading is the current one, how readings are ordered, and what a page's cursor is: pure logic.

Shared by the stores, so that they answer alike. What one channel holds at one time is a set of versions, each with its
own value and quality. Everything here is commutative, associative and idempotent: order of arrival never decides.
"""

import base64
import binascii
import math
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import msgspec

from metering.errors import StorageError
from metering.model import Kind, Number
from metering.ports import Channel, Reading
from metering.quality import Quality, rank

# measured_at is the interval's end for these kinds, and an instant for the others.
OF_AN_INTERVAL = frozenset({Kind.INTERVAL, Kind.AVERAGE, Kind.MAXIMUM_DEMAND})

HIGHEST_QUALITY = 2**30 - 1  # flags above it have no meaning and no room in a store

Order = tuple[str, str, str, int, str, int, str]  # obis, kind, source, interval, unit, scale, number
Precedence = tuple[int, int, int, int, int, int | float, bool]  # an int must stay one: floats end at 53 bits


class Place(NamedTuple):
    """Where a reading stands in the order of answers. Versions of one channel and time go from the highest down."""

    measured_at: int
    order: Order
    precedence: Precedence


_T = TypeVar("_T")


class Version(NamedTuple):
    """One value and quality of one channel at one time, with what is known about its arrival."""

    value: float | None
    quality: int
    received_at: int
    slot: int | None
    revision: int

    def identity(self) -> tuple[int, bool, float, bool]:
        """Return what makes two versions the same record: quality and value, digit for digit (0.0 is not -0.0)."""
        if self.value is None:
            return self.quality, False, 0, False
        return self.quality, True, self.value, self.value == 0 and math.copysign(1, self.value) > 0

    def precedence(self) -> Precedence:
        """Return what orders versions: rank, revision, received_at; then quality and value, so that none are equal."""
        quality, present, value, positive = self.identity()
        return rank(quality), self.revision, self.received_at, quality, int(present), value, positive


def merged(one: Version, other: Version) -> Version:
    """Return the one record of two arrivals of the same identity: earliest arrival, highest revision, latest slot."""
    slots = [slot for slot in (one.slot, other.slot) if slot is not None]
    return Version(
        one.value,
        one.quality,
        min(one.received_at, other.received_at),
        max(slots, default=None),
        max(one.revision, other.revision),
    )


def resolve(arrivals: Iterable[Version]) -> list[Version]:
    """Return the distinct versions among these arrivals of one channel and time, the current one first."""
    distinct: dict[tuple[int, bool, float, bool], Version] = {}
    for arrival in arrivals:
        identity = arrival.identity()
        held = distinct.get(identity)
        distinct[identity] = merged(held, arrival) if held else arrival
    return sorted(distinct.values(), key=Version.precedence, reverse=True)


def fitted(number: Number, value: float | None, quality: int) -> tuple[int | float | None, int]:
    """Return value and quality as a store keeps them: NaN and infinities become no value, flagged.

    Raises:
        ValueError: the value does not fit its column exactly, or the quality is no set of flags.

    """
    if not 0 <= quality <= HIGHEST_QUALITY:
        raise ValueError(f"quality {quality} is no set of flags")
    if value is None:
        return None, quality
    if isinstance(value, float) and not math.isfinite(value):
        return None, quality | Quality.NOT_A_NUMBER
    exact = int(value) if number == "int" else _as_float(value)
    if exact != value:
        raise ValueError(f"{value!r} does not fit a column of {number} exactly")
    return exact, quality


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf  # differs from every integer, so that `fitted` refuses it


def order_of(channel: Channel) -> Order:
    """Return the channel's place among the channels of its device at one time."""
    column = channel.column
    return (
        column.obis,
        channel.kind.value,
        channel.source.value,
        channel.interval,
        column.unit,
        column.scale,
        column.number,
    )


def place_of(reading: Reading) -> Place:
    """Return where a reading stands in the order of answers: a page's cursor is the place of its last reading."""
    version = Version(reading.value, reading.quality, reading.received_at, reading.slot, reading.revision)
    return Place(reading.measured_at, order_of(reading.channel), version.precedence())


def bounds(kind: Kind, start: int, end: int) -> tuple[int, int]:
    """Return first and last measured_at: start < interval end <= end for intervals, start <= t < end for instants."""
    return (start + 1, end) if kind in OF_AN_INTERVAL else (start, end - 1)


def to_cursor(place: object) -> str:
    """Return a place as opaque text."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def from_cursor(text: str, kind: type[_T]) -> _T:
    """Return the place that `to_cursor` made opaque.

    Raises:
        StorageError: the text is no such cursor.

    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError) as error:
        raise StorageError(f"{text[:40]!r} is not a cursor of this store", retry=False) from error
