"""Maps one MQTT message to readings by its device's profile: pure, bytes to `Block`s. Knows no broker and no socket.

What a message does not contain is not there: a partial update gives only the channels that came, never a zero. What
cannot be read exactly is refused with its reason (`FrameError`), so that the listener keeps the bytes; nothing is
rounded. Two cases are read, and flagged:

- a device whose clock was never set (before 2010): the time of arrival counts, `CLOCK_SUSPECT`;
- a time more than 5 minutes from the arrival, or a local time that may mean another hour: `CLOCK_SUSPECT`.

A retained message that carries no time of its own gives nothing: it may have lain at the broker for a year, and its
arrival says nothing about when it was measured.
"""

import re
from collections.abc import Mapping as Table
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from collector.drivers.mqtt_channels import ABSENT, Channel, compile_channels, find, read_value, value_at
from collector.mqtt_profile import MessageSpec, MqttProfile, StateSpec
from collector.protocols.json_text import (
    EARLIEST,
    Moment,
    decode_json,
    decode_text,
    decode_time,
    decode_unix,
    quote,
)
from metering.errors import ConfigError, FrameError
from metering.model import SECOND, Block, Kind, Layout, Source
from metering.quality import Quality

MAX_CLOCK_OFFSET = 300 * SECOND  # a device's clock further away than this is suspect
MAX_TOPIC_BYTES = 65_535  # MQTT 3.1.1, 4.7.3
MAX_LAYOUTS = 64  # sets of channels seen together; beyond it each channel goes into a block of its own

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class _Message(NamedTuple):
    spec: MessageSpec
    serial: tuple[str, ...]
    time: tuple[str, ...]
    closed: tuple[str, ...] | None
    names: frozenset[str]  # those that channels have inside `closed`
    channels: tuple[Channel, ...]


