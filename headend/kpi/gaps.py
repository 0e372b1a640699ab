"""What a device's gaps have come to, from the judged day and from what was known of them. Pure; it asks nobody."""

from collections.abc import Iterator, Sequence

import msgspec

from headend.kpi.figures import DAY
from headend.kpi.judge import NO_SUPPLY, Holes
from headend.state.gaps import Gap
from metering.model import Device
from metering.ranges import Ranges

NO_MEMORY = "no memory: energy is kept by the difference of registers"
BEYOND_MEMORY = "beyond the meter's memory"
MEMORY_DAYS = 40  # of a meter whose memory is not known to be shorter or longer
MAX_GAPS = 400  # of one device's day: beyond, what lies between is asked for too


def settled(known: Sequence[Gap], holes: Sequence[Holes], device: Device, day: int, now: int) -> list[Gap]:
    """Return a day's gaps: what is missing goes on as it stood, what came is recovered, what will not come is lost."""
    found: list[Gap] = []
    of_name = {each.name: each for each in holes}
    for name in sorted({*of_name, *(gap.profile for gap in known)}):
        before = [gap for gap in known if gap.profile == name]
        found += _of_profile(before, of_name.get(name), Gap(device.id, name, 0, 0, day, device.gateway), device, now)
    return sorted(found, key=lambda gap: (gap.profile, gap.start))


def _of_profile(before: Sequence[Gap], holes: Holes | None, gap: Gap, device: Device, now: int) -> Iterator[Gap]:
    taken = Ranges()
    if holes is not None:
        for span in _bounded(holes.missing):
            taken.add(*span)
            yield _missing(before, _at(gap, span), device, now, askable=holes.askable)
        for reason, spans in holes.lost.items():
            for span in [free for low, high in spans for free in taken.gaps(low, high)]:
                taken.add(*span)
                yield _lost(_stood(before, _at(gap, span)), reason or "lost")
    no_supply = holes.no_supply if holes is not None else Ranges()
    for each in before:
        # Nobody was asked for what was found lost: where it is not missing any more it leaves no trace.
        if each.state != "lost" or each.tries:
            for span in taken.gaps(each.start + 1, each.end + 1):
                yield from _came(each, span, no_supply)


def _came(gap: Gap, span: tuple[int, int], no_supply: Ranges) -> Iterator[Gap]:
    """Yield the parts of a former gap that are missing no more: recovered, or without supply."""
    without = Ranges(no_supply.inside(*span))
    for each in without:
        yield _lost(_at(gap, each), NO_SUPPLY)
    for each in without.gaps(*span):
        yield msgspec.structs.replace(_at(gap, each), state="recovered", reason="", ask="", next_at=None)


def _missing(before: Sequence[Gap], gap: Gap, device: Device, now: int, *, askable: bool) -> Gap:
    """Return a gap that is missing still."""
    stood = _stood(before, gap)
    if not askable:
        return _lost(stood, NO_MEMORY)
    if gap.end < now - (device.memory_days or MEMORY_DAYS) * DAY:
        return _lost(stood, BEYOND_MEMORY)
    return stood if stood.state == "asked" else msgspec.structs.replace(gap, tries=stood.tries, next_at=now)


def _stood(before: Sequence[Gap], gap: Gap) -> Gap:
    """Return a gap with what was asked and answered about it before, if anything was."""
    for each in before:
        if each.tries and each.start < gap.end and gap.start < each.end:
            return msgspec.structs.replace(each, start=gap.start, end=gap.end, gateway=gap.gateway)
    return gap


def _lost(gap: Gap, reason: str) -> Gap:
    return msgspec.structs.replace(gap, state="lost", reason=reason, ask="", next_at=None)


def _bounded(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """Yield the ranges, the last ones as one where there are too many."""
    found = list(ranges)
    yield from found[: MAX_GAPS - 1]
    rest = found[MAX_GAPS - 1 :]
    if rest:
        yield rest[0][0], rest[-1][1]


def _at(gap: Gap, span: tuple[int, int]) -> Gap:
    return msgspec.structs.replace(gap, start=span[0] - 1, end=span[1] - 1)
