"""What a driver can do for a meter: small capabilities, each a method or two. A read-only meter simply lacks the rest.

A driver's conversation with its meter (`Talk`) is opened once for a piece of work and closed after it: an association
in DLMS, nothing at all in Modbus and DL/T 645.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import msgspec

from collector.exchange import Exchange, Transact
from collector.supply_rules import Step
from metering.model import Block, Event, Kind, Source
from metering.supply import Action, SupplyState


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


class SentFrame:
    """One frame of a command as it left. `masked` may be kept and shown; `whole` may hold a credential: never shown."""

    __slots__ = ("masked", "whole")

    def __init__(self, masked: bytes, whole: bytes | None = None) -> None:
        self.masked = masked
        self.whole = masked if whole is None else whole

    def __repr__(self) -> str:
        return f"SentFrame({self.masked.hex()})"


class Limits(msgspec.Struct, frozen=True):
    """What a limiter was set to before it was changed, to be given back: by attribute, in the meter's own digits.

    `limit_w` is the threshold in W; None: there was no limit.
    """

    values: dict[int, int]
    limit_w: int | None


class Order(NamedTuple):
    """What is sent to a meter's switch: never `restore`, which `plan` resolves.

    `until` (us UTC) is the end of the command's validity, which some meters check themselves.
    """

    action: Action
    until: int
    limit_w: int | None = None
    back: Limits | None = None  # of an unlimit: what was set before


class SupplySwitch(Protocol):
    """A meter's supply: its switch and its limiter. Whether and when it is used others decide."""

    @property
    def limits(self) -> bool:
        """Tell whether it has a limiter."""
        ...

    async def identities(self, talk: Talk) -> frozenset[str]:
        """Return how the meter names itself: `title:<hex>`, `address:<digits>`, `serial:<text>`, as far as it does.

        Raises:
            RefusedError: its model has no point that tells who it is; it can be given no command.
            MeterError: it could not be read.

        """
        ...

    async def state(self, talk: Talk) -> SupplyState:
        """Return how the supply stands, as the meter says. Raises `MeterError`."""
        ...

    def plan(self, action: Action, state: SupplyState, limit_w: int | None = None) -> Step:
        """Return what is to be done in this state (`collector.supply_rules`): an order, nothing, or never."""
        ...

    async def registers(self, talk: Talk, *, into: list[Block]) -> None:
        """Append the registers that belong to a command, as blocks of source `command`. Raises `MeterError`."""
        ...

    async def settings(self, talk: Talk) -> Limits:
        """Return what the limiter is set to. Raises `MeterError`; `RefusedError` where there is none."""
        ...

    def at_trip(self, state: SupplyState, settings: Limits) -> str:
        """Return in words what the limiter does when it trips, and who can close the supply then."""
        ...

    async def act(self, talk: Talk, order: Order, sent: list[SentFrame]) -> None:
        """Send an order, once: what left is in `sent` before it leaves, whatever happens then.

        Raises:
            RefusedError: the meter said no: nothing happened.
            AuthError: it refused its password or key: nothing happened.
            MeterError: nobody knows whether it happened.

        """
        ...
