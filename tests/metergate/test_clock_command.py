"""`metergate clock` at a simulated DL/T 645 meter and a simulated DLMS meter with an offset."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.dlt645_profile import load_dlt645_profile
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from metergate.parts import log_directory
from simulators.dlms_meter import DlmsMeter
from simulators.dlms_security import GMAC_CLIENT
from simulators.dlms_security import test_keys as keys_of_simulators
from simulators.dlms_tcp import DlmsTcpServer
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.meter import Meter, MeterSettings
from storage.codec import unpack
from storage.files import lock_directory
from storage.log import Log, Record

Command = Callable[..., tuple[int, str, str]]
ADDRESS = "000000000161"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    loop = asyncio.new_event_loop()
    dlms = DlmsTcpServer({1: DlmsMeter(Meter(MeterSettings(serial="70000123", offset_s=-90.0)))})
    made = Dlt645Meter(
        Meter(MeterSettings(serial=ADDRESS, offset_s=-7200)), load_dlt645_profile("dlt645_2007"), Dlt645Made(ADDRESS)
    )
    dlt645 = Dlt645TcpServer({ADDRESS: made})
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    places = [asyncio.run_coroutine_threadsafe(server.start(), loop).result(10) for server in (dlms, dlt645)]
    (tmp_path / "master.key").write_text(make_master())
    secrets = keys_of_simulators()
    store = KeyStore(tmp_path / "data" / "keys", f"file:{tmp_path / 'master.key'}")
    store.put("d", {"encryption": secrets.encryption, "authentication": secrets.authentication})
    store.close()
    path = tmp_path / "site.toml"
    path.write_text(f"""
[gateway]
id = "g"
data = "{tmp_path / "data"}"

[keys]
master = "file:{tmp_path / "master.key"}"

[[bus]]
id = "wan"
kind = "wrapper"
host = "{places[0][0]}"
port = {places[0][1]}

[[bus]]
id = "server"
kind = "dlt645-tcp"
host = "{places[1][0]}"
port = {places[1][1]}

[[meter]]
id = "d"
bus = "wan"
profile = "dlms_idis"
serial = "70000123"
point = "P1"
region = "r"
dlms = {{client = {GMAC_CLIENT}, authentication = "high-gmac", security = "authenticated-encrypted"}}

[[meter]]
id = "t"
bus = "server"
profile = "dlt645_2007"
address = "{ADDRESS}"
zone = "Asia/Shanghai"
point = "P2"
region = "r"
""")
    yield path
    for server in (dlms, dlt645):
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def names(tmp_path: Path) -> list[str]:
    log = Log.open(log_directory(tmp_path / "data"))
    items = log.read(log.first_seq, 100_000, 1 << 30)
    log.close()
    batches = [unpack(item.payload) for item in items if isinstance(item, Record)]
    return [event.name for batch in batches for event in batch.events]


def test_a_clock_is_shown_and_then_set_and_both_are_kept(command: Command, file: Path, tmp_path: Path) -> None:
    code, out, err = command("clock", file, "d")
    assert code == 0
    assert "the meter's clock is off" in err
    assert out.startswith("d: 90.0")
    assert "behind" in out
    assert "drift not known yet" in out
    code, out, _ = command("clock", file, "d", "--set")
    assert code == 0
    first, second = out.splitlines()
    assert "behind" in first
    assert second.startswith("d: set; 0.")
    assert "meter-clock-corrected" in names(tmp_path)
    assert command("clock", file, "d")[1].startswith("d: 0.")


def test_a_clock_that_cannot_be_set_as_things_stand_says_why(command: Command, file: Path) -> None:
    assert command("clock", file, "t")[1].startswith("t: 7")
    code, _, err = command("clock", file, "t", "--set")  # DL/T 645 wants a password, and there is none
    assert code == 1
    assert "metergate: t: " in err


def test_a_running_gateway_keeps_its_meters(command: Command, file: Path, tmp_path: Path) -> None:
    folder = log_directory(tmp_path / "data")
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_directory(folder)
    code, _, err = command("clock", file, "d")
    assert code == 1
    assert "POST /v1/devices/d/clock" in err
    assert lock
