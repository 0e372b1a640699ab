"""A wrong site file: one message with file, line and key, exit code 2, and nothing started."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metergate.site import load_site
from metering.errors import ConfigError

GOOD = """\
[gateway]
id = "gw-1"
data = "DATA"

[mqtt]
host = "127.0.0.1"

[[bus]]
id = "riser"
kind = "tcp"
host = "192.0.2.10"

[[meter]]
id = "flat-1"
bus = "riser"
unit = 1
profile = "eastron_sdm630"
point = "MP-1"
region = "js/nj"

[[meter]]
id = "flat-2"
topic = "shelly"
profile = "mqtt_shelly_pro_3em"
point = "MP-2"
region = "js/nj"
"""

ANOTHER = """
[[meter]]
id = "{id}"
bus = "{bus}"
unit = {unit}
profile = "{profile}"
point = "{point}"
region = "{region}"
"""


def another(
    id: str = "flat-3",  # noqa: A002 - the key's name
    bus: str = "riser",
    unit: int = 3,
    profile: str = "eastron_sdm120",
    point: str = "MP-3",
    region: str = "js/nj",
    more: str = "",
) -> str:
    return ANOTHER.format(id=id, bus=bus, unit=unit, profile=profile, point=point, region=region) + more


DLMS = """
[[bus]]
id = "wan"
kind = "wrapper"
host = "192.0.2.11"

