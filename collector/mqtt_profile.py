"""What an MQTT device publishes, as data: topics, payloads and the channels in them. Reads profiles; maps nothing.

A profile is `collector/profiles/mqtt_<name>.toml`. Placeholders `{topic}` and `{<parameter>}` stand in topics and paths
and are filled in from the meter's configuration. Each profile carries its `[[test]]` messages.
"""

import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from collector.fields import Obis, Unit
from collector.toml_file import validate
from metering.errors import ConfigError
from metering.model import Kind
from metering.obis import is_cumulative

PROFILES = Path(__file__).parent / "profiles"
PREFIX = "mqtt_"
_NAME = re.compile(r"mqtt_[a-z0-9_]{1,60}")


def _decimal(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write an exact number in quotes, for example '0.001'")  # noqa: TRY004 - pydantic turns ValueError into its report
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a decimal number") from None
    if not number.is_finite():
        raise ValueError("must be finite")
    return number


def _path(value: object) -> object:
    """Split `a.b.0` at its dots; a list is taken as it stands, for names that contain dots."""
    if isinstance(value, str):
        return value.split(".") if value else []
    return value


def _state_texts(texts: list[str]) -> list[str]:
    if not texts:
        raise ValueError("name at least one text")
    return texts


Exact = Annotated[Decimal, BeforeValidator(_decimal)]
JsonPath = Annotated[list[str], BeforeValidator(_path)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ChannelSpec(_Table):
    """One number of a message. Shown is number x `factor` in `unit`, with `decimals` digits behind the point."""

    path: JsonPath = []
    obis: Obis
    unit: Unit
    decimals: int = Field(ge=0, le=12)
    factor: Exact = Decimal(1)  # also turns a sign around
    kind: Kind | None = Field(None, strict=False)  # left out: register where the code is a running total
    range: list[Exact] = Field([], max_length=2)  # lowest and highest value that can be true, in `unit`
    sentinels: list[Exact] = []  # numbers, as the device writes them, that mean "no value"
    required: bool = False  # a message without it is malformed, not partial

    @model_validator(mode="after")
    def _consistent(self) -> "ChannelSpec":
        if self.range and (len(self.range) != 2 or self.range[0] >= self.range[1]):
            raise ValueError("range: write the lowest and the highest value")
        if self.factor == 0:
            raise ValueError("factor: must not be zero")
        return self

    @property
    def true_kind(self) -> Kind:
        """Return what the channel's values are."""
        return self.kind or (Kind.REGISTER if is_cumulative(self.obis) else Kind.INSTANTANEOUS)


class TimeSpec(_Table):
    """Where a message says when it was measured. What a string and what a number means is said apart."""

    path: JsonPath
    text: Literal["iso", "local"] | None = None  # with offset; or local time of the parameter `zone`
    number: Literal["s", "ms"] | None = None
    optional: bool = False  # where it is missing, the time of arrival counts
    # The device keeps what it could not send: an old time says nothing about its clock.
    buffered: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> "TimeSpec":
        if self.text is None and self.number is None:
            raise ValueError("say text or number: how the time is written")
        return self


class MessageSpec(_Table):
    """One topic and what its payload holds."""

    topic: str = Field(min_length=1)
    format: Literal["json", "number"] = "json"
    strings: bool = False  # numbers may stand in strings
    # Numbers come from binary arithmetic: 1542.7700000000001 is 1542.77. Removes that noise, and no digit more.
    binary: bool = False
    unit_key: str = ""  # the name beside each value under which its unit stands, which must be the channel's
    closed: JsonPath | None = None  # the object in which a name that no channel has is malformed, not ignored
    serial: JsonPath = []  # the device's serial number, compared where the meter's is known
    time: TimeSpec | None = None
    channels: list[ChannelSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _number_is_one(self) -> "MessageSpec":
        if self.format == "number" and (len(self.channels) != 1 or self.channels[0].path or self.time):
            raise ValueError("a plain number is one channel, without path and time")
        return self


class StateSpec(_Table):
    """The topic on which a device, or the broker for it (last will), says whether it is there."""

    topic: str = Field(min_length=1)
    path: JsonPath = []  # where the payload is an object
    online: Annotated[list[str], AfterValidator(_state_texts)]
    offline: Annotated[list[str], AfterValidator(_state_texts)]


class TestSpec(_Table):
    """A message and exactly what must come of it: readings as `<value or -> <unit> <flags>`, a state, or an error."""

    __test__ = False  # a model's test, not one of pytest's

    topic: str
    payload: str
    device: str = "meter1"  # what stands for {topic}
    serial: str = ""
    parameters: dict[str, str] = {}
    received: str = "2026-11-23T12:45:00Z"
    retained: bool = False
    at: str = ""  # the measured time, where it is not the time of arrival
    readings: dict[str, str] = {}
    online: bool | None = None
    error: str = ""  # a part of the reason


class MqttProfile(_Table):
    """One kind of MQTT device. `parameters` are its placeholders with their defaults; an empty one must be given."""

    name: str = Field(pattern=_NAME.pattern)
    maker: str
    model: str
    source: str  # the document that the topics and names come from
    verified: bool  # True: seen on a real device or in the maker's own document, not only in third-party pages
    parameters: dict[str, str] = {}
    message: list[MessageSpec] = Field(min_length=1)
    state: list[StateSpec] = []
    test: list[TestSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_channel_one_form(self) -> "MqttProfile":
        forms: dict[str, tuple[str, int, Kind]] = {}
        for channel in (channel for message in self.message for channel in message.channels):
            form = channel.unit, channel.decimals, channel.true_kind
            if forms.setdefault(channel.obis, form) != form:
                raise ValueError(f"{channel.obis} has two units, decimals or kinds; one channel keeps one")
        return self

    @property
    def channels(self) -> dict[str, Kind]:
        """Return every code that the device may publish, with its kind."""
        return {channel.obis: channel.true_kind for message in self.message for channel in message.channels}


def is_mqtt(profile: str) -> bool:
    """Tell whether a profile's name is that of an MQTT device."""
    return profile.startswith(PREFIX)


def load_mqtt_profile(name: str, extra: Path | None = None) -> MqttProfile:
    """Return the profile `mqtt_<...>` from the folder `extra`, or else from ours.

    Raises:
        ConfigError: there is none of that name, or its file is wrong; names file, line and key.

    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no profile of an MQTT device; it reads mqtt_<lower-case letters and digits>")
    for folder in (extra, PROFILES):
        path = folder / f"{name}.toml" if folder else None
        if path and path.is_file():
            profile = validate(MqttProfile, path)
            if profile.name != name:
                raise ConfigError(f"the file is {path.name}, so the name must be {name!r}", file=str(path), key="name")
            return profile
    known = ", ".join(mqtt_profile_names(extra))
    raise ConfigError(f"there is no profile {name!r}; known are {known}")


def mqtt_profile_names(extra: Path | None = None) -> list[str]:
    """Return the names of all profiles of MQTT devices."""
    folders = [folder for folder in (PROFILES, extra) if folder]
    return sorted({path.stem for folder in folders for path in folder.glob(f"{PREFIX}*.toml")})
