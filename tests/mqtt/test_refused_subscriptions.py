"""A broker that has just come up may refuse a subscription that it allows a moment later: it is asked again."""

import asyncio

import pytest

from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from tests.faults.site_process import until

CONNECT, SUBSCRIBE = 0x10, 0x82
REFUSED, GRANTED = 0x80, 0x01


class Hesitant:
    """An MQTT 3.1.1 server that refuses each subscription so often."""

    def __init__(self, refusals: int) -> None:
        self.left = refusals
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readexactly(2):
                body = await reader.readexactly(head[1])
                if head[0] == CONNECT:
                    writer.write(bytes((0x20, 2, 0, 0)))
                elif head[0] == SUBSCRIBE:
                    self.asked.append(body[4:-1])
                    code = REFUSED if self.left else GRANTED
                    self.left = max(0, self.left - 1)
                    writer.write(bytes((0x90, 3)) + body[:2] + bytes((code,)))
        except asyncio.IncompleteReadError:
            writer.close()


async def test_what_was_refused_is_asked_for_again_until_it_is_granted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mqtt.loop.ASK_AGAIN_S", 0.1)
    broker = Hesitant(2)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    connection = MqttConnection(MqttSettings("127.0.0.1", "c", server.sockets[0].getsockname()[1]), lambda _: None)
    connection.subscribe(["m/v1/g/receipt"])
    stop = asyncio.Event()
    task = asyncio.create_task(connection.run(stop))

    async def refused() -> bool:
        return connection.status().refused == ("m/v1/g/receipt",)

    async def granted() -> bool:
        return broker.left == 0 and connection.status().refused == () and connection.status().listening

    await until(refused, "the refusal")
    await until(granted, "the subscription")
    assert broker.asked == [b"m/v1/g/receipt"] * 3
    stop.set()
    await task
    server.close()
