"""DL/T 645 meters behind one TCP endpoint, as behind a serial device server. Keeps no character times."""

import asyncio
from collections.abc import Mapping
from typing import cast

from collector.protocols.modbus_times import character_time
from simulators.dlt645_faults import Speech
from simulators.dlt645_line import Dlt645Line
from simulators.dlt645_meter import Dlt645Meter

BEHIND_BAUD = 2400  # the line behind the endpoint, on which meters collide


class Dlt645TcpServer:
    """One endpoint: `start()` listens, `close()` drops every connection. `meters` are by address."""

    def __init__(self, meters: Mapping[str, Dlt645Meter], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.line = Dlt645Line(meters, character_time(BEHIND_BAUD))
        self.host = host
        self.port = port
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> tuple[str, int]:
        """Listen, and return host and port (the one the system chose where it was 0)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return self.host, self.port

    async def close(self) -> None:
        """Stop listening and drop the open connections."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.abort()
            await self._server.wait_closed()
            self._server = None


class _Connection(asyncio.Protocol):
    def __init__(self, server: Dlt645TcpServer) -> None:
        self._server = server
        self._scanner = server.line.scanner()
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server.connections.discard(self)
        for handle in self._waiting:
            handle.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        now = self._loop.time()
        self._waiting = [handle for handle in self._waiting if handle.when() > now]
        for speech in self._server.line.hear(self._scanner, data):
            self._say(speech)

    def _say(self, speech: Speech) -> None:
        if speech.after_s > 0:
            self._waiting.append(self._loop.call_later(speech.after_s, self._transport.write, speech.data))
        else:
            self._transport.write(speech.data)
