"""Whose readings belong to whom, by date: a question about a point or a device as spans of one device each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from headend.registry import EVERYWHERE, covers
from metering.model import Installation
from metering.ports import Registry


class Span(NamedTuple):
    """A part of a range in which one device counts. `installation` is None while it hung nowhere."""

    device: str
    installation: Installation | None
    start: int
    end: int


def spans_of_point(registry: Registry, point: str, start: int, end: int) -> list[Span]:
    """Return the devices that hung at a meter point inside a range, in the order of time."""
    return [
        span
        for each in registry.installations_at(point)
        if (span := _clip(each.device, each, each.valid_from, each.valid_to, start, end)) is not None
    ]


def spans_of_device(registry: Registry, device: str, start: int, end: int, regions: Sequence[str]) -> list[Span]:
    """Return the times at which a device hung inside these regions; for those who see everything, all other times too.

    A meter that moves to another region takes its later readings along, and leaves its earlier ones behind.
    """
    sees = sight_of(registry, regions)
    everything = covers(regions, EVERYWHERE)
    found: list[Span | None] = []
    free_from = start
    for each in registry.installations_of(device):
        if everything:
            found.append(_clip(device, None, free_from, each.valid_from, start, end))
            free_from = end if each.valid_to is None else each.valid_to
        if sees(each):
            found.append(_clip(device, each, each.valid_from, each.valid_to, start, end))
    if everything:
        found.append(_clip(device, None, free_from, end, start, end))
    return [span for span in found if span is not None]


def sight_of(registry: Registry, regions: Sequence[str]) -> Callable[[Installation | None], bool]:
    """Return a test whether an installation lies inside these regions; None is inside only where all is."""
    everything = covers(regions, EVERYWHERE)

    def sees(installation: Installation | None) -> bool:
        if everything or installation is None:
            return everything
        point = registry.point(installation.point)
        return point is not None and covers(regions, point.region)

    return sees


def _clip(
    device: str, installation: Installation | None, since: int, until: int | None, start: int, end: int
) -> Span | None:
    first, last = max(since, start), end if until is None else min(until, end)
    return Span(device, installation, first, last) if first < last else None
