"""Block transfer of GET, SET and ACTION, client side, block by block and each number checked. Not single APDUs.

A transfer that goes wrong is left as it stands: the meter drops it with the next request.
"""

from collections.abc import Callable, Iterator

from collector.protocols.conversation import Conversation
from collector.protocols.dlms.action import (
    ActionBlockRequest,
    ActionBlockResponse,
    ActionFirstBlockRequest,
    ActionNextBlockRequest,
    ActionNextBlockResponse,
    ActionResponse,
    Returned,
    read_outcome,
)
from collector.protocols.dlms.axdr import decode_all
from collector.protocols.dlms.cursor import Cursor
from collector.protocols.dlms.errors import BlockError
from collector.protocols.dlms.get import GetBlockResponse, GetNextRequest, GetResponse
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.references import ActionResult, DataAccessResult
from collector.protocols.dlms.set import (
    SetBlockRequest,
    SetBlockResponse,
    SetFirstBlockRequest,
    SetLastBlockResponse,
    SetResponse,
)
from metering.errors import FrameError

MIN_BLOCK = 16  # blocks that are smaller on the whole are a meter that never ends ...
FREE_BLOCKS = 1024  # ... unless there are no more than these
_REFUSED = b"\3\0"  # a refusal, and no data: as long as the empty array, the empty structure and a boolean
_MORE_LENGTH = 2  # a block of 128 bytes and more has a length of three octets, an empty one of one

# Sends a request and gives back its answer.
Ask = Callable[[Apdu], Conversation[Apdu]]


class _Joined:
    """The blocks that came, joined. Memory is bounded by `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts = bytearray()
        self._number = 0

    def add(self, number: int, raw: bytes, *, last: bool) -> None:
        """Take a block.

        Raises:
            BlockError: it is not the next one, or empty with more to come, or there are too many.
            FrameError: the limit is exceeded.

        """
        self._number += 1
        if number != self._number:
            raise BlockError(f"block {number} came, {self._number} was expected: the transfer is given up")
        came = len(self._parts) + len(raw)
        small = number > min(FREE_BLOCKS, self._limit // MIN_BLOCK) and came < number * MIN_BLOCK
        if not last and (not raw or small):
            raise BlockError(f"block {number} of {len(raw)} bytes is not the last: the meter does not come to an end")
        if came > self._limit:
            raise FrameError(f"a reply of more than the {self._limit} bytes that are allowed")
        self._parts += raw

    def __bytes__(self) -> bytes:
        return bytes(self._parts)


def read_get_blocks(ask: Ask, response: Apdu, limit: int) -> Conversation[bytes | DataAccessResult]:
    """Take a GET's first block, ask for the others; return their bytes, or why the meter broke off. See `_Joined`."""
    joined = _Joined(limit)
    while isinstance(response, GetBlockResponse):
        if isinstance(response.raw, DataAccessResult):
            return response.raw
        joined.add(response.number, response.raw, last=response.last)
        if response.last:
            return bytes(joined)
        response = yield from ask(GetNextRequest(response.invoke, response.number))
    if isinstance(response, GetResponse) and isinstance(response.data, DataAccessResult):
        return response.data
    raise BlockError(f"{type(response).__name__} came where a block was expected")


def read_action_blocks(ask: Ask, response: Apdu, limit: int) -> Conversation[tuple[ActionResult, Returned]]:
    """Take an ACTION's first block, ask for the others; return the outcome that they join to. See `_Joined`."""
    joined = _Joined(limit)
    while isinstance(response, ActionBlockResponse):
        joined.add(response.number, response.raw, last=response.last)
        if response.last:
            return _outcome(bytes(joined))
        response = yield from ask(ActionNextBlockRequest(response.invoke, response.number))
    if isinstance(response, ActionResponse):
        return response.result, response.returned
    raise BlockError(f"{type(response).__name__} came where a block was expected")


def _outcome(joined: bytes) -> tuple[ActionResult, Returned]:
    """Read what the blocks join to: meters send result and value, or the choice of data and the value, or that alone.

    The first two begin with 0, and only one of them can be read to the end; a value that begins with 0 is null. What
    can be read as a refusal is one, though it may be a value, too: that a command was carried out is never guessed.
    """
    if joined == b"\0":
        return ActionResult.SUCCESS, None
    cursor = Cursor(joined)
    try:
        outcome = read_outcome(cursor)
        cursor.end()
    except FrameError:
        outcome = None
    if outcome is not None and (joined[0] == 0 or len(joined) == len(_REFUSED)):
        return outcome
    try:
        return ActionResult.SUCCESS, decode_all(joined[1:] if joined[:1] == b"\0" else joined)
    except FrameError:
        if outcome is None:
            raise
        return outcome


def send_set_blocks(ask: Ask, first: SetFirstBlockRequest, value: bytes, room: int) -> Conversation[Apdu]:
    """Write `value` in blocks, `first` being an empty one, no APDU longer than `room`; return the last answer.

    Raises:
        BlockError: the meter acknowledges another block than the one that was sent, or all of it before it had it.

    """
    following = SetBlockRequest(first.invoke, last=False, number=0, raw=b"")
    response: Apdu = first
    for last, number, raw in _pieces(value, _space(room, first), _space(room, following)):
        if number == 1:
            request: Apdu = SetFirstBlockRequest(first.invoke, first.attribute, first.access, last, number, raw)
        else:
            request = SetBlockRequest(first.invoke, last, number, raw)
        response = yield from ask(request)
        if isinstance(response, SetResponse | SetLastBlockResponse) and response.result is not DataAccessResult.SUCCESS:
            return response
        if last and isinstance(response, SetResponse):
            return response
        if not isinstance(response, SetLastBlockResponse if last else SetBlockResponse):
            raise BlockError(f"{type(response).__name__} came for block {number}")
        _check(response.number, number)
    return response


def send_action_blocks(ask: Ask, first: ActionFirstBlockRequest, value: bytes, room: int) -> Conversation[Apdu]:
    """Send a method's parameter in blocks, as `send_set_blocks` does; return the answer to the last."""
    following = ActionBlockRequest(first.invoke, last=False, number=0, raw=b"")
    response: Apdu = first
    for last, number, raw in _pieces(value, _space(room, first), _space(room, following)):
        if number == 1:
            request: Apdu = ActionFirstBlockRequest(first.invoke, first.method, last, number, raw)
        else:
            request = ActionBlockRequest(first.invoke, last, number, raw)
        response = yield from ask(request)
        refused = isinstance(response, ActionResponse) and response.result is not ActionResult.SUCCESS
        if last or refused:
            return response
        if not isinstance(response, ActionNextBlockResponse):
            raise BlockError(f"{type(response).__name__} came for block {number}")
        _check(response.number, number)
    return response


def _check(number: int, sent: int) -> None:
    if number != sent:
        raise BlockError(f"the meter acknowledges block {number}, {sent} was sent: the transfer is given up")


def _space(room: int, empty: Apdu) -> int:
    space = room - len(empty.to_bytes()) - _MORE_LENGTH
    if space < 1:
        raise FrameError(f"the meter's PDU leaves no room for blocks ({room} bytes)")
    return space


def _pieces(value: bytes, first: int, following: int) -> Iterator[tuple[bool, int, bytes]]:
    """Cut a value into (last, number, piece)."""
    at, number, size = 0, 1, first
    while True:
        end = at + size
        yield end >= len(value), number, value[at:end]
        if end >= len(value):
            return
        at, number, size = end, number + 1, following
