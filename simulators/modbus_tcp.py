"""Modbus servers on TCP: units behind one endpoint, in MBAP or RTU framing, with faults. Not the meters themselves.

One endpoint is a meter with a network port or a gateway to a serial line with several units behind it.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping
from typing import Literal, cast

from collector.protocols.modbus import exception_reply
from collector.protocols.modbus_adu import MBAP_LENGTH, open_rtu, parse_mbap, tcp_frame
from metering.errors import FrameError
from simulators.faults import Answer, Delivery, deliver
from simulators.static_server import StaticServer
from simulators.unit import Unit

__all__ = ["Framing", "ModbusTcpServer", "StaticServer"]

Framing = Literal["tcp", "rtu"]

TARGET_DEVICE_FAILED = 11  # a gateway's exception for a unit that nobody has
BABBLE_BYTES = 64
BABBLE_PAUSE_S = 0.02
# Requests on RTU framing are told apart by their length: address, function, address, count, CRC.
_RTU_READ = 8
_RTU_WRITE_HEAD = 7
_LINGER_OFF = struct.pack("ii", 1, 0)  # close with RST


class ModbusTcpServer:
    """One endpoint: `start()` listens, `units` may change while it runs, `close()` drops every connection.

    `unknown_unit` is what a request to a unit that is not there meets: silence, or a gateway's exception 11.
    """

    def __init__(
        self,
        units: Mapping[int, Unit],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        framing: Framing = "tcp",
        unknown_unit: Literal["silent", "exception"] = "silent",
    ) -> None:
        self.units = units
        self.host = host
        self.port = port
        self.framing: Framing = framing
        self.unknown_unit = unknown_unit
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> tuple[str, int]:
        """Listen, and return host and port (the one the system chose where it was 0)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return self.host, self.port

    async def close(self) -> None:
        """Stop listening and reset the open connections."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.abort()
            await self._server.wait_closed()
            self._server = None


class _Connection(asyncio.Protocol):
    def __init__(self, server: ModbusTcpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._whole = asyncio.Lock()
        self._held: list[bytes] = []
        self._dead = False  # half open: takes everything, says nothing
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server.connections.discard(self)
        for task in self._tasks:
            task.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._dead:
            return
        self._buffer += data
        take = self._take_tcp if self._server.framing == "tcp" else self._take_rtu
        while take():
            pass

    def _take_tcp(self) -> bool:
        """Serve one whole request of the buffer; False when there is none."""
        if len(self._buffer) < MBAP_LENGTH:
            return False
        try:
            header = parse_mbap(self._buffer)
        except FrameError:
            self.abort()  # the stream cannot be found again
            return False
        end = MBAP_LENGTH - 1 + header.length
        if len(self._buffer) < end:
            return False
        pdu, self._buffer = self._buffer[MBAP_LENGTH:end], self._buffer[end:]
        self._serve(header.unit, pdu, header.transaction)
        return True

    def _take_rtu(self) -> bool:
        if _is_frame(self._buffer):  # of any function
            frame, self._buffer = self._buffer, b""
            self._serve(frame[0], frame[1:-2], None)
            return False
        if len(self._buffer) < _RTU_READ:
            return False
        end = _RTU_READ if self._buffer[1] != 16 else _RTU_WRITE_HEAD + self._buffer[6] + 2
        if len(self._buffer) < end:
            return False
        frame, self._buffer = self._buffer[:end], self._buffer[end:]
        if not _is_frame(frame):
            self._buffer = b""  # as silence on a line would: what follows begins a new frame
            return False
        self._serve(frame[0], frame[1:-2], None)
        return True

    def _serve(self, address: int, pdu: bytes, transaction: int | None) -> None:
        unit = self._server.units.get(address)
        if unit is None:
            if self._server.unknown_unit == "exception":
                refusal = Answer(address, exception_reply(pdu[0], TARGET_DEVICE_FAILED), transaction)
                self._write(refusal.frame())
            return
        reply = unit.answer(pdu)
        if reply.fault is None and not unit.turnaround_s and transaction is not None:
            unit.before = tcp_frame(transaction, address, reply.pdu)
            self._write(unit.before)
            return
        answer = Answer(address, reply.pdu, transaction, unit.before)
        delivery = deliver(reply.fault, answer, unit.faults.chance)
        unit.before = answer.frame()
        task = self._loop.create_task(self._send(delivery, unit))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _write(self, data: bytes) -> None:
        if self._whole.locked():
            self._held.append(data)  # an answer in pieces is on its way: no other may stand in its middle
        else:
            self._transport.write(data)

    async def _send(self, delivery: Delivery, unit: Unit) -> None:
        if unit.turnaround_s:
            await asyncio.sleep(unit.turnaround_s)
        if len(delivery.pieces) > 1:
            async with self._whole:
                for piece in delivery.pieces:
                    await asyncio.sleep(piece.after_s)
                    self._transport.write(piece.data)
            held, self._held = self._held, []
            self._transport.write(b"".join(held))
        elif delivery.pieces:
            await asyncio.sleep(delivery.pieces[0].after_s)
            self._write(delivery.pieces[0].data)
        await self._end(delivery, unit)

    async def _end(self, delivery: Delivery, unit: Unit) -> None:
        if delivery.then == "half_open":
            self._dead = True
        elif delivery.then == "reset":
            peer = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):  # already gone
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            self.abort()
        elif delivery.then == "babble":
            await self._babble(delivery.seconds, unit)

    async def _babble(self, seconds: float, unit: Unit) -> None:
        end = self._loop.time() + seconds
        while self._loop.time() < end or (not seconds and unit.faults.stands("babble")):
            self._transport.write(unit.faults.chance.randbytes(BABBLE_BYTES))
            await asyncio.sleep(BABBLE_PAUSE_S)


def _is_frame(data: bytes) -> bool:
    try:
        open_rtu(data)
    except FrameError:
        return False
    return True
