from pathlib import Path

import pytest

from collector.toml_file import validate
from gateway.settings import GatewayFile
from metering.errors import ConfigError

GOOD = """
[gateway]
id = "g1"
data = "/tmp/g1"

[[bus]]
id = "a"
kind = "tcp"
host = "127.0.0.1"

[[meter]]
id = "m1"
bus = "a"
unit = 1
profile = "eastron_sdm120"
point = "p1"
region = "js/nj"
"""


def test_a_file_with_one_meter_has_defaults_for_all_else(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(GOOD)
    file = validate(GatewayFile, tmp_path / "site.toml")
    assert (file.schedule.registers, file.schedule.instantaneous) == (900, 300)
    assert file.gateway.data == Path("/tmp/g1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("unit = 1", 'unit = "1"', "site.toml:14: meter[0].unit"),
        ("unit = 1", "unit = 300", "site.toml:14: meter[0].unit"),
        ('bus = "a"\nunit = 1', "", "say either bus and the meter's address there, or topic (MQTT)"),
        ("unit = 1", 'address = "161"', "write the meter's address as 12 digits in quotes"),
        ("unit = 1", 'dlms = {system_title = "4d45540000"}', "write a system title as 16 hexadecimal digits"),
        ("unit = 1", "dlms = {physical = 17, address_bytes = 1}", "an address of one byte has no room for physical"),
        ("unit = 1", "dlms = {server = 200, address_bytes = 2}", "server: 200 does not fit; say address_bytes = 4"),
        ("unit = 1", 'dlms = {password = "hunter2"}', "meter[0].dlms.password: unknown key"),
        ("[[bus]]", '[push]\nlisten = "0.0.0.0:4059"\n\n[[bus]]', "say allow_beyond_loopback = true"),
        ("[[bus]]", '[keys]\nmaster = "hunter2"\n\n[[bus]]', "keys.master"),
        ("[[bus]]", '[clock]\npolicy = "set"\n\n[[bus]]', "clock.policy"),
        ('kind = "tcp"\nhost = "127.0.0.1"', 'kind = "hdlc"\nport = "p"\nformat = "7E1"', "bus[0].format"),
        (
            'kind = "tcp"\nhost = "127.0.0.1"',
            'kind = "hdlc"\nport = "p"\nformat = "8E1"\nstart = "mode-e"',
            "start: mode-e needs format = '8N1'",
        ),
        ('region = "js/nj"', 'region = "/js/"', "site.toml:17: meter[0].region"),
        ('region = "js/nj"', 'region = "js/nj"\nzone = "Mars/Base"', "IANA time zone"),
        ('region = "js/nj"', 'region = "js/nj"\nct_ratio = "40"', "ratios_apply"),
        ('region = "js/nj"', 'region = "js/nj"\ninstalled = "2026-01-01T00:00:00"', "no offset"),
        ('region = "js/nj"', 'regoin = "js/nj"', "did you mean 'region'"),
        ('kind = "tcp"', 'kind = "udp"', "site.toml:8: bus[0].kind: 'udp' is none of"),
        ('id = "g1"', 'id = "g 1"', "site.toml:3: gateway.id"),
        ('id = "g1"', 'id = "g1"\njitter = 5', "write a duration with its unit"),
        ('id = "g1"', 'id = "g1"\nlog = {max_size = "1 TB"}', "write a size with its unit"),
        ("[[bus]]", '[schedule]\nregisters = "7s"\n\n[[bus]]', "divide a day"),
        ("[[bus]]", '[mqtt]\nhost = "h"\npassword = "hunter2"\n\n[[bus]]', "mqtt.password"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    (tmp_path / "site.toml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as told:
        validate(GatewayFile, tmp_path / "site.toml")
    assert message in str(told.value)
    assert "hunter2" not in str(told.value)
