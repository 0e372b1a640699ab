"""A TCP proxy on loopback that a test may stall, slow, break, or let answer itself. It loses no packet: see `lossy`."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

CHUNK = 16 * 1024
QUANTUM_S = 0.05  # in which a slow link passes on its share


class Proxy:
    """Forwards to `host`:`port` from a free `port` of its own, as well as it is told to.

    `rate` is in bytes a second and direction (None: as fast as it goes). `stalled` keeps connections open and passes
    nothing on. `spoil` is asked for each chunk whether it is lost: then the connection is reset, as TCP would end it.
    `answer` is given to whoever connects, instead of the server's own.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._refusing = False
        self.rate: float | None = None
        self.delay_s = 0.0
        self.spoil: Callable[[], bool] = lambda: False
        self.answer = b""
        self.accepted = self.broken = 0
        self.passed = 0  # bytes, both directions
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def stall(self) -> None:
        """Pass nothing on any more, and close nothing: both ends believe that the other is there."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on again, and take connections again."""
        self._refusing = False
        self._flowing.set()

    def cut(self) -> None:
        """Reset all connections; new ones are taken."""
        for task in self._connections:
            task.cancel()

    def down(self) -> None:
        """Reset all connections and every new one, until `flow`."""
        self._refusing = True
        self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            self.broken += 1
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            return
        if self.answer:
            await reader.read(CHUNK)
            writer.write(self.answer)
            await writer.drain()
            return
        there, back = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, back))
                group.create_task(self._pass(there, writer))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            back.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while True:
            rate = self.rate
            data = await source.read(CHUNK if rate is None else max(1, int(rate * QUANTUM_S)))
            if not data:
                with suppress(OSError):
                    sink.write_eof()
                return
            if self.spoil():
                raise ConnectionResetError
            await self._flowing.wait()
            await asyncio.sleep(self.delay_s + (len(data) / rate if rate is not None else 0))
            sink.write(data)
            await sink.drain()
            self.passed += len(data)
