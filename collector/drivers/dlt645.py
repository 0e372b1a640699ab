"""Reads a DL/T 645 meter by its profile: its points as they are now, and who it is. Owns no wire and no schedule."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from zoneinfo import ZoneInfo

import structlog

from collector.capabilities import Talk
from collector.dlt645_profile import WILDCARD_IDENTITY, Dlt645Profile
from collector.dlt645_tables import Point
from collector.drivers.dlt645_plan import Holes, Stamp, Step, blocks_of, decode, plan, singles
from collector.drivers.dlt645_talk import Dlt645Talk, exchange, own
from collector.exchange import Exchange, Transact
from collector.protocols.dlt645.errors import UNREADABLE
from collector.protocols.dlt645.frame import WILDCARD, address_text, check_address
from collector.protocols.dlt645.reading import answer_length, read_request
from collector.protocols.dlt645.writes import address_request
from metering.errors import ConfigError, FrameError, RefusedError
from metering.model import Block, Source

# How many refusals one read puts up with: while looking for what this meter does have, and when nothing answers.
MAX_REFUSALS = 64
MAX_REFUSALS_OF_ALL = 8
_ADDRESS = 6  # bytes

logger = structlog.get_logger(__name__)


class Dlt645Driver:
    """One meter on a line (capability `Driver`): `address` are its 12 digits."""

    def __init__(self, profile: Dlt645Profile, device: str, address: str) -> None:
        try:
            self.address = check_address(address)
        except ValueError as error:
            raise ConfigError(str(error), key="address") from None
        self.profile = profile
        self.device = device

    @asynccontextmanager
    async def talk(self, transact: Transact) -> AsyncIterator[Dlt645Talk]:
        """Open a conversation: the protocol has no association, so nothing is sent."""
        yield Dlt645Talk(transact, self.profile, self.address, self.device)

    async def identify(self, talk: Talk) -> str | None:
        """Return the serial number that the meter itself shows; None where its model has none. Raises `MeterError`."""
        mine = own(talk)
        identity = self.profile.identity
        if not identity:
            return None
        if identity == WILDCARD_IDENTITY:
            data = (await mine.ask(address_request(WILDCARD), _ADDRESS)).data
        else:
            data = (await mine.read(identity, _ADDRESS)).data
        if len(data) != _ADDRESS or not data.hex().isdecimal():
            raise FrameError("no serial number of 12 digits", meter=self.device)
        return address_text(data)


class _Search:
    """One read on its way: what is still to be asked, and what the meter refused so far."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.queue = deque(steps)
        self.blocks: set[str] = set()
        self.points: set[str] = set()
        self._refusals = 0
        self._patience_of_all = len(steps) + MAX_REFUSALS_OF_ALL

    def refused(self, step: Step, error: RefusedError, *, read: bool) -> None:
        """Queue a refused block's points one by one; raise where that cannot help."""
        self._refusals += 1
        patience = MAX_REFUSALS if read else self._patience_of_all
        if not error.code & UNREADABLE or self._refusals > patience:
            raise error
        if step.is_block:
            self.blocks.add(step.di)
            self.queue.extend(singles(step.points))
            return
        self.points.update(point.name for point in step.points)
        if not self.queue and not read:
            raise error

    def missing(self, points: Sequence[Point]) -> None:
        """Note points that a block was too short for."""
        self.points.update(point.name for point in points)

    @property
    def found(self) -> Holes:
        """Return what this read has taught about the meter."""
        return Holes(frozenset(self.blocks), frozenset(self.points))


class Dlt645Reader:
    """One meter's reader (capability `Reader`): the values of a profile's points, in as few requests as can be.

    `points` are names of the profile's points (none: all), `interval` the seconds between its scheduled reads (0:
    none). What the meter refuses is learned: a block is read item by item, an item is left out; `on_holes` is told.
    """

    def __init__(
        self,
        profile: Dlt645Profile,
        device: str,
        address: str,
        points: Sequence[str] = (),
        *,
        interval: int = 0,
        on_holes: Callable[[str, Holes], None] | None = None,
    ) -> None:
        self.profile = profile
        self.device = device
        self.holes = Holes()
        self._address = address
        self._names = tuple(points)
        self._interval = interval
        self._on_holes = on_holes
        self._steps = plan(profile, self._names, self.holes)

    @property
    def points(self) -> tuple[Point, ...]:
        """Return the points that are asked for, without those that this meter was found not to have."""
        return tuple(point for step in self._steps for point in step.points)

    def forget(self) -> None:
        """Forget what the meter refused (it was swapped, or its settings changed) and ask for everything again."""
        self.holes = Holes()
        self._steps = plan(self.profile, self._names, self.holes)

    def exchanges(self) -> tuple[Exchange, ...]:
        """Return the exchanges of one read, for a forecast of the time on the wire."""
        profile = self.profile
        return tuple(
            exchange(
                profile,
                read_request(self._address, step.di, edition=profile.edition),
                answer_length(step.size, profile.edition, profile.wake),
            )
            for step in self._steps
        )

    async def read(self, talk: Talk, *, slot: int | None, source: Source, into: list[Block]) -> None:
        """Append one block for each request and kind, stamped with the middle of the request's exchange.

        Raises:
            RefusedError: the meter refuses everything, or refuses for another reason than that it has no such data.
            FrameError: an answer is not the answer to what was asked.
            TransportError: from the line.

        """
        mine = own(talk)
        before = len(into)
        search = _Search(self._steps)
        try:
            while search.queue:
                step = search.queue.popleft()
                try:
                    reply = await mine.read(step.di, step.size)
                except RefusedError as error:
                    search.refused(step, error, read=len(into) > before)
                    continue
                values = decode(step.items, reply.data, ZoneInfo(self.profile.zone))
                search.missing([point for point in step.points if point not in values])
                stamp = Stamp(reply.middle, reply.answered_at, slot)
                into += blocks_of(values, self.device, source, self._interval, stamp)
        except FrameError as error:
            error.meter = error.meter or self.device
            raise
        finally:
            # Nothing is learned from a meter that refused everything: it is another model, or another meter.
            if len(into) > before and (found := search.found):
                self._learn(found)

    def _learn(self, found: Holes) -> None:
        self.holes = Holes(self.holes.blocks | found.blocks, self.holes.points | found.points)
        self._steps = plan(self.profile, self._names, self.holes)
        logger.warning(
            "the meter has not all that its profile names",
            meter=self.device,
            profile=self.profile.name,
            no_blocks=sorted(found.blocks),
            not_there=sorted(found.points),
        )
        if self._on_holes is not None:
            self._on_holes(self.device, found)
