"""DLMS meters of a fleet file: where they listen, how they are made, and one clear error."""

from pathlib import Path
from typing import get_args

import pytest

from collector.protocols.dlms.acse import Mechanism
from metergate.world import World
from metering.errors import ConfigError
from simulators.dlms_faults import LinkKind, MeterKind, ReplyKind
from simulators.dlms_objects import Role
from simulators.dlms_profiles import Packing
from simulators.fleet import Simulation
from simulators.fleet_file import load_fleet

DOCUMENT = Path(__file__).parents[3] / "docs" / "simulated-dlms-meters.md"
NOW = 1_795_000_000_000_000
SITE = """
[[dlms]]
id = "net"
[[dlms.meter]]
id = "one"
serial = "70000001"
load = "shop"
control_mode = 3
null_clock = true
days = 5
zone = "Europe/Berlin"
keys = {encryption = "00112233445566778899AABBCCDDEEFF"}
fault = [{kind = "lost", every = 1000}]
[[dlms.meter.client]]
address = 1
mechanism = "high-gmac"
contexts = ["ciphered"]
policy = "authenticated-encrypted"
[[dlms.meter]]
id = "two"
server = 2

[[dlms]]
id = "line"
transport = "serial"
baud = 19200
mode_e = true
[[dlms.meter]]
id = "three"
physical = 20
phases = 1
push = {port = 4059, interval_s = 0, ciphered = true}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


def test_meters_are_made_as_the_file_says(site: Path):
    simulation = Simulation.load(site, clock=lambda: NOW)
    one, two, three = (simulation.dlms.meters[name] for name in ("one", "two", "three"))
    assert one.meter is simulation.meters["one"]
    assert one.meter.serial == "70000001"
    assert one.security.keys.encryption == bytes.fromhex("00112233445566778899AABBCCDDEEFF")
    assert one.security.keys.authentication == two.security.keys.authentication
    assert (one.settings.control_mode, one.settings.profile.packing) == (3, Packing(null_clock=True))
    (client,) = one.security.clients.values()
    assert (client.mechanism, client.role, client.policy) == (Mechanism.HIGH_GMAC, Role.MANAGER, 0x30)
    assert len(two.security.clients) == 7
    assert "1-0:52.7.0*255" in two.objects
    assert "1-0:52.7.0*255" not in three.objects
    assert (three.push.destination, three.push.settings.ciphered) == ("127.0.0.1:4059", True)
    again = Simulation.load(site, clock=lambda: NOW)
    for name, meter in simulation.dlms.meters.items():
        assert meter.title == again.dlms.meters[name].title
        assert meter.registers.value("1-0:1.8.0*255", NOW) == again.dlms.meters[name].registers.value(
            "1-0:1.8.0*255", NOW
        )


def stands(path: str) -> bool:
    return Path(path).is_symlink()


async def test_every_endpoint_listens_and_the_world_tells_where(site: Path):
    async with World(load_fleet(site), site.parent) as world:
        places = world.places()
        assert (places.tcp, places.rtu, places.meters) == ({}, {}, [])
        found = {place.id: place for place in places.dlms}
        assert [(place.transport, place.server, place.physical) for place in found.values()] == [
            ("wrapper", 1, 17),
            ("wrapper", 2, 17),
            ("serial", 1, 20),
        ]
        assert found["one"].port == found["two"].port > 0
        assert stands(found["three"].path)
    assert not stands(found["three"].path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("server = 2", "server = 1", "two meters have the same address"),
        ('"lost"', '"babble"', r"fault\[0\]\.kind"),
        ("00112233445566778899AABBCCDDEEFF", "0011", r"keys\.encryption: .*a key is 16 bytes in hex"),
        ("null_clock = true", "null_clock = true\ncompact = true", "compact goes without"),
        ("physical = 20", 'fault = [{kind = "reset"}]', "'reset' cannot happen on a serial line"),
        ('"three"', '"one"', r"'one' is already the id of another meter"),
        ("control_mode = 3", "control_mode = 7", r"control_mode"),
        ("baud = 19200", 'format = "7E1"', "'7E1' is not a line format"),
    ],
)
def test_a_mistake_is_one_error_with_file_and_key(site: Path, old: str, new: str, message: str):
    site.write_text(SITE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        Simulation.load(site)
    assert str(site) in str(caught.value)
    assert "00112233" not in str(caught.value)


def test_the_example_of_the_documentation_is_a_site_and_its_table_names_every_fault(tmp_path: Path):
    text = DOCUMENT.read_text()
    path = tmp_path / "example.toml"
    path.write_text(text.split("```toml\n")[1].split("```")[0])
    assert len(Simulation.load(path).dlms.meters) == 3
    assert all(f"`{kind}`" in text for kinds in (LinkKind, ReplyKind, MeterKind) for kind in get_args(kinds))
