"""A site file: one building or one substation in one process, checked as a whole and turned into settings."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from collector.mqtt_profile import MqttProfile, is_mqtt, load_mqtt_profile
from collector.profile import Profile, load_profile
from collector.toml_file import error_at, unique, validate
from gateway.settings import FilePath, GatewayFile, MeterSettings, Secret, Strict
from metering.errors import ConfigError
from metering.model import Device, Installation, MeterPoint

AnyProfile = Profile | MqttProfile


def split_address(listen: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` (an IPv6 host in brackets).

    Raises:
        ValueError: not of that form.

    """
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{listen!r} is not HOST:PORT, for example 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Tell whether an address or name stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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


def load_site(path: Path) -> SiteFile:
    """Return the checked file.

    Raises:
        ConfigError: names file, line and key; nothing has been started.

    """
    site = validate(SiteFile, path)
    unique(path, ("bus",), "id", [bus.id for bus in site.bus])
    unique(path, ("meter",), "id", [meter.id for meter in site.meter])
    _check_addresses(path, site)
    _check_points(path, site.meter)
    _check_models(path, site)
    return site


def _check_addresses(path: Path, site: SiteFile) -> None:
    buses = {bus.id for bus in site.bus}
    seen: dict[tuple[str, object], int] = {}
    for index, meter in enumerate(site.meter):
        if meter.bus is not None and meter.bus not in buses:
            known = ", ".join(sorted(buses)) or "none is defined"
            raise error_at(path, ("meter", index, "bus"), f"there is no bus {meter.bus!r}; known: {known}")
        if meter.topic is not None and site.mqtt is None:
            raise error_at(
                path, ("meter", index, "topic"), "a meter that publishes needs an [mqtt] table with the broker's host"
            )
        if meter.removed is not None:
            continue
        address = (meter.bus, meter.unit) if meter.bus else (f"mqtt {meter.profile}", meter.topic)
        if address in seen:
            other = site.meter[seen[address]].id
            key = "unit" if meter.bus else "topic"
            raise error_at(
                path, ("meter", index, key), f"{address[1]!r} is already the address of {other!r} on {address[0]}"
            )
        seen[address] = index


def _check_points(path: Path, meters: Sequence[MeterSettings]) -> None:
    """One meter point has one region and zone, and one device at a time."""
    first: dict[str, MeterSettings] = {}
    for index, meter in enumerate(meters):
        other = first.setdefault(meter.point, meter)
        for key in ("region", "zone"):
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


def _check_models(path: Path, site: SiteFile) -> None:
    """Each meter's model is there, is read the way that the meter is reached, and has the values that it names."""
    profiles: dict[str, AnyProfile] = {}
    for index, meter in enumerate(site.meter):
        try:
            profile = profiles.get(meter.profile) or profiles.setdefault(meter.profile, _load(site, meter.profile))
        except ConfigError as error:
            if error.file:  # the profile's own file is wrong
                raise
            raise error_at(path, ("meter", index, "profile"), str(error)) from None
        if isinstance(profile, MqttProfile) is not (meter.topic is not None):
            way = "publishes by itself: say topic" if meter.bus else "is read over a bus: say bus and unit"
            raise error_at(path, ("meter", index, "profile"), f"a meter of {meter.profile!r} {way}")
        try:
            if isinstance(profile, Profile):
                profile.select(tuple(meter.only))
        except ConfigError as error:
            raise error_at(path, ("meter", index, "only"), str(error)) from None


def _load(site: SiteFile, name: str) -> AnyProfile:
    folder = site.gateway.profiles
    return load_mqtt_profile(name, folder) if is_mqtt(name) else load_profile(name, folder)


def profiles_of(site: SiteFile) -> dict[str, AnyProfile]:
    """Return the meter models that the file uses, by name.

    Raises:
        ConfigError: one is unknown or wrong.

    """
    return {name: _load(site, name) for name in {meter.profile for meter in site.meter}}


def points_of(site: SiteFile) -> list[MeterPoint]:
    """Return the meter points, one for each name."""
    return list({m.point: MeterPoint(m.point, m.region, m.zone) for m in site.meter}.values())


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
        memory_days = profile.memory_days if isinstance(profile, Profile) else 0
        found.append(
            Device(meter.id, meter.serial, meter.profile, site.gateway.id, profile.maker, profile.model, memory_days)
        )
    return found


def moduli_of(site: SiteFile) -> dict[str, dict[str, int]]:
    """Return, for each polled device and register, the stored value at which it turns over, where its profile says."""
    return {
        meter.id: load_profile(meter.profile, site.gateway.profiles).moduli()
        for meter in site.meter
        if not is_mqtt(meter.profile)
    }
