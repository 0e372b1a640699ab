"""A head-end file: its broker, its log and store, and which meters belong to which gateway. Checked as a whole."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from collector.mqtt_profile import MqttProfile
from collector.toml_file import error_at, unique, validate
from gateway.fields import FilePath, Id, Instant, Ratio, Region, RegisterReadings, Size, Strict, Zone
from gateway.models import AnyProfile, load_any
from gateway.settings import BrokerSettings, LogSettings
from metergate.site import ApiSettings, EmbeddedSettings, StoreSettings
from metering.model import Device, Installation, MeterPoint


class HeadendLog(LogSettings):
    """Bounds of the head-end's log: the ledger of all that came in, so a larger one than a gateway's."""

    max_size: Size = 64 << 30


class HeadendSettings(Strict):
    """The head-end itself."""

    id: Id = "headend"
    data: FilePath
    profiles: FilePath | None = None  # a folder with further meter models
    log: HeadendLog = HeadendLog()


class AssignedGateway(Strict):
    """A gateway that may send."""

    id: Id


class AssignedMeter(Strict):
    """A meter: the gateway that reads it, those that did before, and where it hangs."""

    id: Id
    gateway: Id
    earlier_gateways: list[Id] = Field(default_factory=list)
    profile: str
    point: Id
    region: Region
    serial: str = ""
    zone: Zone = "UTC"
    installed: Instant = 0
    removed: Instant | None = None
    initial_registers: RegisterReadings = Field(default_factory=dict)
    removal_registers: RegisterReadings = Field(default_factory=dict)
    ct_ratio: Ratio = "1"
    pt_ratio: Ratio = "1"
    ratios_apply: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> "AssignedMeter":
        if self.removed is not None and self.removed <= self.installed:
            raise ValueError("removed: must be later than installed")
        return self


class HeadendFile(Strict):
    """The whole file."""

    headend: HeadendSettings
    broker: BrokerSettings
    store: StoreSettings = EmbeddedSettings(kind="embedded")
    api: ApiSettings = ApiSettings()
    gateway: list[AssignedGateway] = Field(default_factory=list)
    meter: list[AssignedMeter] = Field(default_factory=list)


def load_headend(path: Path) -> HeadendFile:
    """Return the checked file.

    Raises:
        ConfigError: names file, line and key; nothing has been started.

    """
    file = validate(HeadendFile, path)
    unique(path, ("gateway",), "id", [each.id for each in file.gateway])
    unique(path, ("meter",), "id", [each.id for each in file.meter])
    known = {each.id for each in file.gateway}
    for index, meter in enumerate(file.meter):
        for name in (meter.gateway, *meter.earlier_gateways):
            if name not in known:
                raise error_at(path, ("meter", index, "gateway"), f"there is no gateway {name!r} in this file")
    return file


def assignments(meters: Sequence[AssignedMeter]) -> dict[str, frozenset[str]]:
    """Return, for each device, the gateways that it was ever assigned to."""
    return {each.id: frozenset((each.gateway, *each.earlier_gateways)) for each in meters}


def profiles_of(file: HeadendFile) -> dict[str, AnyProfile]:
    """Return the meter models that the file names. Raises `ConfigError` where one is unknown or wrong."""
    return {name: load_any(name, file.headend.profiles) for name in {meter.profile for meter in file.meter}}


def points_of(file: HeadendFile) -> list[MeterPoint]:
    """Return the meter points, one for each name."""
    return list({m.point: MeterPoint(m.point, m.region, m.zone) for m in file.meter}.values())


def devices_of(file: HeadendFile, profiles: dict[str, AnyProfile]) -> list[Device]:
    """Return the devices with what their profiles say."""
    found = []
    for meter in file.meter:
        profile = profiles[meter.profile]
        memory = 0 if isinstance(profile, MqttProfile) else profile.memory_days
        found.append(Device(meter.id, meter.serial, meter.profile, meter.gateway, profile.maker, profile.model, memory))
    return found


def installations_of(file: HeadendFile) -> list[Installation]:
    """Return one installation for each meter of the file."""
    return [
        Installation(
            meter.point,
            meter.id,
            meter.serial,
            meter.installed,
            meter.removed,
            dict(meter.initial_registers),
            dict(meter.removal_registers),
            meter.ct_ratio,
            meter.pt_ratio,
            "secondary" if meter.ratios_apply else "primary",
        )
        for meter in file.meter
    ]
