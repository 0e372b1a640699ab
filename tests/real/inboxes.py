"""Both inboxes as tests open them: over a Mosquitto, and over a NATS cluster of three nodes."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import nats
from nats.js.errors import NotFoundError

from bench.nats_server import NatsCluster
from headend.inbox.jetstream import JetStreamInbox
from headend.inbox.mqtt import MqttInbox
from headend.inbox.stream import StreamSettings
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from simulators.broker import MosquittoBroker, find_mosquitto
from tests.faults.site_process import until

STREAM = "readings"
PARTITIONS = 4
RETAINING = ("g1", "g2")  # gateways of tests that leave retained messages
ALL = frozenset(range(PARTITIONS))


@dataclass
class Engine:
    """What carries messages in a test: gateways connect by `mqtt`; `cluster` is the one of a JetStream inbox."""

    mqtt: MqttSettings
    cluster: NatsCluster | None = None

    def settings(self, client_id: str) -> MqttSettings:
        return replace(self.mqtt, client_id=client_id)

    def make(self, held: Collection[int] = ALL, name: str = "centre") -> MqttInbox | JetStreamInbox:
        mqtt = self.settings(name)
        if self.cluster is None:
            return MqttInbox(mqtt)
        stream = StreamSettings(tuple(self.cluster.servers), STREAM, PARTITIONS, name)
        return JetStreamInbox(stream, mqtt, lambda: held)


def nodes(cluster: NatsCluster, client_id: str) -> MqttSettings:
    first, *others = cluster.mqtt
    return MqttSettings(first[0], client_id, first[1], others=tuple(others))


async def forget_retained(settings: MqttSettings) -> None:
    """Clear what tests left at a broker that lives on: an empty retained message removes the one before."""
    done: list[int] = []
    connection = MqttConnection(settings, lambda _message: None, on_published=done.append)
    stop = asyncio.Event()
    task = asyncio.create_task(connection.run(stop))

    async def up() -> bool:
        return connection.status().connected

    await until(up, "the sweeper")
    topics = [f"m/v1/{name}/{leaf}" for name in RETAINING for leaf in ("status", "receipt")]
    for topic in topics:
        connection.publish(topic, b"", retain=True)

    async def all_gone() -> bool:
        return len(done) == len(topics)

    await until(all_gone, "the end of what was retained")
    stop.set()
    await task


@asynccontextmanager
async def engine_of(kind: str, cluster: NatsCluster | None) -> AsyncIterator[Engine]:
    if cluster is None:
        assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
        broker = MosquittoBroker()
        await broker.start()
        yield Engine(MqttSettings("127.0.0.1", kind, broker.port))
        await broker.stop()
        return
    yield Engine(nodes(cluster, kind), cluster)
    await forget_retained(nodes(cluster, "sweeper"))
    client = await nats.connect(cluster.servers)
    stream = client.jetstream(timeout=30)
    with suppress(NotFoundError):
        await stream.delete_stream(STREAM)
    await client.close()


@asynccontextmanager
async def running(inbox: MqttInbox | JetStreamInbox) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(inbox.run(stop))

    async def listens() -> bool:
        return inbox.status().listening

    await until(listens, f"the inbox, {inbox.status()}")
    yield
    stop.set()
    await task
