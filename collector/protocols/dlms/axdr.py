"""A-XDR: COSEM data as bytes and back (IEC 62056-6-2 clause 4.1.5, IEC 61334-6). Not what the values mean.

Strict where memory is at stake: no count and no length is believed beyond what the input holds, and nesting ends at
`MAX_DEPTH`. Lengths may come in any form that BER allows and are written in the shortest.
"""

import struct
from enum import IntEnum
from typing import Any, NamedTuple

from metering.errors import FrameError

MAX_DEPTH = 16  # arrays and structures within each other; real objects stay below 8
COMPACT_VALUES_PER_BYTE = 4  # what the contents of a compact-array may unfold into: its types may describe empty values


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
_NESTED = (Tag.ARRAY, Tag.STRUCTURE)
_TAGS = {int(tag): tag for tag in Tag}


# --- lengths --------------------------------------------------------------------------------------------------------


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
    tag = _tag_at(buffer, at)
    at += 1
    if tag in _NESTED:
        count, at = read_length(buffer, at)
        # Each element takes an octet at least: a count beyond the rest is a lie, seen before anything is allocated.
        if count > len(buffer) - at:
            raise FrameError(f"{tag.name.lower()} of {count} elements in {len(buffer) - at} bytes")
        depth = _deeper(depth)
        elements = []
        for _ in range(count):
            element, at = _decode(buffer, at, depth)
            elements.append(element)
        return Data(tag, tuple(elements)), at
    if tag is Tag.COMPACT_ARRAY:
        return _decode_compact(buffer, at, depth)
    value, at = _decode_leaf(tag, buffer, at)
    return Data(tag, value), at


def _tag_at(buffer: bytes, at: int) -> Tag:
    if at >= len(buffer):
        raise FrameError("the data ends before a value")
    tag = _TAGS.get(buffer[at])
    if tag is None:
        raise FrameError(f"data type {buffer[at]} is unknown")
    return tag


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise FrameError(f"arrays and structures are nested deeper than {MAX_DEPTH}")
    return depth + 1


def _decode_leaf(tag: Tag, buffer: bytes, at: int) -> tuple[Any, int]:
    number = _NUMBERS.get(tag)
    if number is not None:
        end = at + number.size
        if end > len(buffer):
            raise FrameError(f"the data ends within a {_words(tag)}")
        return number.unpack_from(buffer, at)[0], end
    if tag in _NOTHING:
        return None, at
    if tag is Tag.BOOLEAN:
        octet, end = _take(tag, buffer, at, 1)
        return octet != b"\0", end
    if tag in _TIMES:
        return _take(tag, buffer, at, _TIMES[tag])
    return _decode_string(tag, buffer, at)


