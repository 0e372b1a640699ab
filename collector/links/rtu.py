"""Modbus RTU on a serial port or through a serial device server: silent intervals kept, answers found among noise.

Frames on a line carry no transaction, so a late answer must never meet the next request: a unit that did not answer in
time is heard out, and who speaks all the same into another's exchange is told from who was asked.
"""

import asyncio
import time

from pymodbus.framer import FramerType

from collector.exchange import Exchange
from collector.links.connection import MakeWire
from collector.links.line import APART_S, DRAIN_LIMIT_S, Line
from collector.links.link import CrosstalkError, LinkParameters, turnaround_limit
from collector.links.wire import serial_wire, tcp_wire
from collector.protocols import modbus_times
from collector.protocols.modbus import EXCEPTION_BIT, MAX_PDU, READ_INPUT_REGISTERS, check_reply
from collector.protocols.modbus_adu import RTU_OVERHEAD, open_rtu, parse_rtu_reply, rtu_frame
from metering.errors import FrameError, MeterError, NoAnswerError

SERIAL_MARGIN_S = 0.05  # USB adapters hand bytes over in steps of 16 ms, and the scheduler is late now and then
NETWORK_MARGIN_S = 0.4  # between us and a serial device server
NETWORK_LATENCY_S = 0.002  # for predictions
OWED_S = 5.0  # for so long an answer that was not heard out may still come and be known for what it is
BUFFER_BYTES = 1024  # what is searched for the answer; noise before it is let go
CHECKED_EXCEPTION = 2 + RTU_OVERHEAD


