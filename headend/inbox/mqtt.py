"""The inbox over a plain MQTT broker: acknowledged by hand, and only after the commit. It decodes nothing.

The session is clean: a broker that dies or cuts us forgets what was on its way, and gateways send again whatever has
no receipt. So nothing here must survive, and a message that cannot be taken never comes back for ever.
"""

import asyncio
from collections.abc import Sequence

from paho.mqtt import client as paho

from headend.inbox.port import Delivery
from headend.inbox.room import Room
from metering.wire import MAX_UP_BYTES, ROOT, WireError, gateway_of
from mqtt.client import MqttSettings
from mqtt.loop import ConnectionStatus, MqttConnection

KEPT_OF_TOO_LONG = MAX_UP_BYTES + 1  # bytes of a longer payload that go on: enough to be refused as too long


class MqttDelivery:
    """One message from the broker."""

    def __init__(self, inbox: "MqttInbox", message: paho.MQTTMessage, gateway: str, leaf: str) -> None:
        self._inbox = inbox
        self._message = message
        self.gateway = gateway
        self.leaf = leaf
        self.payload = bytes(message.payload[:KEPT_OF_TOO_LONG])
        self.deliveries = 1  # MQTT does not count; the intake does

    async def ack(self) -> None:
        """Acknowledge it."""
        self._inbox.connection.ack(self._message)

    async def nak(self, delay_s: float) -> None:
        """Let it go: MQTT has no refusal. Without a receipt the gateway sends it again at its own pace."""
        del delay_s
        self._inbox.connection.ack(self._message)


class MqttInbox:
    """`headend.inbox.port.Inbox` on one connection; `run` keeps it.

    `leaves` are the topics' last parts that it takes, into its own room or a shared one. What finds no room is let go:
    it has no receipt and comes again.
    """

    def __init__(
        self, settings: MqttSettings, leaves: Sequence[str] = ("up", "status"), room: Room | None = None
    ) -> None:
        self.connection = MqttConnection(settings, self._came, on_up=self._up, manual_ack=True)
        self.connection.subscribe([f"{ROOT}/+/{leaf}" for leaf in leaves])
        self._room = room if room is not None else Room()
        self.connected = asyncio.Event()  # set at each connect; whoever waits for it clears it
        self.let_go = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the connection until `stop`."""
        await self.connection.run(stop)

    async def fetch(self, most: int) -> Sequence[Delivery]:
        """Wait for a delivery; return it and what else is there, at most `most`."""
        return await self._room.fetch(most)

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send a message to a gateway. Raises `LinkDownError`."""
        self.connection.publish(topic, payload, retain=retain)

    def status(self) -> ConnectionStatus:
        """Return how the connection fares."""
        return self.connection.status()

    def _up(self) -> None:
        self.connected.set()

    def _came(self, message: paho.MQTTMessage) -> None:
        try:
            gateway, leaf = gateway_of(message.topic)
        except WireError:
            self.connection.ack(message)
            return
        found = MqttDelivery(self, message, gateway, leaf)
        if not self._room.has_room(len(found.payload)):
            self.let_go += 1
            self.connection.ack(message)
            return
        self._room.put(found)
