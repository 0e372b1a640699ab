"""A-XDR: COSEM data as bytes and back (IEC 62056-6-2 clause 4.1.5, IEC 61334-6). Not what the values mean.

Strict where memory is at stake: no count and no length is believed beyond what the input holds, and nesting ends at
`MAX_DEPTH`. Lengths may come in any form that BER allows and are written in the shortest.
"""

from collector.protocols.dlms.axdr_compact import compact_array, decode_compact, packed
from collector.protocols.dlms.axdr_values import (
    MAX_DEPTH,
    NESTED,
    CompactArray,
    Data,
    Tag,
    decode_leaf,
    deeper,
    encode_leaf,
    encode_length,
    read_length,
    read_tag,
    words,
)
from metering.errors import FrameError

__all__ = [
    "MAX_DEPTH",
    "CompactArray",
    "Data",
    "Tag",
    "array",
    "bits",
    "boolean",
    "compact_array",
    "decode",
    "decode_all",
    "encode",
    "encode_length",
    "enum_",
    "f32",
    "f64",
    "i8",
    "i16",
    "i32",
    "i64",
    "null",
    "octets",
    "read_length",
    "structure",
    "text",
    "u8",
    "u16",
    "u32",
    "u64",
    "utf8",
]

# --- decoding -------------------------------------------------------------------------------------------------------


def decode_all(buffer: bytes) -> Data:
    """Return the one value that `buffer` holds.

    Raises:
        FrameError: it is no value, or something follows.

    """
    data, end = decode(buffer)
    if end != len(buffer):
        raise FrameError(f"{len(buffer) - end} bytes too many behind the value")
    return data


def decode(buffer: bytes, at: int = 0) -> tuple[Data, int]:
    """Return the value that begins at `at`, and the position behind it.

    Raises:
        FrameError: the value is cut off, nested deeper than `MAX_DEPTH`, or of an unknown type.

    """
    return _decode(buffer, at, 0)


def _decode(buffer: bytes, at: int, depth: int) -> tuple[Data, int]:
    tag = read_tag(buffer, at)
    at += 1
    if tag in NESTED:
        count, at = read_length(buffer, at)
        # Each element takes an octet at least: a count beyond the rest is a lie, seen before anything is allocated.
        if count > len(buffer) - at:
            raise FrameError(f"{words(tag)} of {count} elements in {len(buffer) - at} bytes")
        depth = deeper(depth)
        elements = []
        for _ in range(count):
            element, at = _decode(buffer, at, depth)
            elements.append(element)
        return Data(tag, tuple(elements)), at
    if tag is Tag.COMPACT_ARRAY:
        return decode_compact(buffer, at, depth)
    value, at = decode_leaf(tag, buffer, at)
    return Data(tag, value), at


# --- encoding -------------------------------------------------------------------------------------------------------


def encode(data: Data) -> bytes:
    """Return the value's bytes, lengths in their shortest form.

    Raises:
        ValueError: the value does not fit its type, or nests deeper than `MAX_DEPTH`.

    """
    parts: list[bytes] = []
    _encode(data, parts, 0)
    return b"".join(parts)


def _encode(data: Data, parts: list[bytes], depth: int) -> None:
    tag, value = data
    if isinstance(data, CompactArray):
        parts.append(bytes((Tag.COMPACT_ARRAY,)) + data.description)
        contents = b"".join(map(packed, value))
        parts.append(encode_length(len(contents)) + contents)
        return
    parts.append(bytes((tag,)))
    if tag not in NESTED:
        parts.append(encode_leaf(tag, value))
        return
    if depth >= MAX_DEPTH:
        raise ValueError(f"arrays and structures are nested deeper than {MAX_DEPTH}")
    parts.append(encode_length(len(value)))
    for element in value:
        _encode(element, parts, depth + 1)


# --- short makers ---------------------------------------------------------------------------------------------------


def null() -> Data:
    """Return null-data."""
    return Data(Tag.NULL, None)


def structure(*items: Data) -> Data:
    """Return a structure."""
    return Data(Tag.STRUCTURE, items)


def array(*items: Data) -> Data:
    """Return an array."""
    return Data(Tag.ARRAY, items)


def boolean(value: bool) -> Data:  # noqa: FBT001 - the value itself
    """Return a boolean."""
    return Data(Tag.BOOLEAN, value)


def bits(value: str) -> Data:
    """Return a bit-string from text of 0 and 1."""
    return Data(Tag.BIT_STRING, value)


def u8(value: int) -> Data:
    """Return an unsigned."""
    return Data(Tag.UNSIGNED, value)


def u16(value: int) -> Data:
    """Return a long-unsigned."""
    return Data(Tag.LONG_UNSIGNED, value)


def u32(value: int) -> Data:
    """Return a double-long-unsigned."""
    return Data(Tag.DOUBLE_LONG_UNSIGNED, value)


def u64(value: int) -> Data:
    """Return a long64-unsigned."""
    return Data(Tag.LONG64_UNSIGNED, value)


def i8(value: int) -> Data:
    """Return an integer."""
    return Data(Tag.INTEGER, value)


def i16(value: int) -> Data:
    """Return a long."""
    return Data(Tag.LONG, value)


def i32(value: int) -> Data:
    """Return a double-long."""
    return Data(Tag.DOUBLE_LONG, value)


def i64(value: int) -> Data:
    """Return a long64."""
    return Data(Tag.LONG64, value)


def f32(value: float) -> Data:
    """Return a float32."""
    return Data(Tag.FLOAT32, value)


def f64(value: float) -> Data:
    """Return a float64."""
    return Data(Tag.FLOAT64, value)


def enum_(value: int) -> Data:
    """Return an enum."""
    return Data(Tag.ENUM, value)


def octets(value: bytes) -> Data:
    """Return an octet-string."""
    return Data(Tag.OCTET_STRING, value)


def text(value: str) -> Data:
    """Return a visible-string."""
    return Data(Tag.VISIBLE_STRING, value)


def utf8(value: str) -> Data:
    """Return a utf8-string."""
    return Data(Tag.UTF8_STRING, value)
