"""What objects are made of: their base, and parts of their attributes with a check of each. Not the classes."""

from collections.abc import Mapping
from typing import ClassVar, Self

import msgspec

from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.clock import DateTime, parse_datetime
from collector.protocols.dlms.references import obis_of
from metering.errors import FrameError

Values = Mapping[int, Data]


class CosemValue(msgspec.Struct, frozen=True):
    """An object of one class. `ATTRIBUTES` are read; those of `OPTIONAL` may be missing."""

    CLASS_ID: ClassVar[int]
    ATTRIBUTES: ClassVar[tuple[int, ...]]
    OPTIONAL: ClassVar[frozenset[int]] = frozenset()

    @classmethod
    def of(cls, values: Values) -> Self:
        """Make it from its attributes' values. Raises `FrameError` where one is missing or of another form."""
        raise NotImplementedError


def take(values: Values, attribute: int) -> Data:
    """Return an attribute's value. Raises `FrameError` where it is missing."""
    data = values.get(attribute)
    if data is None:
        raise FrameError(f"attribute {attribute} is missing")
    return data


def items_of(data: Data, what: str, tag: Tag = Tag.ARRAY) -> tuple[Data, ...]:
    """Return the items of an array (or of another nested `tag`). Raises `FrameError`."""
    if data.tag is not tag:
        raise FrameError(f"{what} is no {tag.name.lower()}")
    items: tuple[Data, ...] = data.value
    return items


def parts_of(data: Data, what: str, least: int) -> tuple[Data, ...]:
    """Return the parts of a structure that has at least so many. Raises `FrameError`."""
    parts = items_of(data, what, Tag.STRUCTURE)
    if len(parts) < least:
        raise FrameError(f"{what} has {len(parts)} parts, not {least}")
    return parts


def number_of(data: Data, what: str) -> int:
    """Return a whole number. Raises `FrameError`."""
    if not isinstance(data.value, int) or isinstance(data.value, bool):
        raise FrameError(f"{what} is no whole number")
    return data.value


def flag_of(data: Data, what: str) -> bool:
    """Return a boolean, or a number as one. Raises `FrameError`."""
    if not isinstance(data.value, bool | int):
        raise FrameError(f"{what} is neither true nor false")
    return bool(data.value)


def octets_of(data: Data, what: str) -> bytes:
    """Return the bytes of an octet-string or a text. Raises `FrameError`."""
    if isinstance(data.value, bytes):
        return data.value
    if isinstance(data.value, str) and data.tag is not Tag.BIT_STRING:
        return data.value.encode()
    raise FrameError(f"{what} is no octet-string")


def obis_in(data: Data, what: str) -> str:
    """Return the OBIS code of a logical name. Raises `FrameError`."""
    return obis_of(octets_of(data, what))


def time_of(data: Data, what: str) -> DateTime:
    """Return a date-time. Raises `FrameError`."""
    return parse_datetime(octets_of(data, what))


class ScriptRef(msgspec.Struct, frozen=True):
    """A script of a script table; selector 0 means none."""

    obis: str
    selector: int


def script_ref(data: Data) -> ScriptRef:
    """Return a reference to a script. Raises `FrameError`."""
    name, selector = parts_of(data, "a script's reference", 2)[:2]
    return ScriptRef(obis_in(name, "script table"), number_of(selector, "selector"))
