"""Simulated DLMS meters on TCP: the wrapper around APDUs, or HDLC (`simulators.dlms_hdlc`) as it comes."""

import asyncio
import contextlib
import socket
import struct
from typing import Literal, Protocol, cast

from collector.protocols.dlms.wrapper import Header, WrapperSplitter, wrap
from metering.errors import FrameError
from simulators.dlms_association import Association
from simulators.dlms_delivery import Delivery, answer_apdu, deliver
from simulators.dlms_hdlc import MAX_INFO, MAX_WINDOW, HdlcStations, Meters, placed

Framing = Literal["wrapper", "hdlc"]
_LINGER_OFF = struct.pack("ii", 1, 0)  # close with RST


class Station(Protocol):
    """What speaks on one connection: bytes in, deliveries out."""

    def heard(self, data: bytes) -> list[Delivery]:
        """Take the next bytes and return what is to be sent. Raises `FrameError`: the stream is lost."""

    def close(self) -> None:
        """End all associations: the connection is gone."""


class WrapperStation:
    """The meters behind one TCP connection, by logical device (the server's wPort)."""

    def __init__(self, meters: Meters) -> None:
        self._meters = {logical: meter for (logical, _), meter in placed(meters).items()}
        self._splitter = WrapperSplitter()
        self._associations: dict[tuple[int, int], Association] = {}
        self._before: dict[int, bytes] = {}

    def heard(self, data: bytes) -> list[Delivery]:
        """Take the next bytes and return what is to be sent. Raises `FrameError`: the stream is lost."""
        found = (self._serve(header, apdu) for header, apdu in self._splitter.feed(data))
        return [delivery for delivery in found if delivery is not None]

    def _serve(self, header: Header, apdu: bytes) -> Delivery | None:
        meter = self._meters.get(header.destination)
        if meter is None:
            return None
        key = (header.destination, header.source)
        association = self._associations.setdefault(key, Association(meter, header.source))
        answer = answer_apdu(association, apdu)
        if answer is None:
            return None
        source = header.destination
        if answer.fault is not None and answer.fault.kind == "other_meter":
            source = source % 0xFFFF + 1
        return deliver(answer.fault, [wrap(source, header.source, answer.apdu)], meter.faults.chance)

    def close(self) -> None:
        """End all associations: the connection is gone."""
        for association in self._associations.values():
            association.close()


class DlmsTcpServer:
    """One endpoint: `start()` listens, `close()` drops every connection.

    `meters` are by logical device, or by logical device and physical address (see `simulators.dlms_hdlc.placed`);
    `links` are bytes of an information field and frames of a window, for HDLC.
    """

    def __init__(
        self,
        meters: Meters,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        framing: Framing = "wrapper",
        links: tuple[int, int] = (MAX_INFO, MAX_WINDOW),
    ) -> None:
        self.meters = meters
        self._links = links
        self.host = host
        self.port = port
        self.framing: Framing = framing
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

    def station(self) -> Station:
        """Return what speaks on a new connection."""
        if self.framing == "wrapper":
            return WrapperStation(self.meters)
        return HdlcStations(self.meters, max_info=self._links[0], window=self._links[1])


class _Connection(asyncio.Protocol):
    def __init__(self, server: DlmsTcpServer) -> None:
        self._server = server
        self._station = server.station()
        self._turn: asyncio.Task[None] | None = None
        self._waiting: list[Delivery] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server.connections.discard(self)
        self._station.close()
        if self._turn is not None:
            self._turn.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            deliveries = self._station.heard(data)
        except FrameError:
            self.abort()
            return
        for delivery in deliveries:
            if self._waiting or delivery.after_s:
                self._later(delivery)
            else:
                self._send(delivery)

    def _later(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        if self._turn is None:
            self._turn = asyncio.get_running_loop().create_task(self._in_turn())

    async def _in_turn(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._waiting[0].after_s)
            self._send(self._waiting.pop(0))
        self._turn = None

    def _send(self, delivery: Delivery) -> None:
        if delivery.reset:
            peer = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):  # already gone
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            self.abort()
        elif delivery.data:
            self._transport.write(delivery.data)
