"""Numbers in DL/T 645: BCD, lowest byte first, the top bit a sign where the item has one. Exact integers with a scale.

Formats are written as the standard writes them: `XXXXXX.XX` is four bytes with two decimals.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from metering.quality import Quality

_FORMAT = re.compile(r"(X+)(?:\.(X+))?|(N+)(?:\.(N+))?")
_SIGN = 0x80
MAX_BYTES = 8  # of one number: what 64 bits surely hold


class Format(NamedTuple):
    """How a number is written: `size` bytes, value x 10^`scale`, `signed` by the top bit of the highest byte."""

    size: int
    scale: int
    signed: bool = False

    @property
    def modulus(self) -> int:
        """Return the number at which a running total begins again."""
        return int(10 ** (2 * self.size))


@lru_cache(maxsize=256)
def parse_format(text: str, *, signed: bool = False) -> Format:
    """Return the format that `XXX.X`, `XXXXXX.XX` or `NNNN` describes.

    Raises:
        ValueError: not such a format, or an odd number of digits.

    """
    match = _FORMAT.fullmatch(text)
    digits = len(text.replace(".", ""))
    if match is None or digits % 2 or digits > 2 * MAX_BYTES:
        raise ValueError(f"{text!r} is no format; write an even number of X such as XXXXXX.XX")
    return Format(digits // 2, -len(match[2] or match[4] or ""), signed)


def decode_number(form: Format, data: bytes) -> tuple[int | None, int]:
    """Return the stored integer and its quality; None where the meter shows no number.

    All bytes FF are the meter's own "not available"; other digits above 9 are no number.
    """
    if len(data) != form.size:
        return None, int(Quality.NOT_A_NUMBER)
    if data == b"\xff" * form.size:
        return None, int(Quality.NOT_AVAILABLE)
    negative = form.signed and data[-1] & _SIGN
    if negative:
        data = data[:-1] + bytes((data[-1] & ~_SIGN,))
    digits = data[::-1].hex()
    if not digits.isdecimal():
        return None, int(Quality.NOT_A_NUMBER)
    return (-int(digits) if negative else int(digits)), 0


def encode_number(form: Format, value: int | None) -> bytes:
    """Return the bytes of a stored integer; None is written as not available.

    Raises:
        ValueError: it does not fit.

    """
    if value is None:
        return b"\xff" * form.size
    digits = f"{abs(value):0{2 * form.size}d}"
    if len(digits) > 2 * form.size or (value < 0 and not form.signed) or (form.signed and digits[0] in "89"):
        raise ValueError(f"{value} does not fit {form.size} bytes")
    data = bytearray(bytes.fromhex(digits)[::-1])
    if value < 0:
        data[-1] |= _SIGN
    return bytes(data)


def bcd(value: int, size: int = 1) -> bytes:
    """Return an unsigned number as BCD, lowest byte first."""
    return encode_number(Format(size, 0), value)


def count_of(data: bytes) -> int:
    """Return an unsigned BCD number; 0 where the bytes are none (a meter that never counted may show FF)."""
    digits = data[::-1].hex()
    return int(digits) if digits.isdecimal() else 0
