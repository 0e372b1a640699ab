"""What Modbus registers mean: numbers of every width and order to and from register bytes. Knows no addresses, no I/O.

Integers stay integers and floats are only what the meter itself sends as floats; nothing here rounds.
"""

import math
import struct
from dataclasses import dataclass
from typing import Literal

from metering.quality import Quality

ValueType = Literal[
    "uint16", "uint32", "uint48", "uint64",
    "int16", "int32", "int48", "int64",
    "float32", "float64",
    "bcd16", "bcd32", "bcd48", "bcd64",
    "bits", "ascii",
]  # fmt: skip
WordOrder = Literal["msw_first", "lsw_first"]  # which 16-bit word of a wider value has the lower address
ByteOrder = Literal["big", "little"]  # inside one register; the standard says big

# Registers of each type; `bits` and `ascii` say theirs.
REGISTERS = {
    "uint16": 1, "uint32": 2, "uint48": 3, "uint64": 4,
    "int16": 1, "int32": 2, "int48": 3, "int64": 4,
    "float32": 2, "float64": 4,
    "bcd16": 1, "bcd32": 2, "bcd48": 3, "bcd64": 4,
}  # fmt: skip

_FLOATS = {"float32": struct.Struct(">f"), "float64": struct.Struct(">d")}


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """How one value lies in its registers.

    `not_available` has the bit patterns (as unsigned integers) by which the meter says "not available"; with
    `nan_not_available` every NaN says so. `low` and `high` bound what the register can show, after `multiplier`.
    `bits` takes `width` bits from `shift` on, counted from the least significant bit of the whole value.
    """

    type: ValueType
    count: int
    word_order: WordOrder = "msw_first"
    byte_order: ByteOrder = "big"
    shift: int = 0
    width: int = 0
    multiplier: int = 1
    not_available: frozenset[int] = frozenset()
    nan_not_available: bool = False
    low: float | None = None
    high: float | None = None


def byte_positions(spec: ValueSpec) -> list[int]:
    """Return, most significant byte first, where each byte of the value lies within its registers."""
    words = range(spec.count) if spec.word_order == "msw_first" else range(spec.count - 1, -1, -1)
    inner = (0, 1) if spec.byte_order == "big" else (1, 0)
    return [2 * word + byte for word in words for byte in inner]


def arrange(spec: ValueSpec, data: bytes) -> bytes:
    """Return register bytes with the most significant byte first. Doing it twice gives the bytes back."""
    if spec.word_order == "msw_first" and spec.byte_order == "big":
        return data
    return bytes([data[position] for position in byte_positions(spec)])


def convert(spec: ValueSpec, pattern: int) -> float:
    """Return the number that a bit pattern (most significant first) stands for; NaN where a BCD nibble is no digit."""
    kind, bits = spec.type, 16 * spec.count
    if kind in _FLOATS:
        value: float = _FLOATS[kind].unpack(pattern.to_bytes(2 * spec.count, "big"))[0]
        return value
    if kind.startswith("int"):
        pattern -= (pattern >> (bits - 1)) << bits
    elif kind.startswith("bcd"):
        digits = f"{pattern:x}"
        if not digits.isdecimal():
            return math.nan
        pattern = int(digits)
    elif kind == "bits":
        pattern = (pattern >> spec.shift) & ((1 << spec.width) - 1)
    return pattern * spec.multiplier


def decode(spec: ValueSpec, data: bytes) -> tuple[float | None, int]:
    """Return value and quality flags of one value's register bytes (2 x `count` of them).

    A NaN, an infinity or a BCD nibble above 9 gives no value and NOT_A_NUMBER, the meter's own sentinel gives no
    value and NOT_AVAILABLE; what lies outside the range is kept as read, with OUT_OF_RANGE.

    Raises:
        ValueError: another number of bytes than the value has.

    """
    if len(data) != 2 * spec.count:
        raise ValueError(f"{len(data)} bytes are not {spec.count} registers")
    pattern = int.from_bytes(arrange(spec, data), "big")
    if pattern in spec.not_available:
        return None, Quality.NOT_AVAILABLE
    value = convert(spec, pattern)
    if not math.isfinite(value):
        sentinel = spec.nan_not_available and spec.type in _FLOATS and math.isnan(value)
        return None, Quality.NOT_AVAILABLE if sentinel else Quality.NOT_A_NUMBER
    if (spec.low is not None and value < spec.low) or (spec.high is not None and value > spec.high):
        return value, Quality.OUT_OF_RANGE
    return value, Quality.VALID


def encode(spec: ValueSpec, value: float | None) -> bytes:
    """Return the register bytes that `decode` reads as this value; for None the meter's "not available".

    Raises:
        ValueError: the type cannot show this value, or knows no "not available".

    """
    length = 2 * spec.count
    if value is None:
        if spec.not_available:
            return arrange(spec, min(spec.not_available).to_bytes(length, "big"))
        if not spec.nan_not_available:
            raise ValueError(f"this {spec.type} has no pattern for 'not available'")
        value = math.nan
    if spec.type in _FLOATS:
        try:
            return arrange(spec, _FLOATS[spec.type].pack(value))
        except OverflowError:
            raise ValueError(f"{value} does not fit into {spec.type}") from None
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{value} is no integer")
    raw, rest = divmod(int(value), spec.multiplier)
    if rest:
        raise ValueError(f"{value} is no multiple of {spec.multiplier}")
    try:
        return arrange(spec, _pattern(spec, raw).to_bytes(length, "big"))
    except OverflowError:
        raise ValueError(f"{value} does not fit into {spec.type}") from None


def _pattern(spec: ValueSpec, raw: int) -> int:
    """Return the unsigned bit pattern of an integer; OverflowError where it has none."""
    bits = 16 * spec.count
    if spec.type.startswith("int"):
        if not -(1 << (bits - 1)) <= raw < 1 << (bits - 1):
            raise OverflowError
        return raw & ((1 << bits) - 1)
    if spec.type.startswith("bcd"):
        if not 0 <= raw < 10 ** (bits // 4):
            raise OverflowError
        return int(str(raw), 16)
    if spec.type == "bits":
        if not 0 <= raw < 1 << spec.width:
            raise OverflowError
        return raw << spec.shift
    return raw


def decode_text(spec: ValueSpec, data: bytes) -> str:
    """Return the text of `ascii` registers, without padding; of any other type the number's digits.

    Raises:
        ValueError: bytes that are not printable ASCII, or a number that is not there.

    """
    if spec.type != "ascii":
        value, _ = decode(spec, data)
        if value is None:
            raise ValueError(f"registers {data.hex()} hold no number")
        return str(value)
    raw = b"".join(
        data[i : i + 2] if spec.byte_order == "big" else data[i : i + 2][::-1] for i in range(0, len(data), 2)
    )
    text = raw.rstrip(b"\0 ").lstrip(b" ").decode("ascii")
    if not text.isprintable():
        raise ValueError(f"registers {data.hex()} hold no printable text")
    return text


def encode_text(spec: ValueSpec, text: str) -> bytes:
    """Return the registers of an `ascii` value, padded with NUL; of any other type those of the number in `text`.

    Raises:
        ValueError: the text is too long or not ASCII, or is no such number.

    """
    if spec.type != "ascii":
        return encode(spec, int(text))
    raw = text.encode("ascii")
    if len(raw) > 2 * spec.count:
        raise ValueError(f"{text!r} is longer than {2 * spec.count} characters")
    raw = raw.ljust(2 * spec.count, b"\0")
    return b"".join(raw[i : i + 2] if spec.byte_order == "big" else raw[i : i + 2][::-1] for i in range(0, len(raw), 2))
