"""Instants as integers: microseconds since 1970 in UTC, their RFC 3339 text, and durations such as `15min`."""

import re
import time
from datetime import UTC, datetime, timedelta

from metering.model import SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_FACTOR = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def now() -> int:
    """Return the wall clock in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def to_rfc3339(instant: int) -> str:
    """Return `2026-11-23T12:45:00Z`, with six decimals where the instant has a fraction of a second."""
    moment = _EPOCH + timedelta(microseconds=instant)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{moment.microsecond:06d}Z" if moment.microsecond else f"{text}Z"


def from_rfc3339(text: str) -> int:
    """Return the instant of an RFC 3339 time, which must name its offset (`Z` or `+08:00`).

    Raises:
        ValueError: not such a time, or without an offset.

    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset; write it in UTC with Z, for example 2026-11-23T12:45:00Z")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def parse_duration(text: str) -> float:
    """Return seconds of `250ms`, `1s`, `15min`, `2h`, `40d`.

    Raises:
        ValueError: not a number with one of these units.

    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a number with ms, s, min, h or d, for example 15min")
    return float(match[1]) * _FACTOR[match[2]]


def slot_at_or_before(instant: int, interval: int) -> int:
    """Return the boundary of `interval` seconds, counted from 1970 UTC, at or before `instant`."""
    step = interval * SECOND
    return instant - instant % step
