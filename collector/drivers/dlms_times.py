"""A meter's date-times as UTC and back, with its zone and its habits; the hour that comes twice. Reads no meter."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from collector.dlms_tables import ClockSpec
from collector.protocols.dlms.clock import (
    DAYLIGHT_SAVING,
    DOUBTFUL_VALUE,
    INVALID_STATUS,
    INVALID_VALUE,
    DateTime,
    from_utc,
    parse_datetime,
    to_utc,
)
from metering.model import SECOND

# What lies outside is no time of a meter: 1990 and 2100. Calendars end somewhere, and so does arithmetic.
EARLIEST = 631_152_000 * SECOND
LATEST = 4_102_444_800 * SECOND
_DOUBT = INVALID_VALUE | DOUBTFUL_VALUE


class Moment(NamedTuple):
    """A date-time as UTC us (None: it tells no moment). `late` is the other moment that it may be: an hour came twice.

    `doubtful`: the meter itself says that its clock was invalid or doubtful.
    """

    us: int | None
    late: int | None = None
    doubtful: bool = False


class MeterTime:
    """How one meter writes time: its clock's rules, and the zone that counts where it sends no deviation."""

    def __init__(self, spec: ClockSpec, zone: ZoneInfo) -> None:
        self.spec = spec
        self.zone = zone

    def read(self, octets: bytes, *, daylight: bool | None = None) -> Moment:
        """Return what twelve octets tell; `daylight` is what a status beside them says of daylight saving.

        Raises:
            FrameError: these are not twelve octets.

        """
        value = parse_datetime(octets)
        status = value.status
        doubtful = status is not None and bool(status & _DOUBT)
        if value.deviation is None and daylight is not None:
            value = value._replace(status=DAYLIGHT_SAVING if daylight else 0)
        elif not self.spec.dst_bit or (status is not None and status & INVALID_STATUS):
            value = value._replace(status=None)
        try:
            us = to_utc(value, zone=self.zone, deviation_sign=self.spec.deviation)
        except ValueError:
            return self._twice(value, doubtful=doubtful)
        return Moment(us if EARLIEST <= us < LATEST else None, None, doubtful)

    def _twice(self, value: DateTime, *, doubtful: bool) -> Moment:
        """Return both moments of a local time that comes twice; none where it tells no moment at all."""
        if value.deviation is not None:
            return Moment(None, None, doubtful)
        try:
            early, late = (to_utc(value._replace(status=status), zone=self.zone) for status in (DAYLIGHT_SAVING, 0))
        except ValueError:
            return Moment(None, None, doubtful)
        return Moment(early, late, doubtful) if EARLIEST <= early < LATEST else Moment(None, None, doubtful)

    def limit(self, us: int) -> bytes:
        """Return the twelve octets that stand for a moment in the limits of a range."""
        value = from_utc(us, self.zone, self.spec.deviation)
        if self.spec.limits == "unspecified":
            value = value._replace(deviation=None, status=None)
        return value.to_bytes()

    def write(self, us: int) -> bytes:
        """Return the twelve octets to set the clock with, down to hundredths."""
        return from_utc(us, self.zone, self.spec.deviation).to_bytes()

    def on_grid(self, us: int, interval: int) -> int:
        """Return the boundary of this interval (s) that lies nearest, counted from midnight of the meter's zone."""
        offset = 0
        if 900 % interval:  # offsets of zones are whole quarters of an hour
            offset = round(self._offset(us).total_seconds())
        step = interval * SECOND
        local = us + offset * SECOND
        nearest = (local + step // 2) // step * step
        found = nearest - offset * SECOND
        if 900 % interval and (shift := round(self._offset(found).total_seconds()) - offset):
            found -= shift * SECOND
        return found

    def _offset(self, us: int) -> timedelta:
        value = from_utc(us, self.zone)
        return timedelta(minutes=-(value.deviation or 0))


def in_order(moments: Sequence[Moment], period: int) -> list[tuple[int | None, bool]]:
    """Return each row's moment and whether it is to be doubted: times that came twice are told apart by their order.

    `period` is the capture period in s, 0 where there is none. A row is what follows the one before it by a period;
    failing that, what precedes the one behind it.
    """
    step = period * SECOND
    times: list[int | None] = [moment.us if moment.late is None else None for moment in moments]
    for index, moment in enumerate(moments):
        before = times[index - 1] if index else None
        if moment.late is not None and before is not None:
            times[index] = _fit(moment, before, before + step)
    for index in range(len(moments) - 2, -1, -1):
        moment, behind = moments[index], times[index + 1]
        if moment.late is not None and times[index] is None and behind is not None and behind - step in moment[:2]:
            times[index] = behind - step
    return [
        (moment.us, True) if time is None else (time, moment.doubtful)
        for time, moment in zip(times, moments, strict=True)
    ]


def _fit(moment: Moment, before: int, expected: int) -> int | None:
    """Return which of two moments follows; None where that cannot be told."""
    if expected in moment[:2] and expected != before:
        return expected
    possible = [us for us in moment[:2] if us is not None and us > before]
    return possible[0] if len(possible) == 1 else None