class Mapping:
    """One meter's topics and what their payloads mean.

    `topic` stands for `{topic}`; `parameters` replace the profile's own. `zone` is the parameter for devices that
    publish local time. `serial`, where it is given, must be the one that the device tells, if it tells one.

    Raises:
        ConfigError: a parameter is unknown or missing, the zone is unknown, or a topic is not one to publish on.

    """

    def __init__(
        self, profile: MqttProfile, device: str, topic: str, parameters: Table[str, str] | None = None, serial: str = ""
    ) -> None:
        self.device = device
        self._serial = serial
        self._values = _parameters(profile, topic, parameters or {})
        needs_zone = any(message.time and message.time.text == "local" for message in profile.message)
        self._zone = _zone(self._values.get("zone", "")) if needs_zone else None
        self._messages = {self._topic(spec.topic): self._compile(spec) for spec in profile.message}
        self._states = {self._topic(spec.topic): spec for spec in profile.state}
        self._layouts: dict[tuple[str, tuple[int, ...]], Layout] = {}
        if len(self._messages) != len(profile.message) or self._messages.keys() & self._states.keys():
            raise ConfigError(f"{device}: two entries of the profile {profile.name} have the same topic")

    @property
    def topics(self) -> tuple[str, ...]:
        """Return every topic that this meter publishes on."""
        return (*self._messages, *self._states)

    def tells_state(self, topic: str) -> bool:
        """Tell whether the topic says if the device is there (read it with `state`), not what it measures."""
        return topic in self._states

    def map(self, topic: str, payload: bytes, received_at: int, *, retained: bool = False) -> list[Block]:
        """Return what the message says: at most one block for each kind of channel, all at one time, `slot` None.

        Empty when the message has none of the profile's channels, or is retained and has no time of its own.

        Raises:
            FrameError: the message is malformed; the text says why.

        """
        message = self._messages.get(topic)
        if message is None:
            raise FrameError(f"the meter's profile has no topic {quote(topic)}", meter=self.device)
        try:
            return self._read(message, payload, received_at, retained=retained)
        except FrameError as error:
            raise FrameError(str(error), meter=self.device) from None

    def state(self, topic: str, payload: bytes) -> bool:
        """Return whether the device says that it is there.

        Raises:
            FrameError: the payload is none of the texts that the profile knows.

        """
        spec = self._states[topic]
        text = decode_text(payload).strip()
        if spec.path and text.startswith("{"):
            text = str(find(decode_json(payload), tuple(spec.path)))
        return _state_of(spec, text, self.device)

    # -- making it

    def _fill(self, text: str) -> str:
        return _PLACEHOLDER.sub(lambda match: self._value(match[1]), text)

    def _value(self, name: str) -> str:
        if name not in self._values:
            raise ConfigError(f"{self.device}: the profile uses the unknown placeholder {{{name}}}")
        return self._values[name]

    def _topic(self, template: str) -> str:
        topic = self._fill(self._fill(template))  # a parameter may itself contain {topic}
        if not topic or set("+#\0") & set(topic) or len(topic.encode()) > MAX_TOPIC_BYTES:
            raise ConfigError(f"{self.device}: {topic!r} is no topic to publish on (MQTT 3.1.1, 4.7)", key="topic")
        return topic

    def _path(self, path: list[str]) -> tuple[str, ...]:
        return tuple(self._fill(name) for name in path)

    def _compile(self, spec: MessageSpec) -> _Message:
        paths = [self._path(channel.path) for channel in spec.channels]
        channels = compile_channels(spec.channels, paths)
        closed = None if spec.closed is None else self._path(spec.closed)
        depth = len(closed or ())
        names = frozenset(path[depth] for path in paths if closed is not None and path[:depth] == closed)
        time = self._path(spec.time.path) if spec.time else ()
        return _Message(spec, self._path(spec.serial), time, closed, names, channels)

    # -- reading

    def _read(self, message: _Message, payload: bytes, received_at: int, *, retained: bool) -> list[Block]:
        spec = message.spec
        if spec.format == "number":
            root: object = decode_text(payload).strip()
        else:
            root = decode_json(payload)
            if not isinstance(root, dict):
                raise FrameError("the payload is JSON, but not an object")
        found = [(channel, value) for channel in message.channels if (value := value_at(root, channel)) is not ABSENT]
        self._check(message, root)
        if not found:
            return []
        moment = self._moment(message, root, received_at)
        if moment is None:
            if retained:
                return []
            moment = Moment(received_at)
        elif moment.instant < EARLIEST:
            if retained:
                return []
            moment = Moment(received_at, doubtful=True)
        elif _far(moment.instant, received_at, old_is_fine=retained or (spec.time is not None and spec.time.buffered)):
            moment = Moment(moment.instant, doubtful=True)
        readings = [(channel, *read_value(channel, value, root, spec)) for channel, value in found]
        return self._blocks(spec.topic, readings, moment, received_at)

    def _check(self, message: _Message, root: object) -> None:
        if message.closed is not None:
            inside = find(root, message.closed)
            if not isinstance(inside, dict):
                raise FrameError(f"{'.'.join(message.closed)} is missing or not an object")
            unknown = sorted(inside.keys() - message.names)
            if unknown:
                raise FrameError(f"{quote(unknown[0])} is not a channel of this profile")
        if message.serial and self._serial:
            serial = find(root, message.serial)
            if serial is not ABSENT and str(serial) != self._serial:
                raise FrameError(f"another meter: serial number {quote(serial)}, expected {self._serial!r}")

    def _moment(self, message: _Message, root: object, received_at: int) -> Moment | None:
        spec = message.spec.time
        if spec is None:
            return None
        value = find(root, message.time)
        if value is ABSENT or value is None:
            if spec.optional:
                return None
            raise FrameError(f"the time ({'.'.join(message.time)}) is missing")
        if isinstance(value, Decimal) and spec.number:
            return decode_unix(value, milliseconds=spec.number == "ms")
        if spec.text is None:
            return decode_unix(value, milliseconds=spec.number == "ms")
        return decode_time(value, zone=self._zone if spec.text == "local" else None, near=received_at)

    def _blocks(
        self, topic: str, readings: list[tuple[Channel, int | None, Quality]], moment: Moment, received_at: int
    ) -> list[Block]:
        suspect = Quality.CLOCK_SUSPECT if moment.doubtful else Quality.VALID
        groups: dict[Kind, list[tuple[Channel, int | None, Quality]]] = {}
        for reading in readings:
            groups.setdefault(reading[0].kind, []).append(reading)
        blocks = []
        for group in groups.values():
            layout = self._layout(topic, [channel for channel, _, _ in group])
            parts = [(layout, group)] if layout else [(_layout([one[0]]), [one]) for one in group]
            for part_layout, part in parts:
                flags = tuple(int(quality | suspect) for _, _, quality in part)
                values = tuple(value for _, value, _ in part)
                quality = flags if any(flags) else ()
                blocks.append(Block(part_layout, self.device, moment.instant, received_at, values, None, quality))
        return blocks

    def _layout(self, topic: str, channels: list[Channel]) -> Layout | None:
        """Return the layout of these channels, or None where a device sends ever new combinations of them."""
        key = topic, tuple(channel.position for channel in channels)
        layout = self._layouts.get(key)
        if layout is None and len(self._layouts) < MAX_LAYOUTS:
            layout = self._layouts[key] = _layout(channels)
        return layout


def _layout(channels: list[Channel]) -> Layout:
    return Layout(channels[0].kind, Source.PUSH, 0, tuple(channel.column for channel in channels))


def _parameters(profile: MqttProfile, topic: str, given: Table[str, str]) -> dict[str, str]:
    unknown = sorted(given.keys() - profile.parameters.keys() - {"zone"})
    if unknown:
        known = ", ".join(sorted(profile.parameters)) or "none"
        raise ConfigError(f"the profile {profile.name} has no parameter {unknown[0]!r}; known: {known}")
    values = {**profile.parameters, **given}
    missing = sorted(name for name, value in values.items() if not value)
    if missing:
        raise ConfigError(f"the profile {profile.name} needs the parameter {missing[0]!r}")
    return {**values, "topic": topic}


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"{name!r} is no IANA time zone, for example Europe/Berlin", key="zone") from None


def _far(instant: int, received_at: int, *, old_is_fine: bool) -> bool:
    return instant - received_at > MAX_CLOCK_OFFSET or (not old_is_fine and received_at - instant > MAX_CLOCK_OFFSET)


def _state_of(spec: StateSpec, text: str, device: str) -> bool:
    if text in spec.online:
        return True
    if text in spec.offline:
        return False
    raise FrameError(f"{quote(text)} is none of {', '.join(spec.online + spec.offline)}", meter=device)
