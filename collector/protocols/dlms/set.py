"""The SET service: requests and responses, both ways (IEC 62056-5-3, Set-Request, Set-Response). Not the session."""

import struct

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.cursor import Cursor, octet_string
from collector.protocols.dlms.get import Target, read_targets, write_targets
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.references import (
    Access,
    Attribute,
    DataAccessResult,
    read_access,
    read_attribute,
    read_result,
)
from metering.errors import FrameError

SET_REQUEST = 0xC1
SET_RESPONSE = 0xC5
_NORMAL, _FIRST_BLOCK, _BLOCK, _LIST, _LIST_FIRST_BLOCK = 1, 2, 3, 4, 5
_BLOCK_ACK, _LAST_BLOCK_ACK, _LAST_LIST_ACK, _LIST_RESPONSE = 2, 3, 4, 5


class SetRequest(Apdu, frozen=True):
    """Set-Request-Normal: a value for one attribute."""

    invoke: int
    attribute: Attribute
    access: Access | None
    value: Data

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((SET_REQUEST, _NORMAL, self.invoke))
        return head + write_targets(((self.attribute, self.access),)) + axdr.encode(self.value)


class SetFirstBlockRequest(Apdu, frozen=True):
    """Set-Request-With-First-Datablock: the attribute and the first part of the value's bytes."""

    invoke: int
    attribute: Attribute
    access: Access | None
    last: bool
    number: int
    raw: bytes

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((SET_REQUEST, _FIRST_BLOCK, self.invoke)) + write_targets(((self.attribute, self.access),))
        return head + write_block(self.last, self.number, self.raw)


class SetBlockRequest(Apdu, frozen=True):
    """Set-Request-With-Datablock: a further part."""

    invoke: int
    last: bool
    number: int
    raw: bytes

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((SET_REQUEST, _BLOCK, self.invoke)) + write_block(self.last, self.number, self.raw)


class SetListRequest(Apdu, frozen=True):
    """Set-Request-With-List: as many values as attributes."""

    invoke: int
    targets: tuple[Target, ...]
    values: tuple[Data, ...]

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((SET_REQUEST, _LIST, self.invoke)) + axdr.encode_length(len(self.targets))
        return head + write_targets(self.targets) + write_values(self.values)


class SetListFirstBlockRequest(Apdu, frozen=True):
    """Set-Request-With-List-And-First-Datablock: the attributes and the first part of the list of values."""

    invoke: int
    targets: tuple[Target, ...]
    last: bool
    number: int
    raw: bytes

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((SET_REQUEST, _LIST_FIRST_BLOCK, self.invoke)) + axdr.encode_length(len(self.targets))
        return head + write_targets(self.targets) + write_block(self.last, self.number, self.raw)


class SetResponse(Apdu, frozen=True):
    """Set-Response-Normal."""

    invoke: int
    result: DataAccessResult

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((SET_RESPONSE, _NORMAL, self.invoke, self.result))


class SetBlockResponse(Apdu, frozen=True):
    """Set-Response-Datablock: this block arrived, the next is awaited."""

    invoke: int
    number: int

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return struct.pack(">BBBI", SET_RESPONSE, _BLOCK_ACK, self.invoke, self.number)


class SetLastBlockResponse(Apdu, frozen=True):
    """Set-Response-Last-Datablock: the result, after the last block."""

    invoke: int
    result: DataAccessResult
    number: int

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return struct.pack(">BBBBI", SET_RESPONSE, _LAST_BLOCK_ACK, self.invoke, self.result, self.number)


class SetLastListBlockResponse(Apdu, frozen=True):
    """Set-Response-Last-Datablock-With-List: the results, after the last block."""

    invoke: int
    results: tuple[DataAccessResult, ...]
    number: int

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((SET_RESPONSE, _LAST_LIST_ACK, self.invoke))
        return head + octet_string(bytes(self.results)) + self.number.to_bytes(4, "big")


class SetListResponse(Apdu, frozen=True):
    """Set-Response-With-List: a result for each attribute."""

    invoke: int
    results: tuple[DataAccessResult, ...]

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((SET_RESPONSE, _LIST_RESPONSE, self.invoke)) + octet_string(bytes(self.results))


def write_block(last: bool, number: int, raw: bytes) -> bytes:  # noqa: FBT001 - the three fields of DataBlock-SA
    """Return a DataBlock-SA: last, number, raw data."""
    return struct.pack(">BI", last, number) + octet_string(raw)


def read_block(cursor: Cursor) -> tuple[bool, int, bytes]:
    """Read a DataBlock-SA. Raises FrameError."""
    return cursor.flag(), cursor.u32(), cursor.octets()


def write_values(values: tuple[Data, ...]) -> bytes:
    """Return a counted list of values: what the blocks of a list's request join to."""
    return axdr.encode_length(len(values)) + b"".join(map(axdr.encode, values))


def read_values(cursor: Cursor) -> tuple[Data, ...]:
    """Read a counted list of values. Raises FrameError."""
    return tuple(cursor.data() for _ in range(cursor.count()))


def _read_results(cursor: Cursor) -> tuple[DataAccessResult, ...]:
    return tuple(read_result(DataAccessResult, cursor) for _ in range(cursor.count()))


def parse_set_request(apdu: bytes) -> Apdu:
    """Read a SET request. Raises FrameError."""
    cursor = Cursor(apdu, 1)
    kind, invoke = cursor.u8(), cursor.u8()
    if kind == _NORMAL:
        request: Apdu = SetRequest(invoke, read_attribute(cursor), read_access(cursor), cursor.data())
    elif kind == _FIRST_BLOCK:
        request = SetFirstBlockRequest(invoke, read_attribute(cursor), read_access(cursor), *read_block(cursor))
    elif kind == _BLOCK:
        request = SetBlockRequest(invoke, *read_block(cursor))
    elif kind == _LIST:
        request = SetListRequest(invoke, read_targets(cursor), read_values(cursor))
        if len(request.targets) != len(request.values):
            raise FrameError(f"set-request of {len(request.targets)} attributes and {len(request.values)} values")
    elif kind == _LIST_FIRST_BLOCK:
        request = SetListFirstBlockRequest(invoke, read_targets(cursor), *read_block(cursor))
    else:
        raise FrameError(f"set-request of kind {kind} is unknown")
    cursor.end()
    return request


def parse_set_response(apdu: bytes) -> Apdu:
    """Read a SET response. Raises FrameError."""
    cursor = Cursor(apdu, 1)
    kind, invoke = cursor.u8(), cursor.u8()
    if kind == _NORMAL:
        response: Apdu = SetResponse(invoke, read_result(DataAccessResult, cursor))
    elif kind == _BLOCK_ACK:
        response = SetBlockResponse(invoke, cursor.u32())
    elif kind == _LAST_BLOCK_ACK:
        response = SetLastBlockResponse(invoke, read_result(DataAccessResult, cursor), cursor.u32())
    elif kind == _LAST_LIST_ACK:
        response = SetLastListBlockResponse(invoke, _read_results(cursor), cursor.u32())
    elif kind == _LIST_RESPONSE:
        response = SetListResponse(invoke, _read_results(cursor))
    else:
        raise FrameError(f"set-response of kind {kind} is unknown")
    cursor.end()
    return response
