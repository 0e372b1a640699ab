"""Every meter model: its frames give its values, and it can be planned and read."""

from decimal import Decimal
from pathlib import Path

import pytest

from collector.drivers.modbus import ModbusReader, identity_text
from collector.plan import rtu_max_gap
from collector.profile import Profile, ProfileTest, load_profile, profile_names, read_profile
from collector.protocols.modbus import check_reply, parse_request
from collector.protocols.modbus_adu import open_rtu, parse_rtu_reply
from collector.protocols.modbus_values import decode, encode
from metering.errors import ConfigError
from metering.model import Kind
from metering.quality import Quality, codes
from metering.values import to_decimal

NAMES = profile_names()
TESTS = [(name, test) for name in NAMES for test in load_profile(name).test]


@pytest.mark.parametrize(("name", "test"), TESTS, ids=[f"{name}: {test.name}" for name, test in TESTS])
def test_the_frames_of_a_profile_give_the_values_it_says(name: str, test: ProfileTest):
    check_frames(load_profile(name), test)


def check_frames(profile: Profile, test: ProfileTest) -> None:
    unit, pdu = open_rtu(bytes.fromhex(test.request))
    request = parse_request(pdu)
    data = check_reply(pdu, parse_rtu_reply(bytes.fromhex(test.reply), unit, pdu))
    points = {point.name: point for point in profile.points}
    for name, shown in test.values.items():
        point = points[name]
        assert profile.function_of(point) == request.function
        start = 2 * (point.address - request.address)
        spec = profile.spec(point)
        value, quality = decode(spec, data[start : start + 2 * spec.count])
        if value is None:
            assert codes(quality)[0].name == shown
        else:
            assert quality == Quality.VALID
            assert encode(spec, value) == data[start : start + 2 * spec.count]
            assert to_decimal(value, point.scale, point.number) == Decimal(shown)
    if test.identity:
        assert identity_text(profile, profile.identity, data) == test.identity
    assert test.values or test.identity


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_is_planned_within_its_limits(name: str):
    profile = load_profile(name)
    assert len(profile.test) >= 2
    assert profile.name == name
    for gap in (0, rtu_max_gap(9600, 11, profile.turnaround), 125):
        reader = ModbusReader(profile, "m1", 1, max_gap=gap)
        assert sorted(p.name for p in reader.points) == sorted(p.name for p in profile.points)
        assert all(request.registers <= profile.max_registers for request in reader.requests)
    assert any(point.what is Kind.REGISTER for point in profile.points)


def test_the_twelve_models_are_there():
    makers = {load_profile(name).maker for name in NAMES}
    assert len(NAMES) >= 12
    assert {"Eastron", "ABB", "Schneider Electric", "Carlo Gavazzi", "Chint", "Acrel", "Siemens", "Janitza"} <= makers


GOOD = """maker = "A"
model = "B"
phases = 1
sources = ["manual"]
serial = {baud = 9600, format = "8N1"}
points = [
    {name = "v", obis = "1-0:32.7.0*255", unit = "V", address = 0, type = "uint16", scale = -1},
    {name = "e", obis = "1-0:1.8.0*255", unit = "kWh", address = 2, type = "uint32"},
]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('unit = "V"', 'unit = "v"', 7, "points[0].unit: 'v' is not a known unit; did you mean 'V'?"),
        ('unit = "V"', 'unti = "V"', 7, "points[0]"),
        ("scale = -1", "scale = 0.1", 7, "points[0].scale: is a decimal exponent, an integer; write -1 for 0.1"),
        ("scale = -1", "scal = -1", 7, "points[0].scal: unknown key; did you mean 'scale'?"),
        ("address = 2", 'address = "2"', 8, "points[1].address: input should be a valid integer, not '2'"),
        ("address = 2", "address = 70000", 8, "points[1].address"),
        ("1-0:1.8.0*255", "1-0:32.7.0*255", 8, "points[1].obis"),
        ('name = "e"', 'name = "v"', 8, "points[1].name: 'v' is already used in line 7"),
        ("1-0:1.8.0*255", "1.8.0", 8, "is not an OBIS code"),
        ("1-0:1.8.0*255", "1-0:1.8.0", 8, "write the code in full"),
        ("uint32", "unit32", 8, "points[1].type"),
        ("8N1", "7N1", 5, "not a line format"),
        ("phases = 1", "phases = 1\nphases = 2", 4, "not TOML"),
        ('maker = "A"\n', "", 1, "maker: is missing"),
        ("phases = 1", 'phases = 1\nnot_available = {int16 = ["7FFFF"]}', 4, "4 hex digits"),
    ],
)
def test_a_wrong_profile_is_told_with_file_line_and_key(tmp_path: Path, old: str, new: str, line: int, message: str):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_profile(path)
    assert caught.value.line == line
    assert caught.value.file == str(path)
    assert message in str(caught.value)


def test_a_users_own_model_is_one_more_file(tmp_path: Path):
    (tmp_path / "my_meter.toml").write_text(GOOD)
    assert load_profile("my_meter", tmp_path).moduli() == {"1-0:1.8.0*255": 2**32}
    with pytest.raises(ConfigError, match="did you mean 'my_meter'"):
        load_profile("my_metr", tmp_path)
    with pytest.raises(ConfigError, match="there is no profile"):
        load_profile("../my_meter", tmp_path)


def test_the_example_in_the_documentation_loads(tmp_path: Path):
    text = (Path(__file__).parents[2] / "docs" / "adding-a-meter-model.md").read_text()
    path = tmp_path / "acme_m1.toml"
    path.write_text(text.split("```toml\n")[1].split("```")[0])
    profile = read_profile(path)
    assert profile.test
    for test in profile.test:
        check_frames(profile, test)
