"""An MQTT broker on loopback for the demo and the tests: Mosquitto where it is on the path, amqtt otherwise.

Neither is a broker for a real site: both let anyone in who can reach 127.0.0.1, and keep nothing on disk.
"""

import asyncio
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 32_000)  # of a server that is to start soon
START_S = 10.0  # until the broker accepts a connection
STOP_S = 5.0  # until it has gone after being asked; then it is killed
POLL_S = 0.02
QUEUED_MESSAGES = 100_000
DRAWS = 100
PORT_TRIES = 5  # somebody else may take a free port before the broker does

# /usr/sbin is not on every user's path, and Debian puts Mosquitto there.
_PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


class BrokerError(Exception):
    """The broker did not start; the text says why."""


class Broker(Protocol):
    """A broker that listens on `host`:`port` between `start` and `stop`."""

    name: str
    host: str
    port: int

    @property
    def pid(self) -> int:
        """Return the process that it runs in, once it was started."""
        ...

    async def start(self) -> None:
        """Return when connections are accepted.

        Raises:
            BrokerError: it does not start.

        """
        ...

    async def stop(self) -> None:
        """End it; harmless when it has ended already."""
        ...


class MosquittoBroker:
    """Mosquitto as a child process, with a configuration of its own. `extra` are further lines of it."""

    name = "mosquitto"
    host = LOOPBACK

    def __init__(self, port: int = 0, *, binary: str | None = None, extra: str = "") -> None:
        self.port = port
        self._wanted = port
        self._binary = binary or find_mosquitto() or "mosquitto"
        self._extra = extra
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Return its process; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start it and return when it accepts connections; raise `BrokerError` with its own last words otherwise."""
        said = ""
        for _ in range(1 if self._wanted else PORT_TRIES):
            self.port = self._wanted or free_port()
            if _is_taken(self.port):  # or we would find the other one listening, and take it for ours
                raise BrokerError(f"{self.host}:{self.port} is already in use")
            said = await self._start_once()
            if not said:
                return
        raise BrokerError(f"mosquitto did not start on {self.host}:{self.port}: {said}")

    async def _start_once(self) -> str:
        """Return what it said when it did not start; empty when it stands."""
        self._folder = tempfile.TemporaryDirectory(prefix="metergate-broker-")
        folder = Path(self._folder.name)
        # By default it drops what a subscriber on a busy machine leaves waiting beyond 1,000 messages.
        queue = f"max_queued_messages {QUEUED_MESSAGES}"
        lines = [f"listener {self.port} {self.host}", "persistence false", "log_type error", queue, self._extra]
        if "allow_anonymous" not in self._extra:
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")  # otherwise it changes to a user who cannot read these files
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        with (folder / "output").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                self._binary, "-c", str(folder / "mosquitto.conf"), stdout=output, stderr=output
            )
        if await _listens(self.host, self.port, self._process):
            return ""
        said = (folder / "output").read_text(errors="replace").strip()
        await self.stop()
        return said.splitlines()[-1] if said else "it ended without a word"

    async def stop(self) -> None:
        """Ask it to end, and kill it when it does not."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        await self.stop()


class EmbeddedBroker:
    """amqtt on the running loop: slower, and enough for some hundred simulated meters."""

    name = "embedded"
    host = LOOPBACK

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._wanted = port
        self._broker: Any = None

    @property
    def pid(self) -> int:
        """Return this process: it has none of its own."""
        return os.getpid()

    async def start(self) -> None:
        """Start it on the running loop; raise `BrokerError` when the package is missing or the port is taken."""
        try:  # an extra that only the demo installs, and without types
            amqtt = import_module("amqtt.broker")
            refused: type[Exception] = import_module("amqtt.errors").BrokerError
        except ImportError:
            raise BrokerError("no broker: install mosquitto, or the extra metergate[demo]") from None
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # each dropped connection is an error to it
        for tries_left in reversed(range(1 if self._wanted else PORT_TRIES)):
            self.port = self._wanted or free_port()
            config = {
                "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
            broker = amqtt.Broker(config)
            try:
                await broker.start()
            except refused as error:
                if not tries_left:
                    raise BrokerError(str(error)) from None
                continue
            self._broker = broker
            return

    async def stop(self) -> None:
        """Close all connections and end it."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.shutdown()


def find_mosquitto() -> str | None:
    """Return the path of Mosquitto's binary, or None where it is not installed."""
    return shutil.which("mosquitto", path=_PLACES)


def find_broker(port: int = 0) -> Broker:
    """Return the best broker there is, not started yet. Port 0 takes a free one at the start."""
    binary = find_mosquitto()
    return MosquittoBroker(port, binary=binary) if binary else EmbeddedBroker(port)


@asynccontextmanager
async def running(broker: Broker) -> AsyncIterator[Broker]:
    """Start the broker and stop it at the end."""
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on at this moment.

    It is drawn below the ports that systems give to outgoing connections, one of which could take it before its server
    does.

    Raises:
        OSError: none of many was free.

    """
    for _ in range(DRAWS):
        port = secrets.choice(PORTS)
        if not _is_taken(port):
            return port
    raise OSError(f"no port of {PORTS.start} to {PORTS.stop - 1} is free on {LOOPBACK}")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as brokers do: a port that only rests is free
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


async def _listens(host: str, port: int, process: asyncio.subprocess.Process) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + START_S
    while process.returncode is None and loop.time() < until:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(POLL_S)
            continue
        writer.close()
        return True
    return False
