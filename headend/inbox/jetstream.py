"""The inbox over a NATS JetStream cluster, for fleets and several head-ends. It decodes nothing and owns nothing.

Gateways speak MQTT with the cluster as with any broker. What they publish on `up` goes into one replicated stream,
spread over partitions by the gateway's id; of each partition that is ours (`held`) a durable pull consumer gives us the
messages, and again what was not acknowledged. Statuses, receipts and other words to gateways go over an MQTT connection
to the same cluster: a NATS client can neither see nor publish what an MQTT broker retains.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from headend.inbox.mqtt import MqttInbox
from headend.inbox.port import Delivery
from headend.inbox.room import Room
from headend.inbox.stream import StreamLink, StreamSettings
from mqtt.client import MqttSettings
from mqtt.loop import ConnectionStatus


class JetStreamInbox:
    """`headend.inbox.port.Inbox` on a stream and an MQTT connection; `run` keeps both."""

    def __init__(self, stream: StreamSettings, mqtt: MqttSettings, held: Callable[[], Collection[int]]) -> None:
        self._room = Room()
        self._words = MqttInbox(mqtt, ("status",), self._room)
        self._link = StreamLink(stream, self._room, held)
        self.connected = self._words.connected

    @property
    def let_go(self) -> int:
        """Return how many statuses found no room; of the stream nothing is let go."""
        return self._words.let_go

    async def run(self, stop: asyncio.Event) -> None:
        """Keep both connections until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._words.run(stop))
            group.create_task(self._link.run(stop))

    async def fetch(self, most: int) -> Sequence[Delivery]:
        """Wait for a delivery; return it and what else is there, at most `most`."""
        return await self._room.fetch(most)

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send a message to a gateway. Raises `LinkDownError`."""
        await self._words.publish(topic, payload, retain=retain)

    def status(self) -> ConnectionStatus:
        """Return how both connections fare, as one: up when both are."""
        words, link = self._words.status(), self._link.status()
        return ConnectionStatus(
            words.connected and link.connected,
            words.listening and link.listening,
            words.connects + link.connects,
            words.failures + link.failures,
            link.last_error if not link.listening else words.last_error,
            words.refused,
        )
