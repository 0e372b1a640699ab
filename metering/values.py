"""Exact values: a meter's digits as integer and decimal scale, and the shortest decimal of a float32.

Nothing here rounds. A float is used only where the meter itself sends one.
"""

import struct
from decimal import Decimal
from functools import lru_cache

_FLOAT32 = struct.Struct(">f")


@lru_cache(maxsize=4096)
def shortest_float32(value: float) -> str:
    """Return the shortest decimal that reads back as the same float32: 230.2, not 230.1999969482422.

    `value` is a float32 widened to a Python float; it must be finite.
    """
    if not value:
        return "0"  # a negative zero is a zero on a meter's display
    packed = _FLOAT32.pack(value)
    for digits in (6, 7, 8):
        text = f"{value:.{digits}g}"
        if _FLOAT32.pack(float(text)) == packed:
            return text
    return f"{value:.9g}"


def to_decimal(value: float, scale: int, number: str) -> Decimal:
    """Return `value` x 10^`scale` exactly, with the digits that the meter shows.

    `number` is the column's: `int` (value is an int), `float32` or `float64` (value is a float).
    """
    if number == "int":
        return Decimal(int(value)).scaleb(scale)
    digits = shortest_float32(value) if number == "float32" else repr(value)
    return Decimal(digits).scaleb(scale)


def to_text(value: float, scale: int, number: str) -> str:
    """Return the value as a plain decimal string, never in exponent form: `12345, -2` gives `123.45`."""
    if number == "int" and scale <= 0:
        return scaled_text(int(value), scale)
    return f"{to_decimal(value, scale, number):f}"


def scaled_text(mantissa: int, scale: int) -> str:
    """Return `mantissa` x 10^`scale` for `scale` <= 0 with all its digits: `100, -2` gives `1.00`."""
    if scale == 0:
        return str(mantissa)
    digits = str(abs(mantissa)).rjust(1 - scale, "0")
    sign = "-" if mantissa < 0 else ""
    return f"{sign}{digits[:scale]}.{digits[scale:]}"
