"""The types of A-XDR, lengths, and values without parts (IEC 62056-6-2 clause 4.1.5). Nesting is in `axdr`."""

import struct
from enum import IntEnum
from typing import Any, NamedTuple

from metering.errors import FrameError

MAX_DEPTH = 16  # arrays and structures within each other; real objects stay below 8


class Tag(IntEnum):
    """Type tags of `Data` (Blue Book 4.1.5, table of common data types)."""

    NULL = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27
    DELTA_INTEGER = 28
    DELTA_LONG = 29
    DELTA_DOUBLE_LONG = 30
    DELTA_UNSIGNED = 31
    DELTA_LONG_UNSIGNED = 32
    DELTA_DOUBLE_LONG_UNSIGNED = 33
    DONT_CARE = 255


class Data(NamedTuple):
    """One value with its type.

    null and don't-care: None. array, structure: tuple of Data. bit-string: text of 0 and 1, first bit first.
    octet-string, date-time, date, time: bytes. visible-string, utf8-string: str. boolean: bool. Everything else, the
    delta types, enum and bcd (its raw octet) included: int, or float for the two float types.
    """

    tag: Tag
    value: Any


class CompactArray(Data):
    """An array that came, or goes, as a compact-array: equal to the plain array with the same elements."""

    # The bytes of the TypeDescription that its elements share.
    description: bytes


_NUMBERS = {
    Tag.DOUBLE_LONG: struct.Struct(">i"),
    Tag.DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
    Tag.BCD: struct.Struct(">B"),
    Tag.INTEGER: struct.Struct(">b"),
    Tag.LONG: struct.Struct(">h"),
    Tag.UNSIGNED: struct.Struct(">B"),
    Tag.LONG_UNSIGNED: struct.Struct(">H"),
    Tag.LONG64: struct.Struct(">q"),
    Tag.LONG64_UNSIGNED: struct.Struct(">Q"),
    Tag.ENUM: struct.Struct(">B"),
    Tag.FLOAT32: struct.Struct(">f"),
    Tag.FLOAT64: struct.Struct(">d"),
    Tag.DELTA_INTEGER: struct.Struct(">b"),
    Tag.DELTA_LONG: struct.Struct(">h"),
    Tag.DELTA_DOUBLE_LONG: struct.Struct(">i"),
    Tag.DELTA_UNSIGNED: struct.Struct(">B"),
    Tag.DELTA_LONG_UNSIGNED: struct.Struct(">H"),
    Tag.DELTA_DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
}
_TIMES = {Tag.DATE_TIME: 12, Tag.DATE: 5, Tag.TIME: 4}
_NOTHING = (Tag.NULL, Tag.DONT_CARE)
NESTED = (Tag.ARRAY, Tag.STRUCTURE)
_TAGS = {int(tag): tag for tag in Tag}
_TEXTS = {Tag.VISIBLE_STRING: "latin-1", Tag.UTF8_STRING: "utf-8"}


def read_length(buffer: bytes, at: int) -> tuple[int, int]:
    """Return a length or count and the position behind it: up to 7F direct, 81 to 84 with that many octets.

    Raises:
        FrameError: the input ends first, or the form is none of these.

    """
    if at >= len(buffer):
        raise FrameError("the data ends before a length")
    first = buffer[at]
    at += 1
    if first < 0x80:
        return first, at
    size = first & 0x7F
    if not 1 <= size <= 4:
        raise FrameError(f"length octet {first:02X} is none of 00 to 7F and 81 to 84")
    if at + size > len(buffer):
        raise FrameError("the data ends within a length")
    return int.from_bytes(buffer[at : at + size], "big"), at + size


def encode_length(length: int) -> bytes:
    """Return the shortest form of a length or count."""
    if length < 0x80:
        return bytes((length,))
    size = (length.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + length.to_bytes(size, "big")


def read_tag(buffer: bytes, at: int) -> Tag:
    """Return the type that stands at `at`. Raises FrameError."""
    if at >= len(buffer):
        raise FrameError("the data ends before a value")
    tag = _TAGS.get(buffer[at])
    if tag is None:
        raise FrameError(f"data type {buffer[at]} is unknown")
    return tag


def deeper(depth: int) -> int:
    """Return the depth one level down. Raises FrameError."""
    if depth >= MAX_DEPTH:
        raise FrameError(f"arrays and structures are nested deeper than {MAX_DEPTH}")
    return depth + 1


def decode_leaf(tag: Tag, buffer: bytes, at: int) -> tuple[Any, int]:
    """Return the value of a type without parts, its tag already read, and the position behind. Raises FrameError."""
    number = _NUMBERS.get(tag)
    if number is not None:
        end = at + number.size
        if end > len(buffer):
            raise FrameError(f"the data ends within a {words(tag)}")
        return number.unpack_from(buffer, at)[0], end
    if tag in _NOTHING:
        return None, at
    if tag is Tag.BOOLEAN:
        octet, end = take(tag, buffer, at, 1)
        return octet != b"\0", end
    if tag in _TIMES:
        return take(tag, buffer, at, _TIMES[tag])
    return _decode_string(tag, buffer, at)


def _decode_string(tag: Tag, buffer: bytes, at: int) -> tuple[bytes | str, int]:
    length, at = read_length(buffer, at)
    if tag is Tag.BIT_STRING:
        octets, end = take(tag, buffer, at, (length + 7) // 8)
        return "".join(f"{octet:08b}" for octet in octets)[:length], end
    octets, end = take(tag, buffer, at, length)
    if tag is Tag.VISIBLE_STRING:
        return octets.decode("latin-1"), end
    if tag is Tag.UTF8_STRING:
        # Meters cut texts to a fixed size, in the middle of a character too: that is no reason to lose the rest.
        return octets.decode("utf-8", "replace"), end
    return octets, end


def take(tag: Tag, buffer: bytes, at: int, length: int) -> tuple[bytes, int]:
    """Return that many bytes, and the position behind them. Raises FrameError, with the type of the value."""
    end = at + length
    if end > len(buffer):
        raise FrameError(f"a {words(tag)} of {length} bytes in {len(buffer) - at} bytes")
    return bytes(buffer[at:end]), end


def words(tag: Tag) -> str:
    """Return the type's name as the standard writes it."""
    return tag.name.lower().replace("_", "-")


def encode_leaf(tag: Tag, value: Any) -> bytes:  # noqa: ANN401 - a value's type follows from its tag
    """Return the bytes of a value without parts, without its tag. Raises ValueError for one that does not fit."""
    number = _NUMBERS.get(tag)
    if number is not None:
        try:
            return number.pack(value)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{value!r} is no {words(tag)}") from error
    if tag in _NOTHING:
        return b""
    if tag is Tag.BOOLEAN:
        return b"\1" if value else b"\0"
    if tag in _TIMES:
        if len(value) != _TIMES[tag]:
            raise ValueError(f"a {words(tag)} has {_TIMES[tag]} bytes, not {len(value)}")
        return bytes(value)
    if tag is Tag.BIT_STRING:
        size = -(-len(value) // 8)
        return encode_length(len(value)) + int(value.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")
    content = bytes(value.encode(_TEXTS[tag]) if tag in _TEXTS else value)
    return encode_length(len(content)) + content
