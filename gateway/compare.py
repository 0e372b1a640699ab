"""Whether a meter's own profile and the polls of the same boundaries agree. It remembers two days, and judges no more.

A poll is taken some seconds after its boundary: it shows at least what the profile's row shows, and at most what the
meter can take until then.
"""

from collections import OrderedDict
from decimal import Decimal
from typing import NamedTuple

from gateway.checks import with_quality
from metering.model import SECOND, Block, Column, Kind, Source
from metering.quality import Quality
from metering.values import to_decimal

KEEP_S = 2 * 86_400
MAX_POLLS = 50_000  # of all meters together, the oldest give way
DOUBT_S = 1  # how wrong a measured offset may be
UNKNOWN_S = 60  # how far off a clock may be that is never read
HOUR_S = 3_600

_PREFIX = {"k": 3, "M": 6}
_USELESS = Quality.NOT_AVAILABLE | Quality.NOT_A_NUMBER | Quality.OUT_OF_RANGE | Quality.CLOCK_SUSPECT


class Difference(NamedTuple):
    """A register that profile and poll show differently, in the profile's unit."""

    obis: str
    slot: int
    row: Decimal
    poll: Decimal
    unit: str


class Compare:
    """Remembers polls and compares rows with them. `watts` is what one meter can take at most."""

    def __init__(self, watts: dict[str, float]) -> None:
        self._watts = watts
        self._polls: OrderedDict[tuple[str, int], list[Block]] = OrderedDict()  # (device, slot)

    def remember(self, block: Block) -> None:
        """Take a polled block; whatever is no register at a boundary of a compared meter is passed over."""
        layout = block.layout
        if layout.kind is not Kind.REGISTER or layout.source is not Source.POLL or block.slot is None:
            return
        if block.device not in self._watts:
            return
        self._polls.setdefault((block.device, block.slot), []).append(block)
        while self._polls and (len(self._polls) > MAX_POLLS or self._oldest() < block.slot - KEEP_S * SECOND):
            self._polls.popitem(last=False)

    def check(self, row: Block, offset: int | None = 0) -> tuple[Block, list[Difference]]:
        """Return a profile's row, flagged where it differs from a poll of its boundary, and the differences.

        `offset` is how far the meter's clock is ahead of ours, by which the poll was taken, in us; None: not known.
        """
        if row.layout.kind is not Kind.REGISTER or row.slot is None:
            return row, []
        polls = self._polls.get((row.device, row.slot))
        if not polls:
            return row, []
        quality = list(row.quality) or [0] * len(row.values)
        found = []
        for index, column in enumerate(row.layout.columns):
            difference = self._difference(row, index, column, polls, offset)
            if difference is not None:
                quality[index] |= Quality.DIFFERS
                found.append(difference)
        return (with_quality(row, quality) if found else row), found

    def _difference(
        self, row: Block, index: int, column: Column, polls: list[Block], offset: int | None
    ) -> Difference | None:
        value = row.values[index]
        if value is None or row.quality_of(index) & _USELESS:
            return None
        shown = to_decimal(value, column.scale, column.number)
        for poll in polls:
            for at, polled in enumerate(poll.layout.columns):
                other = poll.values[at]
                if polled.obis != column.obis or other is None or poll.quality_of(at) & _USELESS:
                    continue
                shift = _shift(polled.unit, column.unit)
                if shift is None:
                    continue
                later = to_decimal(other, polled.scale, polled.number).scaleb(shift)
                # Either may have been cut to its last digit.
                digit = max(Decimal(1).scaleb(column.scale), Decimal(1).scaleb(polled.scale + shift))
                before, after = self._most(row, poll, column, offset)
                if not shown - before - digit <= later <= shown + after + digit:
                    return Difference(column.obis, row.slot or 0, shown, later, column.unit)
        return None

    def _most(self, row: Block, poll: Block, column: Column, offset: int | None) -> tuple[Decimal, Decimal]:
        """Return what the meter can take from the poll to its boundary, and from its boundary to the poll."""
        doubt = (DOUBT_S if offset is not None else UNKNOWN_S) * SECOND
        after = poll.measured_at - (row.slot or 0) + (offset or 0)
        scale = -_PREFIX.get(column.unit[:1], 0) if len(column.unit) > 2 else 0
        most = [
            Decimal(self._watts[row.device] * max(0, us + doubt) / SECOND / HOUR_S).scaleb(scale)
            for us in (-after, after)
        ]
        return most[0], most[1]

    def _oldest(self) -> int:
        return next(iter(self._polls))[1]


def _shift(unit: str, wanted: str) -> int | None:
    """Return the decimal exponent that brings a value of `unit` to `wanted`; None where they are not of one kind."""
    if unit == wanted:
        return 0
    for one, other, sign in ((unit, wanted, 1), (wanted, unit, -1)):
        if one[:1] in _PREFIX and one[1:] == other:
            return sign * _PREFIX[one[0]]
    return None
