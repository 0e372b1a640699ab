"""A real NATS cluster of three nodes with JetStream and MQTT listeners, on free loopback ports: for tests, benchmarks.

Not for production (`config/nats/` has an example for that): no TLS unless a test adds it, loopback only.
"""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from simulators.broker import free_port

PROGRAM = Path(__file__).parents[1] / ".nats" / "bin" / "nats-server"
NODES = 3
READY_TIMEOUT_S = 60.0  # three nodes that elect their leaders on a busy machine
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05
LOOPBACK = "127.0.0.1"

CONFIG = """
server_name: n{number}
listen: "{host}:{client}"
http: "{host}:{monitor}"
max_payload: 2MB
jetstream {{
    store_dir: "{directory}/n{number}"
    sync_interval: always
    max_memory_store: 64MB
    max_file_store: 16GB
}}
cluster {{
    name: test
    listen: "{host}:{route}"
    routes: [{routes}]
}}
mqtt {{
    listen: "{host}:{mqtt}"
    {mqtt_more}
}}
{more}
"""


class NatsNode:
    """One `nats-server` of the cluster: to be killed and started again as a test likes."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.client, self.mqtt, self.monitor, self.route = (free_port() for _ in range(4))
        self.config = directory / f"n{number}.conf"
        self._log = directory / f"n{number}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Return its name in the cluster."""
        return f"n{self.number}"

    @property
    def url(self) -> str:
        """Return its address for NATS clients."""
        return f"nats://{LOOPBACK}:{self.client}"

    def start(self) -> None:
        """Start it; `NatsCluster.ready` waits for it."""
        program = PROGRAM if PROGRAM.exists() else shutil.which("nats-server")
        if program is None:
            raise FileNotFoundError("there is no nats-server: run `make nats`")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", self.config], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill(self) -> None:
        """End it with SIGKILL, as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in peace."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def is_healthy(self) -> bool:
        """Tell whether it serves, with its JetStream up to date."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.monitor}/healthz", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def jetstream(self) -> dict[str, Any]:
        """Return what its monitor tells of streams and their leaders."""
        address = f"http://{LOOPBACK}:{self.monitor}/jsz?streams=true&accounts=true&consumers=true"
        with urllib.request.urlopen(address, timeout=READY_TIMEOUT_S) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


class NatsCluster:
    """Three nodes under `directory`. `more` is further configuration of each, `mqtt_more` of its MQTT listener."""

    def __init__(self, directory: Path, *, more: str = "", mqtt_more: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.nodes = [NatsNode(number, directory) for number in range(1, NODES + 1)]
        routes = ", ".join(f'"nats-route://{LOOPBACK}:{node.route}"' for node in self.nodes)
        for node in self.nodes:
            ports: Mapping[str, object] = {
                "number": node.number,
                "host": LOOPBACK,
                "client": node.client,
                "mqtt": node.mqtt,
                "monitor": node.monitor,
                "route": node.route,
            }
            node.config.write_text(
                CONFIG.format(**ports, directory=directory, routes=routes, more=more, mqtt_more=mqtt_more)
            )

    @property
    def servers(self) -> list[str]:
        """Return the addresses for NATS clients."""
        return [node.url for node in self.nodes]

    @property
    def mqtt(self) -> list[tuple[str, int]]:
        """Return host and port of each MQTT listener."""
        return [(LOOPBACK, node.mqtt) for node in self.nodes]

    def start(self) -> None:
        """Start all nodes that do not run; return when all are healthy."""
        for node in self.nodes:
            node.start()
        self.ready()

    def ready(self) -> None:
        """Wait until all nodes are healthy."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not all(node.is_healthy() for node in self.nodes):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster is not healthy after {READY_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)

    def leader(self, stream: str) -> NatsNode:
        """Return the node that leads a stream."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            for account in self.nodes[0].jetstream().get("account_details", []):
                for each in account.get("stream_detail", []):
                    name = each["cluster"].get("leader")
                    if each["name"] == stream and name:
                        return next(node for node in self.nodes if node.name == name)
            time.sleep(POLL_S)
        raise RuntimeError(f"the stream {stream} has no leader")

    def kill(self) -> None:
        """Kill all nodes at once."""
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
