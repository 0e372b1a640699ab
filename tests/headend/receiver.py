"""Somebody else's HTTP server, whose answers a test gives."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - a test that looks
            await asyncio.sleep(0.01)


class Asked(NamedTuple):
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    def events(self) -> list[dict[str, object]]:
        return msgspec.json.decode(self.body)["events"]


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """An HTTP server whose answers a test gives, one for each request; the last one for all after."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[bytes | Answer] = [b"HTTP/1.1 204 No Content\r\n\r\n"]
        self.port = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            asked = Asked(head[0], headers, await reader.readexactly(int(headers["Content-Length"])))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.asked.append(asked)
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(asked, writer)
        writer.close()

    def taken(self) -> list[object]:
        return [each["point"] for asked in self.asked for each in asked.events()]
