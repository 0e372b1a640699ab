"""Listens to the meters that publish by MQTT: routes each message by its topic to its meter's mapping. Stores nothing.

A topic is looked up in one dictionary, whether there are ten meters or ten thousand. Each meter has its own allowance
of messages: one that floods loses its own excess, counted, and costs the others nothing.
"""

import time
from asyncio import Event
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Table
from dataclasses import dataclass, field
from typing import NamedTuple

from paho.mqtt.client import MQTTMessage

from collector.drivers.mqtt import Mapping
from collector.mqtt_profile import MqttProfile
from collector.protocols.json_text import MAX_PAYLOAD_BYTES
from metering.errors import FrameError
from metering.model import SECOND, Block
from metering.timing import now as wall_clock
from mqtt.client import MqttSettings
from mqtt.loop import ConnectionStatus, MqttConnection

MESSAGES_PER_S = 100.0  # of one meter; a DSMR 5 meter in split topics sends about 20
BURST_MESSAGES = 1000.0  # what may come at once, after a connect (retained) or a pause


@dataclass(frozen=True)
class MqttMeter:
    """A meter that publishes by itself. `topic` and `parameters` fill the placeholders of its profile.

    `serial`, where it is known, must be the one that the device tells.
    """

    id: str
    profile: MqttProfile
    topic: str
    parameters: Table[str, str] = field(default_factory=dict)
    serial: str = ""


class TopicStatus(NamedTuple):
    """What came on one topic: read, malformed, without anything for us, retained without a time, over the allowance."""

    ok: int
    bad: int
    empty: int
    stale: int
    overflow: int


class MeterStatus(NamedTuple):
    """One meter: whether it says that it is there (None: it says nothing), and what came from it."""

    meter: str
    online: bool | None
    received_at: int  # of the last message that was read; 0 before the first
    clock_offset_s: float | None  # its time minus ours at the last message that came live with a time of its own
    last_error: str
    topics: dict[str, TopicStatus]


class ListenerStatus(NamedTuple):
    """The connection, the meters, and how many messages came on topics that belong to no meter."""

    connection: ConnectionStatus
    meters: Sequence[MeterStatus]
    unknown: int


class _Counts:
    __slots__ = ("bad", "empty", "ok", "overflow", "stale")

    def __init__(self) -> None:
        self.ok = self.bad = self.empty = self.stale = self.overflow = 0

    def status(self) -> TopicStatus:
        return TopicStatus(self.ok, self.bad, self.empty, self.stale, self.overflow)


class _Meter:
    """A meter's mapping, its allowance and its counts."""

    def __init__(self, settings: MqttMeter) -> None:
        self.mapping = Mapping(
            settings.profile, settings.id, settings.topic, settings.parameters, serial=settings.serial
        )
        self.counts = {topic: _Counts() for topic in self.mapping.topics}
        self.online: bool | None = None
        self.received_at = 0
        self.clock_offset_s: float | None = None
        self.last_error = ""
        self._allowance = BURST_MESSAGES
        self._filled_at = time.monotonic()

    def may_speak(self) -> bool:
        """Take one message from the allowance, and tell whether there was one."""
        moment = time.monotonic()
        self._allowance = min(BURST_MESSAGES, self._allowance + (moment - self._filled_at) * MESSAGES_PER_S)
        self._filled_at = moment
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def status(self) -> MeterStatus:
        topics = {topic: counts.status() for topic, counts in self.counts.items()}
        return MeterStatus(
            self.mapping.device, self.online, self.received_at, self.clock_offset_s, self.last_error, topics
        )


class MqttListener:
    """Turns what meters publish at one broker into blocks, on the running loop.

    `on_block(block)` gets what was measured, `on_bad(topic, payload, reason)` what could not be read (the payload cut
    to 64 KiB), `on_state(meter, online, received_at)` each change of whether a device says that it is there. They are
    called on the loop and must not block.

    Raises:
        ConfigError: a meter's parameters or topics are wrong, or a certificate file cannot be used.

    """

    def __init__(
        self,
        settings: MqttSettings,
        meters: Sequence[MqttMeter],
        on_block: Callable[[Block], None],
        on_bad: Callable[[str, bytes, str], None],
        *,
        on_state: Callable[[str, bool, int], None] | None = None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._on_block = on_block
        self._on_bad = on_bad
        self._on_state = on_state
        self._clock = clock
        self._unknown = 0
        self._meters = [_Meter(meter) for meter in meters]
        # Several meters may share a topic: two clamps of one Shelly are two meters and one device.
        self._routes: dict[str, list[_Meter]] = {}
        for meter in self._meters:
            for topic in meter.mapping.topics:
                self._routes.setdefault(topic, []).append(meter)
        self._connection = MqttConnection(settings, self._received)
        self._connection.subscribe(self._routes)

    async def run(self, stop: Event) -> None:
        """Listen until `stop`; a lost broker is connected to again, for as long as it takes."""
        await self._connection.run(stop)

    def status(self) -> ListenerStatus:
        """Return how the connection and each meter fare."""
        return ListenerStatus(self._connection.status(), [meter.status() for meter in self._meters], self._unknown)

    def _received(self, message: MQTTMessage) -> None:
        received_at = self._clock()
        try:
            topic = message.topic
        except UnicodeDecodeError:  # MQTT 3.1.1, 4.7.3: the broker should never have taken it
            self._unknown += 1
            return
        meters = self._routes.get(topic)
        if meters is None:
            self._unknown += 1
            return
        for meter in meters:
            self._take(meter, topic, bytes(message.payload), received_at, retained=message.retain)

    def _take(self, meter: _Meter, topic: str, payload: bytes, received_at: int, *, retained: bool) -> None:
        counts = meter.counts[topic]
        if not meter.may_speak():
            counts.overflow += 1
            return
        try:
            if meter.mapping.tells_state(topic):
                self._state(meter, meter.mapping.state(topic, payload), received_at)
                counts.ok += 1
                return
            blocks = meter.mapping.map(topic, payload, received_at, retained=retained)
        except FrameError as error:
            counts.bad += 1
            meter.last_error = str(error)
            self._on_bad(topic, payload[:MAX_PAYLOAD_BYTES], str(error))
            return
        if not blocks:
            counts.stale += retained
            counts.empty += not retained
            return
        counts.ok += 1
        meter.received_at = received_at
        if not retained and blocks[0].measured_at != received_at:
            meter.clock_offset_s = (blocks[0].measured_at - received_at) / SECOND
        for block in blocks:
            self._on_block(block)

    def _state(self, meter: _Meter, online: bool, received_at: int) -> None:  # noqa: FBT001 - the state itself, not an option
        if online is not meter.online:
            meter.online = online
            if self._on_state is not None:
                self._on_state(meter.mapping.device, online, received_at)
