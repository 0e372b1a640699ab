"""Both brokers of the demo, spoken to by a paho client: QoS 1, retained messages, last will."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from simulators import broker as brokers
from simulators.broker import Broker, BrokerError, EmbeddedBroker, MosquittoBroker, find_broker, running

WAIT_S = 10


@pytest.fixture(params=[EmbeddedBroker, MosquittoBroker])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    async with running(request.param()) as started:
        yield started


class Person:
    """A paho client on its own thread whose messages can be waited for."""

    def __init__(self, broker: Broker, name: str, will: str = "") -> None:
        self.messages: list[MQTTMessage] = []
        self._broker = broker
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name)
        self._client.on_message = lambda _client, _data, message: self.messages.append(message)
        if will:
            self._client.will_set(will, b"gone", qos=1, retain=True)

    async def connect(self) -> None:
        await asyncio.to_thread(self._client.connect, self._broker.host, self._broker.port)
        self._client.loop_start()
        await until(self._client.is_connected)

    async def subscribe(self, topic: str) -> None:
        answers: list[int] = []
        self._client.on_subscribe = lambda _client, _data, mid, *_: answers.append(mid)
        _, mid = self._client.subscribe(topic, qos=1)
        await until(lambda: mid in answers)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        await asyncio.to_thread(info.wait_for_publish, WAIT_S)
        assert info.is_published()

    async def leave(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def vanish(self) -> None:
        """Break the connection without a farewell."""
        sock = self._client.socket()
        sock.shutdown(socket.SHUT_RDWR)
        self._client._reconnect_on_failure = False
        await asyncio.to_thread(self._client.loop_stop)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread or process
            await asyncio.sleep(0.01)


async def test_a_message_at_qos_1_reaches_who_subscribed(broker: Broker):
    reader, writer = Person(broker, "reader"), Person(broker, "writer")
    await reader.connect()
    await writer.connect()
    await reader.subscribe("meters/+/readings")
    await writer.publish("meters/7/readings", b"42")
    await until(lambda: bool(reader.messages))
    message = reader.messages[0]
    assert (message.topic, message.payload, message.qos, message.retain) == ("meters/7/readings", b"42", 1, False)
    await reader.leave()
    await writer.leave()


async def test_a_retained_message_waits_for_who_comes_later(broker: Broker):
    writer = Person(broker, "writer")
    await writer.connect()
    await writer.publish("meters/7/online", b"true", retain=True)
    await writer.leave()
    reader = Person(broker, "reader")
    await reader.connect()
    await reader.subscribe("meters/7/online")
    await until(lambda: bool(reader.messages))
    assert (reader.messages[0].payload, reader.messages[0].retain) == (b"true", True)
    await reader.leave()


async def test_the_last_will_is_published_when_a_client_vanishes(broker: Broker):
    reader, mortal = Person(broker, "reader"), Person(broker, "mortal", will="meters/7/online")
    await reader.connect()
    await reader.subscribe("meters/7/online")
    await mortal.connect()
    await mortal.vanish()
    await until(lambda: bool(reader.messages))
    assert reader.messages[0].payload == b"gone"
    await reader.leave()


async def test_only_loopback_is_listened_on(broker: Broker):
    assert broker.host == "127.0.0.1"


async def test_mosquitto_is_taken_where_it_is_and_the_embedded_one_otherwise(monkeypatch: pytest.MonkeyPatch):
    assert find_broker().name == "mosquitto"
    monkeypatch.setattr(brokers, "_PLACES", "/nowhere")
    assert find_broker().name == "embedded"


@pytest.mark.parametrize("kind", [EmbeddedBroker, MosquittoBroker])
async def test_a_taken_port_is_told(kind: type[EmbeddedBroker | MosquittoBroker]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BrokerError, match="already in use"):
            await kind(taken.getsockname()[1]).start()
