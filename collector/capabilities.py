"""What a driver can do for a meter: small capabilities, each a method or two. A read-only meter simply lacks the rest.

A driver's conversation with its meter (`Talk`) is opened once for a piece of work and closed after it: an association
in DLMS, nothing at all in Modbus and DL/T 645.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from collector.exchange import Exchange, Transact
from metering.model import Block, Event, Kind, Source


class PointLike(Protocol):
    """One value of a meter model as a channel."""

    @property
    def name(self) -> str:
        """Return its name in the profile."""
        ...

    @property
    def obis(self) -> str:
        """Return the full OBIS code."""
        ...

    @property
    def what(self) -> Kind:
        """Return the kind of the channel."""
        ...


class Talk(Protocol):
    """An open conversation with one meter. What it can do besides is its driver's business."""

    @property
    def transact(self) -> Transact:
        """Return what carries exchanges."""
        ...


class Driver(Protocol):
    """One meter on a wire."""

    def talk(self, transact: Transact) -> AbstractAsyncContextManager[Talk]:
        """Open a conversation; it is closed at the end, whatever happened.

        Raises:
            AuthError: wrong password, wrong key, counter out of order.
            RefusedError: the meter takes no association (busy, wrong client).
            FrameError: what came is not the answer.
            TransportError: from `transact`.

        """
        ...

    async def identify(self, talk: Talk) -> str | None:
        """Return the serial number that the meter itself shows; None where its model has none."""
        ...


class Reader(Protocol):
    """Reads a choice of a meter's points as they are now."""

    @property
    def points(self) -> Sequence[PointLike]:
        """Return the points that are asked for, without those that this meter was found not to have."""
        ...

    @property
    def holes(self) -> object:
        """Return what the meter was found not to have; falsy when it has everything."""
        ...

    def forget(self) -> None:
        """Forget what the meter refused, and ask for everything again."""
        ...

    def exchanges(self) -> Sequence[Exchange]:
        """Return the exchanges of one read, conversation included, for a forecast of the time on the wire."""
        ...

    async def read(self, talk: Talk, *, slot: int | None, source: Source, into: list[Block]) -> None:
        """Append blocks to `into` as they come: what was read before an error is not lost. Raises `MeterError`."""
        ...


class Depth(NamedTuple):
    """How far back a meter's own profile reaches: its number of entries and days (0: not known or unbounded)."""

    entries: int = 0
    days: int = 0


class ProfileReader(Protocol):
    """Reads one of a meter's own profiles: load profile, daily profile, billing profile, freeze, load record.

    Its `interval` is 0 where rows come when the meter makes them (a month's end, a reset).
    """

    @property
    def name(self) -> str:
        """Return its name in the meter's model."""
        ...

    @property
    def interval(self) -> int:
        """Return the seconds between its rows."""
        ...

    @property
    def depth(self) -> Depth:
        """Return how far back it reaches."""
        ...

    @property
    def piece_rows(self) -> int:
        """Return how many rows one request may ask for."""
        ...

    @property
    def row_s(self) -> float:
        """Return about how many seconds one row takes on the wire."""
        ...

    @property
    def channels(self) -> Sequence[tuple[Kind, tuple[str, ...]]]:
        """Return what its rows are channels of, by kind; may be empty until `prepare` has asked the meter."""
        ...

    async def prepare(self, talk: Talk) -> None:
        """Learn the profile's shape (capture objects, period, scalers) where it is not known. Raises `MeterError`."""
        ...

    async def read_profile(self, talk: Talk, start: int, end: int, *, into: list[Block]) -> None:
        """Append the rows of one request, start < row's time <= end, as blocks of source `profile`, in their order.

        Row times are slots (the end of the interval) in UTC us; both ends lie on the meter's clock. Raises
        `MeterError`; rows that came before an error stay in `into`.
        """
        ...


class ClockReading(NamedTuple):
    """A meter's clock: what it showed, the middle of the exchange on ours (us UTC), and half the round trip (us)."""

    shown: int
    at: int
    uncertainty: int
    trusted: bool = True  # False: the meter itself says that its clock is invalid or doubtful

    @property
    def offset(self) -> int:
        """Return how far the meter is ahead of us, in us."""
        return self.shown - self.at


class MeterClock(Protocol):
    """A meter's clock."""

    @property
    def shift_limit_s(self) -> int:
        """Return by how many seconds one shift may move it; 0: it can only be set, -1: not even that."""
        ...

    @property
    def reaches_line(self) -> bool:
        """Tell whether setting it sets the clocks of all meters of its line."""
        ...

    async def get(self, talk: Talk) -> ClockReading:
        """Read the clock. Raises `MeterError`."""
        ...

    async def shift(self, talk: Talk, seconds: int) -> None:
        """Move the clock by whole seconds. Raises `MeterError`; `RefusedError` also where it is beyond the limit."""
        ...

    async def set(self, talk: Talk, instant: int) -> None:
        """Set the clock to `instant` (us UTC). Raises `MeterError`."""
        ...


class EventReader(Protocol):
    """Reads a meter's event logs and status words as events of the shared model.

    `words` are the status words as they were read last, by name or identifier: what changed since is an event. Whoever
    keeps them over restarts puts them back before the first read.
    """

    words: dict[str, int]

    async def read_events(self, talk: Talk, since: int, *, into: list[Event]) -> None:
        """Append the events at or after `since` (us UTC, the meter's clock) that the meter still has.

        Reading twice gives the same events (same `Event.id`). Raises `MeterError`.
        """
        ...
