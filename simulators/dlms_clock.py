"""A simulated meter's clock: what it shows, how it was set, and its object of class 8. Captures no profiles.

The clock is a chain of straight lines: each time it is set or jumps a new one begins, and what it showed before stays
known, so that a profile can tell when each of its rows was captured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zoneinfo import ZoneInfo

from collector.protocols.dlms.axdr import Data, Tag, boolean, enum_, i8, i16, octets, u8
from collector.protocols.dlms.clock import DateTime, DeviationSign, from_utc, parse_datetime, to_utc
from collector.protocols.dlms.references import DataAccessResult
from metering.errors import FrameError
from metering.model import SECOND
from simulators.dlms_objects import Ask, CosemObject, Denied, Role, typed
from simulators.meter import MICRO

UNSPECIFIED = -0x8000  # deviation (Blue Book 4.1.6.1)
MAX_SHIFT_S = 900  # class 8 method 6
QUARTER = 900 * SECOND
MINUTE = 60 * SECOND


@dataclass(frozen=True)
class ClockSettings:
    """How the meter tells the time. `sign` is the field's: most makers follow utc = local + deviation.

    `deviation` False: it says 8000h, not specified, as meters without a zone do; `status` is or-ed to the clock
    status (bit 0 invalid, 1 doubtful, 3 invalid status).
    """

    zone: str = "UTC"
    sign: DeviationSign = "utc=local+dev"
    deviation: bool = True
    status: int = 0


class Line(NamedTuple):
    """From `since` (true us) on the clock shows `shown` and gains `ppm`."""

    since: int
    shown: int
    ppm: float

    def at(self, instant: int) -> int:
        """Return what the line shows at a true instant."""
        passed = instant - self.since
        return self.shown + passed + round(passed * self.ppm / MICRO)

    def true(self, shown: int) -> int:
        """Return the first true instant at which the line shows at least this."""
        found = self.since + round((shown - self.shown) / (1 + self.ppm / MICRO))
        while self.at(found) < shown:
            found += 1
        while found > self.since and self.at(found - 1) >= shown:
            found -= 1
        return found


class MeterClock:
    """The clock of one meter. `changed` is told (us true, shown before, shown after) of each setting."""

    def __init__(self, settings: ClockSettings, first: Line) -> None:
        self.settings = settings
        self.zone = ZoneInfo(settings.zone)
        self.lines = [first]
        self.changed: Callable[[int, int, int], None] = lambda *_: None
        self._preset: bytes | None = None

    def shown(self, now: int) -> int:
        """Return what the clock shows, in us since 1970 UTC."""
        return self._line(now).at(now)

    def _line(self, now: int) -> Line:
        return next((line for line in reversed(self.lines) if line.since <= now), self.lines[0])

    def set(self, now: int, shown: int) -> None:
        """Let the clock show `shown` at `now`; it keeps its drift."""
        before = self.shown(now)
        self.lines.append(Line(now, shown, self._line(now).ppm))
        self.changed(now, before, shown)

    def jump(self, now: int, by: int) -> None:
        """Let the clock jump by so many us, as after a fault: nothing is logged."""
        self.lines.append(Line(now, self.shown(now) + by, self._line(now).ppm))

    def spans(self, start: int, end: int) -> Iterator[tuple[Line, int, int]]:
        """Yield (line, from, to) for the true time between start and end."""
        for index, line in enumerate(self.lines):
            until = self.lines[index + 1].since if index + 1 < len(self.lines) else end
            first, last = (max(line.since, start) if index else start), min(until, end)
            if first < last:
                yield line, first, last

    # -- as octets

    def stamp(self, shown: int) -> bytes:
        """Return a shown time as 12 bytes, with deviation and status."""
        made = from_utc(shown - shown % 10_000, self.zone, self.settings.sign)
        status = (made.status or 0) | self.settings.status
        deviation = made.deviation if self.settings.deviation else None
        return made._replace(deviation=deviation, status=status).to_bytes()

    def instant(self, stamp: bytes) -> int:
        """Return the us of a time that a client sent, in this meter's zone where it has no deviation.

        Raises:
            Denied: not a time of this kind.

        """
        try:
            given: DateTime = parse_datetime(stamp)
            return to_utc(given, zone=self.zone, deviation_sign=self.settings.sign)
        except (FrameError, ValueError):
            raise Denied(DataAccessResult.TYPE_UNMATCHED) from None

    # -- class 8

    def as_object(self) -> CosemObject:
        """Return the object clock: 2 time, 3 time_zone, 4 status, 5-8 daylight saving, 9 clock_base; 6 methods."""
        return CosemObject(
            8,
            "0-0:1.0.0*255",
            {
                2: lambda ask: octets(self.stamp(self.shown(ask.now))),
                3: lambda ask: i16(self._winter(ask.now)),
                4: lambda ask: u8(self.stamp(self.shown(ask.now))[11]),
                # The rules of the European Union where there is a summer time: last Sunday, at 02:00 and at 03:00.
                5: octets(bytes.fromhex("FFFF03FE0702000000800000")),
                6: octets(bytes.fromhex("FFFF0AFE0703000000800080")),
                7: i8(60),
                8: lambda ask: boolean(self._has_summer(ask.now)),
                9: enum_(1),  # internal crystal
            },
            {2: self._write},
            {
                1: lambda ask, _: self._snap(ask, QUARTER),
                2: lambda ask, _: self._snap(ask, QUARTER),
                3: lambda ask, _: self._snap(ask, MINUTE),
                4: self._take_preset,
                5: self._preset_time,
                6: self._shift,
            },
            least=Role.PUBLIC,
        )

    def _winter(self, now: int) -> int:
        """Return the deviation of normal time in minutes, by the sign of this meter."""
        offsets = [self._local_offset(now + half * 182 * 86400 * SECOND) for half in (0, 1)]
        return -min(offsets) if self.settings.sign == "utc=local+dev" else min(offsets)

    def _has_summer(self, now: int) -> bool:
        return self._local_offset(now) != self._local_offset(now + 182 * 86400 * SECOND)

    def _local_offset(self, instant: int) -> int:
        deviation = from_utc(instant - instant % SECOND, self.zone, "utc=local-dev").deviation
        return deviation if deviation is not None else 0

    def _write(self, ask: Ask, value: Data) -> None:
        self.set(ask.now, self.instant(typed(value, Tag.OCTET_STRING, Tag.DATE_TIME).value))

    def _snap(self, ask: Ask, step: int) -> None:
        shown = self.shown(ask.now)
        self.set(ask.now, (shown + step // 2) // step * step)

    def _preset_time(self, ask: Ask, parameter: Data | None) -> None:
        del ask
        parts = typed(parameter, Tag.STRUCTURE).value
        if not parts:
            raise Denied(DataAccessResult.TYPE_UNMATCHED)
        self._preset = typed(parts[0], Tag.OCTET_STRING, Tag.DATE_TIME).value

    def _take_preset(self, ask: Ask, parameter: Data | None) -> None:
        del parameter
        if self._preset is None:
            raise Denied(DataAccessResult.TEMPORARY_FAILURE)
        self.set(ask.now, self.instant(self._preset))
        self._preset = None

    def _shift(self, ask: Ask, parameter: Data | None) -> None:
        seconds = typed(parameter, Tag.LONG).value
        if abs(seconds) > MAX_SHIFT_S:
            raise Denied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        self.set(ask.now, self.shown(ask.now) + seconds * SECOND)
