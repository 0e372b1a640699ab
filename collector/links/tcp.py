"""Modbus TCP to one endpoint: one request at a time, answers told apart by transaction, dead connections found."""

import asyncio
import struct
import time

from pymodbus.framer import FramerType

from collector.exchange import Exchange
from collector.links.connection import Connection
from collector.links.link import LinkParameters, turnaround_limit
from collector.links.wire import tcp_wire
from collector.protocols.modbus import READ_INPUT_REGISTERS, check_reply
from collector.protocols.modbus_adu import MBAP_LENGTH, parse_mbap
from metering.errors import FrameError, MeterError, NoAnswerError

LATENCY_S = 0.002  # for predictions: a request and its answer through a local network
NETWORK_MARGIN_S = 0.8  # for time-outs: a mobile or overloaded network

_MBAP = struct.Struct(">HHHB")


class TcpLink(Connection):
    """A `Link` over one TCP connection. A silent unit never costs the others their connection."""

    def __init__(self, host: str, port: int = 502) -> None:
        super().__init__(
            f"tcp {host}:{port}",
            LinkParameters(latency_s=LATENCY_S),
            lambda received, lost: tcp_wire(host, port, FramerType.SOCKET, received, lost),
        )
        self._buffer = b""
        self._transaction = 0
        # The request under way: what a good answer begins with and how long it is, and when it is late.
        self._head = b""
        self._size = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def wire_time(self, exchange: Exchange) -> float:
        """Return 0: on a network the characters take no time worth counting."""
        del exchange
        return 0.0

    def timeout(self, exchange: Exchange) -> float:
        """Return the turnaround limit and a margin for the network."""
        return turnaround_limit(exchange.turnaround_s) + NETWORK_MARGIN_S

    def ready_at(self, unit: int) -> float:
        """Return 0: late answers carry another transaction and are dropped."""
        del unit
        return 0.0

    async def close(self) -> None:
        """Disconnect."""
        await super().close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def exchange(self, exchange: Exchange, timeout_s: float) -> bytes:
        """Send a request and return the PDU of its reply, as `Link.exchange` says."""
        wire = self._wire
        if wire is None:
            wire = await self._connect()
        transaction = self._transaction = self._transaction % 0xFFFF + 1
        unit, pdu, length = exchange[:3]
        head = _MBAP.pack(transaction, 0, length + 1, unit)
        # Of a read: everything before the registers. Of a write: the whole answer.
        self._head = head + (bytes((pdu[0], length - 2)) if pdu[0] <= READ_INPUT_REGISTERS else pdu[:length])
        self._size = MBAP_LENGTH + length
        self._asked = exchange
        self._arm(timeout_s)
        future = self._waiting = self._loop.create_future()
        wire.write(_MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu)
        try:
            reply: bytes = await future
        finally:
            self._waiting = None
        return reply

    def _opened(self) -> None:
        self._buffer = b""

    # --- time -------------------------------------------------------------------------------------------------------

    def _arm(self, timeout_s: float) -> None:
        """See that `_tick` runs when the answer to what is sent now is late.

        One timer serves many exchanges, each moves only `_due`.
        """
        self.sent_at = now = time.monotonic()
        self._due = due = now + timeout_s
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(timeout_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        left = self._due - time.monotonic()
        if left > 0:
            self._timer_at = self._due
            self._timer = self._loop.call_later(left, self._tick)
        elif not self._waiting.done():
            self._expire()

    def _expire(self) -> None:
        assert self._asked is not None  # noqa: S101 - somebody waits
        unit = self._asked.unit
        if self._buffer:  # half an answer: where the next one begins cannot be known
            self._settle(FrameError(f"{len(self._buffer)} bytes of an answer came in time, the rest did not"))
            self._drop("the stream broke off within an answer")
            return
        self._settle(NoAnswerError(f"unit {unit} did not answer in time"))
        if self._pulse.missed(unit):
            self._drop("no unit answered any more")

    # --- answers ----------------------------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        # The usual case, in one comparison: transaction, protocol, length, unit, function and byte count.
        future = self._waiting
        if len(data) == self._size and future is not None and data.startswith(self._head):
            self._answered(self._asked.unit)  # type: ignore[union-attr] # somebody waits
            if not future.done():
                future.set_result(data[MBAP_LENGTH:])
            return
        while len(data) >= MBAP_LENGTH:
            try:
                header = parse_mbap(data)
            except FrameError as error:
                self._settle(error)
                self._drop(str(error))
                return
            end = MBAP_LENGTH - 1 + header.length
            if len(data) < end:
                break
            self._judge(header.transaction, header.unit, data[MBAP_LENGTH:end])
            data = data[end:]
        self._buffer = data

    def _judge(self, transaction: int, unit: int, pdu: bytes) -> None:
        """Settle the exchange with a frame that is not simply the good answer."""
        asked = self._asked
        if asked is None or self._waiting is None or self._waiting.done() or transaction != self._transaction:
            self._strays += 1
            return
        if unit != asked.unit:
            self._settle(FrameError(f"unit {unit} answered, asked was {asked.unit}"))
            return
        self._answered(unit)
        try:
            check_reply(asked.pdu, pdu)
        except MeterError as error:
            self._settle(error)
        else:
            self._settle(pdu)
