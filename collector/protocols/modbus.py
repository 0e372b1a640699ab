"""Modbus PDUs both ways (Modbus Application Protocol V1.1b3), with strict checks of replies. No envelopes, no I/O.

RTU and TCP envelopes are in `modbus_adu`, what registers mean in `modbus_values`, how long frames take in
`modbus_times`.
"""

import struct
from typing import NamedTuple

from metering.errors import FrameError, RefusedError

READ_COILS = 1
READ_DISCRETE_INPUTS = 2
READ_HOLDING_REGISTERS = 3
READ_INPUT_REGISTERS = 4
WRITE_SINGLE_COIL = 5
WRITE_SINGLE_REGISTER = 6
WRITE_MULTIPLE_REGISTERS = 16

MAX_READ_REGISTERS = 125  # V1.1b3 6.3: quantity of registers 1 to 125
MAX_READ_BITS = 2000  # V1.1b3 6.1
MAX_WRITE_REGISTERS = 123  # V1.1b3 6.12
MAX_PDU = 253  # V1.1b3 4.1

ILLEGAL_FUNCTION = 1
ILLEGAL_DATA_ADDRESS = 2
ILLEGAL_DATA_VALUE = 3
SERVER_DEVICE_FAILURE = 4

# V1.1b3 section 7.
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge: accepted, still working on it",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}

_COIL_ON = 0xFF00
EXCEPTION_BIT = 0x80
_BIT_READS = (READ_COILS, READ_DISCRETE_INPUTS)
_REGISTER_READS = (READ_HOLDING_REGISTERS, READ_INPUT_REGISTERS)
_ECHOED = (WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER, WRITE_MULTIPLE_REGISTERS)
_PDU_HEAD = struct.Struct(">BHH")


# --- requests -------------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """A request's fields. `quantity` counts registers or coils, `data` is what a write carries (big-endian)."""

    function: int
    address: int
    quantity: int
    data: bytes = b""


class BadRequestError(FrameError):
    """A server's view: this request cannot be served; answer with exception `code`."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


def read_request(function: int, address: int, count: int) -> bytes:
    """Return the PDU that reads `count` registers (functions 3, 4) or bits (1, 2) from `address` on.

    Raises:
        ValueError: function, address or count is outside what the standard allows.

    """
    limit = MAX_READ_BITS if function in _BIT_READS else MAX_READ_REGISTERS
    if function not in _BIT_READS + _REGISTER_READS:
        raise ValueError(f"function {function} does not read")
    if not (1 <= count <= limit and 0 <= address <= 0x10000 - count):
        raise ValueError(f"cannot read {count} from address {address}: 1 to {limit} within 0 to 65535")
    return _PDU_HEAD.pack(function, address, count)


def write_coil_request(address: int, *, on: bool) -> bytes:
    """Return the PDU that writes one coil (V1.1b3 6.5)."""
    return _PDU_HEAD.pack(WRITE_SINGLE_COIL, address, _COIL_ON if on else 0)


def write_register_request(address: int, value: int) -> bytes:
    """Return the PDU that writes one holding register, `value` 0 to 65535 (V1.1b3 6.6)."""
    return _PDU_HEAD.pack(WRITE_SINGLE_REGISTER, address, value)


def write_registers_request(address: int, data: bytes) -> bytes:
    """Return the PDU that writes registers from `address` on; `data` has two bytes for each (V1.1b3 6.12)."""
    count = len(data) // 2
    if len(data) % 2 or not 1 <= count <= MAX_WRITE_REGISTERS:
        raise ValueError(f"{len(data)} bytes are not 1 to {MAX_WRITE_REGISTERS} registers")
    return _PDU_HEAD.pack(WRITE_MULTIPLE_REGISTERS, address, count) + bytes((len(data),)) + data


def reply_length(request: bytes) -> int:
    """Return the PDU length of a good reply to this request PDU."""
    function, _, count = _PDU_HEAD.unpack_from(request)
    if function in _BIT_READS:
        return 2 + (int(count) + 7) // 8
    return 2 + 2 * int(count) if function in _REGISTER_READS else _PDU_HEAD.size


def parse_request(pdu: bytes) -> Request:
    """Return the fields of a request PDU, as a server reads it.

    Raises:
        BadRequestError: unknown function (1), impossible count or coil value (3), or a length that does not fit (3).

    """
    if not pdu:
        raise BadRequestError("empty request", code=ILLEGAL_FUNCTION)
    function = pdu[0]
    if function not in _BIT_READS + _REGISTER_READS + _ECHOED:
        raise BadRequestError(f"function {function} is not served", code=ILLEGAL_FUNCTION)
    if len(pdu) < _PDU_HEAD.size:
        raise BadRequestError(f"request of {len(pdu)} bytes", code=ILLEGAL_DATA_VALUE)
    _, address, third = _PDU_HEAD.unpack_from(pdu)
    request = Request(function, address, third)
    if function in (WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER):
        request = Request(function, address, 1, pdu[3:])
        good = len(pdu) == _PDU_HEAD.size and (function == WRITE_SINGLE_REGISTER or third in (0, _COIL_ON))
    elif function == WRITE_MULTIPLE_REGISTERS:
        request = Request(function, address, third, pdu[6:])
        good = 1 <= third <= MAX_WRITE_REGISTERS and len(pdu) == 6 + 2 * third and pdu[5] == 2 * third
    else:
        limit = MAX_READ_BITS if function in _BIT_READS else MAX_READ_REGISTERS
        good = len(pdu) == _PDU_HEAD.size and 1 <= third <= limit
    if not good:
        raise BadRequestError(f"malformed request {pdu.hex()}", code=ILLEGAL_DATA_VALUE)
    return request


# --- replies --------------------------------------------------------------------------------------------------------


def read_reply(function: int, data: bytes) -> bytes:
    """Return the PDU that answers a read with these register (or packed bit) bytes."""
    return bytes((function, len(data))) + data


def write_reply(request: bytes) -> bytes:
    """Return the PDU that confirms a write: its first five bytes again."""
    return request[: _PDU_HEAD.size]


def exception_reply(function: int, code: int) -> bytes:
    """Return the PDU that refuses a request of this function with an exception code."""
    return bytes((function | EXCEPTION_BIT, code))


def refusal(code: int) -> RefusedError:
    """Return the error that an exception code means."""
    return RefusedError(f"the meter refused: exception {code}, {EXCEPTIONS.get(code, 'unknown code')}", code=code)


def check_reply(request: bytes, reply: bytes) -> bytes:
    """Return the data of a reply PDU: register bytes of a read, nothing for a write.

    Raises:
        RefusedError: an exception reply to this very function, with the code and its meaning.
        FrameError: another function, byte count, length or echo than the request calls for.

    """
    if not reply:
        raise FrameError("empty reply")
    function = request[0]
    if reply[0] != function:
        if reply[0] == function | EXCEPTION_BIT:
            if len(reply) != 2:
                raise FrameError(f"exception reply of {len(reply)} bytes instead of 2")
            raise refusal(reply[1])
        raise FrameError(f"reply has function {reply[0]}, asked was {function}")
    if function in _ECHOED:
        if reply != request[: _PDU_HEAD.size]:
            raise FrameError(f"reply {reply.hex()} does not confirm the write {request.hex()}")
        return b""
    expected = reply_length(request)
    if len(reply) != expected:
        raise FrameError(f"reply of {len(reply)} bytes instead of {expected}")
    if reply[1] != expected - 2:
        raise FrameError(f"reply announces {reply[1]} bytes, asked were {expected - 2}")
    return reply[2:]
