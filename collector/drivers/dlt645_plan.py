"""Which identifiers a reading asks for: blocks where the meter has them, else item by item. Sends nothing."""

from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import Point
from collector.protocols.dlt645.blocks import split_block
from collector.protocols.dlt645.times import decode_stamp, to_utc
from collector.protocols.dlt645.values import decode_number
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.quality import Quality

Items = tuple[tuple[tuple[Point, ...], int], ...]
Values = dict[Point, tuple[int | None, int]]

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
    """One identifier to read and its items: the points that each gives (none: nobody asked for it) and its bytes."""

    di: str
    items: Items

    @property
    def size(self) -> int:
        """Return how many bytes stand behind the identifier."""
        return sum(size for _, size in self.items)

    @property
    def points(self) -> tuple[Point, ...]:
        """Return the points that it gives."""
        return points_of(self.items)

    @property
    def is_block(self) -> bool:
        """Tell whether it can be read item by item instead."""
        return len(self.items) > 1


def points_of(items: Items) -> tuple[Point, ...]:
    """Return the points of items, in their order."""
    return tuple(point for points, _ in items for point in points)


@lru_cache(maxsize=_PLANS)
def plan(profile: Dlt645Profile, names: tuple[str, ...], holes: Holes) -> tuple[Step, ...]:
    """Return the fewest requests for these points (none: all), in the profile's order."""
    wanted = tuple(point for point in profile.select(names) if point.name not in holes.points)
    left = dict.fromkeys(wanted)
    steps: list[Step] = []
    blocks = [Step(block.di, profile.items(block.points)) for block in profile.block if block.di not in holes.blocks]
    while blocks:
        best = max(blocks, key=lambda block: _covered(block, left))
        if _covered(best, left) < 2:
            break
        blocks.remove(best)
        step = Step(best.di, tuple((tuple(p for p in points if p in left), size) for points, size in best.items))
        steps.append(step)
        for point in step.points:
            del left[point]
    steps += singles(tuple(left))
    order = {point: index for index, point in enumerate(wanted)}
    return tuple(sorted(steps, key=lambda step: min(order[point] for point in step.points)))


def singles(points: tuple[Point, ...]) -> list[Step]:
    """Return the steps that read points by their own identifiers; those of one identifier together."""
    found = dict.fromkeys(point.di for point in points)
    together = {di: tuple(point for point in points if point.di == di) for di in found}
    return [Step(di, ((group, group[0].size),)) for di, group in together.items()]


def decode(items: Items, data: bytes, zone: ZoneInfo) -> Values:
    """Return stored value and quality of each point in these bytes; a meter may send fewer than there are.

    Raises:
        FrameError: the bytes do not fit the items.

    """
    parts = split_block([size for _, size in items], data)
    return {
        point: _value(point, part, zone) for (points, _), part in zip(items, parts, strict=False) for point in points
    }


class Stamp(NamedTuple):
    """What readings are stamped with: measured, received, slot, and a quality that holds for all of them."""

    measured_at: int
    received_at: int
    slot: int | None
    quality: int = 0


def blocks_of(values: Values, device: str, source: Source, interval: int, stamp: Stamp) -> list[Block]:
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


def _covered(block: Step, left: dict[Point, None]) -> int:
    """Return how many single requests a block saves."""
    return sum(1 for points, _ in block.items if any(point in left for point in points))


def _value(point: Point, item: bytes, zone: ZoneInfo) -> tuple[int | None, int]:
    raw = item[point.before : point.before + point.form.size]
    if not point.is_time:
        return decode_number(point.form, raw)
    try:
        stamp = decode_stamp(raw)
    except ValueError:
        return None, int(Quality.NOT_A_NUMBER)
    if stamp is None:
        return None, int(Quality.NOT_AVAILABLE)
    instant = to_utc(stamp, zone)
    return instant.us // SECOND, doubt(doubtful=instant.doubtful)
