"""A Modbus meter by its profile: compiled requests, checked replies, `Block`s. Owns no wire and no schedule."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Self

import structlog

from collector.capabilities import Talk
from collector.drivers.modbus_program import Step, compile_step, layout_of, program
from collector.exchange import Exchange, Transact
from collector.plan import TCP_MAX_GAP, Holes, Request, split
from collector.profile import Place, Point, Profile
from collector.protocols.modbus import ILLEGAL_DATA_ADDRESS, check_reply, read_request, reply_length
from collector.protocols.modbus_values import decode_text
from metering.errors import FrameError, MeterError, RefusedError
from metering.model import Block, Source

# How many exceptions 2 one read puts up with: while looking for what this meter does have, and when nothing answers.
MAX_REFUSALS = 32
MAX_REFUSALS_OF_ALL = 8

logger = structlog.get_logger(__name__)


class _Halves:
    """A refused request that is read in two. If neither half is refused, what lies between them is to blame."""

    def __init__(self, second: Request) -> None:
        self.cut = (second.function, second.address)
        self.good = 0


class _Search:
    """One read on its way: what is still to be asked, and what the meter refused so far."""

    def __init__(self, steps: Sequence[Step], compile_half: Callable[[Request], Step]) -> None:
        self.queue: deque[tuple[Step, _Halves | None]] = deque(zip(steps, repeat(None)))
        self.cuts: set[tuple[int, int]] = set()
        self.unreadable: set[tuple[int, int, int]] = set()
        self._compile_half = compile_half
        self._refusals = 0
        self._patience_of_all = len(steps) + MAX_REFUSALS_OF_ALL

    def answered(self, halves: _Halves | None) -> None:
        """Note an answer; with the second half of a refused request the cut between them is known."""
        if halves is not None:
            halves.good += 1
            if halves.good == 2:
                self.cuts.add(halves.cut)

    def refused(self, step: Step, error: RefusedError, *, read: bool) -> None:
        """Queue the halves of a request refused with exception 2; raise where that cannot help."""
        self._refusals += 1
        patience = MAX_REFUSALS if read else self._patience_of_all
        if error.code != ILLEGAL_DATA_ADDRESS or self._refusals > patience:
            raise error
        parts = split(step.request)
        if parts is None:
            self.unreadable.update(span[:3] for span in step.request.spans)
            if not self.queue and not read:
                raise error
        else:
            halves = _Halves(parts[1])
            self.queue.extend((self._compile_half(part), halves) for part in parts)

    def found(self) -> Holes | None:
        """Return what this read has taught about the meter; None where it is nothing, as nearly always."""
        if not self.cuts and not self.unreadable:
            return None
        return Holes(frozenset(self.cuts), frozenset(self.unreadable))


class ModbusTalk:
    """A conversation with a Modbus meter (capability `Talk`): there is nothing to open and nothing to close."""

    __slots__ = ("transact",)

    def __init__(self, transact: Transact) -> None:
        self.transact = transact

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class ModbusDriver:
    """One Modbus meter on a wire (capability `Driver`). `unit` is its address, 1 to 247."""

    __slots__ = ("_device", "_profile", "_unit")

    def __init__(self, profile: Profile, device: str, unit: int) -> None:
        self._profile = profile
        self._device = device
        self._unit = unit

    def talk(self, transact: Transact) -> ModbusTalk:
        """Return a conversation that begins with its first exchange."""
        return ModbusTalk(transact)

    async def identify(self, talk: Talk) -> str | None:
        """Return the serial number that the meter itself shows; None where its model has no such register.

        Raises:
            RefusedError: the meter refuses.
            FrameError: the reply is not the answer, or shows no serial number.
            TransportError: from the wire.

        """
        place = self._profile.identity
        if place is None:
            return None
        pdu = read_request(self._profile.function_of(place), place.address, place.registers)
        try:
            answer = await talk.transact(Exchange(self._unit, pdu, reply_length(pdu), self._profile.turnaround))
            return identity_text(self._profile, place, check_reply(pdu, answer.pdu))
        except MeterError as error:
            error.meter = error.meter or self._device
            raise


class ModbusReader:
    """One meter's reader (capability `Reader`): the values of a profile's points, in as few requests as can be.

    `points` are names of the profile's points (none: all), `max_gap` how many registers may be read over
    (`plan.rtu_max_gap` for a serial line), `interval` the seconds between its scheduled reads (0: none). What the meter
    refuses with exception 2 is learned: the request is parted until all that can be read is read, and `on_holes` is
    told what was found.
    """

    __slots__ = ("_interval", "_max_gap", "_names", "_on_holes", "_steps", "_unit", "device", "holes", "profile")

    def __init__(
        self,
        profile: Profile,
        device: str,
        unit: int,
        points: Sequence[str] = (),
        *,
        max_gap: int = TCP_MAX_GAP,
        interval: int = 0,
        on_holes: Callable[[str, Holes], None] | None = None,
    ) -> None:
        self.profile = profile
        self.device = device
        self.holes = Holes()
        self._unit = unit
        self._names = tuple(points)
        self._max_gap = max_gap
        self._interval = interval
        self._on_holes = on_holes
        self._steps = program(profile, self._names, max_gap, self.holes)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Return the requests of one read, as they are planned by now."""
        return tuple(step.request for step in self._steps)

    @property
    def points(self) -> tuple[Point, ...]:
        """Return the points that are asked for, without those that this meter was found not to have."""
        chosen = self.profile.select(self._names)
        return tuple(chosen[span.value] for step in self._steps for span in step.request.spans)

    def forget(self) -> None:
        """Forget what the meter refused (it was swapped, or its settings changed) and ask for everything again."""
        self.holes = Holes()
        self._steps = program(self.profile, self._names, self._max_gap, self.holes)

    def exchanges(self) -> tuple[Exchange, ...]:
        """Return the exchanges of one read, for a forecast of the time on the wire."""
        return tuple(Exchange(self._unit, s.pdu, s.reply_length, self.profile.turnaround) for s in self._steps)

    async def read(self, talk: Talk, *, slot: int | None, source: Source, into: list[Block]) -> None:
        """Append one block for each request and kind, stamped with the middle of the request's exchange.

        Blocks go into the list as they come: what was read before an error is not lost.

        Raises:
            RefusedError: the meter refuses all its registers, or refuses for another reason than the address.
            FrameError: a reply is not the answer to what was asked.
            TransportError: from the wire.

        """
        before = len(into)
        search = _Search(self._steps, partial(compile_step, self.profile, self._names))
        try:
            while search.queue:
                step, halves = search.queue.popleft()
                try:
                    await self._take(step, talk.transact, slot, source, into)
                except RefusedError as error:
                    search.refused(step, error, read=len(into) > before)
                else:
                    search.answered(halves)
        except MeterError as error:
            error.meter = error.meter or self.device
            raise
        finally:
            # Nothing is learned from a meter that refused everything: it is another model, or another meter.
            if len(into) > before and (found := search.found()):
                self._learn(found)

    async def _take(
        self, step: Step, transact: Transact, slot: int | None, source: Source, blocks: list[Block]
    ) -> None:
        """Do one exchange and append its blocks."""
        exchange = step.exchanges.get(self._unit)
        if exchange is None:
            exchange = Exchange(self._unit, step.pdu, step.reply_length, self.profile.turnaround)
            step.exchanges[self._unit] = exchange
        reply, asked_at, answered_at = await transact(exchange)
        values, quality = step.decoder.decode(check_reply(step.pdu, reply))
        measured_at = (asked_at + answered_at) // 2
        channel = source, self._interval
        for group in step.groups:
            layout = group.layouts.get(channel) or group.layouts.setdefault(
                channel, layout_of(group.kind, *channel, group.columns)
            )
            if group.pick is None:
                shown, flags = values, quality
            else:
                shown, flags = group.pick(values), group.pick(quality) if quality else ()
            blocks.append(
                Block(layout, self.device, measured_at, answered_at, shown, slot, flags if any(flags) else ())
            )

    def _learn(self, found: Holes) -> None:
        self.holes |= found
        self._steps = program(self.profile, self._names, self._max_gap, self.holes)
        logger.warning(
            "the meter refuses registers of its profile",
            meter=self.device,
            profile=self.profile.name,
            not_read_across=sorted(found.cuts),
            not_there=sorted(found.unreadable),
        )
        if self._on_holes is not None:
            self._on_holes(self.device, found)


def identity_text(profile: Profile, place: Place, data: bytes) -> str:
    """Return the serial number in these register bytes.

    Raises:
        FrameError: they hold no number, or no printable text.

    """
    try:
        return decode_text(profile.spec(place), data)
    except ValueError as error:
        raise FrameError(f"no serial number: {error}") from None
