"""Simulated meters that publish by themselves to a broker, well or badly: the faults are parameters.

One paho client with its own thread publishes for all of them. Like real devices they keep nothing: what they would
have said while the broker was away is never said.
"""

import asyncio
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from metering import timing
from metering.model import SECOND
from simulators.fleet_file import Fleet, MqttKind
from simulators.meter import Meter, MeterSettings
from simulators.mqtt_payloads import KINDS, Message, Moment

FLOOD_MESSAGES = 5000
MAX_QUEUED = 20_000  # messages that wait for the broker in paho
DEFAULT_PERIOD_S = 10.0
STALE_S = 86_400  # how old a stale retained message is
CONNECT_S = 10.0
FAREWELL_S = 1.0  # for one goodbye; a broker that does not answer is left alone

MqttFaultKind = Literal[
    "malformed",  # half of the payload is missing
    "missing_field",  # the first field of the payload has another name
    "stale_retained",  # the messages of yesterday, marked as retained
    "duplicate",  # each message twice
    "flood",  # the same message 5,000 times
    "silent",  # nothing
]


@dataclass(frozen=True)
class MqttFault:
    """One fault: strikes each publish with probability `chance`."""

    kind: MqttFaultKind
    chance: float = 1.0


@dataclass
class MqttMeter:
    """One device. `faults` may be changed at any time; a wrong clock is the meter's own (`Meter.set_clock`)."""

    id: str
    kind: MqttKind
    meter: Meter
    period_s: float = DEFAULT_PERIOD_S
    zone: str = "UTC"
    faults: Sequence[MqttFault] = ()
    previous: int = field(default=0, init=False)

    @property
    def profile(self) -> str:
        """Return the name of the profile that reads it."""
        return KINDS[self.kind].profile

    @property
    def topic(self) -> str:
        """Return what a configuration gives as the meter's topic."""
        return KINDS[self.kind].topic.format(id=self.id)

    def messages(self, now: int, chance: random.Random) -> list[Message]:
        """Return what it publishes at `now` (us since 1970 UTC), spoiled by the faults that strike."""
        good = self._say(now, self.previous)
        self.previous = now
        for fault in self.faults:
            if chance.random() < fault.chance:
                good = self._spoil(fault.kind, good, now)
        return good

    def state(self, *, online: bool) -> list[Message]:
        """Return the retained message that says whether it is there; none where the device has no such topic."""
        kind = KINDS[self.kind]
        if not kind.online:
            return []
        return [Message(kind.online.format(topic=self.topic), kind.texts[0 if online else 1].encode(), retain=True)]

    def _say(self, now: int, previous: int) -> list[Message]:
        return list(KINDS[self.kind].publish(Moment(self.meter, self.topic, now, previous, ZoneInfo(self.zone))))

    def _spoil(self, kind: MqttFaultKind, good: list[Message], now: int) -> list[Message]:
        match kind:
            case "malformed":
                return [
                    message._replace(payload=b"{" + message.payload[: len(message.payload) // 2]) for message in good
                ]
            case "missing_field":
                return [message._replace(payload=_without_first_field(message.payload)) for message in good]
            case "stale_retained":
                return [message._replace(retain=True) for message in self._say(now - STALE_S * SECOND, 0)]
            case "duplicate":
                return [message for message in good for _ in range(2)]
            case "flood":
                return good[:1] * FLOOD_MESSAGES
            case "silent":
                return []


def _without_first_field(payload: bytes) -> bytes:
    """Rename the first field of a JSON object; a plain number loses all."""
    return payload.replace(b'{"', b'{"x', 1) if payload.startswith(b'{"') else b""


class MqttMeters:
    """Publishes for all `meters` to the broker at `host`:`port`, each at its own period."""

    def __init__(
        self,
        host: str,
        port: int,
        meters: Sequence[MqttMeter],
        *,
        clock: Callable[[], int] = timing.now,
        seed: int = 0,
    ) -> None:
        self.meters = {meter.id: meter for meter in meters}
        self.published = 0
        self._place = host, port
        self._clock = clock
        self._chance = random.Random(seed)
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=f"simulated-meters-{self._chance.getrandbits(32):x}"
        )
        self._client.max_queued_messages_set(MAX_QUEUED)
        self._client.reconnect_delay_set(1, 10)
        self._client.connect_timeout = CONNECT_S
        self._client.on_connect = self._connected

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`; a lost broker is connected to again."""
        self._client.connect_async(*self._place)
        self._client.loop_start()
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, meter in enumerate(self.meters.values()):
                    tasks.create_task(self._run_meter(meter, number / len(self.meters), stop))
        finally:
            await asyncio.to_thread(self._leave)

    def publish(self, meter: MqttMeter) -> int:
        """Publish what the meter says now, and return how many messages the broker was given."""
        if not self._client.is_connected():
            return 0
        count = sum(not self._send(message).rc for message in meter.messages(self._clock(), self._chance))
        self.published += count
        return count

    async def _run_meter(self, meter: MqttMeter, phase: float, stop: asyncio.Event) -> None:
        """Publish at the meter's period; `phase` (0 to 1 of a period) keeps meters apart."""
        if await _stopped(stop, phase * min(meter.period_s, 1.0)):
            return
        while True:
            # Before the connection stands the device tries again quickly, as a real one speaks once it is on line.
            delay = meter.period_s if self.publish(meter) or meter.faults else min(meter.period_s, 0.2)
            if await _stopped(stop, delay):
                return

    def _send(self, message: Message) -> MQTTMessageInfo:
        return self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)

    def _tell_state(self, *, online: bool) -> list[MQTTMessageInfo]:
        meters = self.meters.values()
        return [self._send(message) for meter in meters for message in meter.state(online=online)]

    def _connected(self, *_: object) -> None:
        self._tell_state(online=True)

    def _leave(self) -> None:
        """Say goodbye for every meter, and go when the broker has it."""
        if self._client.is_connected():
            for sent in self._tell_state(online=False):
                if sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                    sent.wait_for_publish(FAREWELL_S)
        self._client.disconnect()
        self._client.loop_stop()


def make_meters(fleet: Fleet, *, period_s: float = DEFAULT_PERIOD_S) -> list[MqttMeter]:
    """Return the MQTT meters of a simulated site, each with its own load curve and serial number."""
    found = []
    for table in fleet.mqtt:
        seed = table.seed if table.seed is not None else zlib.crc32(f"{fleet.seed}/{table.id}".encode())
        settings = MeterSettings(seed=seed, load="pv", serial=str(10_000_000 + seed % 90_000_000))
        found.append(MqttMeter(table.id, table.kind, Meter(settings), period_s))
    return found


async def _stopped(stop: asyncio.Event, delay: float) -> bool:
    """Wait `delay` seconds, and tell whether `stop` came."""
    try:
        await asyncio.wait_for(stop.wait(), delay)
    except TimeoutError:
        return False
    return True
