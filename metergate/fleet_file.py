"""A fleet's file: which gateways there are, which meters belong to them, and where these hang. Checked as a whole.

It is taken into the head-end's registry by `metergate registry import`; a running head-end never reads it.
"""

from pathlib import Path

from pydantic import Field, model_validator

from collector.mqtt_profile import MqttProfile
from collector.toml_file import error_at, unique, validate
from gateway.fields import CustomerClass, Id, Instant, Ratio, Region, RegisterReadings, Strict, Zone
from gateway.models import AnyProfile, load_any
from headend.state.registrar import Wanted
from metering.errors import ConfigError
from metering.model import Device, Installation, MeterPoint


class FleetGateway(Strict):
    """A gateway that may send."""

    id: Id


class FleetMeter(Strict):
    """A meter: the gateway that reads it, those that did before, and where it hangs."""

    id: Id
    gateway: Id
    earlier_gateways: list[Id] = Field(default_factory=list)
    profile: str
    point: Id
    region: Region
    serial: str = ""
    zone: Zone = "UTC"
    customer: CustomerClass = ""  # whose rules say when it may be cut off
    installed: Instant = 0
    removed: Instant | None = None
    initial_registers: RegisterReadings = Field(default_factory=dict)
    removal_registers: RegisterReadings = Field(default_factory=dict)
    ct_ratio: Ratio = "1"
    pt_ratio: Ratio = "1"
    ratios_apply: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> "FleetMeter":
        if self.removed is not None and self.removed <= self.installed:
            raise ValueError("removed: must be later than installed")
        return self


class FleetFile(Strict):
    """The whole file."""

    gateway: list[FleetGateway] = Field(default_factory=list)
    meter: list[FleetMeter] = Field(default_factory=list)


def load_fleet(path: Path, profiles: Path | None) -> Wanted:
    """Return what a fleet's file asks for; `profiles` is a folder with further meter models.

    Raises:
        ConfigError: names file, line and key.

    """
    file = validate(FleetFile, path)
    unique(path, ("gateway",), "id", [each.id for each in file.gateway])
    unique(path, ("meter",), "id", [each.id for each in file.meter])
    known = {each.id for each in file.gateway}
    points: dict[str, MeterPoint] = {}
    models: dict[str, AnyProfile] = {}
    devices = []
    for index, meter in enumerate(file.meter):
        for key, name in (("gateway", meter.gateway), *(("earlier_gateways", each) for each in meter.earlier_gateways)):
            if name not in known:
                raise error_at(path, ("meter", index, key), f"there is no gateway {name!r} in this file")
        point = MeterPoint(meter.point, meter.region, meter.zone, customer=meter.customer)
        if points.setdefault(point.id, point) != point:
            text = f"{point.id!r} has another region, zone or customer class at an earlier meter; a meter point has one"
            raise error_at(path, ("meter", index, "point"), text)
        if meter.profile not in models:
            try:
                models[meter.profile] = load_any(meter.profile, profiles)
            except ConfigError as error:
                raise error_at(path, ("meter", index, "profile"), str(error)) from None
        devices.append(device_of(meter.id, meter.serial, meter.profile, models[meter.profile], meter.gateway))
    return Wanted(
        [each.id for each in file.gateway],
        list(points.values()),
        devices,
        [_installation(meter) for meter in file.meter],
        {meter.id: meter.earlier_gateways for meter in file.meter if meter.earlier_gateways},
    )


def device_of(identity: str, serial: str, profile: str, model: AnyProfile, gateway: str = "") -> Device:
    """Return a device with what its model's file says."""
    memory = 0 if isinstance(model, MqttProfile) else model.memory_days
    return Device(identity, serial, profile, gateway, model.maker, model.model, memory)


def _installation(meter: FleetMeter) -> Installation:
    return Installation(
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
