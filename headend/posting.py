"""Where a POST to somebody else's server may go (over TLS, or to this machine), and one such POST. No retries."""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from metering.hosts import is_loopback

POST_S = 10.0  # from connecting to the answer's head
MAX_HEAD = 16 * 1024  # bytes of an answer's head; the rest is not read
MAX_INTERIM = 4  # answers of the kind 1xx before the real one


class PostError(Exception):
    """It was not taken; the text says why, without what was sent. `status` is 0 where no answer came."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class Target(NamedTuple):
    """Where a POST goes. `tls` None: plain, to this machine alone."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str, ca_file: str | None = None) -> "Target":
        """Return the target of `https://…`, or of `http://` at a loopback address.

        `ca_file` says who signed the server's certificate, if not a known authority.

        Raises:
            ValueError: it is neither, or names a user.
            OSError: `ca_file` cannot be read.

        """
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or parts.fragment or not url.isascii() or " " in url:
            raise ValueError("write an address such as https://collections.example/hooks, without a user")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
            raise ValueError("beyond this machine only https is spoken")
        tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, parts.port or (443 if tls else 80), path, tls)


async def post(target: Target, headers: Mapping[str, str], body: bytes) -> int:
    """Return the status of the answer. Raises `PostError`."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = [f"POST {target.path} HTTP/1.1", f"Host: {host}:{target.port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    request = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("ascii") + body
    try:
        async with asyncio.timeout(POST_S):
            reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls, limit=MAX_HEAD)
            try:
                writer.write(request)
                await _drain(writer)
                return await _status(reader)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise PostError(f"no answer within {POST_S:g} s") from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise PostError("the answer is not HTTP, or was cut off") from None
    except OSError as error:  # refused, unknown, a certificate that does not hold
        raise PostError(error.strerror or str(error)) from None


async def _drain(writer: asyncio.StreamWriter) -> None:
    """Let the request go out; a server may answer and close before it has read it all."""
    with contextlib.suppress(ConnectionError):
        await writer.drain()


async def _status(reader: asyncio.StreamReader) -> int:
    for _ in range(MAX_INTERIM):
        head = await reader.readuntil(b"\r\n\r\n")
        parts = head.split(b"\r\n", 1)[0].split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or len(parts[1]) != 3 or not parts[1].isdigit():
            raise PostError("the answer is not HTTP")
        if (status := int(parts[1])) >= 200:
            return status
    raise PostError("only interim answers came")
