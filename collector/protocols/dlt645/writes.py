"""Requests that change something: writes, the broadcast time, freezes, and the load switch (1CH). Frames only.

Where a password or operator code goes into a frame, the codec that put it there knows which bytes they are: `masked`
is what may be stored and shown.
"""

from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from collector.keys import MeterKeys
from collector.protocols.dlt645.frame import BROADCAST, HEAD, Frame
from collector.protocols.dlt645.identifiers import (
    BROADCAST_TIME,
    CONTROL,
    EDITIONS,
    FREEZE,
    READ_ADDRESS,
    EditionName,
    di_bytes,
)
from collector.protocols.dlt645.reading import Request
from collector.protocols.dlt645.times import ByteOrder, encode_stamp
from metering.errors import AuthError

PASSWORD = 3  # bytes
OPERATOR = 4
SEALED_LEVEL = 0x98  # PA: what follows is sealed
_MASK = 0x00


class Switch(IntEnum):
    """N1 of a control request (1CH)."""

    TRIP = 0x1A
    PERMIT_CLOSE = 0x1B  # the customer presses the button
    CLOSE = 0x1C
    ALARM = 0x2A
    ALARM_OFF = 0x2B
    KEEP_POWER = 0x3A  # a trip is refused
    KEEP_POWER_OFF = 0x3B


class Write(NamedTuple):
    """A request that carries a credential: `credential` is where it stands in DATA. Never shown by `repr`."""

    request: Request
    credential: tuple[int, int]  # first byte and the one after the last, in DATA

    def __repr__(self) -> str:
        return f"Write({self.request!r})"

    def masked(self) -> bytes:
        """Return the frame with 00 in place of password, operator code and checksum, without wake-up bytes.

        The checksum is a sum over the password, so it is hidden with it.
        """
        frame = bytearray(self.request.to_bytes(wake=0))
        first, after = self.credential
        for at in (*range(HEAD + first, HEAD + after), len(frame) - 2):
            frame[at] = _MASK
        return bytes(frame)


def write_request(
    address: str, di: str, value: bytes, keys: MeterKeys, level: int, edition: EditionName = "2007"
) -> Write:
    """Return the request that writes `value` to an identifier with the password of this level.

    Raises:
        AuthError: the keys have no password of three bytes or no operator code of four.

    """
    wanted = di_bytes(di)
    credential = _credential(keys, level)
    if edition == "1997":  # its writes carry the password alone
        credential = credential[: 1 + PASSWORD]
    request = Request(address, EDITIONS[edition].write, wanted + credential + value)
    return Write(request, (len(wanted), len(wanted) + len(credential)))


def control_request(address: str, switch: Switch, until: datetime, keys: MeterKeys, level: int) -> Write:
    """Return the request that works the load switch; a meter whose clock is past `until` (civil time) refuses.

    Raises:
        AuthError: the keys have no password of three bytes or no operator code of four.

    """
    credential = _credential(keys, level)
    request = Request(address, CONTROL, credential + control_block(switch, until))
    return Write(request, (0, len(credential)))


def sealed_request(address: str, sealed: bytes, operator: bytes) -> Request:
    """Return the request that carries a block which an encryption machine has sealed (PA 98H, State Grid's extension).

    The password bytes are empty; the operator code of four bytes (or none) goes in clear, as the meter records it.
    """
    return Request(address, CONTROL, bytes((SEALED_LEVEL,)) + bytes(PASSWORD) + _operator(operator) + sealed)


def control_block(switch: Switch, until: datetime) -> bytes:
    """Return N1 to N8 of a control request: what an encryption machine seals."""
    return bytes((switch, 0)) + encode_stamp(until, 6)


def broadcast_time(moment: datetime, order: ByteOrder = "low-first", address: str = BROADCAST) -> Request:
    """Return the request that gives the civil time to all meters of a line; none answers."""
    return Request(address, BROADCAST_TIME, encode_stamp(moment, 6, order))


def freeze_request(address: str, when: str) -> Request:
    """Return the request to freeze all registers; `when` is MMDDhhmm, 99 for each (`99990005`: daily at 00:05)."""
    return Request(address, FREEZE, bytes.fromhex(when)[::-1])


def address_request(address: str) -> Request:
    """Return the request by which a meter tells its address."""
    return Request(address, READ_ADDRESS, b"")


class Control(NamedTuple):
    """A control request as a meter reads it. Shows no password."""

    level: int
    password: bytes  # as shown, high digits first
    operator: bytes
    switch: int
    until: bytes  # ss mm hh DD MM YY

    def __repr__(self) -> str:
        return f"Control(level {self.level:02X}, {self.switch:02X})"


def parse_control(frame: Frame) -> Control | None:
    """Return what a control request asks for; None where it is not laid out as one."""
    data = frame.data
    if frame.control != CONTROL or len(data) != 1 + PASSWORD + OPERATOR + 8:
        return None
    return Control(data[0], data[3:0:-1], data[7:3:-1], data[8], data[10:])


def _credential(keys: MeterKeys, level: int) -> bytes:
    if len(keys.password) != PASSWORD or len(keys.operator) not in (0, OPERATOR):
        raise AuthError("a password of three bytes (and an operator code of four) is needed; the key store has none")
    return bytes((level,)) + keys.password[::-1] + _operator(keys.operator)


def _operator(operator: bytes) -> bytes:
    return (operator or bytes(OPERATOR))[::-1]
