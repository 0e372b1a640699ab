"""A simulated site from its file: where it listens, what it shows, faults that switch, and one clear error."""

import asyncio
from pathlib import Path

import pytest
import serial

from collector.profile import load_profile, profile_names
from collector.protocols.modbus import read_reply, read_request
from collector.protocols.modbus_adu import rtu_frame, tcp_frame
from collector.protocols.modbus_values import decode, decode_text
from metering.errors import ConfigError
from metering.quality import Quality
from simulators.faults import Fault
from simulators.fleet import Simulation
from simulators.fleet_file import load_fleet
from simulators.meter import Meter, MeterSettings
from simulators.models import load_model
from simulators.registers import MeterRegisters

EXAMPLE = Path(__file__).parents[2] / "config" / "simulation.toml"
NOW = 1_790_000_000_000_000
SITE = """
[[tcp]]
id = "gate"
[[tcp.meter]]
id = "one"
unit = 1
profile = "eastron_sdm630"
serial = "21000001"
[[tcp.meter]]
id = "two"
unit = 2
profile = "abb_b23_b24"
fault = [{kind = "exception", code = 6}]

[[rtu]]
id = "line"
baud = 19200
[[rtu.meter]]
id = "three"
unit = 3
profile = "chint_ddsu666"
turnaround_ms = 0
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


async def ask_tcp(place: object, unit: int, pdu: bytes) -> bytes:
    assert isinstance(place, tuple)
    reader, writer = await asyncio.open_connection(*place)
    writer.write(tcp_frame(1, unit, pdu))
    head = await reader.readexactly(6)
    body = await reader.readexactly(int.from_bytes(head[4:], "big"))
    writer.close()
    return body[1:]


def ask_line(path: Path, unit: int, pdu: bytes) -> bytes:
    with serial.Serial(str(path), 19200, timeout=2) as port:
        port.write(rtu_frame(unit, pdu))
        return port.read(9)


async def test_a_site_listens_where_it_says_and_its_meters_show_their_values(site: Path):
    simulation = Simulation.load(site, clock=lambda: NOW)
    places = await simulation.start()
    assert places["line"] == site.parent / "line"
    volts = simulation.meters["one"].values(NOW)["1-0:32.7.0*255"] / 1e6
    reply = await ask_tcp(places["gate"], 1, read_request(4, 0, 2))
    profile = load_profile("eastron_sdm630")
    assert decode(profile.spec(profile.points[0]), reply[2:])[0] == pytest.approx(volts, abs=1e-4)
    assert await ask_tcp(places["gate"], 1, read_request(3, 64512, 2)) == read_reply(3, (21000001).to_bytes(4, "big"))
    line = places["line"]
    assert isinstance(line, Path)
    frame = await asyncio.to_thread(
        ask_line, line, 3, read_request(4, load_profile("chint_ddsu666").points[0].address, 2)
    )
    assert frame[:3] == bytes.fromhex("03 04 04")
    await simulation.close()
    assert not line.is_symlink()


async def test_faults_switch_while_the_site_runs(site: Path):
    simulation = Simulation.load(site)
    stop = asyncio.Event()
    places = await simulation.start()
    running = asyncio.create_task(simulation.run(stop))
    assert await ask_tcp(places["gate"], 2, read_request(3, 20480, 4)) == bytes.fromhex("83 06")
    simulation.set_faults("two")
    assert (await ask_tcp(places["gate"], 2, read_request(3, 20480, 4)))[:2] == bytes.fromhex("03 08")
    simulation.set_faults("two", script=[Fault("exception", code=4), None])
    assert await ask_tcp(places["gate"], 2, read_request(3, 20480, 4)) == bytes.fromhex("83 04")
    with pytest.raises(KeyError):
        simulation.set_faults("nobody")
    stop.set()
    await running


def test_a_site_started_again_has_the_same_meters(site: Path):
    first, again = Simulation.load(site), Simulation.load(site)
    for name, meter in first.meters.items():
        assert meter.values(NOW) == again.meters[name].values(NOW)
        assert meter.serial == again.meters[name].serial
    assert len({meter.serial for meter in first.meters.values()}) == 3


@pytest.mark.parametrize("name", profile_names())
def test_every_meter_model_can_be_simulated(name: str):
    model = load_model(name)
    meter = Meter(MeterSettings(phases=model.phases, serial="31000001"))
    source = MeterRegisters(meter, model.layout())
    values = meter.values(NOW)
    for point in model.profile.points:
        assert point.obis in values or model.phases == 1
        spec = model.profile.spec(point)
        data = source.read(model.profile.function_of(point), point.address, point.registers, NOW, None)
        value, quality = decode(spec, data)
        assert value is not None
        assert quality == Quality.VALID
    if model.profile.identity:
        place = model.profile.identity
        data = source.read(model.profile.function_of(place), place.address, place.registers, NOW, None)
        assert decode_text(model.profile.spec(place), data) == "31000001"


def test_the_example_site_has_what_the_demo_promises():
    fleet = load_fleet(EXAMPLE)
    assert sum(len(endpoint.meter) for endpoint in fleet.tcp) >= 12
    assert len(fleet.tcp) >= 3
    assert len({meter.profile for endpoint in fleet.tcp for meter in endpoint.meter}) >= 6
    assert [(line.baud, line.format, len(line.meter)) for line in fleet.rtu] == [(9600, "8E1", 4)]
    assert len(fleet.mqtt) == 4
    assert len(Simulation(fleet).units) == 17


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("unit = 2", "unit = 1", 11, r"tcp\[0\]\.meter\[1\]\.unit: 1 is already used in line 6"),
        ("unit = 2", "unti = 2", 11, r"unti: unknown key; did you mean .unit.\?"),
        ('"two"', '"one"', 10, r"meter\[1\]\.id: 'one' is already the id of another meter"),
        ('"line"', '"gate"', 16, r"rtu\[0\]\.id: 'gate' is already"),
        ("eastron_sdm630", "eastron_sdm63", 7, r"profile: there is no profile 'eastron_sdm63'; did you mean"),
        ('"exception"', '"bad_crc"', 13, r"'bad_crc' cannot happen on Modbus TCP framing"),
        ('"exception"', '"sleepy"', 13, r"fault\[0\]\.kind"),
        ("baud = 19200", "baud = -1", 17, r"rtu\[0\]\.baud"),
        ("baud = 19200", 'format = "7E1"', 17, r"rtu\[0\]\.format: '7E1' is not a line format"),
        ("turnaround_ms = 0", 'fault = [{kind = "reset"}]', 22, r"'reset' cannot happen on a serial line"),
    ],
)
def test_a_mistake_is_one_error_with_file_line_and_key(site: Path, old: str, new: str, line: int, message: str):
    site.write_text(SITE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        Simulation.load(site)
    assert caught.value.line == line
    assert str(site) in str(caught.value)
