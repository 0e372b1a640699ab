"""The inbox over a plain MQTT broker: acknowledged by hand, and only after the commit. It decodes nothing.

The session is clean: a broker that dies or cuts us forgets what was on its way, and gateways send again whatever has
no receipt. So nothing here must survive, and a message that cannot be taken never comes back for ever.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from paho.mqtt import client as paho

from metering.wire import MAX_UP_BYTES, ROOT, WireError, gateway_of
from mqtt.client import MqttSettings
from mqtt.loop import ConnectionStatus, MqttConnection

MAX_WAITING = 10_000  # messages, and
MAX_WAITING_BYTES = 64 << 20  # their bytes together; what comes beyond is let go: it has no receipt and comes again
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
    """`headend.inbox.port.Inbox` on one connection; `run` keeps it."""

    def __init__(self, settings: MqttSettings) -> None:
        self.connection = MqttConnection(settings, self._came, on_up=self._up, manual_ack=True)
        self.connection.subscribe([f"{ROOT}/+/up", f"{ROOT}/+/status"])
        self._waiting: deque[MqttDelivery] = deque()
        self._bytes = 0
        self._there = asyncio.Event()
        self.connected = asyncio.Event()  # set at each connect; whoever waits for it clears it
        self.let_go = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the connection until `stop`."""
        await self.connection.run(stop)

    async def fetch(self, most: int) -> Sequence[MqttDelivery]:
        """Wait for a delivery; return it and what else is there, at most `most`."""
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._bytes -= sum(len(each.payload) for each in found)
        return found

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
        if len(self._waiting) >= MAX_WAITING or self._bytes + len(found.payload) > MAX_WAITING_BYTES:
            self.let_go += 1
            self.connection.ack(message)
            return
        self._waiting.append(found)
        self._bytes += len(found.payload)
        self._there.set()
