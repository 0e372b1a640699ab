"""The GET service: requests and responses, both ways (IEC 62056-5-3, Get-Request, Get-Response). Not the session."""

import struct

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.cursor import Cursor, octet_string
from collector.protocols.dlms.invoke import RAW_DATA, RESULT, Apdu
from collector.protocols.dlms.references import (
    Access,
    Attribute,
    DataAccessResult,
    read_access,
    read_attribute,
    read_result,
    write_access,
)
from metering.errors import FrameError

GET_REQUEST = 0xC0
GET_RESPONSE = 0xC4
_NORMAL, _NEXT, _LIST = 1, 2, 3
_BLOCK = 2
_A_BLOCK = bytes((_BLOCK,))
_BLOCK_HEAD = struct.Struct(">BBBBI")

# An attribute and which part of it is meant.
Target = tuple[Attribute, Access | None]


class GetRequest(Apdu, frozen=True):
    """Get-Request-Normal: one attribute."""

    invoke: int
    attribute: Attribute
    access: Access | None = None

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((GET_REQUEST, _NORMAL, self.invoke)) + write_targets(((self.attribute, self.access),))


class GetNextRequest(Apdu, frozen=True):
    """Get-Request-Next: the block after `number`, which has arrived."""

    invoke: int
    number: int

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return struct.pack(">BBBI", GET_REQUEST, _NEXT, self.invoke, self.number)


class GetListRequest(Apdu, frozen=True):
    """Get-Request-With-List: several attributes at once."""

    invoke: int
    targets: tuple[Target, ...]

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((GET_REQUEST, _LIST, self.invoke)) + axdr.encode_length(len(self.targets))
        return head + write_targets(self.targets)


class GetResponse(Apdu, frozen=True):
    """Get-Response-Normal: the value's A-XDR bytes, not looked into, or why there is none."""

    invoke: int
    data: bytes | DataAccessResult

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((GET_RESPONSE, _NORMAL, self.invoke))
        if isinstance(self.data, DataAccessResult):
            return head + bytes((RESULT, self.data))
        return head + bytes((RAW_DATA,)) + self.data


class GetBlockResponse(Apdu, frozen=True):
    """Get-Response-With-Datablock: a part of the value's or the list's bytes, or why the transfer ends."""

    invoke: int
    last: bool
    number: int
    raw: bytes | DataAccessResult

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = _BLOCK_HEAD.pack(GET_RESPONSE, _BLOCK, self.invoke, self.last, self.number)
        if isinstance(self.raw, DataAccessResult):
            return head + bytes((RESULT, self.raw))
        return head + bytes((RAW_DATA,)) + octet_string(self.raw)


class GetListResponse(Apdu, frozen=True):
    """Get-Response-With-List: a value or a reason for each attribute, in their order."""

    invoke: int
    results: tuple[Data | DataAccessResult, ...]

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((GET_RESPONSE, _LIST, self.invoke)) + write_results(self.results)


def write_targets(targets: tuple[Target, ...]) -> bytes:
    """Return attribute descriptors, each with its selective access, without a count."""
    return b"".join(attribute.to_bytes() + write_access(access) for attribute, access in targets)


def read_targets(cursor: Cursor) -> tuple[Target, ...]:
    """Read a counted list of attribute descriptors with selective access. Raises FrameError."""
    return tuple((read_attribute(cursor), read_access(cursor)) for _ in range(cursor.count()))


def write_results(results: tuple[Data | DataAccessResult, ...]) -> bytes:
    """Return a counted list of Get-Data-Result: what the blocks of a list's answer join to."""
    parts = [axdr.encode_length(len(results))]
    for result in results:
        if isinstance(result, DataAccessResult):
            parts.append(bytes((RESULT, result)))
        else:
            parts.append(bytes((RAW_DATA,)) + axdr.encode(result))
    return b"".join(parts)


def read_results(cursor: Cursor) -> tuple[Data | DataAccessResult, ...]:
    """Read a counted list of Get-Data-Result. Raises FrameError."""
    return tuple(_read_data_result(cursor) for _ in range(cursor.count()))


def _read_data_result(cursor: Cursor) -> Data | DataAccessResult:
    return read_result(DataAccessResult, cursor) if _is_result(cursor) else cursor.data()


def _is_result(cursor: Cursor) -> bool:
    choice = cursor.u8()
    if choice not in (RAW_DATA, RESULT):
        raise FrameError(f"choice {choice} is neither data (0) nor result (1)")
    return choice == RESULT


def parse_get_request(apdu: bytes) -> Apdu:
    """Read a GET request. Raises FrameError."""
    cursor = Cursor(apdu, 1)
    kind, invoke = cursor.u8(), cursor.u8()
    if kind == _NORMAL:
        request: Apdu = GetRequest(invoke, read_attribute(cursor), read_access(cursor))
    elif kind == _NEXT:
        request = GetNextRequest(invoke, cursor.u32())
    elif kind == _LIST:
        request = GetListRequest(invoke, read_targets(cursor))
    else:
        raise FrameError(f"get-request of kind {kind} is unknown")
    cursor.end()
    return request


def parse_get_response(apdu: bytes) -> Apdu:
    """Read a GET response. Raises FrameError."""
    if apdu[1:2] == _A_BLOCK and len(apdu) > _BLOCK_HEAD.size:  # most of what comes: at once
        _, _, invoke, last, number = _BLOCK_HEAD.unpack_from(apdu)
        cursor = Cursor(apdu, _BLOCK_HEAD.size)
        raw = read_result(DataAccessResult, cursor) if _is_result(cursor) else cursor.octets()
        cursor.end()
        return GetBlockResponse(invoke, last != 0, number, raw)
    cursor = Cursor(apdu, 1)
    kind, invoke = cursor.u8(), cursor.u8()
    if kind == _NORMAL:
        response: Apdu = GetResponse(
            invoke, read_result(DataAccessResult, cursor) if _is_result(cursor) else cursor.rest()
        )
    elif kind == _BLOCK:
        raise FrameError(f"a get-response with a block in {len(apdu)} bytes")
    elif kind == _LIST:
        response = GetListResponse(invoke, read_results(cursor))
    else:
        raise FrameError(f"get-response of kind {kind} is unknown")
    cursor.end()
    return response
