"""Protocols that frame themselves (DLMS over HDLC or the wrapper, DL/T 645) over TCP or a serial port. No codec.

A receiver finds the answer among what comes; here is when it is asked for, how long it may take, and at what speed.
"""

import asyncio
import time

from pymodbus.framer import FramerType

from collector.exchange import Exchange, Receiver
from collector.links.connection import MakeWire
from collector.links.line import APART_S, DRAIN_LIMIT_S, Line
from collector.links.link import SEVEN_EVEN, LinkParameters, character_time, turnaround_limit
from collector.links.wire import Wire, serial_wire, tcp_wire
from collector.protocols import modbus_times
from collector.protocols.parity import strip_parity, with_parity
from metering.errors import FrameError, LinkDownError, MeterError, NoAnswerError

SERIAL_MARGIN_S = 0.05  # USB adapters hand bytes over in steps of 16 ms, and the scheduler is late now and then
NETWORK_MARGIN_S = 0.8  # a mobile or overloaded network
NETWORK_LATENCY_S = 0.002  # for predictions
# Behind an endpoint may hang a slow line whose device server hands over whole answers: so much longer, at most.
HIDDEN_BAUD = 2400
HIDDEN_LIMIT_S = 2.0
# An answer that flows when its time is over may go on (several frames of a window, more than usual) while no gap in it
# is longer than this, and no longer than `FLOW_LIMIT_S` beyond its time. DL/T 645 allows gaps of 0.5 s.
SERIAL_GAP_S = 0.5
NETWORK_GAP_S = 1.5
FLOW_LIMIT_S = 10.0
LONGEST_S = 60.0  # no answer is waited for longer, whatever its length and speed
KEPT_BYTES = 65536  # of one answer, noise included
PIECE_BYTES = 4096  # so many at once, however many came: what a receiver makes of a flood is bounded, too
_HIDDEN_CHARACTER_S = modbus_times.character_time(HIDDEN_BAUD)


