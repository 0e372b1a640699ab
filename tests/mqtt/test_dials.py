"""Many connections of one process are opened in turns, and one that waits for its turn can be told to stop."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from mqtt import loop
from mqtt.client import MqttSettings
from mqtt.loop import MAX_DIALS, MqttConnection
from simulators.broker import MosquittoBroker
from tests.faults.site_process import until

pytestmark = pytest.mark.real


@contextlib.contextmanager
def all_turns_taken() -> Iterator[None]:
    for _ in range(MAX_DIALS):
        assert loop._dials.acquire(timeout=10)
    try:
        yield
    finally:
        loop._dials.release(MAX_DIALS)


async def test_more_connections_than_may_be_opened_at_once_all_come_up(broker: MosquittoBroker):
    connections = [
        MqttConnection(MqttSettings(broker.host, f"c{number}", broker.port), lambda _: None)
        for number in range(2 * MAX_DIALS)
    ]
    stop = asyncio.Event()

    async def all_up() -> bool:
        return all(each.status().connected for each in connections)

    async def none_up() -> bool:
        return not any(each.status().connected for each in connections)

    with all_turns_taken():
        tasks = [asyncio.create_task(each.run(stop)) for each in connections]
        await asyncio.sleep(0.2)
        assert await none_up()
    await until(all_up, "all connections")
    stop.set()
    await asyncio.gather(*tasks)


async def test_a_connection_that_waits_for_its_turn_ends_when_it_is_told(broker: MosquittoBroker):
    connection = MqttConnection(MqttSettings(broker.host, "c", broker.port), lambda _: None)
    stop = asyncio.Event()
    with all_turns_taken():
        task = asyncio.create_task(connection.run(stop))
        await asyncio.sleep(0.1)
        stop.set()
        await asyncio.wait_for(task, 30)
    assert connection.status().connects == 0
