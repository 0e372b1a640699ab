"""Whether each meter of a site file can be reached as it says: its bus, its address there, its model. Opens nothing."""

from collections.abc import Hashable
from pathlib import Path

from collector.mqtt_profile import MqttProfile
from collector.toml_file import error_at
from gateway.models import NAMES, AnyProfile, Speech, load_any, speech_of
from gateway.settings import GatewayFile, MeterSettings
from gateway.settings_bus import PROTOCOLS, BusSettings, DlmsSettings
from metering.errors import ConfigError

# The key of a meter's address by what its bus speaks.
ADDRESS_KEYS: dict[Speech, str] = {"modbus": "unit", "dlms": "dlms", "dlt645": "address"}
HDLC_ALONE = ("physical", "address_bytes")


def check_meters(path: Path, site: GatewayFile) -> None:
    """Check every meter of the file.

    Raises:
        ConfigError: names file, line and key.

    """
    buses = {bus.id: bus for bus in site.bus}
    profiles: dict[str, AnyProfile] = {}
    for index, meter in enumerate(site.meter):
        _check_bus(path, index, meter, buses)
        if meter.topic is not None and site.mqtt is None:
            raise error_at(
                path, ("meter", index, "topic"), "a meter that publishes needs an [mqtt] table with the broker's host"
            )
        bus = buses[meter.bus] if meter.bus is not None else None
        _check_model(path, index, site, bus, profiles)
        _check_keys_of_address(path, index, meter, bus)
    _check_clashes(path, site, buses, profiles)


def _check_bus(path: Path, index: int, meter: MeterSettings, buses: dict[str, BusSettings]) -> None:
    if meter.bus is not None and meter.bus not in buses:
        known = ", ".join(sorted(buses)) or "none is defined"
        raise error_at(path, ("meter", index, "bus"), f"there is no bus {meter.bus!r}; known: {known}")


def _check_model(
    path: Path, index: int, site: GatewayFile, bus: BusSettings | None, profiles: dict[str, AnyProfile]
) -> None:
    """Check that the model is there, is spoken to in the bus's way, and has the values that the meter names."""
    meter = site.meter[index]
    try:
        if meter.profile not in profiles:
            profiles[meter.profile] = load_any(meter.profile, site.gateway.profiles)
    except ConfigError as error:
        if error.file:  # the profile's own file is wrong
            raise
        raise error_at(path, ("meter", index, "profile"), str(error)) from None
    speech = speech_of(meter.profile)
    wanted = PROTOCOLS[bus.kind] if bus is not None else "mqtt"
    if speech != wanted:
        if bus is None:
            message = f"a meter of {meter.profile!r} is read over a bus: say bus and {ADDRESS_KEYS[speech]}"
        elif speech == "mqtt":
            message = f"a meter of {meter.profile!r} publishes by itself: say topic"
        else:
            of_bus = f"bus {bus.id!r} ({bus.kind}) is of {NAMES[wanted]}"
            message = f"a meter of {meter.profile!r} speaks {NAMES[speech]}; {of_bus}"
        raise error_at(path, ("meter", index, "profile"), message)
    _check_choice(path, index, meter, profiles[meter.profile])


def _check_choice(path: Path, index: int, meter: MeterSettings, profile: AnyProfile) -> None:
    if isinstance(profile, MqttProfile):
        return
    try:
        profile.select(tuple(meter.only))
    except ConfigError as error:
        raise error_at(path, ("meter", index, "only"), str(error)) from None


def _check_keys_of_address(path: Path, index: int, meter: MeterSettings, bus: BusSettings | None) -> None:
    """Check that the meter has the address that its bus needs, and no other."""
    speech = PROTOCOLS[bus.kind] if bus is not None else "mqtt"
    for kind, key in ADDRESS_KEYS.items():
        if kind != speech and getattr(meter, key) is not None:
            where = f"on bus {bus.id!r} ({bus.kind})" if bus is not None else "where a meter publishes by itself"
            raise error_at(path, ("meter", index, key), f"is of {NAMES[kind]}, and means nothing {where}")
    if speech == "modbus" and meter.unit is None:
        raise error_at(path, ("meter", index, "unit"), "a meter on a Modbus bus has a unit address from 1 to 247")
    if speech == "dlt645" and meter.address is None:
        raise error_at(path, ("meter", index, "address"), "a DL/T 645 meter has an address of 12 digits, on its plate")
    if speech == "dlt645" and "zone" not in meter.model_fields_set:
        message = "a DL/T 645 meter keeps a local time and does not say which: write for example zone = 'Asia/Shanghai'"
        raise error_at(path, ("meter", index, "zone"), message)
    if bus is not None and bus.kind == "wrapper" and meter.dlms is not None:
        for key in HDLC_ALONE:
            if getattr(meter.dlms, key) is not None:
                raise error_at(path, ("meter", index, "dlms", key), "is of HDLC; the wrapper knows client and server")


def _check_clashes(
    path: Path, site: GatewayFile, buses: dict[str, BusSettings], profiles: dict[str, AnyProfile]
) -> None:
    """Check that no two meters that are there have one address."""
    seen: dict[tuple[str, Hashable], int] = {}
    for index, meter in enumerate(site.meter):
        if meter.removed is not None:
            continue
        if meter.bus is None:
            place, key, address = f"mqtt {meter.profile}", "topic", repr(meter.topic)
        else:
            place = meter.bus
            key, address = _address(meter, buses[meter.bus], profiles[meter.profile])
        if (place, address) in seen:
            other = site.meter[seen[place, address]].id
            message = f"{address} is already the address of {other!r} on {place}"
            raise error_at(path, ("meter", index, key), message)
        seen[place, address] = index


def _address(meter: MeterSettings, bus: BusSettings, profile: AnyProfile) -> tuple[str, str]:
    """Return the key of a meter's address and the address in words."""
    protocol = PROTOCOLS[bus.kind]
    if protocol == "modbus":
        return "unit", repr(meter.unit)
    if protocol == "dlt645":
        return "address", repr(meter.address)
    asked = meter.dlms or DlmsSettings()
    usual = getattr(profile, "association", None)
    server = asked.server or (usual.server if usual else 1)
    if bus.kind == "wrapper":
        return "dlms", f"server {server} for client {asked.client or (usual.client if usual else 16)}"
    physical = f"physical {asked.physical}, " if asked.physical is not None else ""
    return "dlms", f"{physical}server {server}"
