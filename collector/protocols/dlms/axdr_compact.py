"""The compact-array of A-XDR: one type description, then its elements' contents without tags. No other type."""

from typing import NamedTuple

from collector.protocols.dlms.axdr_values import (
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
    take,
)
from metering.errors import FrameError

# What a byte of contents may unfold into: types may describe values that have no content, any number of times.
VALUES_PER_BYTE = 4


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


def decode_compact(buffer: bytes, at: int, depth: int) -> tuple[Data, int]:
    """Return the array whose type description begins at `at`, and the position behind it. Raises FrameError."""
    begin = at
    element_type, at = _read_type(buffer, at, deeper(depth))
    description = bytes(buffer[begin:at])
    length, at = read_length(buffer, at)
    contents, end = take(Tag.COMPACT_ARRAY, buffer, at, length)
    budget = _Budget(VALUES_PER_BYTE * length)
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
    tag = read_tag(buffer, at)
    at += 1
    if tag is Tag.COMPACT_ARRAY:
        raise FrameError("a compact-array within a compact-array")
    if tag is Tag.ARRAY:
        count, at = take(tag, buffer, at, 2)
        part, at = _read_type(buffer, at, deeper(depth))
        return _Type(tag, (part,), int.from_bytes(count, "big")), at
    if tag is Tag.STRUCTURE:
        fields, at = read_length(buffer, at)
        if fields > len(buffer) - at:
            raise FrameError(f"a structure of {fields} fields in {len(buffer) - at} bytes")
        depth = deeper(depth)
        parts = []
        for _ in range(fields):
            part, at = _read_type(buffer, at, depth)
            parts.append(part)
        return _Type(tag, tuple(parts)), at
    return _Type(tag), at


def _unfold(kind: _Type, contents: bytes, at: int, budget: _Budget) -> tuple[Data, int]:
    if kind.tag not in NESTED:
        budget.spend(1)
        value, at = decode_leaf(kind.tag, contents, at)
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


def packed(data: Data) -> bytes:
    """Return the contents of a value without its tags and counts."""
    if data.tag in NESTED:
        return b"".join(map(packed, data.value))
    return encode_leaf(data.tag, data.value)
