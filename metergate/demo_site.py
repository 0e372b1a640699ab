"""The site file of the simulated meters, as a person would have written it, and their keys. It starts nothing."""

from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from collector.dlt645_profile import load_dlt645_profile
from gateway.keystore import KeyStore
from gateway.lines import keys_directory
from gateway.master_key import make_master
from metergate.demo_supply import policy_table, service_key
from metergate.site import SiteFile
from metergate.world import DlmsPlace, Dlt645Place, Places, SimulatedMeter
from metering import timing
from metering.errors import ConfigError
from metering.model import SECOND
from metering.timing import to_rfc3339
from simulators.dlms_security import (
    GMAC_CLIENT,
    MANAGEMENT,
    MD5_CLIENT,
    READER,
    SHA1_CLIENT,
    SHA256_CLIENT,
    TEST_SECRET,
    test_keys,
)

REGISTERS = "10s"
MOMENTS = "5s"
PUSHED = "1min"  # some of the publishing devices tell their totals once a minute
SLOW_LINE = {"registers": "1min", "instantaneous": "12s"}  # a line of 2400 baud, or one where a conversation is dear
HOUR = 3600 * SECOND
# How far back the meters' own profiles are read at the first start: as long as a slow line needs some seconds for.
MEMORY_HOURS = 3
REGION = "demo/town"

# DLMS meters prove themselves in turn by each way there is.
WAYS: tuple[dict[str, Any], ...] = (
    {"client": MANAGEMENT, "authentication": "high-gmac", "security": "authenticated-encrypted"},
    {"client": READER, "authentication": "low", "security": "none"},
    {"client": SHA256_CLIENT, "authentication": "high-sha256", "security": "none"},
    {"client": GMAC_CLIENT, "authentication": "high-gmac", "security": "authenticated-encrypted", "ciphering": "ded"},
    {"client": MD5_CLIENT, "authentication": "high-md5", "security": "none"},
    {"client": SHA1_CLIENT, "authentication": "high-sha1", "security": "none"},
)


def demo_site(places: Places, data: Path, api: str) -> SiteFile:
    """Return the site file of the simulated meters.

    Raises:
        ConfigError: `api` is no address to listen at.

    """
    since = _first_start(data)
    meters = [
        *(_modbus_or_mqtt(meter) for meter in places.meters),
        *(_dlms(place, WAYS[number % len(WAYS)], since) for number, place in enumerate(places.dlms)),
        *(_dlt645(place, since) for place in places.dlt645),
    ]
    table: dict[str, Any] = {
        "gateway": {"id": "demo", "data": str(data), "jitter": "500ms"},
        "schedule": {"registers": REGISTERS, "instantaneous": MOMENTS},
        "api": {"listen": api},
        "keys": {"master": f"file:{_master(data)}"},
        "supply": {"service_key": str(service_key(data))},
        "policy": policy_table(),
        "bus": list(_buses(places)),
        "meter": [
            {"point": f"MP-{number:06}", "region": f"{REGION}/{meter.get('bus', 'offices')}"} | meter
            for number, meter in enumerate(meters, 1)
        ],
    }
    if places.broker is not None:
        table["mqtt"] = {"host": places.broker.host, "port": places.broker.port}
    try:
        return SiteFile.model_validate(table)
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"])) from None


def store_keys(site: SiteFile, places: Places) -> None:
    """Put the simulated meters' keys into the site's key store, as `metergate key import` would."""
    assert site.keys is not None  # noqa: S101 - the demo's file names one
    store = KeyStore(keys_directory(site), site.keys.master)
    keys = test_keys()
    ways = {meter.id: meter.dlms.authentication for meter in site.meter if meter.dlms is not None}
    for place in places.dlms:
        password = keys.password if ways[place.id] == "low" else TEST_SECRET
        secrets = {"encryption": keys.encryption, "authentication": keys.authentication, "password": password}
        store.put(place.id, secrets, counter=0)


def _buses(places: Places) -> list[dict[str, Any]]:
    buses: dict[str, dict[str, Any]] = {
        name: {"kind": "rtu-over-tcp" if place.rtu else "tcp", "host": place.host, "port": place.port}
        for name, place in places.tcp.items()
    }
    for name, path in places.rtu.items():
        buses[name] = {"kind": "rtu", "port": path, "format": "8E1", "open_as": "8N1"}
    for dlms in places.dlms:
        tcp = {"kind": "hdlc-tcp" if dlms.transport == "hdlc" else "wrapper", "host": dlms.host, "port": dlms.port}
        buses[dlms.bus] = {"kind": "hdlc", "port": dlms.path, "start": "mode-e"} if dlms.path else tcp
    for meter in places.dlt645:
        tcp = {"kind": "dlt645-tcp", "host": meter.host, "port": meter.port}
        buses[meter.bus] = {"kind": "dlt645", "port": meter.path, "open_as": "8N1"} if meter.path else tcp
    return [{"id": name} | bus for name, bus in buses.items()]


def _modbus_or_mqtt(meter: SimulatedMeter) -> dict[str, Any]:
    place: dict[str, Any] = {"id": meter.id, "profile": meter.profile}
    if meter.topic:
        return place | {"topic": meter.topic, "schedule": {"registers": PUSHED}}
    return place | {"bus": meter.bus, "unit": meter.unit, "serial": meter.serial}


def _dlms(place: DlmsPlace, way: dict[str, Any], since: str) -> dict[str, Any]:
    address = {"server": place.server} | ({} if place.transport == "wrapper" else {"physical": place.physical})
    return {
        "id": place.id,
        "profile": place.profile,
        "bus": place.bus,
        "serial": place.serial,
        "dlms": address | way,
        "installed": since,
    } | ({"schedule": SLOW_LINE} if place.path else {})


def _dlt645(place: Dlt645Place, since: str) -> dict[str, Any]:
    meter = {"id": place.id, "profile": place.profile, "bus": place.bus, "address": place.address, "installed": since}
    meter["zone"] = load_dlt645_profile(place.profile).zone
    return meter | ({"schedule": SLOW_LINE} if place.path else {})


def _first_start(data: Path) -> str:
    """Return from when on the meters hang there: the same at every start with the same data."""
    path = data / "installed"
    if not path.exists():
        hour = timing.now() // HOUR * HOUR
        path.write_bytes(msgspec.json.encode(to_rfc3339(hour - MEMORY_HOURS * HOUR)))
    return msgspec.json.decode(path.read_bytes(), type=str)


def _master(data: Path) -> Path:
    path = data / "master.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(make_master() + "\n", encoding="ascii")
    return path
