"""A simulated site in a thread of its own, and a site file that a person would have written for it."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metergate.cli import main
from metergate.world import Places, World, with_free_ports
from simulators.faults import Fault
from simulators.fleet_file import load_fleet
from tests.metergate.dlms_site import DlmsSite, Endpoints
from tests.metergate.running_demo import WAIT_S, Demo

FLEET = """
seed = 7

[[tcp]]
id = "riser"
port = 15020
unknown_unit = "exception"

[[tcp.meter]]
id = "flat-1"
unit = 1
profile = "eastron_sdm120"

[[tcp.meter]]
id = "shop"
unit = 2
profile = "abb_b23_b24"
load = "shop"

[[tcp.meter]]
id = "flat-3"
unit = 3
profile = "carlo_gavazzi_em340"

[[rtu]]
id = "cellar"

[[rtu.meter]]
id = "cellar-1"
unit = 1
profile = "chint_ddsu666"

[[mqtt]]
id = "sensor"
kind = "metergate"
"""


class Simulated:
    """A running world: where it listens, and a way to make its meters misbehave."""

    def __init__(self, directory: Path) -> None:
        path = directory / "fleet.toml"
        path.write_text(FLEET)
        self._world = World(with_free_ports(load_fleet(path)), directory, publish_s=0.5)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self.places: Places

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._loop.close()

    def set_faults(self, meter: str, *standing: Fault) -> None:
        done = threading.Event()

        def change() -> None:
            self._world._simulation.set_faults(meter, standing)
            done.set()

        self._loop.call_soon_threadsafe(change)
        assert done.wait(5)

    async def _run(self) -> None:
        async with self._world as world:
            self.places = world.places()
            self._ready.set()
            await world.run(self._stop)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    world = Simulated(tmp_path_factory.mktemp("world"))
    world.start()
    yield world
    world.close()


@pytest.fixture
def site_text(simulated: Simulated, tmp_path: Path) -> str:
    places = simulated.places
    riser = places.tcp["riser"]
    assert places.broker is not None
    text = f"""
[gateway]
id = "gw-test"
data = "{tmp_path / "data"}"
jitter = "0s"

[schedule]
registers = "1s"
instantaneous = "1s"

[gateway.log]
commit_every = "100ms"

[api]
listen = "127.0.0.1:0"

[mqtt]
host = "{places.broker.host}"
port = {places.broker.port}

[[bus]]
id = "riser"
kind = "tcp"
host = "{riser.host}"
port = {riser.port}

[[bus]]
id = "cellar"
kind = "rtu"
port = "{places.rtu["cellar"]}"
format = "8E1"
open_as = "8N1"
"""
    for number, meter in enumerate(places.meters, 1):
        where = f'topic = "{meter.topic}"' if meter.topic else f'bus = "{meter.bus}"\nunit = {meter.unit}'
        text += f"""
[[meter]]
id = "{meter.id}"
profile = "{meter.profile}"
point = "MP-{number}"
region = "town/street"
serial = "{meter.serial}"
{where}
"""
    return text


@pytest.fixture
def site_file(site_text: str, tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(site_text)
    return path


@pytest.fixture
def rewrite(site_text: str, tmp_path: Path) -> Callable[..., Path]:
    """Return what writes the site file with some of its text replaced."""

    def write(*pairs: tuple[str, str]) -> Path:
        text = site_text
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "site.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Return what runs a command line in this process: exit code, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["metergate", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


# --- for tests of the demo --------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Return what starts a demo; it is gone after the test, whatever happens."""
    demos: list[Demo] = []

    def begin(*options: str, port: int = 0) -> Demo:
        demos.append(Demo(tmp_path / "data", tmp_path / f"said-{len(demos)}.txt", *options, port=port))
        return demos[-1]

    yield begin
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait(WAIT_S)


# --- for tests of the doctor ------------------------------------------------------------------------------------------


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let who is silent be silent for a shorter time: nothing here is further away than this machine."""
    monkeypatch.setattr("collector.links.stream.HIDDEN_LIMIT_S", 0.2)
    monkeypatch.setattr("collector.links.stream.NETWORK_MARGIN_S", 0.3)
    monkeypatch.setattr("collector.links.line.LATE_S", 0.3)
    monkeypatch.setattr("metergate.doctor_search.ADDRESSES_S", 4.0)


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    """Endpoints that go with the test."""
    made = Endpoints()
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> DlmsSite:
    """A site with a DLMS meter, whose file is still to be written."""
    return DlmsSite(tmp_path, command)
