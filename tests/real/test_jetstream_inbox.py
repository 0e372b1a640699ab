"""What the inbox over a NATS cluster promises beyond any other: partitions, refusals, nodes that come and go."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nats_server import NatsCluster
from headend.inbox.jetstream import JetStreamInbox
from headend.inbox.port import Delivery
from headend.inbox.stream import StreamSettings
from headend.seqs import hash_of
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from tests.faults.site_process import until
from tests.real.inboxes import PARTITIONS, STREAM, Engine, engine_of, running

pytestmark = pytest.mark.real
GATEWAYS = [f"g{n}" for n in range(30)]


@pytest.fixture
async def engine(nats_cluster: NatsCluster) -> AsyncIterator[Engine]:
    async with engine_of("gateway", nats_cluster) as found:
        yield found


async def publish(engine: Engine, *messages: tuple[str, bytes]) -> None:
    done: list[int] = []
    connection = MqttConnection(engine.settings("source"), lambda _message: None, on_published=done.append)
    stop = asyncio.Event()
    task = asyncio.create_task(connection.run(stop))

    async def up() -> bool:
        return connection.status().connected

    await until(up, "the source")
    for gateway, payload in messages:
        connection.publish(f"m/v1/{gateway}/up", payload)

    async def all_there() -> bool:
        return len(done) == len(messages)

    await until(all_there, "the broker's word")
    stop.set()
    await task


async def fetch(inbox: JetStreamInbox, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += await inbox.fetch(count - len(found))
    return found


@given(st.text("ab0", max_size=5), st.integers(1, 64))
def test_the_hash_of_a_gateway_is_a_number_of_32_bits_that_spreads(name: str, count: int):
    assert 0 <= hash_of(name) < 2**32
    assert 0 <= hash_of(name) % count < count
    assert (hash_of(""), hash_of("a"), hash_of("foobar")) == (0x811C9DC5, 0xE40C292C, 0xBF9CF968)  # FNV's own examples


async def ended(inbox: JetStreamInbox, count: int) -> Counter[str]:
    found = await fetch(inbox, count)
    for each in found:
        await each.ack()
    return Counter(each.gateway for each in found)


async def test_each_head_end_gets_the_gateways_of_its_partitions_and_no_others(engine: Engine):
    held = {0, 2}
    mine, theirs = engine.make(held, "a"), engine.make({1, 3}, "b")
    expected = {name for name in GATEWAYS if hash_of(name) % PARTITIONS in held}
    async with running(mine), running(theirs):
        await publish(engine, *((name, name.encode()) for name in GATEWAYS))
        assert await ended(mine, len(expected)) == dict.fromkeys(expected, 1)
        assert await ended(theirs, len(GATEWAYS) - len(expected)) == dict.fromkeys(set(GATEWAYS) - expected, 1)


async def test_a_partition_that_is_lost_and_came_back_goes_on_where_it_was(engine: Engine):
    held = set(range(PARTITIONS))
    inbox = engine.make(held)
    async with running(inbox):
        await publish(engine, *((name, b"1") for name in GATEWAYS))
        assert await ended(inbox, len(GATEWAYS)) == dict.fromkeys(GATEWAYS, 1)
        held.remove(1)
        await asyncio.sleep(1)  # it looks every LOOK_S
        await publish(engine, *((name, b"2") for name in GATEWAYS))
        late = {name for name in GATEWAYS if hash_of(name) % PARTITIONS == 1}
        assert await ended(inbox, len(GATEWAYS) - len(late)) == dict.fromkeys(set(GATEWAYS) - late, 1)
        held.add(1)
        assert await ended(inbox, len(late)) == dict.fromkeys(late, 1)


async def test_what_is_refused_comes_again_and_is_counted(engine: Engine):
    inbox = engine.make()
    async with running(inbox):
        await publish(engine, ("g1", b"x"))
        for number in (1, 2, 3):
            (found,) = await fetch(inbox, 1)
            assert (found.payload, found.deliveries) == (b"x", number)
            await found.nak(0.1)


async def test_what_was_delivered_and_not_acknowledged_comes_to_the_next_owner(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headend.inbox.stream.ACK_WAIT_S", 1.0)
    first, second = engine.make(name="a"), engine.make(name="b")
    async with running(first):
        await publish(engine, *((name, b"x") for name in GATEWAYS))
        await fetch(first, len(GATEWAYS))
    async with running(second):
        assert await ended(second, len(GATEWAYS)) == dict.fromkeys(GATEWAYS, 1)


async def test_a_stream_that_is_spread_otherwise_is_told_and_nothing_is_taken_from_it(engine: Engine):
    inbox = engine.make()
    async with running(inbox):
        pass
    assert engine.cluster is not None
    other = JetStreamInbox(
        StreamSettings(tuple(engine.cluster.servers), STREAM, PARTITIONS + 1, "other"),
        engine.settings("other"),
        lambda: {0},
    )
    stop = asyncio.Event()
    task = asyncio.create_task(other.run(stop))

    async def told() -> bool:
        return f"is spread otherwise than over {PARTITIONS + 1} partitions" in other.status().last_error

    await until(told, "the word about the stream")
    assert not other.status().listening
    stop.set()
    await task


async def test_an_inbox_waits_where_there_is_no_room_and_loses_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headend.inbox.room.MAX_WAITING", 50)
    monkeypatch.setattr("headend.inbox.stream.PULL_MESSAGES", 10)
    inbox = engine.make()
    count = 300
    async with running(inbox):
        await publish(engine, *(("g1", str(n).encode()) for n in range(count)))
        await asyncio.sleep(1)
        assert len(inbox._room._waiting) <= 50 + 10 * PARTITIONS
        found = await fetch(inbox, count)
        for each in found:
            await each.ack()
    assert {int(each.payload) for each in found} == set(range(count))


async def test_a_server_that_is_not_there_is_told_and_the_next_one_is_taken(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    assert engine.cluster is not None
    monkeypatch.setattr("mqtt.client.FIRST_RETRY_S", 0.1)
    settings = StreamSettings(("nats://127.0.0.1:1", engine.cluster.servers[1]), STREAM, PARTITIONS, "centre")
    inbox = JetStreamInbox(settings, engine.settings("centre"), lambda: {0})
    async with running(inbox):
        assert inbox.status().failures >= 1
        assert "127.0.0.1:1" in inbox._link.status().last_error
    wrong = MqttSettings("127.0.0.1", "gateway", 1, others=tuple(engine.cluster.mqtt[:1]))
    found = MqttConnection(wrong, lambda _message: None)
    stop = asyncio.Event()
    task = asyncio.create_task(found.run(stop))

    async def up() -> bool:
        return found.status().connected

    await until(up, "a gateway at the other node")
    stop.set()
    await task
