"""What the switches of all protocols have in common: largest values of points, running totals. Knows no protocol."""

from collections.abc import Iterable, Sequence

from collector.capabilities import PointLike, Reader, Talk
from metering.model import Block, Kind, Source


def register_names(points: Iterable[PointLike], named: Sequence[str]) -> list[str]:
    """Return the names of what is read before and after a command: those named, or all running totals."""
    return list(named) or [point.name for point in points if point.what is Kind.REGISTER]


async def largest(reader: Reader | None, talk: Talk) -> float | None:
    """Return the largest present value of a reader's points in their unit; None without one. Raises `MeterError`."""
    if reader is None:
        return None
    blocks: list[Block] = []
    await reader.read(talk, slot=None, source=Source.COMMAND, into=blocks)
    found = [
        value * 10.0**column.scale
        for block in blocks
        for value, column in zip(block.values, block.layout.columns, strict=True)
        if value is not None
    ]
    return max(found, default=None)
