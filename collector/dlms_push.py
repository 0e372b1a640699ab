"""Listens for what DLMS meters send by themselves: data-notifications over TCP, wrapped or in HDLC UI frames.

Anybody may connect: what is kept of a connection is bounded, and nothing is taken that is no known meter's. It answers
nothing.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import structlog

from collector.drivers.dlms_push import Pushed, PushMapper
from collector.protocols.dlms.hdlc import FLAG, Kind
from collector.protocols.dlms.hdlc_link import LLC_COMMAND, LLC_RESPONSE
from collector.protocols.dlms.hdlc_stream import HdlcSplitter
from collector.protocols.dlms.wrapper import WrapperSplitter
from metering import timing
from metering.errors import AuthError, FrameError, LinkDownError

MAX_CONNECTIONS = 64
MAX_APDU = 8192  # bytes
RETRY_S = 10.0
IDLE_S = 120.0  # a connection without a byte for so long is closed
CONNECTION_BYTES = 4 << 20  # a connection that brought so much is closed; a meter simply connects again
MAX_BAD = 8  # what cannot be read, on one connection
SHOWN_BYTES = 4096  # of a message that cannot be read

logger = structlog.get_logger(__name__)

OnPush = Callable[[Pushed], None]
OnBad = Callable[[str, bytes, str], None]


@dataclass
class PushStatus:
    """What the listener saw since it started."""

    connections: int = 0  # open now
    taken: int = 0
    bad: int = 0
    turned_away: int = 0  # connections beyond `MAX_CONNECTIONS`


class DlmsPushListener:
    """A listener for meters' notifications. `on_push` is given what one gave, `on_bad` (source, message, reason).

    `clock` gives the UTC microseconds that messages are stamped with.
    """

    def __init__(
        self,
        mapper: PushMapper,
        on_push: OnPush,
        on_bad: OnBad,
        *,
        host: str = "127.0.0.1",
        port: int = 4059,
        clock: Callable[[], int] = timing.now,
        idle_s: float = IDLE_S,
    ) -> None:
        self._mapper = mapper
        self._on_push = on_push
        self._on_bad = on_bad
        self._host, self._port = host, port
        self._clock = clock
        self.idle_s = idle_s
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self.status = PushStatus()

    async def start(self) -> tuple[str, int]:
        """Listen; return host and port (the one the system chose where it was 0).

        Raises:
            LinkDownError: the address cannot be listened on.

        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), self._host, self._port)
        except OSError as error:
            raise LinkDownError(f"{self._host}:{self._port}: {error.strerror or error}") from error
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set; an address that cannot be listened on is told and tried again."""
        try:
            while self._server is None and not stop.is_set():
                try:
                    await self.start()
                except LinkDownError as error:
                    logger.error("pushes cannot be listened for", reason=str(error), retry_s=RETRY_S)  # noqa: TRY400 - the reason says it all
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), RETRY_S)
            await stop.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop listening and close all connections."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()
            self._server = None

    # --- for connections ----------------------------------------------------------------------------------------------

    def opened(self, connection: "_Connection") -> bool:
        """Count a connection in; False: there is no room for it."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self.status.turned_away += 1
            return False
        self._connections.add(connection)
        self.status.connections = len(self._connections)
        return True

    def closed(self, connection: "_Connection") -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        self.status.connections = len(self._connections)

    def take(self, apdu: bytes, source: str) -> bool:
        """Hand on what an APDU holds; False: it cannot be read, and `on_bad` was told."""
        try:
            pushed = self._mapper.take(apdu, self._clock())
        except (FrameError, AuthError) as error:
            self.reject(f"{source} {error.meter}".strip(), apdu, str(error))
            return False
        self.status.taken += 1
        self._on_push(pushed)
        return True

    def reject(self, source: str, payload: bytes, reason: str) -> None:
        """Hand over what cannot be read."""
        self.status.bad += 1
        self._on_bad(source, payload[:SHOWN_BYTES], reason)


class _Connection(asyncio.Protocol):
    """One meter, or whoever connected."""

    def __init__(self, listener: DlmsPushListener) -> None:
        self._listener = listener
        self._stream: _Wrapped | _Framed | None = None
        self._left = CONNECTION_BYTES
        self._bad = 0
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._source = str(peer[0]) if peer else "?"
        if self._listener.opened(self):
            self._wait()
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._idle is not None:
            self._idle.cancel()
        self._listener.closed(self)

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._wait()
        self._left -= len(data)
        self._stream = self._stream or (_Framed() if data[0] == FLAG else _Wrapped())
        try:
            apdus = self._stream.feed(data)
        except FrameError as error:
            self._listener.reject(self._source, data, str(error))
            self.abort()
            return
        for apdu in apdus:
            self._bad += not self._listener.take(apdu, self._source)
            if self._bad >= MAX_BAD:
                break
        if self._left <= 0 or self._bad >= MAX_BAD:
            self.abort()

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._listener.idle_s, self.abort)


class _Wrapped:
    """Cuts wrapped APDUs out of a stream."""

    def __init__(self) -> None:
        self._splitter = WrapperSplitter(MAX_APDU)

    def feed(self, data: bytes) -> list[bytes]:
        return [apdu for _, apdu in self._splitter.feed(data)]


class _Framed:
    """Takes APDUs out of HDLC UI frames; other frames are nobody's here."""

    def __init__(self) -> None:
        self._splitter = HdlcSplitter()

    def feed(self, data: bytes) -> list[bytes]:
        found = [frame.info for frame, _ in self._splitter.feed(data) if frame.kind is Kind.UI]
        return [info.removeprefix(LLC_RESPONSE).removeprefix(LLC_COMMAND) for info in found]
