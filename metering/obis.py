"""OBIS codes (IEC 62056-61): `A-B:C.D.E*F` in text, six integers in a table. Not a catalogue of what they mean."""

import re
from functools import cache

_FULL = re.compile(r"(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\*(\d{1,3}))?")


@cache
def parse_obis(text: str) -> tuple[int, int, int, int, int, int]:
    """Return the value groups A to F of a code such as `1-0:1.8.0*255`; a missing `*F` means 255.

    Raises:
        ValueError: the text is no OBIS code, or a value group is above 255.

    """
    match = _FULL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an OBIS code; it reads A-B:C.D.E*F, for example 1-0:1.8.0*255")
    a, b, c, d, e, f = (int(group) if group is not None else 255 for group in match.groups())
    if max(a, b, c, d, e, f) > 255:
        raise ValueError(f"{text!r} is not an OBIS code: a value group is above 255")
    return a, b, c, d, e, f


@cache
def canonical_obis(text: str) -> str:
    """Return the full form `A-B:C.D.E*F`, without leading zeros, with `*255` where F was left out."""
    a, b, c, d, e, f = parse_obis(text)
    return f"{a}-{b}:{c}.{d}.{e}*{f}"


def is_cumulative(obis: str) -> bool:
    """Tell whether the code is a running total (value group D = 8, time integral 1 since the start)."""
    return parse_obis(obis)[3] == 8
