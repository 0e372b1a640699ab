"""What a gateway is told: its lines, its meters, its schedule and its log. Checked here, read from TOML elsewhere."""

import re
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from metering.obis import canonical_obis
from metering.timing import from_rfc3339, parse_duration

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REGION = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_DECIMAL = re.compile(r"\d+(\.\d+)?")
_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _check_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("use 1 to 64 letters, digits, _ and -")
    return text


def _check_region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError("write a path such as js/nj/st12, without a slash at either end")
    return text


def _check_decimal(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("write a decimal number in quotes, for example '40' or '12345.67'")
    return text


def _check_registers(registers: dict[str, str]) -> dict[str, str]:
    return {canonical_obis(obis): _check_decimal(value) for obis, value in registers.items()}


def _check_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("write an IANA time zone, for example 'Europe/Berlin'") from None
    return text


def _duration(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write a duration with its unit, for example '15min', '1s', '40d'")  # noqa: TRY004 - pydantic turns ValueError into its report
    return parse_duration(value)


def _period(value: object) -> object:
    return None if value == "off" else _duration(value)


def _size(value: object) -> object:
    match = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a size with its unit, for example '512 MiB'")
    return int(match[1]) * _SIZES[match[2]]


def _instant(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write a time with its offset in quotes, for example '2026-01-01T00:00:00Z'")  # noqa: TRY004 - as above
    return from_rfc3339(value)


Id = Annotated[str, AfterValidator(_check_id)]
Region = Annotated[str, AfterValidator(_check_region)]
Ratio = Annotated[str, AfterValidator(_check_decimal)]
RegisterReadings = Annotated[dict[str, str], AfterValidator(_check_registers)]
Duration = Annotated[float, BeforeValidator(_duration)]
Period = Annotated[float | None, BeforeValidator(_period)]  # "off": None
Size = Annotated[int, BeforeValidator(_size)]
Instant = Annotated[int, BeforeValidator(_instant)]
FilePath = Annotated[Path, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
Zone = Annotated[str, AfterValidator(_check_zone)]
Secret = Annotated[str, Field(pattern=r"^(env|file):.+$")]


class Strict(BaseModel):
    """A table of the file: unknown keys are errors, values keep their types, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SerialBus(Strict):
    """An RS-485 line at a serial port, Modbus RTU."""

    kind: Literal["rtu"]
    id: Id
    port: str
    baud: int = Field(9600, ge=300, le=1_000_000)
    format: Literal["8N1", "8E1", "8O1", "8N2"] = "8E1"
    # A pseudo-terminal refuses parity: the port is opened with this, while the timing keeps `format`.
    open_as: Literal["8N1"] | None = None


class TcpBus(Strict):
    """Modbus TCP: one meter, or a TCP gateway with several units behind it."""

    kind: Literal["tcp"]
    id: Id
    host: str
    port: int = Field(502, ge=1, le=65535)


class RtuOverTcpBus(Strict):
    """Modbus RTU frames through a serial device server."""

    kind: Literal["rtu-over-tcp"]
    id: Id
    host: str
    port: int = Field(ge=1, le=65535)
    baud: int = Field(9600, ge=300, le=1_000_000)
    format: Literal["8N1", "8E1", "8O1", "8N2"] = "8E1"


BusSettings = Annotated[SerialBus | TcpBus | RtuOverTcpBus, Field(discriminator="kind")]


class ScheduleSettings(Strict):
    """How often to read: running totals at each boundary of `registers`, momentary values at their own period."""

    registers: Period = 900.0
    instantaneous: Period = 300.0

    @model_validator(mode="after")
    def _whole_seconds(self) -> "ScheduleSettings":
        for name in ("registers", "instantaneous"):
            value = getattr(self, name)
            if value is not None and (value < 1 or value != int(value) or (86400 % value and value < 86400)):
                raise ValueError(f"{name}: use whole seconds that divide a day, from 1s to 1d (15min is usual)")
        return self


class MeterSettings(Strict):
    """One meter where it hangs: how it is reached, what model it is, whose supply it measures, and since when."""

    id: Id
    profile: str
    point: Id
    region: Region
    serial: str = ""
    # Modbus
    bus: Id | None = None
    unit: int | None = Field(None, ge=1, le=247)
    # MQTT
    topic: str | None = None
    parameters: dict[str, str] = {}
    # Schedule of this meter where it differs from the gateway's
    schedule: ScheduleSettings | None = None
    only: list[str] = []  # names of the profile's points; empty: all
    # Installation
    zone: Zone = "UTC"  # of its days, and of its clock where it publishes local time
    installed: Instant = 0
    removed: Instant | None = None
    initial_registers: RegisterReadings = {}
    removal_registers: RegisterReadings = {}
    ct_ratio: Ratio = "1"
    pt_ratio: Ratio = "1"
    ratios_apply: bool = False  # True: the registers show secondary values

    @model_validator(mode="after")
    def _reached_one_way(self) -> "MeterSettings":
        if (self.bus is None) == (self.topic is None):
            raise ValueError("say either bus and unit (Modbus) or topic (MQTT)")
        if self.bus is not None and self.unit is None:
            raise ValueError("unit: a meter on a bus has a unit address from 1 to 247")
        if self.topic is not None and self.only:
            raise ValueError("only: a meter that publishes by itself sends what it sends; leave it out")
        if self.removed is not None and self.removed <= self.installed:
            raise ValueError("removed: must be later than installed")
        if not self.ratios_apply and (self.ct_ratio, self.pt_ratio) != ("1", "1"):
            raise ValueError(
                "ct_ratio, pt_ratio: have no effect unless ratios_apply = true (registers show secondary values)"
            )
        return self


class BrokerSettings(Strict):
    """The broker where meters publish by themselves."""

    host: str
    port: int = Field(1883, ge=1, le=65535)
    username: str | None = None
    password: Secret | None = None
    tls: bool = False  # also without a file of certificates: the system's authorities are then trusted
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    client_id: Id | None = None


class LogSettings(Strict):
    """Bounds of the gateway's log."""

    max_size: Size = 1 << 30
    max_age: Duration = 40 * 86400.0
    keep: Duration = 40 * 86400.0  # for the feed of changes, once all readers have passed
    min_free: Size = 16 << 20  # stop accepting below this much free disk
    commit_every: Duration = 1.0


class GatewaySettings(Strict):
    """The gateway itself."""

    id: Id
    data: FilePath
    # Each gateway reads by its own offset below this after the boundary, so that a fleet never speaks at once.
    jitter: Duration = 5.0
    profiles: FilePath | None = None  # a folder with further meter models
    log: LogSettings = LogSettings()


class GatewayFile(Strict):
    """A gateway's part of a configuration file."""

    gateway: GatewaySettings
    schedule: ScheduleSettings = ScheduleSettings()
    bus: list[BusSettings] = []
    meter: list[MeterSettings] = []
    mqtt: BrokerSettings | None = None