def _decode_string(tag: Tag, buffer: bytes, at: int) -> tuple[bytes | str, int]:
    length, at = read_length(buffer, at)
    if tag is Tag.BIT_STRING:
        octets, end = _take(tag, buffer, at, (length + 7) // 8)
        return "".join(f"{octet:08b}" for octet in octets)[:length], end
    octets, end = _take(tag, buffer, at, length)
    if tag is Tag.VISIBLE_STRING:
        return octets.decode("latin-1"), end
    if tag is Tag.UTF8_STRING:
        # Meters cut texts to a fixed size, in the middle of a character too: that is no reason to lose the rest.
        return octets.decode("utf-8", "replace"), end
    return octets, end


def _take(tag: Tag, buffer: bytes, at: int, length: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(buffer):
        raise FrameError(f"a {_words(tag)} of {length} bytes in {len(buffer) - at} bytes")
    return bytes(buffer[at:end]), end


def _words(tag: Tag) -> str:
    return tag.name.lower().replace("_", "-")


# --- compact-array --------------------------------------------------------------------------------------------------


class _Type(NamedTuple):
    """A TypeDescription: `parts` are a structure's fields, or an array's one element type, there `times` times."""

    tag: Tag
    parts: tuple["_Type", ...] = ()
    times: int = 0


class _Budget:
    """How many values the contents may still unfold into."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise FrameError("a compact-array describes more values than its contents can hold")


def _decode_compact(buffer: bytes, at: int, depth: int) -> tuple[Data, int]:
    begin = at
    element_type, at = _read_type(buffer, at, _deeper(depth))
    description = bytes(buffer[begin:at])
    length, at = read_length(buffer, at)
    contents, end = _take(Tag.COMPACT_ARRAY, buffer, at, length)
    budget = _Budget(COMPACT_VALUES_PER_BYTE * length)
    elements = []
    at = 0
    while at < length:
        element, behind = _unfold(element_type, contents, at, budget)
        if behind == at:
            raise FrameError("a compact-array of elements without content")
        elements.append(element)
        at = behind
    array = CompactArray(Tag.ARRAY, tuple(elements))
    array.description = description
    return array, end


def _read_type(buffer: bytes, at: int, depth: int) -> tuple[_Type, int]:
    tag = _tag_at(buffer, at)
    at += 1
    if tag is Tag.COMPACT_ARRAY:
        raise FrameError("a compact-array within a compact-array")
    if tag is Tag.ARRAY:
        count, at = _take(tag, buffer, at, 2)
        part, at = _read_type(buffer, at, _deeper(depth))
        return _Type(tag, (part,), int.from_bytes(count, "big")), at
    if tag is Tag.STRUCTURE:
        fields, at = read_length(buffer, at)
        if fields > len(buffer) - at:
            raise FrameError(f"a structure of {fields} fields in {len(buffer) - at} bytes")
        depth = _deeper(depth)
        parts = []
        for _ in range(fields):
            part, at = _read_type(buffer, at, depth)
            parts.append(part)
        return _Type(tag, tuple(parts)), at
    return _Type(tag), at


def _unfold(kind: _Type, contents: bytes, at: int, budget: _Budget) -> tuple[Data, int]:
    if kind.tag not in _NESTED:
        budget.spend(1)
        value, at = _decode_leaf(kind.tag, contents, at)
        return Data(kind.tag, value), at
    # Spent before the parts are made: a count in a type costs its sender nothing.
    budget.spend(1 + kind.times)
    values = []
    for part in kind.parts * kind.times if kind.tag is Tag.ARRAY else kind.parts:
        value, at = _unfold(part, contents, at, budget)
        values.append(value)
    return Data(kind.tag, tuple(values)), at


def _type_of(data: Data) -> bytes:
    if data.tag is Tag.ARRAY:
        if not data.value:
            raise ValueError("an empty array within a compact-array has no type")
        return bytes((data.tag,)) + len(data.value).to_bytes(2, "big") + _one_type(data.value)
    if data.tag is Tag.STRUCTURE:
        return bytes((data.tag,)) + encode_length(len(data.value)) + b"".join(map(_type_of, data.value))
    return bytes((data.tag,))


def _one_type(elements: tuple[Data, ...]) -> bytes:
    types = {_type_of(element) for element in elements}
    if len(types) != 1:
        raise ValueError("the elements of a compact-array are all of one type")
    return types.pop()


def compact_array(*elements: Data) -> CompactArray:
    """Return an array that is sent as a compact-array.

    Raises:
        ValueError: there is no element, or they are not all of one type.

    """
    if not elements:
        raise ValueError("an empty compact-array has no type")
    array = CompactArray(Tag.ARRAY, elements)
    array.description = _one_type(elements)
    return array


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
        contents = b"".join(map(_packed, value))
        parts.append(encode_length(len(contents)) + contents)
        return
    parts.append(bytes((tag,)))
    if tag not in _NESTED:
        parts.append(_encode_leaf(tag, value))
        return
    if depth >= MAX_DEPTH:
        raise ValueError(f"arrays and structures are nested deeper than {MAX_DEPTH}")
    parts.append(encode_length(len(value)))
    for element in value:
        _encode(element, parts, depth + 1)


def _packed(data: Data) -> bytes:
    if data.tag in _NESTED:
        return b"".join(map(_packed, data.value))
    return _encode_leaf(data.tag, data.value)


def _encode_leaf(tag: Tag, value: Any) -> bytes:  # noqa: ANN401 - a value's type follows from its tag
    number = _NUMBERS.get(tag)
    if number is not None:
        try:
            return number.pack(value)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{value!r} is no {_words(tag)}") from error
    if tag in _NOTHING:
        return b""
    if tag is Tag.BOOLEAN:
        return b"\1" if value else b"\0"
    if tag in _TIMES:
        if len(value) != _TIMES[tag]:
            raise ValueError(f"a {_words(tag)} has {_TIMES[tag]} bytes, not {len(value)}")
        return bytes(value)
    if tag is Tag.BIT_STRING:
        size = -(-len(value) // 8)
        return encode_length(len(value)) + int(value.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")
    content = bytes(value.encode(_TEXTS[tag]) if tag in _TEXTS else value)
    return encode_length(len(content)) + content


_TEXTS = {Tag.VISIBLE_STRING: "latin-1", Tag.UTF8_STRING: "utf-8"}


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
