"""DLMS meter models as files: what is wrong in them is told with file, line and key."""

from pathlib import Path

import pytest

from collector.dlms_profile import dlms_profile_names, load_dlms_profile, read_dlms_profile
from collector.dlms_units import kind_of, measure
from collector.profile import profile_names
from metering.errors import ConfigError
from metering.model import Kind
from metering.quality import Quality

NAMES = dlms_profile_names()

GOOD = """maker = "A"
model = "B"
phases = 1
sources = ["manual"]
points = [
    {name = "e", obis = "1-0:1.8.0*255", unit = "kWh", rollover = 100000000},
    {name = "v", obis = "1-0:32.7.0*255", unit = "V"},
]

[[profile]]
name = "load"
obis = "1-0:99.1.0*255"
role = "load"
columns = [{obis = "0-0:96.10.1*255", role = "status", bits = {1 = ["clock-suspect"], 7 = ["power-fail"]}}]

[[events]]
name = "standard"
obis = "0-0:99.98.0*255"
codes = {1 = "power-down"}
"""


def test_the_four_shipped_models_are_there_and_are_no_modbus_models():
    assert set(NAMES) >= {"dlms_generic", "dlms_idis", "dlms_dsmr5", "dlms_is15959"}
    assert not set(NAMES) & set(profile_names())


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_says_its_sources_and_proves_itself(name: str):
    profile = load_dlms_profile(name)
    assert profile.name == name
    assert len(profile.test) >= 3
    assert profile.unverified
    assert any(point.what is Kind.REGISTER for point in profile.points)
    assert any(spec.role == "load" for spec in profile.profile)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('unit = "V"', 'unit = "v"', 7, "points[1].unit: 'v' is not a known unit; did you mean 'V'?"),
        ('unit = "V"', 'unit = "V", classs = 3', 7, "points[1].classs: unknown key; did you mean 'class'?"),
        ('unit = "V"', 'unit = "V", class = 7', 7, "points[1].class"),
        ('unit = "V"', 'unit = "V", attribute = 3', 7, "class 3 has no number at 3"),
        ("1-0:32.7.0*255", "0-0:96.7.21*255", 7, "kind: say it"),
        ("1-0:32.7.0*255", "1-0:32.7.0", 7, "write the code in full"),
        ("1-0:32.7.0*255", "1-0:1.8.0*255", 7, "points[1].obis"),
        ('unit = "V"', 'unit = "V", type = "time"', 7, "a time is a channel of kind"),
        ('role = "load"', 'role = "lod"', 13, "profile[0].role"),
        ('role = "load"', 'role = "load"\nperiod = 900', 14, "write a duration as text"),
        ('"power-fail"', '"power-fall"', 14, "'power-fall' is no quality"),
        ("bits = {1", "bits = {one", 14, "keys are numbers"),
        ('role = "status"', 'role = "value"', 14, "only a column of role 'status' has them"),
        ('"power-down"', '"power-dwn"', 19, "'power-dwn' is no event's name; did you mean 'power-down'?"),
        ('codes = {1 = "power-down"}', "", 16, "say either the codes' names, or the one `event`"),
        ('maker = "A"\n', "", 1, "maker: is missing"),
    ],
)
def test_a_wrong_profile_is_told_with_file_line_and_key(tmp_path: Path, old: str, new: str, line: int, message: str):
    path = tmp_path / "dlms_mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_dlms_profile(path)
    assert message in str(caught.value)
    assert (caught.value.file, caught.value.line) == (str(path), line)


def test_a_users_own_model_is_one_more_file(tmp_path: Path):
    (tmp_path / "dlms_my_meter.toml").write_text(GOOD)
    profile = load_dlms_profile("dlms_my_meter", tmp_path)
    assert profile.moduli() == {"1-0:1.8.0*255": 100000000}
    with pytest.raises(ConfigError, match="did you mean 'dlms_my_meter'"):
        load_dlms_profile("dlms_my_metr", tmp_path)
    with pytest.raises(ConfigError, match="has no point 'w'"):
        profile.select(("w",))


def test_a_status_word_puts_its_qualities_on_a_row():
    status = load_dlms_profile("dlms_idis").profile[0].columns[0]
    assert status.flags(0) == 0
    assert status.flags(0x08) == 0  # daylight saving is no defect
    assert status.flags(0xA2) == Quality.CLOCK_SUSPECT | Quality.CLOCK_ADJUSTED | Quality.POWER_FAIL


def test_units_of_the_meter_come_in_the_houses_words_with_nothing_rounded():
    assert measure(30) == ("kWh", -3)
    assert measure(30, "Wh") == ("Wh", 0)
    assert measure(27, "kW") == ("kW", -3)
    assert measure(33) == ("A", 0)
    for code, expected in ((30, "kvarh"), (27, "V"), (255, "V"), (35, "")):
        with pytest.raises(ValueError, match="the meter says"):
            measure(code, expected)
    with pytest.raises(ValueError, match="no place here"):
        measure(45)


def test_value_group_d_says_what_a_number_is():
    assert kind_of("1-0:1.8.1*255") is Kind.REGISTER
    assert kind_of("1-0:1.29.0*255") is Kind.INTERVAL
    assert kind_of("1-0:1.6.0*255") is Kind.MAXIMUM_DEMAND
    assert kind_of("1-0:12.27.0*255") is Kind.AVERAGE
    assert kind_of("0-0:96.7.21*255") is None
