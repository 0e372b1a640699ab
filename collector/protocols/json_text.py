"""Strict reading of what devices publish: JSON with exact numbers, plain numbers, and times. Knows no meter model.

RFC 8259 leaves duplicate names and huge numbers to the reader; here both are refused, so that nobody has to guess which
of two registers was meant. Every number becomes a `Decimal`: no digit that the device sent is lost on the way.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, NoReturn
from zoneinfo import ZoneInfo

from metering.errors import FrameError
from metering.model import SECOND

MAX_PAYLOAD_BYTES = 64 * 1024  # the longest real one (a full status of a Shelly gen2) has about 4 KiB
MAX_DEPTH = 32  # real ones have up to 5 levels
MAX_MAGNITUDE = 30  # decimal digits before or behind the point; a uint64 has 20
SHOWN = 40  # characters of a wrong value that an error quotes

EARLIEST = 1_262_304_000 * SECOND  # 2010-01-01: a clock before it was never set
LATEST = 4_102_444_800 * SECOND  # 2100-01-01: beyond it the unit is wrong (milliseconds for seconds)
NEAR = 1800 * SECOND  # half of the hour by which the two readings of an ambiguous local time differ

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


class Moment(NamedTuple):
    """An instant in us since 1970 UTC, and whether it can be doubted (an ambiguous or impossible local time)."""

    instant: int
    doubtful: bool = False


def quote(value: object) -> str:
    """Return a value for an error's text, cut to a readable length."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def decode_text(payload: bytes) -> str:
    """Return the payload as text.

    Raises:
        FrameError: longer than 64 KiB, or not UTF-8.

    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(f"the payload has {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are read")
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise FrameError(f"not text: byte {error.start} is no UTF-8") from None


def decode_json(payload: bytes) -> object:
    """Return the JSON value with all numbers as `Decimal`.

    Raises:
        FrameError: not JSON, NaN or an infinity, a name twice in one object, too deep, or too long.

    """
    text = decode_text(payload)
    try:
        value = json.loads(
            text, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number, object_pairs_hook=_no_name_twice
        )
    except RecursionError:
        raise FrameError(f"nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise FrameError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise FrameError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _no_number(constant: str) -> NoReturn:
    raise FrameError(f"{constant} is not a number that JSON knows")


def _no_name_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # add() gives None: the idiom for "the first that was seen before"
        raise FrameError(f"the name {quote(twice)} stands twice in one object")
    return found


def _depth(value: object) -> int:
    """Return the levels of nesting, without recursion."""
    deepest = 0
    rest = [(value, 1)]
    while rest:
        node, level = rest.pop()
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        deepest = max(deepest, level)
        rest.extend((child, level + 1) for child in children)
    return deepest


def decode_number(value: object, *, strings: bool) -> Decimal:
    """Return a JSON number, or with `strings` the number that stands in a string, exactly.

    Raises:
        FrameError: something else, or more than 30 digits before or behind the point.

    """
    if isinstance(value, str) and strings:
        if not _NUMBER.fullmatch(value.strip()):
            raise FrameError(f"{quote(value)} is not a number")
        value = Decimal(value.strip())
    if not isinstance(value, Decimal):
        raise FrameError(f"{quote(value)} is {_name_of(value)}, not a number")
    exponent = value.as_tuple().exponent
    if value.adjusted() > MAX_MAGNITUDE or not isinstance(exponent, int) or exponent < -MAX_MAGNITUDE:
        raise FrameError(f"{quote(value)} has more than {MAX_MAGNITUDE} digits")
    return value


def _name_of(value: object) -> str:
    names = {str: "a string", bool: "true or false", dict: "an object", list: "an array", type(None): "null"}
    return names.get(type(value), "of an unknown type")


def decode_unix(value: object, *, milliseconds: bool) -> Moment:
    """Return the instant of seconds (a fraction may follow) or milliseconds since 1970 UTC; below 1 us is cut off.

    Raises:
        FrameError: not a number, or after 2100.

    """
    number = decode_number(value, strings=False)
    instant = int(number.scaleb(3 if milliseconds else 6))
    if instant >= LATEST:
        unit = "milliseconds" if milliseconds else "seconds; are these milliseconds?"
        raise FrameError(f"the time {quote(number)} lies after 2100 in {unit}")
    return Moment(instant)


def decode_time(value: object, *, zone: ZoneInfo | None, near: int) -> Moment:
    """Return the instant of an ISO 8601 date and time.

    Without an offset it is local time of `zone`; with `zone` None the offset must be there. A local time that exists
    twice (autumn) is taken as the one nearer to `near` (us), and is doubtful when that is more than 30 minutes away; a
    local time that does not exist (spring) is doubtful.

    Raises:
        FrameError: not such a time, or it needs an offset.

    """
    if not isinstance(value, str):
        raise FrameError(f"the time {quote(value)} is {_name_of(value)}, not a date and time in a string")
    match = _TIME.fullmatch(value)
    if match is None:
        raise FrameError(f"the time {quote(value)} does not read 2026-11-23T12:45:00")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise FrameError(f"the time {quote(value)}: {error}") from None
    if match[1]:
        return Moment(_instant(moment))
    if zone is None:
        raise FrameError(f"the time {quote(value)} has no offset (Z or +08:00)")
    return _local(moment, zone, near)


def _local(moment: datetime, zone: ZoneInfo, near: int) -> Moment:
    first = _instant(moment.replace(tzinfo=zone, fold=0))
    second = _instant(moment.replace(tzinfo=zone, fold=1))
    if first == second:
        return Moment(first)
    back = (_EPOCH + timedelta(microseconds=first)).astimezone(zone).replace(tzinfo=None)
    if back != moment:
        return Moment(first, doubtful=True)
    instant = min(first, second, key=lambda candidate: abs(candidate - near))
    return Moment(instant, doubtful=abs(instant - near) > NEAR)


def _instant(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
