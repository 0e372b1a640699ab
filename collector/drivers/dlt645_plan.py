"""Which identifiers a reading asks for: blocks where the meter has them, else item by item. Sends nothing."""

from functools import lru_cache
from typing import NamedTuple

from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import BlockTable, Point
from collector.protocols.dlt645.blocks import split_block
from collector.protocols.dlt645.values import decode_number
from metering.model import Block, Column, Kind, Layout, Source
from metering.quality import Quality

_PLANS = 512  # compiled plans kept: one for each profile, choice of points and set of holes


class Holes(NamedTuple):
    """What a meter was found not to have: identifiers of blocks, and names of points. Falsy when it has everything."""

    blocks: frozenset[str] = frozenset()
    points: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.blocks or self.points)

    def __str__(self) -> str:
        """Name the points that are not there; empty where all of them are."""
        return ", ".join(sorted(self.points))


class Step(NamedTuple):
    """One identifier to read and the points behind it, each with its bytes; None: bytes that nobody asked for."""

    di: str
    items: tuple[tuple[Point | None, int], ...]

    @property
    def size(self) -> int:
        """Return how many bytes stand behind the identifier."""
        return sum(size for _, size in self.items)

    @property
    def points(self) -> tuple[Point, ...]:
        """Return the points that it gives."""
        return tuple(point for point, _ in self.items if point)

    @property
    def is_block(self) -> bool:
        """Tell whether it can be read item by item instead."""
        return len(self.items) > 1


@lru_cache(maxsize=_PLANS)
def plan(profile: Dlt645Profile, names: tuple[str, ...], holes: Holes) -> tuple[Step, ...]:
    """Return the fewest requests for these points (none: all), in the profile's order."""
    wanted = {point.name: point for point in profile.select(names) if point.name not in holes.points}
    left = dict(wanted)
    steps: list[Step] = []
    blocks = [block for block in profile.block if block.di not in holes.blocks]
    while blocks:
        best = max(blocks, key=lambda block: len(left.keys() & set(block.points)))
        if len(left.keys() & set(best.points)) < 2:
            break
        blocks.remove(best)
        steps.append(_block_step(profile, best, left))
        for name in best.points:
            left.pop(name, None)
    steps += [single(point) for point in left.values()]
    order = {name: index for index, name in enumerate(wanted)}
    return tuple(sorted(steps, key=lambda step: min(order[point.name] for point in step.points)))


def single(point: Point) -> Step:
    """Return the step that reads one point alone."""
    return Step(point.di, ((point, point.size),))


def decode(items: tuple[tuple[Point | None, int], ...], data: bytes) -> dict[Point, tuple[int | None, int]]:
    """Return stored value and quality of each point in these bytes; a meter may send fewer than there are.

    Raises:
        FrameError: the bytes do not fit the items.

    """
    parts = split_block([size for _, size in items], data)
    return {
        point: decode_number(point.form, part[: point.form.size])
        for (point, _), part in zip(items, parts, strict=False)
        if point
    }


class Stamp(NamedTuple):
    """What readings are stamped with: measured, received, slot, and a quality that holds for all of them."""

    measured_at: int
    received_at: int
    slot: int | None
    quality: int = 0


def blocks_of(
    values: dict[Point, tuple[int | None, int]], device: str, source: Source, interval: int, stamp: Stamp
) -> list[Block]:
    """Return the readings of one answer, one block for each kind."""
    made = []
    for kind in dict.fromkeys(point.what for point in values):
        points = tuple(point for point in values if point.what is kind)
        shown = tuple(values[point][0] for point in points)
        flags = tuple(values[point][1] | stamp.quality for point in points)
        layout = _layout(kind, source, interval, points)
        quality = flags if any(flags) else ()
        made.append(Block(layout, device, stamp.measured_at, stamp.received_at, shown, stamp.slot, quality))
    return made


def channels_of(points: tuple[Point, ...]) -> tuple[tuple[Kind, tuple[str, ...]], ...]:
    """Return the OBIS codes of points by kind."""
    kinds = dict.fromkeys(point.what for point in points)
    return tuple((kind, tuple(point.obis for point in points if point.what is kind)) for kind in kinds)


def doubt(*, doubtful: bool) -> int:
    """Return the quality of a value whose time may be another's."""
    return int(Quality.CLOCK_SUSPECT) if doubtful else 0


@lru_cache(maxsize=4 * _PLANS)
def _layout(kind: Kind, source: Source, interval: int, points: tuple[Point, ...]) -> Layout:
    """Return the one layout object of these points: batches and watches know layouts by identity."""
    return Layout(kind, source, interval, tuple(Column(p.obis, p.unit, p.scale, p.number) for p in points))


def _block_step(profile: Dlt645Profile, block: BlockTable, left: dict[str, Point]) -> Step:
    items = profile.sizes(block.points)
    return Step(block.di, tuple((point if point and point.name in left else None, size) for point, size in items))
