"""pymodbus's asynchronous clients as plain wires: it connects, reads and writes; the frames are checked by the link.

Its own transaction layer is left out because it takes a late RTU answer for the next request's, accepts short and
foreign answers, and closes a connection for all units after a few time-outs of one.
"""

import asyncio
import logging
import os
import socket
import termios
from collections.abc import Callable

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.framer import FramerType
from pymodbus.transaction import TransactionManager
from pymodbus.transport.serialtransport import SerialTransport

from collector.protocols.modbus_times import LineFormat
from metering.errors import LinkDownError

CONNECT_TIMEOUT_S = 5.0
READ_BYTES = 4096
# A peer that vanished without a word: no acknowledgement of what was sent, or of three probes on an idle connection.
UNACKNOWLEDGED_S = 10.0
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3
# What the system holds of what came (it takes twice as much for itself): a peer that floods is not read at large.
RECEIVE_BYTES = 32768

# What it would print about connections is in the errors that the link raises.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

Client = AsyncModbusTcpClient | AsyncModbusSerialClient


class Wire(TransactionManager):
    """A client's connection whose bytes go to `received`; `lost` is told once when the other side ends it."""

    def __init__(self, client: Client, received: Callable[[bytes], None], lost: Callable[[str], None]) -> None:
        super().__init__(client.comm_params, client.ctx.framer, 0, False, None, None, None)  # noqa: FBT003 - its signature
        client.ctx = self
        self._client = client
        self._received = received
        self._lost = lost

    async def open(self) -> None:
        """Connect.

        Raises:
            LinkDownError: with the system's reason.

        """
        where = self._client
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self.transport, _ = await self.call_create()
        except TimeoutError:
            raise LinkDownError(f"{where}: no connection within {CONNECT_TIMEOUT_S:g} s") from None
        except (OSError, termios.error, ValueError) as error:  # pyserial lets the last two through
            raise LinkDownError(f"{where}: {error}") from error
        peer = self.transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            _find_dead_peers(peer)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)  # type: ignore[attr-defined] # pymodbus declares the base of all transports

    def unread(self, limit: int) -> bytes:
        """Return what came and was not read yet, at most about `limit` bytes.

        Raises:
            LinkDownError: the other side has ended the connection.

        """
        transport = self.transport
        serial = transport.sync_serial if isinstance(transport, SerialTransport) else None
        read = bytearray()
        try:
            descriptor = serial.fileno() if serial is not None else transport.get_extra_info("socket").fileno()
            while len(read) < limit:
                data = os.read(descriptor, READ_BYTES)
                if not data and serial is not None:  # so says a port that has nothing
                    break
                if not data:
                    raise LinkDownError("closed by the other side")
                read += data
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:  # the last where the transport has let it go
            raise LinkDownError(str(error)) from error
        return bytes(read)

    def set_baud(self, baud: int) -> None:
        """Speak at another speed from now on; nothing on a network.

        Raises:
            LinkDownError: the port cannot.

        """
        transport = self.transport
        try:
            if isinstance(transport, SerialTransport) and transport.sync_serial.baudrate != baud:
                transport.sync_serial.baudrate = baud
        except (OSError, termios.error, ValueError) as error:
            raise LinkDownError(f"{self._client}: {baud} baud: {error}") from error

    def data_received(self, data: bytes) -> None:
        """Hand on what the event loop read, without pymodbus's buffer of one frame."""
        self._received(data)

    def callback_disconnected(self, exc: Exception | None) -> None:
        """Tell the link that the connection is gone."""
        self._lost(str(exc) if exc else "closed by the other side")


def tcp_wire(
    host: str, port: int, framer: FramerType, received: Callable[[bytes], None], lost: Callable[[str], None]
) -> Wire:
    """Return a wire to a TCP endpoint, not connected yet."""
    return Wire(
        AsyncModbusTcpClient(host, port=port, framer=framer, retries=0, reconnect_delay=0, timeout=CONNECT_TIMEOUT_S),
        received,
        lost,
    )


def serial_wire(
    port: str, baud: int, opened: LineFormat, received: Callable[[bytes], None], lost: Callable[[str], None]
) -> Wire:
    """Return a wire to a serial port, not opened yet."""
    client = AsyncModbusSerialClient(
        port,
        framer=FramerType.RTU,
        baudrate=baud,
        bytesize=opened.data_bits,
        parity=opened.parity,
        stopbits=opened.stop_bits,
        retries=0,
        reconnect_delay=0,
        timeout=CONNECT_TIMEOUT_S,
    )
    return Wire(client, received, lost)


def _find_dead_peers(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKNOWLEDGED_S * 1000))