class _RtuLine(Line):
    """What both kinds of RTU link share; they differ in how the wire is made and in their margin."""

    def __init__(self, name: str, parameters: LinkParameters, margin_s: float, make_wire: MakeWire) -> None:
        super().__init__(name, parameters, margin_s, make_wire)
        self._longest_s = (MAX_PDU + RTU_OVERHEAD) * self._character_s
        self._buffer = bytearray()
        self._owed: dict[int, tuple[int, float]] = {}  # unit -> function of its answer, until when it may come

    def wire_time(self, exchange: Exchange) -> float:
        """Return the seconds that the characters of request and reply occupy the line."""
        return (len(exchange.pdu) + exchange.reply_length + 2 * RTU_OVERHEAD) * self._character_s

    def timeout(self, exchange: Exchange) -> float:
        """Return the wire time of both frames, the turnaround limit, a silent interval and the margin."""
        limit = turnaround_limit(exchange.turnaround_s)
        return self.wire_time(exchange) + limit + self._silence_s + self._margin_s

    async def exchange(self, exchange: Exchange, timeout_s: float) -> bytes:
        """Send a request and return the PDU of its reply, as `Link.exchange` says.

        After a failure it returns only when the line is silent again, so that the time is charged to who failed.
        """
        wire = self._wire
        if wire is None:
            wire = await self._connect()
        await self._silent(self._not_before, self._longest_s)
        if self._wire is not wire:  # it went while the line was waited for
            raise self._gone()
        self._buffer.clear()
        self._asked = exchange
        future = self._waiting = self._loop.create_future()
        frame = rtu_frame(exchange.unit, exchange.pdu)
        wire.write(frame)
        self.sent_at = started = time.monotonic()
        self._quiet_since = started + len(frame) * self._character_s
        try:
            return await self._answer(future, timeout_s)
        except (NoAnswerError, FrameError) as error:
            if isinstance(error, NoAnswerError) and self._pulse.missed(exchange.unit):
                self._drop("no unit answered any more")
            if not self._begun():
                answer_s = (exchange.reply_length + RTU_OVERHEAD) * self._character_s
                if not await self._hear_out(exchange.turnaround_s, answer_s):
                    self._owed[exchange.unit] = exchange.pdu[0], time.monotonic() + OWED_S
            missing = exchange.reply_length + RTU_OVERHEAD - len(self._buffer) if self._begun() else 0
            if not await self._silent(time.monotonic() + missing * self._character_s, DRAIN_LIMIT_S):
                self._apart[exchange.unit] = time.monotonic() + APART_S
            raise
        finally:
            self._waiting = None

    # --- time -------------------------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        """Return when waiting is over: sooner where the answer has begun and broken off."""
        return min(self._due, self._quiet_since + self._silence_s + self._margin_s) if self._begun() else self._due

    async def _answer(self, future: asyncio.Future[bytes], timeout_s: float) -> bytes:
        try:
            return await super()._answer(future, timeout_s)
        except asyncio.CancelledError:
            if (asked := self._asked) is not None:
                self._owed[asked.unit] = asked.pdu[0], self._due + OWED_S
            raise

    # --- answers ----------------------------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        self._quiet_since = time.monotonic()
        future, asked = self._waiting, self._asked
        if future is None or asked is None or future.done():
            self._strays += len(data)
            return
        first = not self._begun()
        self._buffer += data
        del self._buffer[:-BUFFER_BYTES]
        function = asked.pdu[0]
        good = bytes((asked.unit, function))
        if function <= READ_INPUT_REGISTERS:
            good += bytes((asked.reply_length - 2,))
        refused = bytes((asked.unit, function | EXCEPTION_BIT))
        found = self._find(good, asked.reply_length + RTU_OVERHEAD) or self._find(refused, CHECKED_EXCEPTION)
        if found is not None:
            self._answered(asked.unit)
            self._owed.pop(asked.unit, None)
            try:
                check_reply(asked.pdu, found)
            except MeterError as error:
                self._settle(error)
            else:
                self._settle(found)
        elif first and self._begun():
            self._tick(future)

    def _find(self, start: bytes, size: int) -> bytes | None:
        """Return the PDU of the first whole frame in the buffer that begins so and has a good CRC."""
        at = self._buffer.find(start)
        while at >= 0 and at + size <= len(self._buffer):
            try:
                return open_rtu(bytes(self._buffer[at : at + size]))[1]
            except FrameError:
                at = self._buffer.find(start, at + 1)
        return None

    def _begun(self) -> bool:
        """Tell whether what has come begins as this unit's answer does: then nothing else is to come from it."""
        asked = self._asked
        if asked is None or len(self._buffer) < 2:
            return False
        return self._buffer[0] == asked.unit and self._buffer[1] & ~EXCEPTION_BIT == asked.pdu[0]

    def _speaker(self) -> int | None:
        """Return the unit that owed an answer and has begun one, where the one that was asked has not."""
        asked = self._asked
        if not self._owed or asked is None or self._begun():
            return None
        now = time.monotonic()
        for unit, (function, until) in self._owed.items():
            if until > now and unit != asked.unit and bytes((unit, function)) in self._buffer:
                del self._owed[unit]
                return unit
        return None

    def _complaint(self) -> MeterError:
        assert self._asked is not None  # noqa: S101 - somebody waits
        unit = self._asked.unit
        if not self._buffer:
            return NoAnswerError(f"unit {unit} did not answer in time")
        late = self._speaker()
        if late is not None:
            return CrosstalkError(f"unit {late} answered after its time, while unit {unit} was asked", unit=late)
        try:
            parse_rtu_reply(bytes(self._buffer), unit, self._asked.pdu)
        except FrameError as error:
            return error
        return FrameError(f"unit {unit} answered after its time")


class RtuLink(_RtuLine):
    """A `Link` on a serial port. `opened` is the format that the port is opened with where it cannot have its own.

    A pseudo-terminal refuses parity: it is opened as 8N1 while all times are those of `line_format`.
    """

    def __init__(self, port: str, baud: int = 9600, line_format: str = "8E1", opened: str | None = None) -> None:
        opened_as = modbus_times.parse_format(opened or line_format)
        super().__init__(
            f"rtu {port}",
            LinkParameters(baud, line_format),
            SERIAL_MARGIN_S,
            lambda received, lost: serial_wire(port, baud, opened_as, received, lost),
        )


class RtuOverTcpLink(_RtuLine):
    """A `Link` through a serial device server that passes RTU frames over TCP unchanged."""

    def __init__(self, host: str, port: int, baud: int = 9600, line_format: str = "8E1") -> None:
        super().__init__(
            f"rtu-over-tcp {host}:{port}",
            LinkParameters(baud, line_format, NETWORK_LATENCY_S),
            NETWORK_MARGIN_S,
            lambda received, lost: tcp_wire(host, port, FramerType.RTU, received, lost),
        )
