"""Modbus RTU on a serial port or through a serial device server: silent intervals kept, answers found among noise.

Frames on a line carry no transaction, so a late answer must never meet the next request: a unit that did not answer in
time is heard out, and who speaks all the same into another's exchange is told from who was asked.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from pymodbus.framer import FramerType

from collector.exchange import Exchange
from collector.links.link import Backoff, CrosstalkError, LinkParameters, LinkStatus, Pulse, turnaround_limit
from collector.links.wire import Wire, serial_wire, tcp_wire
from collector.protocols import modbus_times
from collector.protocols.modbus import EXCEPTION_BIT, MAX_PDU, READ_INPUT_REGISTERS, check_reply
from collector.protocols.modbus_adu import RTU_OVERHEAD, open_rtu, parse_rtu_reply, rtu_frame
from metering.errors import FrameError, LinkDownError, MeterError, NoAnswerError, RefusedError

SERIAL_MARGIN_S = 0.05  # USB adapters hand bytes over in steps of 16 ms, and the scheduler is late now and then
NETWORK_MARGIN_S = 0.4  # between us and a serial device server
NETWORK_LATENCY_S = 0.002  # for predictions
# How long after its time a unit is heard out: its model's turnaround limit once more, within these bounds.
LATE_S = 0.7
LATE_LIMIT_S = 2.0
OWED_S = 5.0  # for so long an answer that was not heard out may still come and be known for what it is
APART_S = 1.0  # how long a unit that babbles, or whose exchange was cancelled, is left alone
DRAIN_LIMIT_S = 2.0  # a line that is not silent by then is babbling and is not waited for
LOOK_S = 0.002  # until the event loop has read once more
BUFFER_BYTES = 1024  # what is searched for the answer; noise before it is let go
CHECKED_EXCEPTION = 2 + RTU_OVERHEAD

MakeWire = Callable[[Callable[[bytes], None], Callable[[str], None]], Wire]


class _RtuLine:
    """What both kinds of RTU link share; they differ in how the wire is made and in their margin."""

    def __init__(self, name: str, parameters: LinkParameters, margin_s: float, make_wire: MakeWire) -> None:
        self.name = name
        self.parameters = parameters
        self.sent_at = 0.0
        self._make_wire = make_wire
        baud = parameters.baud
        bits = modbus_times.parse_format(parameters.line_format).bits
        self._character_s = modbus_times.character_time(baud, bits)
        self._silence_s = modbus_times.silent_interval(baud, bits)
        self._longest_s = (MAX_PDU + RTU_OVERHEAD) * self._character_s
        self._margin_s = margin_s
        self._wire: Wire | None = None
        self._backoff = Backoff()
        self._buffer = bytearray()
        self._waiting: asyncio.Future[bytes] | None = None
        self._asked: Exchange | None = None
        self._due = 0.0
        self._quiet_since = 0.0  # when the last character, theirs or ours, was over
        self._not_before = 0.0  # an exchange that was cancelled may still be answered
        self._apart: dict[int, float] = {}
        self._owed: dict[int, tuple[int, float]] = {}  # unit -> function of its answer, until when it may come
        self._pulse = Pulse()
        self._connects = 0
        self._strays = 0
        self._last_error = ""

    def wire_time(self, exchange: Exchange) -> float:
        """Return the seconds that the characters of request and reply occupy the line."""
        return (len(exchange.pdu) + exchange.reply_length + 2 * RTU_OVERHEAD) * self._character_s

    def timeout(self, exchange: Exchange) -> float:
        """Return the wire time of both frames, the turnaround limit, a silent interval and the margin."""
        limit = turnaround_limit(exchange.turnaround_s)
        return self.wire_time(exchange) + limit + self._silence_s + self._margin_s

    def ready_at(self, unit: int) -> float:
        """Return when this unit may be asked again."""
        return self._apart.get(unit, 0.0)

    def reachable(self) -> bool:
        """Tell whether the wire is connected or may be connected at once."""
        return self._wire is not None or time.monotonic() >= self._backoff.next_at

    def status(self) -> LinkStatus:
        """Return how the line fares."""
        return LinkStatus(self._wire is not None, self._connects, self._strays, self._last_error)

    async def close(self) -> None:
        """Close the port."""
        self._drop("closed")

    async def exchange(self, exchange: Exchange, timeout_s: float) -> bytes:
        """Send a request and return the PDU of its reply, as `Link.exchange` says.

        After a failure it returns only when the line is silent again, so that the time is charged to who failed.
        """
        wire = self._wire
        if wire is None:
            wire = await self._connect()
        await self._silent(self._not_before, self._longest_s)
        if self._wire is not wire:  # it went while the line was waited for
            raise LinkDownError(f"{self.name}: connection lost: {self._last_error}")
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
                await self._hear_out(exchange)
            missing = exchange.reply_length + RTU_OVERHEAD - len(self._buffer) if self._begun() else 0
            if not await self._silent(time.monotonic() + missing * self._character_s, DRAIN_LIMIT_S):
                self._apart[exchange.unit] = time.monotonic() + APART_S
            raise
        finally:
            self._waiting = None

    # --- connection -------------------------------------------------------------------------------------------------

    async def _connect(self) -> Wire:
        now = time.monotonic()
        if now < self._backoff.next_at:
            raise LinkDownError(f"{self.name}: {self._last_error}; next attempt in {self._backoff.next_at - now:.1f} s")
        self._loop = asyncio.get_running_loop()
        wire = self._make_wire(self._received, self._lost)
        try:
            await wire.open()
        except LinkDownError as error:
            self._last_error = str(error)
            self._backoff.fail(time.monotonic())
            raise
        self._wire = wire
        self._connects += 1
        self._pulse = Pulse()
        self._quiet_since = time.monotonic()  # what was on the line before is unknown: keep a silent interval
        return wire

    def _lost(self, reason: str) -> None:
        self._wire = None
        if not self._pulse.alive:  # taken in and thrown out, or a port that opens and fails
            self._backoff.fail(time.monotonic())
        self._drop(reason)

    def _drop(self, reason: str) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
        self._last_error = reason
        self._settle(LinkDownError(f"{self.name}: connection lost: {reason}"))

    def _settle(self, outcome: bytes | MeterError) -> None:
        future = self._waiting
        if future is None or future.done():
            return
        if isinstance(outcome, bytes):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    # --- time -------------------------------------------------------------------------------------------------------

    async def _silent(self, not_before: float, longest_s: float) -> bool:
        """Wait until the line was silent for 3.5 characters, but no longer than `longest_s` past `not_before`."""
        now = time.monotonic()
        give_up = max(now, not_before) + longest_s
        while (wait := max(not_before, self._quiet_since + self._silence_s) - now) > 0:
            if now >= give_up:
                return False
            await asyncio.sleep(min(wait, give_up - now))
            now = time.monotonic()
        return True

    async def _answer(self, future: asyncio.Future[bytes], timeout_s: float) -> bytes:
        """Wait for the answer that `_received` puts into the future, or for its time to be over."""
        self._due = time.monotonic() + timeout_s
        tick = self._loop.call_later(timeout_s, self._tick, future)
        try:
            return await future
        except asyncio.CancelledError:
            if (asked := self._asked) is not None:
                self._not_before = self._due
                self._apart[asked.unit] = self._due + APART_S
                self._owed[asked.unit] = asked.pdu[0], self._due + OWED_S
            raise
        finally:
            tick.cancel()

    async def _hear_out(self, exchange: Exchange) -> None:
        """Let a unit that did not answer in time answer now, to nobody, before anybody else is asked."""
        late_s = min(LATE_LIMIT_S, max(LATE_S, turnaround_limit(exchange.turnaround_s)))
        answer_s = (exchange.reply_length + RTU_OVERHEAD) * self._character_s
        future = self._waiting = self._loop.create_future()
        try:
            await self._answer(future, late_s + answer_s)
        except RefusedError:  # an answer, too
            pass
        except MeterError:
            self._owed[exchange.unit] = exchange.pdu[0], time.monotonic() + OWED_S

    def _tick(self, future: asyncio.Future[bytes], *, looked: bool = False) -> None:
        """End an exchange that is late, or whose answer has begun and broken off, having read all that is there.

        uvloop runs timers before it reads: after a stall of ours the answer may have come and lie unread.
        """
        if future.done():
            return
        due = self._due
        if self._begun():
            due = min(due, self._quiet_since + self._silence_s + self._margin_s)
        left = due - time.monotonic()
        if left > 0:
            self._loop.call_later(left, self._tick, future)
        elif not looked:
            self._loop.call_later(LOOK_S, partial(self._tick, future, looked=True))
        else:
            future.set_exception(self._complaint())

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
            self._backoff.succeed()
            self._pulse.beat(asked.unit)
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
