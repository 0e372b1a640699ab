"""Reads a Modbus meter by its profile: compiled requests, checked replies, `Block`s. Owns no wire and no schedule."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, NamedTuple

import structlog

from collector.exchange import Exchange, Transact
from collector.plan import TCP_MAX_GAP, Holes, Request, Span, plan, split
from collector.profile import Place, Point, Profile
from collector.protocols.modbus import ILLEGAL_DATA_ADDRESS, check_reply, read_request, reply_length
from collector.protocols.modbus_decoder import Decoder
from collector.protocols.modbus_values import decode_text
from metering.errors import FrameError, MeterError, RefusedError
from metering.model import Block, Column, Kind, Layout, Source

# How many exceptions 2 one read puts up with: while looking for what this meter does have, and when nothing answers.
MAX_REFUSALS = 32
MAX_REFUSALS_OF_ALL = 8
_PROGRAMS = 512  # compiled plans kept: one for each profile, choice of points, line and set of holes

logger = structlog.get_logger(__name__)


class _Group(NamedTuple):
    """The values of one kind in a reply: one block. `pick` is None where they are the whole reply."""

    kind: Kind
    columns: tuple[Column, ...]
    pick: Callable[[Sequence[Any]], Any] | None
    layouts: dict[tuple[Source, int], Layout]


class _Step(NamedTuple):
    """One request, ready to send, and how its reply becomes blocks."""

    request: Request
    pdu: bytes
    reply_length: int
    decoder: Decoder
    groups: tuple[_Group, ...]


class _Halves:
    """A refused request that is read in two. If neither half is refused, what lies between them is to blame."""

    def __init__(self, second: Request) -> None:
        self.cut = (second.function, second.address)
        self.good = 0


class _Search:
    """One read on its way: what is still to be asked, and what the meter refused so far."""

    def __init__(self, steps: Sequence[_Step], compile_half: Callable[[Request], _Step]) -> None:
        self.queue: deque[tuple[_Step, _Halves | None]] = deque((step, None) for step in steps)
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

    def refused(self, step: _Step, error: RefusedError, *, read: bool) -> None:
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

    def found(self) -> Holes:
        """Return what this read has taught about the meter."""
        return Holes(frozenset(self.cuts), frozenset(self.unreadable))


class ModbusReader:
    """One meter's reader (capability `Reader`): the values of a profile's points, in as few requests as can be.

    `points` are names of the profile's points (none: all), `max_gap` how many registers may be read over
    (`plan.rtu_max_gap` for a serial line), `interval` the seconds between its scheduled reads (0: none). What the meter
    refuses with exception 2 is learned: the request is parted until all that can be
    read is read, and `on_holes` is told what was found.
    """

    __slots__ = ("_interval", "_max_gap", "_names", "_on_holes", "_steps", "device", "holes", "profile")

    def __init__(
        self,
        profile: Profile,
        device: str,
        points: Sequence[str] = (),
        *,
        max_gap: int = TCP_MAX_GAP,
        interval: int = 0,
        on_holes: Callable[[str, Holes], None] | None = None,
    ) -> None:
        self.profile = profile
        self.device = device
        self.holes = Holes()
        self._names = tuple(points)
        self._max_gap = max_gap
        self._interval = interval
        self._on_holes = on_holes
        self._steps = _program(profile, self._names, max_gap, self.holes)

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
        self._steps = _program(self.profile, self._names, self._max_gap, self.holes)

    def exchanges(self, unit: int) -> tuple[Exchange, ...]:
        """Return the exchanges of one read, for a forecast of the time on the wire."""
        return tuple(Exchange(unit, s.pdu, s.reply_length, self.profile.turnaround) for s in self._steps)

    async def read(
        self, transact: Transact, unit: int, *, slot: int | None, source: Source, into: list[Block] | None = None
    ) -> list[Block]:
        """Return one block for each request and kind, stamped with the middle of the request's exchange.

        Blocks go into the list `into` as they come, where one is given: what was read before an error is not lost.

        Raises:
            RefusedError: the meter refuses all its registers, or refuses for another reason than the address.
            FrameError: a reply is not the answer to what was asked.
            TransportError: from `transact`.

        """
        blocks = [] if into is None else into
        before = len(blocks)
        search = _Search(self._steps, partial(_compile, self.profile, self._names))
        try:
            while search.queue:
                step, halves = search.queue.popleft()
                try:
                    await self._take(step, transact, unit, slot, source, blocks)
                except RefusedError as error:
                    search.refused(step, error, read=len(blocks) > before)
                else:
                    search.answered(halves)
        except MeterError as error:
            error.meter = error.meter or self.device
            raise
        finally:
            # Nothing is learned from a meter that refused everything: it is another model, or another meter.
            if len(blocks) > before and (found := search.found()):
                self._learn(found)
        return blocks

    async def identify(self, transact: Transact, unit: int) -> str | None:
        """Return the serial number that the meter itself shows; None where its model has no such register.

        Raises:
            RefusedError: the meter refuses.
            FrameError: the reply is not the answer, or shows no serial number.
            TransportError: from `transact`.

        """
        place = self.profile.identity
        if place is None:
            return None
        pdu = read_request(self.profile.function_of(place), place.address, place.registers)
        try:
            answer = await transact(Exchange(unit, pdu, reply_length(pdu), self.profile.turnaround))
            return identity_text(self.profile, place, check_reply(pdu, answer.pdu))
        except MeterError as error:
            error.meter = error.meter or self.device
            raise

    async def _take(
        self, step: _Step, transact: Transact, unit: int, slot: int | None, source: Source, blocks: list[Block]
    ) -> None:
        """Do one exchange and append its blocks."""
        reply, asked_at, answered_at = await transact(
            Exchange(unit, step.pdu, step.reply_length, self.profile.turnaround)
        )
        values, quality = step.decoder.decode(check_reply(step.pdu, reply))
        measured_at = (asked_at + answered_at) // 2
        channel = source, self._interval
        for group in step.groups:
            layout = group.layouts.get(channel) or group.layouts.setdefault(
                channel, _layout(group.kind, *channel, group.columns)
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
        self._steps = _program(self.profile, self._names, self._max_gap, self.holes)
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


@lru_cache(maxsize=_PROGRAMS)
def _program(profile: Profile, names: tuple[str, ...], max_gap: int, holes: Holes) -> tuple[_Step, ...]:
    """Return the compiled plan; meters of the same model share it."""
    points = profile.select(names)
    spans = [Span(profile.function_of(p), p.address, p.registers, index) for index, p in enumerate(points)]
    return tuple(_compile(profile, names, r) for r in plan(spans, profile.max_registers, max_gap, holes))


def _compile(profile: Profile, names: tuple[str, ...], request: Request) -> _Step:
    chosen = profile.select(names)
    points = [chosen[span.value] for span in request.spans]
    pdu = read_request(request.function, request.address, request.registers)
    decoder = Decoder([(p.address - request.address, profile.spec(p)) for p in points], request.registers)
    groups = []
    for kind in dict.fromkeys(p.what for p in points):
        of_kind = [index for index, p in enumerate(points) if p.what is kind]
        columns = tuple(Column(p.obis, p.unit, p.scale, p.number) for p in points if p.what is kind)
        groups.append(_Group(kind, columns, None if len(of_kind) == len(points) else _picker(of_kind), {}))
    return _Step(request, pdu, reply_length(pdu), decoder, tuple(groups))


def _picker(indexes: Sequence[int]) -> Callable[[Sequence[Any]], Any]:
    """Return what takes these items out of a tuple, as a tuple."""
    first, last = indexes[0], indexes[-1] + 1
    if last - first == len(indexes):
        return itemgetter(slice(first, last))
    return itemgetter(*indexes)


@lru_cache(maxsize=_PROGRAMS)
def _layout(kind: Kind, source: Source, interval: int, columns: tuple[Column, ...]) -> Layout:
    """Return the one layout object of these columns: batches and watches know layouts by identity."""
    return Layout(kind, source, interval, columns)
