"""What a Modbus reader sends and how replies become blocks, compiled once for each profile. It sends nothing."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from collector.exchange import Exchange
from collector.plan import Holes, Request, Span, plan
from collector.profile import Profile
from collector.protocols.modbus import read_request, reply_length
from collector.protocols.modbus_decoder import Decoder
from metering.model import Column, Kind, Layout, Source

_PROGRAMS = 512  # compiled plans kept: one for each profile, choice of points, line and set of holes


class Group(NamedTuple):
    """The values of one kind in a reply: one block. `pick` is None where they are the whole reply."""

    kind: Kind
    columns: tuple[Column, ...]
    pick: Callable[[Sequence[Any]], Any] | None
    layouts: dict[tuple[Source, int], Layout]


class Step(NamedTuple):
    """One request, ready to send, and how its reply becomes blocks."""

    request: Request
    pdu: bytes
    reply_length: int
    decoder: Decoder
    groups: tuple[Group, ...]
    exchanges: dict[int, Exchange]  # for each unit that was asked: meters of one model and address share it


@lru_cache(maxsize=_PROGRAMS)
def program(profile: Profile, names: tuple[str, ...], max_gap: int, holes: Holes) -> tuple[Step, ...]:
    """Return the compiled plan; meters of the same model share it."""
    points = profile.select(names)
    spans = [Span(profile.function_of(p), p.address, p.registers, index) for index, p in enumerate(points)]
    return tuple(compile_step(profile, names, r) for r in plan(spans, profile.max_registers, max_gap, holes))


def compile_step(profile: Profile, names: tuple[str, ...], request: Request) -> Step:
    """Return one request of the plan with the decoder of its reply."""
    chosen = profile.select(names)
    points = [chosen[span.value] for span in request.spans]
    pdu = read_request(request.function, request.address, request.registers)
    decoder = Decoder([(p.address - request.address, profile.spec(p)) for p in points], request.registers)
    groups = []
    for kind in dict.fromkeys(p.what for p in points):
        of_kind = [index for index, p in enumerate(points) if p.what is kind]
        columns = tuple(Column(p.obis, p.unit, p.scale, p.number) for p in points if p.what is kind)
        groups.append(Group(kind, columns, None if len(of_kind) == len(points) else _picker(of_kind), {}))
    return Step(request, pdu, reply_length(pdu), decoder, tuple(groups), {})


def _picker(indexes: Sequence[int]) -> Callable[[Sequence[Any]], Any]:
    """Return what takes these items out of a tuple, as a tuple."""
    first, last = indexes[0], indexes[-1] + 1
    if last - first == len(indexes):
        return itemgetter(slice(first, last))
    return itemgetter(*indexes)


@lru_cache(maxsize=_PROGRAMS)
def layout_of(kind: Kind, source: Source, interval: int, columns: tuple[Column, ...]) -> Layout:
    """Return the one layout object of these columns: batches and watches know layouts by identity."""
    return Layout(kind, source, interval, columns)
