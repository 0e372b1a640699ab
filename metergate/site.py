"""A site file: one building or one substation in one process, checked as a whole and turned into settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from collector.mqtt_profile import MqttProfile
from collector.toml_file import error_at, unique, validate
from gateway.fields import FilePath, Secret, Strict, split_address
from gateway.models import AnyProfile, load_any
from gateway.settings import GatewayFile, MeterSettings
from metergate.site_meters import check_meters
from metergate.supply_file import AuditSettings, PolicySettings, SiteSupply
from metering.hosts import is_loopback
from metering.model import Device, Installation, MeterPoint


class EmbeddedSettings(Strict):
    """The store in one file beside the log: nothing to install."""

    kind: Literal["embedded"]


class InfluxSettingsTable(Strict):
    """InfluxDB 1.8, 2.x or 3.x by its v2 write path and InfluxQL."""

    kind: Literal["influxdb"]
    url: str
    token: Secret
    bucket: str
    org: str = "-"
    timeout_s: float = Field(10.0, gt=0, le=120)


StoreSettings = Annotated[EmbeddedSettings | InfluxSettingsTable, Field(discriminator="kind")]


class ApiSettings(Strict):
    """Where the API listens. Beyond loopback it needs a certificate, or the plain word that none is wanted."""

    listen: str = "127.0.0.1:8080"
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    allow_plain_http_beyond_loopback: bool = False

    @model_validator(mode="after")
    def _safe(self) -> "ApiSettings":
        host, _ = split_address(self.listen)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if not is_loopback(host) and self.tls_cert is None and not self.allow_plain_http_beyond_loopback:
            raise ValueError(
                f"listen: {host} is beyond loopback: give tls_cert and tls_key, or say "
                "allow_plain_http_beyond_loopback = true (tokens and readings then cross the network in clear)"
            )
        return self


class SiteFile(GatewayFile):
    """The whole file."""

    store: StoreSettings = EmbeddedSettings(kind="embedded")
    api: ApiSettings = ApiSettings()
    supply: SiteSupply = SiteSupply()
    policy: PolicySettings = PolicySettings()
    audit: AuditSettings | None = None


def load_site(path: Path) -> SiteFile:
    """Return the checked file.

    Raises:
        ConfigError: names file, line and key; nothing has been started.

    """
    site = validate(SiteFile, path)
    unique(path, ("bus",), "id", [bus.id for bus in site.bus])
    unique(path, ("meter",), "id", [meter.id for meter in site.meter])
    check_meters(path, site)
    check_points(path, site.meter)
    return site


def check_points(path: Path, meters: Sequence[MeterSettings]) -> None:
    """One meter point has one region, zone and customer class, and one device at a time."""
    first: dict[str, MeterSettings] = {}
    for index, meter in enumerate(meters):
        other = first.setdefault(meter.point, meter)
        for key in ("region", "zone", "customer"):
            if getattr(other, key) != getattr(meter, key):
                message = (
                    f"{meter.point!r} has {key} {getattr(other, key)!r} at meter {other.id!r}; a meter point has one"
                )
                raise error_at(path, ("meter", index, key), message)
    hung: dict[str, list[MeterSettings]] = {}
    for index, meter in enumerate(meters):
        earlier = hung.setdefault(meter.point, [])
        for other in earlier:
            if _overlap(other, meter):
                message = (
                    f"{meter.point!r} has {other.id!r} at the same time: say when one was removed, the other installed"
                )
                raise error_at(path, ("meter", index, "point"), message)
        earlier.append(meter)


def _overlap(one: MeterSettings, two: MeterSettings) -> bool:
    return (one.removed is None or one.removed > two.installed) and (two.removed is None or two.removed > one.installed)


def profiles_of(site: SiteFile) -> dict[str, AnyProfile]:
    """Return the meter models that the file uses, by name.

    Raises:
        ConfigError: one is unknown or wrong.

    """
    return {name: load_any(name, site.gateway.profiles) for name in {meter.profile for meter in site.meter}}


def points_of(site: SiteFile) -> list[MeterPoint]:
    """Return the meter points, one for each name."""
    return list({m.point: MeterPoint(m.point, m.region, m.zone, customer=m.customer) for m in site.meter}.values())


def installations_of(site: SiteFile) -> list[Installation]:
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
        for meter in site.meter
    ]


def devices_of(site: SiteFile) -> list[Device]:
    """Return the devices of the file with what their profiles say.

    Raises:
        ConfigError: a profile is unknown or wrong.

    """
    profiles = profiles_of(site)
    found = []
    for meter in site.meter:
        profile = profiles[meter.profile]
        memory_days = 0 if isinstance(profile, MqttProfile) else profile.memory_days
        found.append(
            Device(meter.id, meter.serial, meter.profile, site.gateway.id, profile.maker, profile.model, memory_days)
        )
    return found


def moduli_of(site: SiteFile) -> dict[str, dict[str, int]]:
    """Return, for each polled device and register, the stored value at which it turns over, where its profile says."""
    profiles = profiles_of(site)
    return {
        meter.id: profile.moduli()
        for meter in site.meter
        if not isinstance(profile := profiles[meter.profile], MqttProfile)
    }
