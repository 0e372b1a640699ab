"""What a request points at and how a result is told: attributes, methods, selective access, results. Not the APDUs."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Self, TypeVar

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.cursor import Cursor
from metering.errors import FrameError
from metering.obis import parse_obis

SELECT_BY_RANGE = 1  # Blue Book 4.3.6.2.1, profile generic, attribute buffer
SELECT_BY_ENTRY = 2


def logical_name(obis: str) -> bytes:
    """Return the six octets of an OBIS code in text. Raises ValueError for what is none."""
    return bytes(parse_obis(obis))


def obis_of(name: bytes) -> str:
    """Return the OBIS code `A-B:C.D.E*F` of a logical name of six octets.

    Raises:
        FrameError: it has another length.

    """
    if len(name) != 6:
        raise FrameError(f"a logical name has 6 bytes, not {len(name)}")
    a, b, c, d, e, f = name
    return f"{a}-{b}:{c}.{d}.{e}*{f}"


class Attribute(NamedTuple):
    """An attribute of a COSEM object: Cosem-Attribute-Descriptor, 9 bytes on the wire."""

    class_id: int
    obis: str
    attribute: int

    def to_bytes(self) -> bytes:
        """Return class (u16), logical name, attribute (i8)."""
        return _descriptor(self.class_id, self.obis, self.attribute)

    def __str__(self) -> str:
        return f"class {self.class_id} {self.obis} attribute {self.attribute}"


class Method(NamedTuple):
    """A method of a COSEM object: Cosem-Method-Descriptor, 9 bytes on the wire."""

    class_id: int
    obis: str
    method: int

    def to_bytes(self) -> bytes:
        """Return class (u16), logical name, method (i8)."""
        return _descriptor(self.class_id, self.obis, self.method)

    def __str__(self) -> str:
        return f"class {self.class_id} {self.obis} method {self.method}"


def _descriptor(class_id: int, obis: str, index: int) -> bytes:
    return class_id.to_bytes(2, "big") + logical_name(obis) + index.to_bytes(1, "big", signed=True)


def read_attribute(cursor: Cursor) -> Attribute:
    """Read a Cosem-Attribute-Descriptor. Raises FrameError."""
    return Attribute(cursor.u16(), obis_of(cursor.take(6)), int.from_bytes(cursor.take(1), "big", signed=True))


def read_method(cursor: Cursor) -> Method:
    """Read a Cosem-Method-Descriptor. Raises FrameError."""
    return Method(cursor.u16(), obis_of(cursor.take(6)), int.from_bytes(cursor.take(1), "big", signed=True))


# --- selective access -----------------------------------------------------------------------------------------------


class Access(NamedTuple):
    """Selective access: which part of an attribute is meant."""

    selector: int
    parameter: Data


class CaptureObject(NamedTuple):
    """One column of a profile: an attribute, and `data_index` of an element within it (0: all of it)."""

    class_id: int
    obis: str
    attribute: int
    data_index: int = 0

    def to_data(self) -> Data:
        """Return capture_object_definition."""
        return axdr.structure(
            axdr.u16(self.class_id),
            axdr.octets(logical_name(self.obis)),
            axdr.i8(self.attribute),
            axdr.u16(self.data_index),
        )

    @classmethod
    def of(cls, data: Data) -> Self:
        """Read a capture_object_definition.

        Raises:
            FrameError: it is none.

        """
        parts: tuple[Data, ...] = data.value if data.tag is Tag.STRUCTURE else ()
        if len(parts) != 4 or not all(isinstance(parts[i].value, int) for i in (0, 2, 3)):
            raise FrameError("a capture object is a structure of class, logical name, attribute and data index")
        if not isinstance(parts[1].value, bytes):
            raise FrameError("a capture object's logical name is an octet-string")
        return cls(parts[0].value, obis_of(parts[1].value), parts[2].value, parts[3].value)


def range_access(
    restricting: Attribute | CaptureObject,
    start: bytes | Data,
    end: bytes | Data,
    columns: Sequence[Attribute | CaptureObject] = (),
) -> Access:
    """Select a profile's rows with start <= restricting <= end; no `columns` means all of them.

    `start` and `end` are date-times of 12 bytes, sent as octet-strings, or values of another type for meters that
    want `date-time` or a number.
    """
    return Access(
        SELECT_BY_RANGE,
        axdr.structure(
            _column(restricting),
            start if isinstance(start, Data) else axdr.octets(start),
            end if isinstance(end, Data) else axdr.octets(end),
            axdr.array(*map(_column, columns)),
        ),
    )


def _column(column: Attribute | CaptureObject) -> Data:
    return CaptureObject(*column[:3]).to_data() if isinstance(column, Attribute) else column.to_data()


def entry_access(first: int, last: int, from_column: int = 1, to_column: int = 0) -> Access:
    """Select a profile's rows and columns by number, from 1; `last` and `to_column` 0 mean the last there is."""
    return Access(
        SELECT_BY_ENTRY,
        axdr.structure(axdr.u32(first), axdr.u32(last), axdr.u16(from_column), axdr.u16(to_column)),
    )


