"""One Modbus unit as a server sees it: request PDU in, reply PDU and the fault that strikes out. No framing, no I/O."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from collector.protocols.modbus import (
    ILLEGAL_DATA_ADDRESS,
    ILLEGAL_DATA_VALUE,
    ILLEGAL_FUNCTION,
    READ_COILS,
    READ_DISCRETE_INPUTS,
    READ_HOLDING_REGISTERS,
    READ_INPUT_REGISTERS,
    WRITE_SINGLE_COIL,
    WRITE_SINGLE_REGISTER,
    BadRequestError,
    Request,
    exception_reply,
    parse_request,
    read_reply,
    write_reply,
)
from metering import timing
from simulators.faults import METER_KINDS, REPLY_KINDS, Fault, Faults, spoil_reply

Clock = Callable[[], int]


class UnreadableError(Exception):
    """A register in the asked range does not exist: exception 2."""


class Registers(Protocol):
    """Register contents as of an instant."""

    max_registers: int

    def read(self, function: int, address: int, count: int, now: int, fault: Fault | None) -> bytes:
        """Return the registers' bytes; `fault` is a standing fault of the values, if any.

        Raises:
            UnreadableError: a register of the range cannot be read.

        """

    def befall(self, fault: Fault, now: int) -> None:
        """Let a fault of `METER_KINDS` happen to the meter behind the registers."""


@runtime_checkable
class Switched(Protocol):
    """Registers that a write of one coil or register does something to: those of a meter with a relay."""

    def write(self, asked: Request, now: int) -> None:
        """Do what is written.

        Raises:
            UnreadableError: there is nothing to be written at this place.

        """


class FixedRegisters:
    """Registers that never change, from address 0 on: `image` by function. For tests and benchmarks."""

    max_registers = 125

    def __init__(self, image: dict[int, bytes]) -> None:
        self._image = image

    def read(self, function: int, address: int, count: int, now: int, fault: Fault | None) -> bytes:
        """Return a slice of the image."""
        del now, fault
        data = self._image.get(function, b"")[2 * address : 2 * (address + count)]
        if len(data) != 2 * count:
            raise UnreadableError
        return data

    def befall(self, fault: Fault, now: int) -> None:
        """Do nothing: there is no meter behind."""


class Reply(NamedTuple):
    """A reply PDU, and the link's fault that it is to suffer."""

    pdu: bytes
    fault: Fault | None


class Unit:
    """One unit address: registers, faults and the time it takes to begin an answer (`turnaround_s`)."""

    def __init__(
        self,
        address: int,
        registers: Registers,
        *,
        turnaround_s: float = 0.0,
        faults: Faults | None = None,
        clock: Clock = timing.now,
    ) -> None:
        self.address = address
        self.registers = registers
        self.turnaround_s = turnaround_s
        self.faults = faults if faults is not None else Faults()
        self.clock = clock
        self.asked = 0
        self.before = b""  # the answer before, as it stood on the wire

    def answer(self, request: bytes) -> Reply:
        """Return the reply to a request PDU: registers, or an exception with the standard's code (V1.1b3 section 7)."""
        self.asked += 1
        fault = self.faults.strike()
        now = self.clock()
        if fault is not None and fault.kind in METER_KINDS:
            self.registers.befall(fault, now)
        reply = self._serve(request, now, fault)
        if fault is not None and fault.kind in REPLY_KINDS:
            reply = spoil_reply(fault, reply)
        return Reply(reply, fault)

    def _serve(self, request: bytes, now: int, fault: Fault | None) -> bytes:
        try:
            asked = parse_request(request)
        except BadRequestError as error:
            return exception_reply(request[0] if request else 0, error.code)
        try:
            return self._do(asked, request, now, fault)
        except UnreadableError:
            return exception_reply(asked.function, ILLEGAL_DATA_ADDRESS)

    def _do(self, asked: Request, request: bytes, now: int, fault: Fault | None) -> bytes:
        if isinstance(self.registers, Switched) and asked.function in (WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER):
            self.registers.write(asked, now)
            return write_reply(request)
        bits = isinstance(self.registers, Switched) and asked.function in (READ_COILS, READ_DISCRETE_INPUTS)
        if not bits and asked.function not in (READ_HOLDING_REGISTERS, READ_INPUT_REGISTERS):
            return exception_reply(asked.function, ILLEGAL_FUNCTION)
        if asked.quantity > self.registers.max_registers:
            return exception_reply(asked.function, ILLEGAL_DATA_VALUE)
        if asked.address + asked.quantity > 0x10000:
            raise UnreadableError
        return read_reply(
            asked.function, self.registers.read(asked.function, asked.address, asked.quantity, now, fault)
        )
