"""What both inboxes promise alike, over a real Mosquitto and a real NATS cluster of three nodes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from paho.mqtt import client as paho

from headend.inbox.port import Delivery, Inbox
from headend.intake import Intake
from headend.ledger_file import LedgerFile
from headend.state.held import HeldBack
from headend.state.store import State
from headend.strikes import STRIKES
from metering import wire
from metering.batch import Batch
from metering.wire import Up
from mqtt.loop import MqttConnection
from storage.codec import pack
from storage.log import Log
from storage.quarantine import Quarantine
from tests.faults.site_process import until
from tests.real.inboxes import Engine, engine_of, running

pytestmark = pytest.mark.real


@pytest.fixture(params=["mqtt", "jetstream"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    cluster = request.getfixturevalue("nats_cluster") if request.param == "jetstream" else None
    async with engine_of("gateway", cluster) as found:
        yield found


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log.open(tmp_path / "log")
    yield opened
    opened.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db")
    yield opened
    opened.close()


@asynccontextmanager
async def gateway(engine: Engine, name: str, heard: list[paho.MQTTMessage]) -> AsyncIterator[MqttConnection]:
    connection = MqttConnection(engine.settings(name), heard.append)
    connection.subscribe([wire.topic(name, "receipt")])
    stop = asyncio.Event()
    task = asyncio.create_task(connection.run(stop))

    async def listens() -> bool:
        return connection.status().listening

    await until(listens, "the gateway's connection")
    yield connection
    stop.set()
    await task


async def fetch(inbox: Inbox, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await inbox.fetch(count - len(found))
    return found


async def test_what_gateways_publish_comes_with_its_gateway_and_its_leaf(engine: Engine):
    inbox = engine.make()
    async with running(inbox), gateway(engine, "g1", []) as one, gateway(engine, "g2", []) as two:
        one.publish("m/v1/g1/up", b"a")
        two.publish("m/v1/g2/up", b"b")
        two.publish("m/v1/g2/status", b"c", retain=True)
        found = await fetch(inbox, 3)
        for each in found:
            await each.ack()
    assert {(each.gateway, each.leaf, each.payload, each.deliveries) for each in found} == {
        ("g1", "up", b"a", 1),
        ("g2", "up", b"b", 1),
        ("g2", "status", b"c", 1),
    }


async def test_a_status_from_before_the_inbox_came_is_heard(engine: Engine):
    async with gateway(engine, "g1", []) as one:
        one.publish("m/v1/g1/status", b"here", retain=True)

        async def heard() -> Delivery | None:
            inbox = engine.make()
            async with running(inbox):
                try:
                    return (await asyncio.wait_for(inbox.fetch(1), 2))[0]
                except TimeoutError:
                    return None  # the nodes of a cluster learn of it a little later than its publisher

        found = await until(heard, "the status")
    assert (found.gateway, found.leaf, found.payload) == ("g1", "status", b"here")


async def test_a_receipt_waits_at_the_broker_for_its_gateway(engine: Engine):
    inbox = engine.make()
    heard: list[paho.MQTTMessage] = []
    async with running(inbox):
        await inbox.publish("m/v1/g1/receipt", b"1", retain=True)
        await inbox.publish("m/v1/g1/receipt", b"2", retain=True)
        await inbox.publish("m/v1/g2/receipt", b"3", retain=True)
        await asyncio.sleep(0.5)
        async with gateway(engine, "g1", heard):

            async def told() -> bool:
                return bool(heard)

            await until(told, "the receipt")
    assert [message.payload for message in heard] == [b"2"]


async def test_what_cannot_be_decoded_is_put_aside_after_some_deliveries_and_blocks_nobody(
    engine: Engine, log: Log, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headend.intake.NAK_S", 0.2)
    inbox = engine.make()
    aside = Quarantine(tmp_path / "bad")
    books = LedgerFile(tmp_path / "ledger", log)
    known = {"g1", "g2"}.__contains__
    intake = Intake(inbox, log, books, aside, known, lambda _gateway, _device: True, HeldBack(state))
    stop = asyncio.Event()
    async with running(inbox), gateway(engine, "g1", []) as bad, gateway(engine, "g2", []) as good:
        task = asyncio.create_task(intake.run(stop))
        for _ in range(1 if engine.cluster is not None else STRIKES):  # MQTT has no refusal: the gateway repeats it
            bad.publish("m/v1/g1/up", b"\x01 no message")
        good.publish("m/v1/g2/up", wire.encode(Up("e", 1, [pack(Batch(1))])))

        async def settled() -> bool:
            return intake.counts.quarantined == 1 and intake.counts.records == 1

        await until(settled, f"the quarantine, {intake.counts}")
        good.publish("m/v1/g2/up", wire.encode(Up("e", 2, [pack(Batch(2))])))

        async def goes_on() -> bool:
            return intake.counts.records == 2

        await until(goes_on, f"what comes after it, {intake.counts}")
        stop.set()
        await task
    assert intake.counts.deliveries == STRIKES + 2
    assert len(list(aside.items())) == 1
