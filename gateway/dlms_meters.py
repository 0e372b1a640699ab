"""Makes DLMS meters: how each is asked, with which secrets, and what it is read by. It speaks to none."""

import hashlib
from collections.abc import Sequence
from functools import partial
from zoneinfo import ZoneInfo

from collector.dlms_profile import DlmsProfile, load_dlms_profile
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_access import DlmsAccess, access_of
from collector.drivers.dlms_carrier import DlmsLine
from collector.drivers.dlms_clock import DlmsClock
from collector.drivers.dlms_events import DlmsEvents
from collector.drivers.dlms_load_profile import DlmsProfileReader
from collector.drivers.dlms_reader import DlmsReader
from collector.drivers.dlms_switch import DlmsSwitch
from collector.protocols.modbus_times import character_time, parse_format
from gateway.meter_kinds import OnHoles, make_readers
from gateway.meters import BusMeter
from gateway.secrets import Keys, Secrets
from gateway.settings import GatewayFile, MeterSettings
from gateway.settings_bus import BusSettings, DlmsSettings, HdlcBus, WrapperBus

TITLE_MAKER = b"MTG"  # the first three letters of our system title, which name its maker


def dlms_meter(
    file: GatewayFile, meter: MeterSettings, bus: BusSettings, on_holes: OnHoles, keys: Keys | None
) -> BusMeter:
    """Return a DLMS meter. Raises `ConfigError`, and `StorageError` where the key store cannot be used."""
    profile = load_dlms_profile(meter.profile, file.gateway.profiles)
    access = dlms_access(file, meter, profile)
    secrets = Secrets(keys, meter.id, access.client_title if access.counted else None)
    driver = DlmsDriver(
        meter.id,
        profile,
        dlms_line(bus),
        access,
        secrets.keys,
        secrets if access.counted else None,
        zone=ZoneInfo(meter.zone),
    )

    def reader(names: Sequence[str], interval: int, told: OnHoles | None) -> DlmsReader:
        return DlmsReader(driver, names, interval=interval, on_holes=told)

    registers, moments, everything = make_readers(file, meter, profile.select(tuple(meter.only)), reader, on_holes)
    byte_s = character_time(bus.baud, parse_format(bus.format).bits) if isinstance(bus, HdlcBus) else 0.0
    physical = f"physical {access.physical}, " if access.physical is not None else ""
    return BusMeter(
        meter,
        profile,
        f"{physical}server {access.server}",
        meter.schedule or file.schedule,
        driver,
        registers,
        moments,
        everything,
        profiles=[DlmsProfileReader(driver, spec, byte_s=byte_s) for spec in profile.profile],
        clock=DlmsClock(driver) if profile.clock is not None else None,
        events=DlmsEvents(driver) if profile.events or profile.status else None,
        make_switch=partial(DlmsSwitch, driver) if profile.supply is not None else None,
        whole=True,
        keyed=bool(secrets_needed(access)),
        renew=secrets.renew,
    )


def dlms_line(bus: BusSettings) -> DlmsLine:
    """Return how DLMS meters are reached on this bus."""
    if isinstance(bus, WrapperBus):
        return DlmsLine("wrapper")
    return DlmsLine("hdlc", bus.start) if isinstance(bus, HdlcBus) else DlmsLine("hdlc")


def dlms_access(file: GatewayFile, meter: MeterSettings, profile: DlmsProfile) -> DlmsAccess:
    """Return how a DLMS meter is asked: as its settings say, and where they say nothing as its profile does."""
    said = meter.dlms or DlmsSettings()
    access = access_of(
        profile,
        client=said.client,
        server=said.server,
        physical=said.physical,
        address_bytes=said.address_bytes,
        authentication=said.authentication,
        security=said.security,
        ciphering=said.ciphering,
        system_title=bytes.fromhex(said.system_title) if said.system_title else None,
        client_title=bytes.fromhex(said.client_title) if said.client_title else None,
        read_counter=said.read_counter,
        counter_obis=said.counter_obis,
    )
    if access.client_title or not (access.counted or access.authentication == "high-sha256"):
        return access
    return access_of(profile, **{**vars(access), "client_title": client_title(file.gateway.id)})


def client_title(gateway: str) -> bytes:
    """Return a gateway's own system title of 8 bytes, always the same."""
    return TITLE_MAKER + hashlib.sha256(gateway.encode()).digest()[:5]


def secrets_needed(access: DlmsAccess) -> tuple[str, ...]:
    """Return the names of the secrets without which a DLMS meter cannot be asked so."""
    needed = []
    if access.authentication in {"low", "high-md5", "high-sha1", "high-sha256"}:
        needed.append("password")
    if access.counted:
        needed.append("encryption")
    if access.authentication == "high-gmac" or "authenticated" in access.security:
        needed.append("authentication")
    return tuple(needed)
