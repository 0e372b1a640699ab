"""The commands at a site with a DLMS meter that wants keys: what is missing is told, what is there is read."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.keystore import KeyStore
from gateway.master_key import make_master
from metergate.parts import log_directory
from simulators.dlms_meter import DlmsMeter
from simulators.dlms_security import GMAC_CLIENT
from simulators.dlms_security import test_keys as keys_of_simulators
from simulators.dlms_tcp import DlmsTcpServer
from simulators.meter import Meter, MeterSettings
from storage.files import lock_directory

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def endpoint() -> Iterator[tuple[str, int]]:
    """A simulated meter in a thread: the commands have event loops of their own."""
    loop = asyncio.new_event_loop()
    server = DlmsTcpServer({1: DlmsMeter(Meter(MeterSettings(serial="70000123")))})
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def file(tmp_path: Path, endpoint: tuple[str, int]) -> Path:
    (tmp_path / "master.key").write_text(make_master())
    host, port = endpoint
    path = tmp_path / "site.toml"
    path.write_text(
        f"""
[gateway]
id = "gw"
data = "{tmp_path / "data"}"

[keys]
master = "file:{tmp_path / "master.key"}"

[[bus]]
id = "wan"
kind = "wrapper"
host = "{host}"
port = {port}

[[meter]]
id = "flat-1"
bus = "wan"
profile = "dlms_generic"
point = "MP-1"
region = "town"
serial = "70000123"
dlms = {{client = {GMAC_CLIENT}, authentication = "high-gmac", security = "authenticated-encrypted"}}
"""
    )
    return path


def put_keys(tmp_path: Path, encryption: bytes | None = None) -> None:
    secrets = keys_of_simulators()
    store = KeyStore(tmp_path / "data" / "keys", f"file:{tmp_path / 'master.key'}")
    store.put("flat-1", {"encryption": encryption or secrets.encryption, "authentication": secrets.authentication})


@pytest.mark.parametrize("name", ["site", "gateway", "read", "check", "doctor"])
def test_a_missing_key_is_told_with_what_to_do(command: Command, file: Path, name: str) -> None:
    code, out, err = command(name, file, *(["flat-1"] if name == "read" else []))
    assert code == (1 if name in {"check", "doctor"} else 2)
    told = (
        f"{file}:22: meter[0].dlms: there is no encryption and no authentication: "
        f"metergate key add {file} flat-1 --encryption SECRET --authentication SECRET"
    )
    assert told in out + err


def test_without_a_key_store_its_table_is_asked_for(command: Command, file: Path) -> None:
    text = file.read_text()
    start, end = text.index("[keys]"), text.index("[[bus]]")
    file.write_text(text[:start] + text[end:])
    code, _, err = command("read", file, "flat-1")
    assert code == 2
    assert "needs encryption and authentication: name the key store's master key, [keys] and master" in err


def test_a_meter_is_read_with_its_keys(command: Command, file: Path, tmp_path: Path) -> None:
    put_keys(tmp_path)
    code, out, err = command("read", file, "flat-1")
    assert (code, err) == (0, "")
    assert "1-0:1.8.0*255" in out
    assert command("doctor", file)[1].count("ok     meter flat-1: answers") == 1
    assert command("check", file)[0] == 0


def test_a_wrong_key_is_tried_once(command: Command, file: Path, tmp_path: Path) -> None:
    put_keys(tmp_path, encryption=bytes(16))
    code, _, err = command("read", file, "flat-1")
    assert code == 1
    assert "metergate key" in err
    assert "not asked until" not in err
    assert "not asked until its key changes" in command("read", file, "flat-1")[2]


def test_a_counter_belongs_to_the_running_gateway(command: Command, file: Path, tmp_path: Path) -> None:
    put_keys(tmp_path)
    folder = log_directory(tmp_path / "data")
    folder.mkdir(parents=True)
    lock = lock_directory(folder)
    code, _, err = command("read", file, "flat-1")
    assert code == 1
    assert "the running gateway owns the meter's invocation counter: read by its API" in err
    assert "not asked: the running gateway owns the meter's invocation counter" in command("doctor", file)[1]
    assert lock


def test_a_site_with_keys_writes_no_core_file(tmp_path: Path, file: Path) -> None:
    put_keys(tmp_path)
    run = [sys.executable, "-m", "metergate", "gateway", str(file)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as site:
        assert site.stdout is not None
        assert any("gateway runs" in line for line in site.stdout)
        limits = Path(f"/proc/{site.pid}/limits").read_text()
        site.terminate()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]
