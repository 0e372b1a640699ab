"""Shared parts of the simulator tests: a unit with known registers, and a raw TCP conversation."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from simulators.modbus_tcp import ModbusTcpServer
from simulators.unit import FixedRegisters, Unit

REGISTERS = bytes(range(250))
QUIET_S = 0.15  # after this without a byte nothing more is expected


@dataclass
class Wire:
    """One TCP connection to a simulated endpoint, as bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, frame: bytes, quiet_s: float = QUIET_S) -> bytes:
        """Send a frame and return everything that comes until the line is quiet."""
        self.writer.write(frame)
        heard = b""
        while True:
            try:
                data = await asyncio.wait_for(self.reader.read(4096), quiet_s)
            except TimeoutError:
                return heard
            if not data:
                return heard
            heard += data


Dial = Callable[[ModbusTcpServer], Awaitable[Wire]]


@pytest.fixture
def unit() -> Unit:
    return Unit(1, FixedRegisters({3: REGISTERS, 4: REGISTERS}))


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    opened: list[tuple[ModbusTcpServer, Wire]] = []

    async def start(server: ModbusTcpServer) -> Wire:
        host, port = await server.start() if not server.port else (server.host, server.port)
        wire = Wire(*await asyncio.open_connection(host, port))
        opened.append((server, wire))
        return wire

    yield start
    for server, wire in opened:
        wire.writer.close()
        await server.close()
