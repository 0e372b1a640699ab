"""Gateways in this process, a NATS cluster, PostgreSQL, and head-ends in processes that share the fleet.

What billing may read is proven from the head-ends' logs, all projected into one store, as a shared InfluxDB would have.
"""

import asyncio
import contextlib
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from paho.mqtt import client as paho

from bench.nats_server import NatsCluster
from gateway.uplink import Uplink
from metergate.commands.registry import take_in
from metering import wire
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.ports import ReadingsQuery
from metering.timing import now
from metering.wire import Receipt
from mqtt.loop import MqttConnection
from simulators.broker import free_port
from storage.codec import count, pack
from storage.embedded import EmbeddedStore
from storage.log import Log
from storage.projection import Projection
from storage.quarantine import Quarantine
from tests.faults.site_process import MAIN, WAIT_S, until
from tests.real.inboxes import nodes

LAYOUT = Layout(Kind.INSTANTANEOUS, Source.POLL, 1, (Column("1-0:32.7.0*255", "V", 0, "int"),))
BEGIN = 1_764_000_000 * SECOND
GATEWAYS = 6
PARTITIONS = 4
PAUSE_S = 0.02
QUICK = (  # tests are short
    "import headend.tenure, headend.inbox.stream, headend.intake;"
    "headend.tenure.LEASE_S = 4.0; headend.inbox.stream.ACK_WAIT_S = 3.0; headend.intake.NAK_S = 0.5"
)


class Edge:
    """One gateway: its log, its uplink and what its `append` has returned for."""

    def __init__(self, name: str, folder: Path, cluster: NatsCluster) -> None:
        self.name = name
        self.acknowledged: list[int] = []
        self.log = Log.open(folder / "log", count=count)
        self.uplink = Uplink(self.log, folder / "uplink.json", name, nodes(cluster, f"gw-{name}"))

    async def append(self) -> None:
        number = len(self.acknowledged)
        at = BEGIN + number * SECOND
        block = Block(LAYOUT, f"m-{self.name}", at, now(), [number], slot=at)
        await self.log.append(pack(Batch(now(), [block])))
        self.acknowledged.append(number)

    async def append_on(self, enough: asyncio.Event) -> None:
        while not enough.is_set():
            await self.append()
            await asyncio.sleep(PAUSE_S)


class ClusterPlace:
    """Start, kill and start again as a test likes; `settled` and `check` at the end."""

    def __init__(self, folder: Path, state: str, cluster: NatsCluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self.edges: list[Edge] = []
        self.receipts: dict[str, list[Receipt]] = {}
        self._state = state
        self._headends: dict[str, asyncio.subprocess.Process] = {}
        self._names: list[str] = []
        self._enough, self._stop = asyncio.Event(), asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for number in range(GATEWAYS):
            folder = self.folder / f"g{number}"
            folder.mkdir()
            self.edges.append(Edge(folder.name, folder, self.cluster))
        watch = MqttConnection(nodes(self.cluster, "watch"), self._receipt)
        watch.subscribe([wire.topic(edge.name, "receipt") for edge in self.edges])
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(watch.run(self._stop))
        for edge in self.edges:
            group.create_task(edge.uplink.run(self._stop))
            group.create_task(edge.append_on(self._enough))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._enough.set()
        self._stop.set()
        for name in list(self._headends):
            await self.end(name, signal.SIGKILL)
        await self._stack.aclose()
        for edge in self.edges:
            edge.log.close()
        said = "".join(path.read_text() for path in self.folder.glob("*.err"))
        assert "Traceback" not in said, said

    def _receipt(self, message: paho.MQTTMessage) -> None:
        gateway, _ = message.topic.split("/")[2:]
        receipt = wire.decode(bytes(message.payload), Receipt)
        self.receipts.setdefault(gateway, []).append(receipt)

    # --- head-ends ----------------------------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Start a head-end; it is not waited for."""
        file = self.folder / f"{name}.toml"
        if not file.exists():
            self._write(name, file)
            self._names.append(name)
        with (self.folder / f"{name}.err").open("ab") as errors:
            self._headends[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-c", f"{QUICK}\n{MAIN}", "headend", str(file), stdout=errors, stderr=errors
            )

    def tell(self, name: str, how: signal.Signals) -> None:
        """Send a head-end a signal."""
        self._headends[name].send_signal(how)

    async def end(self, name: str, how: signal.Signals) -> None:
        """Send a head-end a signal and wait for its end."""
        process = self._headends.pop(name)
        if process.returncode is None:
            process.send_signal(how)
            await asyncio.wait_for(process.wait(), WAIT_S)

    def _write(self, name: str, file: Path) -> None:
        (_, first), *others = self.cluster.mqtt
        file.write_text(
            f'[headend]\nid = "{name}"\ndata = "{self.folder / name}"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {first}\nothers = {[f"{host}:{port}" for host, port in others]}\n'
            f'[inbox]\nkind = "jetstream"\nservers = {self.cluster.servers}\npartitions = {PARTITIONS}\n'
            f'[state]\nurl = "{self._state}"\n[api]\nlisten = "127.0.0.1:{free_port()}"\n'
        )
        fleet = self.folder / "fleet.toml"
        tables = (
            f'[[gateway]]\nid = "{edge.name}"\n[[meter]]\nid = "m-{edge.name}"\ngateway = "{edge.name}"\n'
            f'point = "p-{edge.name}"\nregion = "js"\nprofile = "eastron_sdm120"\n'
            for edge in self.edges
        )
        fleet.write_text("".join(tables))
        take_in(file, fleet)

    # --- what is waited for and shown ---------------------------------------------------------------------------------

    async def receipted(self) -> None:
        """Wait until every gateway has a receipt for all that it has now."""
        wanted = {edge.name: edge.log.next_seq - 1 for edge in self.edges}

        async def told() -> bool:
            return all(edge.uplink.status().contiguous >= wanted[edge.name] for edge in self.edges)

        with contextlib.suppress(AssertionError):  # a cluster whose nodes elect new leaders takes longer than most
            await until(told, "receipts")
            return
        await until(told, f"receipts for {wanted}, {[edge.uplink.status() for edge in self.edges]}")

    async def settled(self) -> None:
        """End the appending and wait for the last receipts, then end the head-ends in peace."""
        self._enough.set()
        await asyncio.sleep(10 * PAUSE_S)
        await self.receipted()
        for name in list(self._headends):
            await self.end(name, signal.SIGTERM)

    def check(self) -> None:
        """Check that all that was acknowledged is in one store of all logs, once, and that receipts never went back."""
        store = EmbeddedStore(self.folder / "proof.db")
        with contextlib.closing(store):
            for name in self._names:
                log = Log.open(self.folder / name / "log")
                with contextlib.closing(log):
                    proof = Projection(log, store, "proof", Quarantine(self.folder / "bad"))
                    proof.rewind()
                    while proof.step():
                        pass
            for edge in self.edges:
                query = ReadingsQuery(f"m-{edge.name}", BEGIN, BEGIN + 10**6 * SECOND, versions=True, limit=10**5)
                found = [int(reading.value or 0) for reading in store.readings(query).readings]
                assert sorted(found) == edge.acknowledged, edge.name
                assert edge.acknowledged
        for gateway, receipts in self.receipts.items():
            # In the order in which they were made: a broker may bring one again, or one that it retained before others.
            said = [each.contiguous for each in sorted(receipts, key=lambda each: (each.fence, each.at))]
            assert said == sorted(said), gateway
