"""A Modbus TCP server in a process of its own whose registers never change: the cheap peer of benchmarks. No faults.

Every unit of every port shows the same registers, so that what is measured is the client.
"""

import asyncio
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Self, cast

import msgspec

from simulators.unit import FixedRegisters, Unit

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
REQUEST_BYTES = 12  # MBAP header and a read request; nothing else is served here
MAX_KNOWN = 65536  # different requests remembered with their answers


class _Order(msgspec.Struct):
    """What the parent tells the child on its standard input."""

    host: str
    ports: list[int]
    units: list[int]
    image: dict[int, bytes]


class StaticServer:
    """A child process on uvloop that answers reads of `units` on `ports` from `image`.

    `ports` is how many ports the system shall choose, or the ports themselves; `image` the register bytes from address
    0 on, by function, or one image for the functions 3 and 4. Used as a context manager; `ports` then has the ports
    that listen. It ends with its parent.
    """

    def __init__(
        self,
        ports: int | Sequence[int],
        units: Collection[int],
        image: Mapping[int, bytes] | bytes,
        *,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.ports: list[int] = [0] * ports if isinstance(ports, int) else list(ports)
        images = {3: image, 4: image} if isinstance(image, bytes) else dict(image)
        self._order = _Order(host, self.ports, sorted(units), images)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the child's process id: for its CPU time and memory."""
        return self._child.pid if self._child else 0

    def __enter__(self) -> Self:
        order = msgspec.json.encode(self._order)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "simulators.static_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._child.stdin is not None  # noqa: S101 - asked for with PIPE
        assert self._child.stdout is not None  # noqa: S101 - asked for with PIPE
        self._child.stdin.write(order + b"\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            self._child.wait(START_TIMEOUT_S)
            raise OSError(f"the static server ended with status {self._child.returncode} before it listened")
        self.ports = msgspec.json.decode(line, type=list[int])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.terminate()
            self._child.communicate(timeout=STOP_TIMEOUT_S)
            self._child = None


class _Connection(asyncio.Protocol):
    def __init__(self, units: dict[int, Unit], known: dict[bytes, bytes]) -> None:
        self._units = units
        self._known = known
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("asyncio.Transport", transport).write

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        replies = []
        end = len(data) - len(data) % REQUEST_BYTES
        for start in range(0, end, REQUEST_BYTES):
            asked = data[start + 6 : start + REQUEST_BYTES]
            rest = self._known.get(asked)
            if rest is None:
                rest = self._learn(asked)
            if rest:
                replies.append(data[start : start + 4] + rest)
        self._buffer = data[end:]
        self._write(b"".join(replies))

    def _learn(self, asked: bytes) -> bytes:
        """Return what follows transaction and protocol in the answer to unit and PDU; nothing for a foreign unit."""
        unit = self._units.get(asked[0])
        if unit is None:
            return b""
        pdu = unit.answer(asked[1:]).pdu
        rest = (len(pdu) + 1).to_bytes(2, "big") + asked[:1] + pdu
        if len(self._known) < MAX_KNOWN:
            self._known[asked] = rest
        return rest


async def _serve(order: _Order) -> None:
    registers = FixedRegisters(order.image)
    units = {address: Unit(address, registers) for address in order.units}
    known: dict[bytes, bytes] = {}
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: _Connection(units, known), order.host, port, backlog=1024)
        for port in order.ports
    ]
    sys.stdout.write(msgspec.json.encode([server.sockets[0].getsockname()[1] for server in servers]).decode() + "\n")
    sys.stdout.flush()
    # The parent's end of the pipe closes when it is done or dead.
    await loop.run_in_executor(None, sys.stdin.buffer.read)


def main() -> None:
    """Serve what the order on standard input says."""
    import uvloop  # noqa: PLC0415 - only the child needs it

    uvloop.run(_serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=_Order)))


if __name__ == "__main__":
    main()
