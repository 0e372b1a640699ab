"""Serves the API inside our own event loop and with our own signals: uvicorn, bounded."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from api.app import SERVER, settle
from gateway.fields import split_address
from metergate.site import ApiSettings
from metering.errors import ConfigError

BACKLOG = 256


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the command line: it ends the gateway first."""
        yield


def bind(settings: ApiSettings) -> socket.socket:
    """Return the listening socket.

    Raises:
        ConfigError: the address cannot be had; says which and why.

    """
    host, port = split_address(settings.listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"the API cannot listen on {settings.listen}: {_reason(error)}; choose another address"
        ) from None


def _reason(error: OSError) -> str:
    """Return the system's words: `create_server` adds the address to them, which stands in our message already."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)


async def serve(app: FastAPI, listening: socket.socket, settings: ApiSettings, stop: asyncio.Event) -> None:
    """Serve until `stop`, then let open answers end within `SERVER`'s limit."""
    config = uvicorn.Config(
        app, log_config=None, ssl_certfile=settings.tls_cert, ssl_keyfile=settings.tls_key, **SERVER
    )
    settle()
    server = _Server(config)
    running = asyncio.ensure_future(server.serve(sockets=[listening]))
    ending = asyncio.ensure_future(stop.wait())
    await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    server.should_exit = True
    await running
