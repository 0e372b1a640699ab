"""The date-time of twelve octets, and UTC (Blue Book 4.1.6.1, class 8). Not the meter's clock object.

Every field may be not specified (None). What a field means by a value of its own (last day of month, begin of daylight
saving) is kept as the octet that came: such a value is a rule, not a moment.
"""

import struct
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from metering.errors import FrameError

DATE_TIME_LENGTH = 12

# Status octet.
INVALID_VALUE = 0x01
DOUBTFUL_VALUE = 0x02
DIFFERENT_BASE = 0x04
INVALID_STATUS = 0x08
DAYLIGHT_SAVING = 0x80

# The standard's deviation is UTC minus local time; some meters send the opposite.
DeviationSign = Literal["utc=local+dev", "utc=local-dev"]
STANDARD_SIGN: DeviationSign = "utc=local+dev"

_OCTETS = struct.Struct(">HBBBBBBBhB")
# What each field is when it is not specified.
_NOT_SPECIFIED = (0xFFFF, *(0xFF,) * 7, -0x8000, 0xFF)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class DateTime(NamedTuple):
    """A date-time as a meter writes it; None is `not specified`. `deviation` is in minutes, `weekday` 1 is Monday."""

    year: int | None = None
    month: int | None = None
    day: int | None = None
    weekday: int | None = None
    hour: int | None = None
    minute: int | None = None
    second: int | None = None
    hundredths: int | None = None
    deviation: int | None = None
    status: int | None = None

    def to_bytes(self) -> bytes:
        """Return the twelve octets."""
        fields = zip(self, _NOT_SPECIFIED, strict=True)
        return _OCTETS.pack(*(unspecified if field is None else field for field, unspecified in fields))

    def __str__(self) -> str:
        def two(value: int | None) -> str:
            return "--" if value is None else f"{value:02}"

        year = "----" if self.year is None else f"{self.year:04}"
        date = f"{year}-{two(self.month)}-{two(self.day)}"
        return f"{date} {two(self.hour)}:{two(self.minute)}:{two(self.second)}"


def parse_datetime(octets: bytes) -> DateTime:
    """Return the fields of a date-time.

    Raises:
        FrameError: it is not of twelve octets.

    """
    if len(octets) != DATE_TIME_LENGTH:
        raise FrameError(f"a date-time has 12 bytes, not {len(octets)}")
    fields = zip(_OCTETS.unpack(octets), _NOT_SPECIFIED, strict=True)
    return DateTime(*(None if field == unspecified else field for field, unspecified in fields))


def to_utc(value: DateTime, *, zone: ZoneInfo | None = None, deviation_sign: DeviationSign = STANDARD_SIGN) -> int:
    """Return the moment in UTC microseconds; seconds and hundredths that are not specified count as 0.

    The meter's own deviation decides. Where it sends none, `zone` does, and in the hour that comes twice the status
    bit for daylight saving.

    Raises:
        ValueError: a date field is not specified, the fields make no date, or nothing tells the deviation.

    """
    year, month, day, _, hour, minute, second, hundredths, deviation, _ = value
    if year is None or month is None or day is None or hour is None or minute is None:
        raise ValueError(f"{value} is no moment: a field is not specified")
    try:
        local = datetime(year, month, day, hour, minute, second or 0, (hundredths or 0) * 10_000, tzinfo=UTC)
        if deviation is not None:
            utc = local + timedelta(minutes=deviation if deviation_sign == STANDARD_SIGN else -deviation)
        else:
            utc = local - _zone_offset(value, local.replace(tzinfo=None), zone)
    except OverflowError as error:
        raise ValueError(f"{value} is no moment: {error}") from error
    return (utc - _EPOCH) // _MICROSECOND


def _zone_offset(value: DateTime, local: datetime, zone: ZoneInfo | None) -> timedelta:
    """Return local time minus UTC by the zone's rules."""
    if zone is None:
        raise ValueError(f"{value}: the meter sends no deviation from UTC; its time zone must be configured")
    early, late = (local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    if early == late:
        return early
    if value.status is None:
        if early > late:
            raise ValueError(f"{value} comes twice in {zone.key}, and the meter does not tell daylight saving")
        # The hour that is left out: only a clock that has not been put forward yet shows it.
        return early
    return max(early, late) if value.status & DAYLIGHT_SAVING else min(early, late)


def from_utc(us: int, zone: ZoneInfo | None = None, deviation_sign: DeviationSign = STANDARD_SIGN) -> DateTime:
    """Return a moment in UTC microseconds as a complete date-time in `zone` (None: UTC)."""
    moment = (_EPOCH + us * _MICROSECOND).astimezone(zone or UTC)
    offset = int((moment.utcoffset() or timedelta()) / timedelta(minutes=1))
    return DateTime(
        moment.year,
        moment.month,
        moment.day,
        moment.isoweekday(),
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond // 10_000,
        -offset if deviation_sign == STANDARD_SIGN else offset,
        DAYLIGHT_SAVING if moment.dst() else 0,
    )