[[meter]]
id = "d-1"
bus = "wan"
profile = "dlms_generic"
point = "MP-D"
region = "js/nj"
"""

DLT645 = DLMS.replace("wan", "alley").replace('"wrapper"', '"dlt645-tcp"\nport = 8001').replace("d-1", "n-1")
DLT645 = DLT645.replace("dlms_generic", "dlt645_2007").replace("MP-D", "MP-N")

# name: (what is replaced, by what, the message after the file's name)
CASES = {
    "an unknown key": ("unit = 1", "unti = 1", "16: meter[0].unti: unknown key; did you mean 'unit'?"),
    "an unknown table": ("[mqtt]", "[mqtts]", "5: mqtts: unknown key; did you mean 'mqtt'?"),
    "a key that is missing": ('id = "gw-1"\n', "", "1: gateway.id: is missing"),
    "a wrong type": ("unit = 1", 'unit = "one"', "16: meter[0].unit: input should be a valid integer, not 'one'"),
    "a number out of range": (
        "unit = 1",
        "unit = 300",
        "16: meter[0].unit: input should be less than or equal to 247, not 300",
    ),
    "a duration without a unit": (
        "[mqtt]",
        "[schedule]\nregisters = 15\n[mqtt]",
        "6: schedule.registers: write a duration with its unit, for example '15min', '1s', '40d'",
    ),
    "a duration with a wrong unit": (
        "[mqtt]",
        '[schedule]\nregisters = "15m"\n[mqtt]',
        "6: schedule.registers: '15m' is not a duration; write a number with ms, s, min, h or d, for example 15min",
    ),
    "a period that does not divide a day": (
        "[mqtt]",
        '[schedule]\nregisters = "7min"\n[mqtt]',
        "5: schedule: registers: use whole seconds that divide a day, from 1s to 1d (15min is usual)",
    ),
    "a size without a unit": (
        "[mqtt]",
        '[gateway.log]\nmax_size = "512"\n[mqtt]',
        "6: gateway.log.max_size: write a size with its unit, for example '512 MiB'",
    ),
    "an id that is none": (
        'id = "gw-1"',
        'id = "gw 1"',
        "2: gateway.id: use 1 to 64 letters, digits, _ and -",
    ),
    "two meters of one id": ("", another(id="flat-1"), "29: meter[2].id: 'flat-1' is already used in line 14"),
    "two buses of one id": (
        "[[meter]]",
        '[[bus]]\nid = "riser"\nkind = "rtu"\nport = "/dev/ttyS0"\n[[meter]]',
        "14: bus[1].id: 'riser' is already used in line 9",
    ),
    "a bus of an unknown kind": (
        'kind = "tcp"',
        'kind = "udp"',
        (
            "10: bus[0].kind: 'udp' is none of 'rtu', 'tcp', 'rtu-over-tcp', 'hdlc', 'hdlc-tcp', 'wrapper', 'dlt645', "
            "'dlt645-tcp'"
        ),
    ),
    "an unknown bus": ('bus = "riser"', 'bus = "rizer"', "15: meter[0].bus: there is no bus 'rizer'; known: riser"),
    "an unknown profile": (
        'profile = "eastron_sdm630"',
        'profile = "eastron_sdm631"',
        "17: meter[0].profile: there is no profile 'eastron_sdm631'; did you mean 'eastron_sdm630'?",
    ),
    "a profile of another kind": (
        'profile = "eastron_sdm630"',
        'profile = "mqtt_tasmota"',
        "17: meter[0].profile: a meter of 'mqtt_tasmota' publishes by itself: say topic",
    ),
    "a value that the model has not": (
        "unit = 1",
        'unit = 1\nonly = ["energy"]',
        "17: meter[0].only: the profile eastron_sdm630 has no point 'energy'",
    ),
    "two meters on one unit": (
        "",
        another(unit=1),
        "31: meter[2].unit: 1 is already the address of 'flat-1' on riser",
    ),
    "two meters at one point at once": (
        "",
        another(point="MP-1"),
        "33: meter[2].point: 'MP-1' has 'flat-1' at the same time: say when one was removed, the other installed",
    ),
    "installations that overlap": (
        "",
        another(point="MP-1", more='installed = "2026-02-01T00:00:00Z"\n')
        + another(id="flat-4", unit=4, point="MP-4", more='removed = "2026-01-01T00:00:00Z"\n')
        + another(id="flat-5", unit=5, point="MP-4", more='installed = "2025-12-31T23:59:59Z"\n'),
        "33: meter[2].point: 'MP-1' has 'flat-1' at the same time: say when one was removed, the other installed",
    ),
    "a point in two regions": (
        'point = "MP-2"\nregion = "js/nj"',
        'point = "MP-1"\nregion = "js/sz"',
        "26: meter[1].region: 'MP-1' has region 'js/nj' at meter 'flat-1'; a meter point has one",
    ),
    "a meter reached two ways": (
        'topic = "shelly"',
        'topic = "shelly"\nbus = "riser"\nunit = 2',
        "21: meter[1]: say either bus and the meter's address there, or topic (MQTT)",
    ),
    "a Modbus meter without an address": (
        "unit = 1\n",
        "",
        "13: meter[0].unit: a meter on a Modbus bus has a unit address from 1 to 247",
    ),
    "an address of another protocol": (
        "unit = 1",
        'unit = 1\naddress = "000000000161"',
        "17: meter[0].address: is of DL/T 645, and means nothing on bus 'riser' (tcp)",
    ),
    "an address on a bus of a meter that publishes": (
        'topic = "shelly"',
        'topic = "shelly"\nunit = 2',
        "24: meter[1].unit: is of Modbus, and means nothing where a meter publishes by itself",
    ),
    "a model that does not speak as the bus does": (
        'profile = "eastron_sdm630"',
        'profile = "dlms_generic"',
        "17: meter[0].profile: a meter of 'dlms_generic' speaks DLMS; bus 'riser' (tcp) is of Modbus",
    ),
    "a DLMS meter with a unit": (
        "",
        DLMS + "unit = 3\n",
        "39: meter[2].unit: is of Modbus, and means nothing on bus 'wan' (wrapper)",
    ),
    "an address of HDLC over the wrapper": (
        "",
        DLMS + "dlms = {physical = 17}\n",
        "39: meter[2].dlms.physical: is of HDLC; the wrapper knows client and server",
    ),
    "two DLMS meters of one logical device": (
        "",
        DLMS
        + "dlms = {server = 1}\n"
        + another(id="d-2", bus="wan", profile="dlms_generic", point="MP-D2").replace("unit = 3", ""),
        "41: meter[3].dlms: server 1 for client 16 is already the address of 'd-1' on wan",
    ),
    "a DL/T 645 meter without an address": (
        "",
        DLT645,
        "34: meter[2].address: a DL/T 645 meter has an address of 12 digits, on its plate",
    ),
    "a DL/T 645 meter whose time nobody knows": (
        "",
        DLT645 + 'address = "000000000161"\n',
        (
            "34: meter[2].zone: a DL/T 645 meter keeps a local time and does not say which: write for example "
            "zone = 'Asia/Shanghai'"
        ),
    ),
    "two DL/T 645 meters of one address": (
        "",
        DLT645
        + 'address = "000000000161"\nzone = "Asia/Shanghai"\n'
        + another(id="n-2", bus="alley", profile="dlt645_2007", point="MP-N2").replace(
            "unit = 3", 'address = "000000000161"\nzone = "Asia/Shanghai"'
        ),
        "46: meter[3].address: '000000000161' is already the address of 'n-1' on alley",
    ),
    "a topic without a broker": (
        '[mqtt]\nhost = "127.0.0.1"\n',
        "",
        "21: meter[1].topic: a meter that publishes needs an [mqtt] table with the broker's host",
    ),
    "ratios that nothing applies": (
        "unit = 1",
        'unit = 1\nct_ratio = "40"',
        "13: meter[0]: ct_ratio, pt_ratio: have no effect unless ratios_apply = true (registers show secondary values)",
    ),
    "a time without an offset": (
        "unit = 1",
        'unit = 1\ninstalled = "2026-01-01T00:00:00"',
        (
            "17: meter[0].installed: '2026-01-01T00:00:00' has no offset; write it in UTC with Z, "
            "for example 2026-11-23T12:45:00Z"
        ),
    ),
    "a removal before the installation": (
        "unit = 1",
        'unit = 1\ninstalled = "2026-01-01T00:00:00Z"\nremoved = "2025-01-01T00:00:00Z"',
        "13: meter[0]: removed: must be later than installed",
    ),
    "a secret in clear": (
        'host = "127.0.0.1"\n',
        'host = "127.0.0.1"\npassword = "hunter2"\n',
        "7: mqtt.password: string should match pattern '^(env|file):.+$'",
    ),
    "an API beyond loopback without TLS": (
        "[mqtt]",
        '[api]\nlisten = "0.0.0.0:8080"\n[mqtt]',
        (
            "5: api: listen: 0.0.0.0 is beyond loopback: give tls_cert and tls_key, or say "
            "allow_plain_http_beyond_loopback = true (tokens and readings then cross the network in clear)"
        ),
    ),
    "broken TOML": ('id = "gw-1"', 'id = "gw-1', "2: id: not TOML: illegal character '\\n'"),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to_file(text: str) -> Path:
        path = tmp_path / "site.toml"
        path.write_text(text.replace("DATA", str(tmp_path / "data")))
        return path

    return to_file


def bad(name: str) -> str:
    old, new, _ = CASES[name]
    assert not old or old in GOOD
    return GOOD.replace(old, new, 1) if old else GOOD + new


def test_the_good_file_is_good(write: Callable[[str], Path]) -> None:
    assert [meter.id for meter in load_site(write(GOOD)).meter] == ["flat-1", "flat-2"]


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_file_is_told_by_line_and_key(write: Callable[[str], Path], name: str) -> None:
    path = write(bad(name))
    with pytest.raises(ConfigError) as caught:
        load_site(path)
    assert str(caught.value) == f"{path}:{CASES[name][2]}"
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no.toml: cannot be read: No such file or directory"):
        load_site(tmp_path / "no.toml")


def test_a_swap_of_meters_at_one_point_is_no_overlap(write: Callable[[str], Path]) -> None:
    swap = "2026-02-01T00:00:00Z"
    text = GOOD.replace("unit = 1", f'unit = 1\nremoved = "{swap}"') + another(
        unit=1, point="MP-1", more=f'installed = "{swap}"\n'
    )
    assert len(load_site(write(text)).meter) == 3


@pytest.mark.parametrize("command", ["site", "gateway", "check", "doctor"])
def test_nothing_is_started_with_a_wrong_file(write: Callable[[str], Path], tmp_path: Path, command: str) -> None:
    path = write(bad("an unknown bus"))
    ended = subprocess.run(
        [sys.executable, "-m", "metergate", command, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"metergate: {path}:{CASES['an unknown bus'][2]}\n"
    assert not (tmp_path / "data").exists()
