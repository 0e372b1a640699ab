"""Profiles of a simulated meter (class 7): their buffers, selective access, and the ways of making them small.

A buffer is a source of captures (when, and what was special about it) and of columns that turn a capture into values.
Nothing is stored that can be computed: a row of weeks ago is what the meter's curves gave then.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from collector.protocols.dlms.axdr import Data, Tag, array, compact_array, enum_, null, octets, structure, u32
from collector.protocols.dlms.clock import parse_datetime
from collector.protocols.dlms.references import (
    SELECT_BY_ENTRY,
    SELECT_BY_RANGE,
    CaptureObject,
    DataAccessResult,
)
from metering.errors import FrameError
from metering.model import SECOND
from simulators.dlms_clock import MeterClock
from simulators.dlms_objects import Action, Ask, CosemObject, Denied, typed
from simulators.meter import Meter

CLOCK_COLUMN = CaptureObject(8, "0-0:1.0.0*255", 2)

# Bits of a profile status (as IDIS has them).
CLOCK_INVALID = 0x02
DAYLIGHT_SAVING = 0x08
CLOCK_ADJUSTED = 0x20
POWER_DOWN = 0x80

Step = int | Literal["day", "month"]  # us, or by the calendar of the meter's zone


class Capture(NamedTuple):
    """When a row was captured: what the clock showed, the true instant, and its status byte or event code."""

    shown: int
    at: int
    code: int = 0


class Column(NamedTuple):
    """One column: what it captures, and its value in a row."""

    target: CaptureObject
    value: Callable[[Capture], Data]


class Source(Protocol):
    """Where rows come from."""

    def captures(self, now: int, low: int, high: int) -> list[Capture]:
        """Return the captures held at `now` with low <= shown <= high, oldest first."""


@dataclass(frozen=True)
class Packing:
    """How a buffer is made small. `compact` needs values of one type in each column, so it goes alone or with none.

    `null_clock`: null for a time that is the one before and a period. `null_same`: null for a value that is the one
    before. `delta`: running totals as differences.
    """

    null_clock: bool = False
    null_same: bool = False
    delta: bool = False
    compact: bool = False


PLAIN = Packing()
FIFO, LIFO = 1, 2  # sort_method
ALWAYS = (-(1 << 62), 1 << 62)
_SIGNED = ((0x80, Tag.DELTA_INTEGER), (0x8000, Tag.DELTA_LONG), (0x80000000, Tag.DELTA_DOUBLE_LONG))
_UNSIGNED = (
    (0x100, Tag.DELTA_UNSIGNED),
    (0x10000, Tag.DELTA_LONG_UNSIGNED),
    (0x100000000, Tag.DELTA_DOUBLE_LONG_UNSIGNED),
)


class Periodic:
    """Captures at each boundary of the meter's own clock, kept for `days` (us of `depth`), none without power."""

    def __init__(self, meter: Meter, clock: MeterClock, step: Step, depth: int) -> None:
        self._meter = meter
        self._clock = clock
        self._step = step
        self._depth = depth
        self.extra: list[int] = []  # true instants of captures that somebody ordered

    def captures(self, now: int, low: int, high: int) -> list[Capture]:
        """Return the captures as of `now`; see `Source`."""
        since = max(now - self._depth, self._meter.settings.installed_at)
        found: list[Capture] = []
        for number, (line, first, last) in enumerate(self._clock.spans(since, now)):
            start, end = line.at(first), line.at(last)
            changed = line.since == first and line is not self._clock.lines[0]
            steps = boundaries(self._step, self._clock.zone, start, end)
            adjusted = next(steps, None) if changed and number else None
            for shown in boundaries(self._step, self._clock.zone, max(start, low - 1), min(end, high)):
                at = line.true(shown)
                if not self._meter.failed(at, at):
                    found.append(Capture(shown, at, CLOCK_ADJUSTED if shown == adjusted else 0))
        ordered = [(self._clock.shown(at), at) for at in self.extra if since < at <= now]
        found += [Capture(shown, at) for shown, at in ordered if low <= shown <= high]
        return sorted(found, key=lambda capture: capture.at) if ordered else found

    def status(self, capture: Capture) -> int:
        """Return the status byte of a row: what happened in its interval."""
        status = capture.code
        begin = capture.at - self._step if isinstance(self._step, int) else capture.at - 86400 * SECOND
        if self._meter.failed(begin, capture.at - 1):
            status |= POWER_DOWN
        local = datetime.fromtimestamp(capture.shown // SECOND, self._clock.zone)
        status |= DAYLIGHT_SAVING if local.dst() else 0
        return status | (CLOCK_INVALID if self._clock.settings.status & 1 else 0)


def boundaries(step: Step, zone: ZoneInfo, low: int, high: int) -> Iterator[int]:
    """Yield the boundaries in low < boundary <= high (us); a meter divides the day of its own zone."""
    if isinstance(step, int):
        offset = datetime.fromtimestamp(low // SECOND, zone).utcoffset() or timedelta()
        since = (low + offset // timedelta(microseconds=1)) % step
        yield from range(low - since + step, high + 1, step)
        return
    day = (datetime.fromtimestamp(low // SECOND, UTC).astimezone(zone) - timedelta(days=1)).date()
    while True:
        found = round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * SECOND
        if found > high:
            return
        if found > low and (step == "day" or day.day == 1):
            yield found
        day += timedelta(days=1)


class Profile:
    """One profile: columns over a source. `period_s` 0: captured by events, not by time."""

    def __init__(
        self,
        obis: str,
        columns: Sequence[Column],
        source: Source,
        *,
        entries: int,
        period_s: int = 0,
        packing: Packing = PLAIN,
        sort: int = FIFO,
    ) -> None:
        self.obis = obis
        self.columns = tuple(columns)
        self.packing = packing
        self._source = source
        self._entries = entries
        self._period = period_s * SECOND
        self._sort = sort
        self._known: dict[Capture, tuple[Data, ...]] = {}

    def as_object(self, act: dict[int, Action] | None = None) -> CosemObject:
        """Return the object profile generic, attributes 2 to 8; `act` are its methods (1 reset, 2 capture)."""
        none = CaptureObject(0, "0-0:0.0.0*0", 0)
        return CosemObject(
            7,
            self.obis,
            {
                2: self.buffer,
                3: array(*(column.target.to_data() for column in self.columns)),
                4: u32(self._period // SECOND),
                5: enum_(self._sort),
                6: (CLOCK_COLUMN if self._sort > LIFO else none).to_data(),
                7: lambda ask: u32(len(self.captures(ask.now))),
                8: u32(self._entries),
            },
            act=act or {},
            version=1,
            selective=(2,),
        )

    def captures(self, now: int, low: int = ALWAYS[0], high: int = ALWAYS[1]) -> list[Capture]:
        """Return what the buffer holds at `now`, in its order."""
        found = self._source.captures(now, low, high)[-self._entries :]
        return found[::-1] if self._sort == LIFO else found

    def row(self, capture: Capture) -> tuple[Data, ...]:
        """Return the values of one row, none left out."""
        known = self._known.get(capture)
        if known is None:
            if len(self._known) > self._entries:
                self._known.clear()
            known = self._known[capture] = tuple(column.value(capture) for column in self.columns)
        return known

    def forget(self) -> None:
        """Compute all rows anew: the meter behind is another one."""
        self._known.clear()

    # -- attribute 2

    def buffer(self, ask: Ask) -> Data:
        """Return the buffer or what selective access leaves of it. Raises `Denied`."""
        captures, picked = self._select(ask)
        rows = [[self.row(capture)[index] for index in picked] for capture in captures]
        if not rows:
            return array()
        if self.packing.compact:
            return compact_array(*(structure(*row) for row in rows))
        return array(*(structure(*row) for row in self._packed(captures, picked, rows)))

    def _select(self, ask: Ask) -> tuple[list[Capture], list[int]]:
        every = list(range(len(self.columns)))
        if ask.access is None:
            return self.captures(ask.now), every
        parts = typed(ask.access.parameter, Tag.STRUCTURE).value
        if len(parts) != 4:
            raise Denied(DataAccessResult.TYPE_UNMATCHED)
        if ask.access.selector == SELECT_BY_RANGE:
            return self._by_range(ask.now, parts)
        if ask.access.selector != SELECT_BY_ENTRY:
            raise Denied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        first, last, from_column, to_column = (
            typed(part, Tag.DOUBLE_LONG_UNSIGNED, Tag.LONG_UNSIGNED).value for part in parts
        )
        captures = self.captures(ask.now)
        return captures[max(first, 1) - 1 : last or None], every[max(from_column, 1) - 1 : to_column or None]

    def _by_range(self, now: int, parts: tuple[Data, ...]) -> tuple[list[Capture], list[int]]:
        try:
            restricting = CaptureObject.of(parts[0])
            wanted = [CaptureObject.of(part) for part in typed(parts[3], Tag.ARRAY).value]
        except FrameError:
            raise Denied(DataAccessResult.TYPE_UNMATCHED) from None
        targets = [column.target for column in self.columns]
        if restricting != CLOCK_COLUMN or restricting not in targets or not set(wanted) <= set(targets):
            raise Denied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        low, high = self._limit(parts[1], ALWAYS[0]), self._limit(parts[2], ALWAYS[1])
        picked = [targets.index(target) for target in wanted] or list(range(len(targets)))
        return self.captures(now, low, high), picked

    def _limit(self, given: Data, otherwise: int) -> int:
        stamp = typed(given, Tag.OCTET_STRING, Tag.DATE_TIME).value
        try:
            if parse_datetime(stamp).year is None:
                return otherwise
        except FrameError:
            raise Denied(DataAccessResult.TYPE_UNMATCHED) from None
        return self.instant(stamp)

    # Set by the meter: how its clock reads a time that a client sent.
    instant: Callable[[bytes], int]

    def _packed(self, captures: list[Capture], picked: list[int], rows: list[list[Data]]) -> Iterator[list[Data]]:
        yield rows[0]
        for number in range(1, len(rows)):
            before, row = rows[number - 1], list(rows[number])
            for place, index in enumerate(picked):
                column, was, value = self.columns[index], before[place], row[place]
                if column.target == CLOCK_COLUMN:
                    regular = captures[number].shown - captures[number - 1].shown == self._period
                    if self.packing.null_clock and regular:
                        row[place] = null()
                elif self.packing.null_same and was == value:
                    row[place] = null()
                elif self.packing.delta and column.target.obis.split(".")[1] == "8":
                    row[place] = delta(value.value - was.value)
            yield row


def delta(difference: int) -> Data:
    """Return a difference in the smallest delta type (Blue Book 4.1.5)."""
    if difference < 0:
        return next(Data(tag, difference) for limit, tag in _SIGNED if -difference <= limit)
    return next(Data(tag, difference) for limit, tag in _UNSIGNED if difference < limit)


def clock_column(clock: MeterClock) -> Column:
    """Return the column of the time."""
    return Column(CLOCK_COLUMN, lambda capture: octets(clock.stamp(capture.shown)))