def read_access(cursor: Cursor) -> Access | None:
    """Read an optional Selective-Access-Descriptor. Raises FrameError."""
    return Access(cursor.u8(), cursor.data()) if cursor.flag() else None


def write_access(access: Access | None) -> bytes:
    """Return an optional Selective-Access-Descriptor."""
    return b"\0" if access is None else bytes((1, access.selector)) + axdr.encode(access.parameter)


# --- results --------------------------------------------------------------------------------------------------------


class DataAccessResult(IntEnum):
    """What became of reading or writing one attribute (IEC 62056-5-3, Data-Access-Result)."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_GET_ABORTED = 15
    NO_LONG_GET_IN_PROGRESS = 16
    LONG_SET_ABORTED = 17
    NO_LONG_SET_IN_PROGRESS = 18
    DATA_BLOCK_NUMBER_INVALID = 19
    OTHER_REASON = 250

    @property
    def words(self) -> str:
        """Return what it means to a field engineer."""
        return _MEANINGS[self.value]


class ActionResult(IntEnum):
    """What became of carrying out one method (IEC 62056-5-3, Action-Result)."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_ACTION_ABORTED = 15
    NO_LONG_ACTION_IN_PROGRESS = 16
    OTHER_REASON = 250

    @property
    def words(self) -> str:
        """Return what it means to a field engineer."""
        return _MEANINGS[self.value]


_MEANINGS = {
    0: "success",
    1: "the meter reports a hardware fault",
    2: "the meter cannot do it just now (temporary failure)",
    3: "the meter does not allow this client to do it (read-write denied)",
    4: "the meter has no such object (object undefined)",
    9: "the object is of another class, or this version of it lacks the attribute or method (class inconsistent)",
    11: "the object is not available now (object unavailable)",
    12: "the value has another type than the meter wants (type unmatched)",
    13: "this association may not use the object (scope of access violated)",
    14: "the meter cannot give the next block (data block unavailable)",
    15: "the meter broke off the long transfer (long get or action aborted)",
    16: "the meter knows of no long transfer (no long get or action in progress)",
    17: "the meter broke off the long transfer (long set aborted)",
    18: "the meter knows of no long transfer (no long set in progress)",
    19: "the meter did not expect this block (data block number invalid)",
    250: "the meter gives no reason (other reason)",
}

_Result = TypeVar("_Result", DataAccessResult, ActionResult)


def read_result(kind: type[_Result], cursor: Cursor) -> _Result:
    """Read a result code. One that the standard does not know is a refusal for another reason, too."""
    code = cursor.u8()
    try:
        return kind(code)
    except ValueError:
        return kind(250)
