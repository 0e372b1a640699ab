"""The ACTION service: requests and responses, both ways (IEC 62056-5-3, Action-Request, -Response). Not the session."""

import struct

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.cursor import Cursor
from collector.protocols.dlms.invoke import RAW_DATA, RESULT, Apdu
from collector.protocols.dlms.references import ActionResult, DataAccessResult, Method, read_method, read_result
from collector.protocols.dlms.set import read_block, read_values, write_block, write_values
from metering.errors import FrameError

ACTION_REQUEST = 0xC3
ACTION_RESPONSE = 0xC7
_NORMAL, _NEXT_BLOCK, _LIST, _FIRST_BLOCK, _LIST_FIRST_BLOCK, _BLOCK = 1, 2, 3, 4, 5, 6
_RESPONSE_BLOCK, _RESPONSE_LIST, _RESPONSE_NEXT = 2, 3, 4

# What a method gives back: a value, a reason why there is none, or nothing at all.
Returned = Data | DataAccessResult | None


class ActionRequest(Apdu, frozen=True):
    """Action-Request-Normal: one method with its parameter."""

    invoke: int
    method: Method
    parameter: Data | None = None

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((ACTION_REQUEST, _NORMAL, self.invoke)) + self.method.to_bytes()
        return head + (b"\0" if self.parameter is None else b"\1" + axdr.encode(self.parameter))


class ActionNextBlockRequest(Apdu, frozen=True):
    """Action-Request-Next-Pblock: the block after `number`, which has arrived."""

    invoke: int
    number: int

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return struct.pack(">BBBI", ACTION_REQUEST, _NEXT_BLOCK, self.invoke, self.number)


class ActionListRequest(Apdu, frozen=True):
    """Action-Request-With-List: as many parameters as methods."""

    invoke: int
    methods: tuple[Method, ...]
    parameters: tuple[Data, ...]

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((ACTION_REQUEST, _LIST, self.invoke))
        return head + _write_methods(self.methods) + write_values(self.parameters)


class ActionFirstBlockRequest(Apdu, frozen=True):
    """Action-Request-With-First-Pblock: the method and the first part of its parameter's bytes."""

    invoke: int
    method: Method
    last: bool
    number: int
    raw: bytes

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((ACTION_REQUEST, _FIRST_BLOCK, self.invoke)) + self.method.to_bytes()
        return head + write_block(self.last, self.number, self.raw)


class ActionListFirstBlockRequest(Apdu, frozen=True):
    """Action-Request-With-List-And-First-Pblock: the methods and the first part of the list of parameters."""

    invoke: int
    methods: tuple[Method, ...]
    last: bool
    number: int
    raw: bytes

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((ACTION_REQUEST, _LIST_FIRST_BLOCK, self.invoke)) + _write_methods(self.methods)
        return head + write_block(self.last, self.number, self.raw)


class ActionBlockRequest(Apdu, frozen=True):
    """Action-Request-With-Pblock: a further part."""

    invoke: int
    last: bool
    number: int
    raw: bytes

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((ACTION_REQUEST, _BLOCK, self.invoke)) + write_block(self.last, self.number, self.raw)


class ActionResponse(Apdu, frozen=True):
    """Action-Response-Normal."""

    invoke: int
    result: ActionResult
    returned: Returned = None

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((ACTION_RESPONSE, _NORMAL, self.invoke)) + write_outcome(self.result, self.returned)


class ActionBlockResponse(Apdu, frozen=True):
    """Action-Response-With-Pblock: a part of what the method gives back."""

    invoke: int
    last: bool
    number: int
    raw: bytes

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return bytes((ACTION_RESPONSE, _RESPONSE_BLOCK, self.invoke)) + write_block(self.last, self.number, self.raw)


class ActionListResponse(Apdu, frozen=True):
    """Action-Response-With-List: a result for each method."""

    invoke: int
    results: tuple[tuple[ActionResult, Returned], ...]

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((ACTION_RESPONSE, _RESPONSE_LIST, self.invoke)) + axdr.encode_length(len(self.results))
        return head + b"".join(write_outcome(result, returned) for result, returned in self.results)


class ActionNextBlockResponse(Apdu, frozen=True):
    """Action-Response-Next-Pblock: this block arrived, the next is awaited."""

    invoke: int
    number: int

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return struct.pack(">BBBI", ACTION_RESPONSE, _RESPONSE_NEXT, self.invoke, self.number)


def write_outcome(result: ActionResult, returned: Returned) -> bytes:
    """Return an Action-Response-With-Optional-Data."""
    head = bytes((result,))
    if returned is None:
        return head + b"\0"
    if isinstance(returned, DataAccessResult):
        return head + bytes((1, RESULT, returned))
    return head + bytes((1, RAW_DATA)) + axdr.encode(returned)


def read_outcome(cursor: Cursor) -> tuple[ActionResult, Returned]:
    """Read an Action-Response-With-Optional-Data. Raises FrameError."""
    result = read_result(ActionResult, cursor)
    if not cursor.flag():
        return result, None
    choice = cursor.u8()
    if choice == RESULT:
        return result, read_result(DataAccessResult, cursor)
    if choice != RAW_DATA:
        raise FrameError(f"choice {choice} is neither data (0) nor result (1)")
    return result, cursor.data()


def _write_methods(methods: tuple[Method, ...]) -> bytes:
    return axdr.encode_length(len(methods)) + b"".join(method.to_bytes() for method in methods)


def _read_methods(cursor: Cursor) -> tuple[Method, ...]:
    return tuple(read_method(cursor) for _ in range(cursor.count()))


def parse_action_request(apdu: bytes) -> Apdu:
    """Read an ACTION request. Raises FrameError."""
    cursor = Cursor(apdu, 1)
    kind, invoke = cursor.u8(), cursor.u8()
    if kind == _NORMAL:
        request: Apdu = ActionRequest(invoke, read_method(cursor), cursor.data() if cursor.flag() else None)
    elif kind == _NEXT_BLOCK:
        request = ActionNextBlockRequest(invoke, cursor.u32())
    elif kind == _LIST:
        request = ActionListRequest(invoke, _read_methods(cursor), read_values(cursor))
        if len(request.methods) != len(request.parameters):
            raise FrameError(f"action-request of {len(request.methods)} methods, {len(request.parameters)} parameters")
    elif kind == _FIRST_BLOCK:
        request = ActionFirstBlockRequest(invoke, read_method(cursor), *read_block(cursor))
    elif kind == _LIST_FIRST_BLOCK:
        request = ActionListFirstBlockRequest(invoke, _read_methods(cursor), *read_block(cursor))
    elif kind == _BLOCK:
        request = ActionBlockRequest(invoke, *read_block(cursor))
    else:
        raise FrameError(f"action-request of kind {kind} is unknown")
    cursor.end()
    return request


def parse_action_response(apdu: bytes) -> Apdu:
    """Read an ACTION response. Raises FrameError."""
    cursor = Cursor(apdu, 1)
    kind, invoke = cursor.u8(), cursor.u8()
    if kind == _NORMAL:
        response: Apdu = ActionResponse(invoke, *read_outcome(cursor))
    elif kind == _RESPONSE_BLOCK:
        response = ActionBlockResponse(invoke, *read_block(cursor))
    elif kind == _RESPONSE_LIST:
        response = ActionListResponse(invoke, tuple(read_outcome(cursor) for _ in range(cursor.count())))
    elif kind == _RESPONSE_NEXT:
        response = ActionNextBlockResponse(invoke, cursor.u32())
    else:
        raise FrameError(f"action-response of kind {kind} is unknown")
    cursor.end()
    return response
