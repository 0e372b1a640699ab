"""The gateway against simulated meters of every protocol: read on demand, checked, and left alone when refused."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.dlt645_profile import load_dlt645_profile
from gateway.app import Gateway
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from gateway.settings import GatewayFile
from metering.errors import AuthError, MeterError
from metering.model import Block, Source
from simulators.dlms_meter import DlmsMeter
from simulators.dlms_security import GMAC_CLIENT, READER
from simulators.dlms_security import test_keys as keys_of_simulators
from simulators.dlms_serial import DlmsLine
from simulators.dlms_tcp import DlmsTcpServer
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_serial import Dlt645SerialLine
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.meter import Meter, MeterSettings
from storage.log import Log, LogLimits
from storage.quarantine import Quarantine

SERIAL = "70000123"
ADDRESS = "000000000161"
IMPORT = "1-0:1.8.0*255"
GMAC = {"client": GMAC_CLIENT, "authentication": "high-gmac", "security": "authenticated-encrypted"}
LOW = {"client": READER, "authentication": "low"}

Make = Callable[..., Gateway]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return what makes a gateway with one meter, and its key store beside it."""
    master = tmp_path / "master.key"
    master.write_text(make_master())

    def made(bus: dict[str, object], meter: dict[str, object]) -> Gateway:
        file = GatewayFile.model_validate(
            {
                "gateway": {"id": "g", "data": str(tmp_path)},
                "keys": {"master": f"file:{master}"},
                "bus": [{"id": "b", **bus}],
                "meter": [{"id": "m", "point": "p", "region": "r", "bus": "b", **meter}],
            }
        )
        return Gateway(file, Log.open(tmp_path / "log", LogLimits(min_free_bytes=0)), Quarantine(tmp_path / "q"))

    return made


@pytest.fixture
def keys(tmp_path: Path, make: Make) -> KeyStore:
    del make  # its master key is there
    store = KeyStore(tmp_path / "keys", f"file:{tmp_path / 'master.key'}")
    secrets = keys_of_simulators()
    store.put("m", {name: getattr(secrets, name) for name in ("encryption", "authentication", "password")})
    return store


@pytest.fixture(params=["wrapper", "hdlc-tcp"])
async def dlms_bus(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, object]]:
    meter = DlmsMeter(Meter(MeterSettings(serial=SERIAL)))
    server = DlmsTcpServer({1: meter}, framing="wrapper" if request.param == "wrapper" else "hdlc")
    host, port = await server.start()
    yield {"kind": request.param, "host": host, "port": port}
    await server.close()


def dlms(bus: dict[str, object], said: dict[str, object], serial: str = SERIAL) -> dict[str, object]:
    table = said if bus["kind"] == "wrapper" else {**said, "physical": 17}
    return {"profile": "dlms_generic", "serial": serial, "dlms": table}