class _StreamLink(Line):
    """What both kinds share: `margin_s` and `gap_s` are the wire's, `hidden` is for a line behind an endpoint."""

    def __init__(self, name: str, parameters: LinkParameters, margin_s: float, gap_s: float, make: MakeWire) -> None:
        super().__init__(name, parameters, margin_s, make)
        self._network = not parameters.baud
        self._gap_s = gap_s
        self._parity = False  # the eighth bit is a parity bit
        self._receiver: Receiver | None = None
        self._between = bytearray()  # what came last since the exchange before
        self._came = 0  # bytes since the request
        self._last_at = 0.0  # when the last of them came
        self._over = False  # its time ended before its answer

    def wire_time(self, exchange: Exchange) -> float:
        """Return the seconds that the characters of request and usual reply occupy the line; 0 on a network."""
        return (len(exchange.pdu) + exchange.reply_length) * character_time(self.parameters, exchange.speed)

    def timeout(self, exchange: Exchange) -> float:
        """Return the wire time of request and usual reply, the turnaround limit, a silent interval and the margin."""
        if self._network:
            characters = len(exchange.pdu) + exchange.reply_length
            wire_s = min(HIDDEN_LIMIT_S, characters * _HIDDEN_CHARACTER_S)
        else:
            wire_s = self.wire_time(exchange)
        return min(LONGEST_S, wire_s + turnaround_limit(exchange.turnaround_s) + self._silence_s + self._margin_s)

    async def exchange(self, exchange: Exchange, timeout_s: float) -> bytes:
        """Send a request and return what its receiver makes of the answer, as `Link.exchange` says.

        With nothing to send it listens on: what came since the exchange before is part of the answer.
        A request without a reply ends when its characters are over, with nothing. After a failure it returns only when
        the line is silent again, so that the time is charged to who failed.
        """
        if exchange.receiver is None and exchange.reply_length:
            raise ValueError("a stream finds no answer without a receiver")
        wire = await self._ready(exchange)
        future = self._begin(wire, exchange)
        try:
            if exchange.receiver is not None:
                return await self._answer(future, timeout_s)
            await self._silent(self._quiet_since, DRAIN_LIMIT_S)
        except (NoAnswerError, FrameError) as error:
            if isinstance(error, NoAnswerError) and self._pulse.missed(exchange.unit):
                self._drop("no unit answered any more")
            await self._settle_down(exchange)
            raise
        except asyncio.CancelledError:
            if self._network and self._came:  # the rest of it must not meet the next request
                self._drop("an exchange was given up within its answer")
            raise
        finally:
            self._waiting = self._receiver = None
        if self._wire is not wire:
            raise self._gone()
        return b""

    # --- before and after -------------------------------------------------------------------------------------------

    async def _ready(self, exchange: Exchange) -> Wire:
        """Return the wire once it is connected and silent, nothing from before is left on it, and its speed is right.

        What the other side closed while nobody asked is connected anew: that is no failure of what is asked now.
        """
        if exchange.fresh and self._network:
            self._drop("a new connection was asked for")
        wire = self._wire or await self._connect()
        if not self._network or self._not_before > time.monotonic():
            await self._silent(self._not_before, DRAIN_LIMIT_S)
        if self._wire is wire:
            try:
                self._stray(wire.unread(KEPT_BYTES))
            except LinkDownError as error:
                self._drop(str(error))
        wire = self._wire or await self._connect()
        if not self._network:
            try:
                wire.set_baud(exchange.speed.baud if exchange.speed else self.parameters.baud)
            except LinkDownError as error:
                self._backoff.fail(time.monotonic())
                self._drop(str(error))
                raise
        return wire

    def _opened(self) -> None:
        super()._opened()
        self._between.clear()

    def _begin(self, wire: Wire, exchange: Exchange) -> asyncio.Future[bytes]:
        """Send the request; return the future of its answer."""
        self._asked = exchange
        self._receiver = exchange.receiver
        self._parity = not self._network and exchange.speed is not None and exchange.speed.line_format == SEVEN_EVEN
        self._came = 0
        self._over = False
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting = future if exchange.receiver is not None else None
        self.sent_at = time.monotonic()
        self._quiet_since = self.sent_at + len(exchange.pdu) * character_time(self.parameters, exchange.speed)
        before = bytes(self._between)
        self._between.clear()
        if exchange.pdu:
            wire.write(with_parity(exchange.pdu) if self._parity else exchange.pdu)
        elif before:
            self._strays -= len(before)
            self._received(before)
        return future

    async def _settle_down(self, exchange: Exchange) -> None:
        """Bring the wire back to silence after a failure, or let it go where the next answer cannot be told from it."""
        answered = False
        flows = self._came > 0 and time.monotonic() - self._last_at < self._gap_s
        if self._over and not flows and self._wire is not None and not (self._network and self._came):
            answer_s = exchange.reply_length * character_time(self.parameters, exchange.speed)
            answered = await self._hear_out(exchange.turnaround_s, answer_s)
        if self._network:
            if self._came and not answered:
                self._drop("the stream broke off within an answer")
        elif not await self._silent(time.monotonic() + self._margin_s, DRAIN_LIMIT_S) or (self._over and flows):
            self._apart[exchange.unit] = time.monotonic() + APART_S

    # --- answers ----------------------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        """Return when waiting is over: later while an answer flows."""
        if not self._came:
            return self._due
        return max(self._due, min(self._last_at + self._gap_s, self._due + FLOW_LIMIT_S))

    def _received(self, data: bytes) -> None:
        now = self._quiet_since = time.monotonic()
        future, receiver, asked = self._waiting, self._receiver, self._asked
        if future is None or future.done() or receiver is None or asked is None:
            self._stray(data)
            return
        self._last_at = now
        for at in range(0, len(data), PIECE_BYTES):
            piece = data[at : at + PIECE_BYTES]
            self._came += len(piece)
            try:
                reply = receiver(strip_parity(piece) if self._parity else piece)
            except MeterError as error:
                self._settle(error)
                return
            if reply is not None:
                self._answered(asked.unit)
                self._settle(reply)
                if at + PIECE_BYTES < len(data):
                    self._stray(data[at + PIECE_BYTES :])
                return
            if self._came > KEPT_BYTES:
                self._settle(FrameError(f"{self._came} bytes came and no answer among them"))
                return

    def _stray(self, data: bytes) -> None:
        self._strays += len(data)
        self._between += data[-KEPT_BYTES:]
        del self._between[:-KEPT_BYTES]

    def _complaint(self) -> MeterError:
        assert self._asked is not None  # noqa: S101 - somebody waits
        self._over = True
        if not self._came:
            return NoAnswerError(f"unit {self._asked.unit} did not answer in time")
        words = self._receiver.complaint() if self._receiver is not None else ""
        return FrameError(f"no answer came in time, but {words or f'{self._came} bytes of noise'}")


class TcpStreamLink(_StreamLink):
    """A `Link` to a meter, a concentrator or a serial device server, for exchanges that have a receiver."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"stream {host}:{port}",
            LinkParameters(latency_s=NETWORK_LATENCY_S),
            NETWORK_MARGIN_S,
            NETWORK_GAP_S,
            lambda received, lost: tcp_wire(host, port, FramerType.SOCKET, received, lost),
        )


class SerialStreamLink(_StreamLink):
    """A `Link` on a serial port, for exchanges that have a receiver.

    `opened` is the format that the port is opened with where it cannot have its own: a pseudo-terminal refuses parity.
    An exchange whose speed is in `7E1` needs a port that is opened as `8N1`: the parity is made and checked here.
    """

    def __init__(self, port: str, baud: int = 9600, line_format: str = "8N1", opened: str | None = None) -> None:
        opened_as = modbus_times.parse_format(opened or line_format)
        super().__init__(
            f"serial {port}",
            LinkParameters(baud, line_format),
            SERIAL_MARGIN_S,
            SERIAL_GAP_S,
            lambda received, lost: serial_wire(port, baud, opened_as, received, lost),
        )
