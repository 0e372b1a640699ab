"""Dates and times in DL/T 645: BCD, lowest byte first, in the meter's own civil time. Reads no clock.

A meter knows no zone: `zone` comes from its profile. What falls into the doubled hour of an autumn night is told.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from metering.model import SECOND

ByteOrder = Literal["low-first", "high-first"]

CENTURY = 2000  # YY counts from here
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(NamedTuple):
    """An instant in us UTC; `doubtful` where the civil time names two instants or none."""

    us: int
    doubtful: bool = False


def decode_stamp(data: bytes, order: ByteOrder = "low-first") -> datetime | None:
    """Return the civil time in 5 bytes (YYMMDDhhmm) or 6 (with ss); None where it is empty (all 00 or all FF).

    Raises:
        ValueError: it is no time.

    """
    if data in (bytes(len(data)), b"\xff" * len(data)):
        return None
    digits = (data[::-1] if order == "low-first" else data).hex()
    if not digits.isdecimal() or len(data) not in (5, 6):
        raise ValueError("no date and time")
    year, month, day, hour, minute, *second = (int(digits[at : at + 2]) for at in range(0, len(digits), 2))
    return datetime(CENTURY + year, month, day, hour, minute, second[0] if second else 0)  # noqa: DTZ001 - civil time


def encode_stamp(moment: datetime, size: int = 5, order: ByteOrder = "low-first") -> bytes:
    """Return a civil time as YYMMDDhhmm (5 bytes) or YYMMDDhhmmss (6)."""
    digits = bytes.fromhex(moment.strftime("%y%m%d%H%M%S"))[:size]
    return digits[::-1] if order == "low-first" else digits


def decode_clock(date: bytes, time: bytes) -> datetime:
    """Return the civil time of a date (YYMMDDWW) and a time (hhmmss).

    Raises:
        ValueError: they are none.

    """
    moment = decode_stamp(time + date[1:]) if len(time) == 3 and len(date) == 4 else None
    if moment is None:
        raise ValueError("no date and time")
    return moment


def encode_date(moment: datetime) -> bytes:
    """Return YYMMDDWW, lowest byte first; WW 0 is Sunday."""
    return bytes((moment.isoweekday() % 7,)) + encode_stamp(moment, 3)


def encode_time(moment: datetime) -> bytes:
    """Return hhmmss, lowest byte first."""
    return bytes.fromhex(moment.strftime("%H%M%S"))[::-1]


def to_utc(moment: datetime, zone: ZoneInfo, after: int | None = None) -> Instant:
    """Return the instant of a civil time; where the hour is doubled the first of two, or the first `after` an instant.

    Rows come in their order, so what is not after the row before belongs to the second pass of the hour.
    """
    first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    doubtful = first.utcoffset() != second.utcoffset()
    us = _us(first)
    return Instant(_us(second) if doubtful and after is not None and us <= after else us, doubtful)


def _us(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def from_utc(instant: int, zone: ZoneInfo) -> datetime:
    """Return the civil time (without zone, whole seconds) of an instant in us UTC."""
    moment = _EPOCH + timedelta(seconds=instant // SECOND)
    return moment.astimezone(zone).replace(tzinfo=None)