def zone_at_noon() -> str:
    """Return a zone where it is about noon now; such names count westwards."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


async def end(gateway: Gateway) -> None:
    for bus in gateway._buses.values():
        await bus.close()
    gateway._log.close()
    if gateway._keys is not None:
        gateway._keys.close()


def shown(blocks: list[Block]) -> set[str]:
    assert {block.layout.source for block in blocks} == {Source.ON_DEMAND}
    return {column.obis for block in blocks for column in block.layout.columns}


@pytest.mark.parametrize("said", [GMAC, LOW], ids=["ciphered", "password"])
@pytest.mark.usefixtures("keys")
async def test_a_dlms_meter_is_read_with_its_keys(make: Make, dlms_bus: dict[str, object], said: dict[str, object]):
    gateway = make(dlms_bus, dlms(dlms_bus, said))
    assert IMPORT in shown(await gateway.read_now("m"))
    assert IMPORT in shown(await gateway.read_now("m"))
    await end(gateway)


@pytest.mark.usefixtures("keys")
async def test_another_dlms_meter_is_not_read(make: Make, dlms_bus: dict[str, object]):
    gateway = make(dlms_bus, dlms(dlms_bus, GMAC, serial="4711"))
    with pytest.raises(MeterError, match=f"server 1 shows serial number {SERIAL}, installed is 4711"):
        await gateway.read_now("m")
    assert "4711" in gateway.status().refused["m"]
    await end(gateway)


async def test_a_wrong_password_is_tried_once_and_a_new_one_is_taken_up(
    make: Make, keys: KeyStore, dlms_bus: dict[str, object]
):
    right = keys.keys_of("m").password
    keys.put("m", {"password": b"87654321"})
    gateway = make(dlms_bus, dlms(dlms_bus, LOW))
    with pytest.raises(AuthError):
        await gateway.read_now("m")
    with pytest.raises(AuthError, match="not asked until its key changes"):
        await gateway.read_now("m")
    assert set(gateway.status().refused) == {"m"}
    keys.put("m", {"password": right})
    assert IMPORT in shown(await gateway.read_now("m"))
    assert gateway.status().refused == {}
    await end(gateway)


@pytest.mark.usefixtures("keys")
async def test_counters_go_on_over_a_restart(make: Make, dlms_bus: dict[str, object]):
    for _ in range(2):
        gateway = make(dlms_bus, dlms(dlms_bus, GMAC))
        assert IMPORT in shown(await gateway.read_now("m"))
        await end(gateway)


async def test_a_dlt645_meter_that_refuses_the_password_of_its_clock_is_read_all_the_same(make: Make, keys: KeyStore):
    keys.put("m", {"password": b"\x99\x99\x99"})
    zone = zone_at_noon()  # near midnight no clock is set
    profile = load_dlt645_profile("dlt645_2007_3p").model_copy(update={"zone": zone})
    meter = Dlt645Meter(Meter(MeterSettings(serial=ADDRESS)), profile, Dlt645Made(ADDRESS))
    server = Dlt645TcpServer({ADDRESS: meter})
    host, port = await server.start()
    gateway = make(
        {"kind": "dlt645-tcp", "host": host, "port": port},
        {"profile": profile.name, "address": ADDRESS, "zone": zone},
    )
    for told in ("password", "not asked until its key changes"):
        with pytest.raises(AuthError, match=told):
            await gateway.set_clock("m", "a test")
    assert meter.wrong_passwords == 1
    assert IMPORT in shown(await gateway.read_now("m"))
    keys.put("m", {"password": meter.made.password})
    await gateway.set_clock("m", "a test")
    assert meter.wrong_passwords == 1
    await end(gateway)
    await server.close()


async def test_a_dlt645_meter_is_read_by_its_address(make: Make):
    profile = load_dlt645_profile("dlt645_2007_3p")
    meter = Dlt645Meter(Meter(MeterSettings(serial=ADDRESS)), profile, Dlt645Made(ADDRESS))
    server = Dlt645TcpServer({ADDRESS: meter})
    host, port = await server.start()
    gateway = make(
        {"kind": "dlt645-tcp", "host": host, "port": port},
        {"profile": "dlt645_2007_3p", "address": ADDRESS, "zone": profile.zone},
    )
    assert IMPORT in shown(await gateway.read_now("m"))
    await end(gateway)
    await server.close()


@pytest.mark.parametrize("start", ["direct", "mode-e"])
@pytest.mark.usefixtures("keys")
async def test_a_dlms_meter_on_a_serial_line_is_read(make: Make, start: str):
    line = DlmsLine({1: DlmsMeter(Meter(MeterSettings(serial=SERIAL)))}, mode_e=start == "mode-e")
    bus = {"kind": "hdlc", "port": str(line.start()), "start": start}
    gateway = make(bus, {**dlms(bus, LOW), "only": ["active_energy_import"]})
    assert shown(await gateway.read_now("m")) == {IMPORT}
    await end(gateway)
    line.close()


async def test_a_dlt645_meter_on_a_serial_line_is_read(make: Make):
    profile = load_dlt645_profile("dlt645_2007_3p")
    meter = Dlt645Meter(Meter(MeterSettings(serial=ADDRESS)), profile, Dlt645Made(ADDRESS))
    line = Dlt645SerialLine({ADDRESS: meter})
    gateway = make(
        {"kind": "dlt645", "port": str(line.start()), "open_as": "8N1"},
        {"profile": "dlt645_2007_3p", "address": ADDRESS, "zone": profile.zone, "only": ["active_import"]},
    )
    assert IMPORT in shown(await gateway.read_now("m"))
    await end(gateway)
    line.close()
