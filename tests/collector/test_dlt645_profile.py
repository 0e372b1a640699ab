"""DL/T 645 models as files: their frames give their values, and what is wrong is told with file, line and key."""

from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from collector.dlt645_profile import (
    Dlt645Profile,
    dlt645_profile_names,
    is_dlt645,
    load_dlt645_profile,
    read_dlt645_profile,
)
from collector.dlt645_tables import ProfileTest
from collector.drivers.dlt645_plan import Holes, decode, plan
from collector.profile import profile_names
from collector.protocols.dlt645.frame import parse_frame
from collector.protocols.dlt645.identifiers import EDITIONS, di_text
from collector.protocols.dlt645.reading import checked
from collector.protocols.dlt645.values import encode_number
from metering.errors import ConfigError
from metering.model import Kind
from metering.quality import codes
from metering.values import to_decimal

NAMES = dlt645_profile_names()
TESTS = [(name, test) for name in NAMES for test in load_dlt645_profile(name).test]


@pytest.mark.parametrize(("name", "test"), TESTS, ids=[f"{name}: {test.name}" for name, test in TESTS])
def test_the_frames_of_a_profile_give_the_values_it_says(name: str, test: ProfileTest):
    check_frames(load_dlt645_profile(name), test)


def check_frames(profile: Dlt645Profile, test: ProfileTest) -> None:
    size = EDITIONS[profile.edition].size
    request, answer = parse_frame(bytes.fromhex(test.request)), checked(bytes.fromhex(test.reply))
    assert answer.data[:size] == request.data[:size]
    step = next(each for each in plan(profile, tuple(test.values), Holes()) if each.di == di_text(request.data[:size]))
    shown = decode(step.items, answer.data[size:], ZoneInfo(profile.zone))
    found = {point.name: (point, *value) for point, value in shown.items()}
    assert set(found) == set(test.values)
    for name, text in test.values.items():
        point, value, quality = found[name]
        if value is None:
            assert codes(quality)[0].name == text
        else:
            assert to_decimal(value, point.scale, "int") == Decimal(text)
            assert point.is_time or encode_number(point.form, value) in answer.data


def test_the_models_are_there_and_no_modbus_profile_is_taken_for_one():
    assert NAMES == ["dlt645_1997", "dlt645_2007", "dlt645_2007_3p"]
    assert all(is_dlt645(name) for name in NAMES)
    assert not set(NAMES) & set(profile_names())
    for name in NAMES:
        profile = load_dlt645_profile(name)
        assert profile.name == name
        assert any(point.what is Kind.REGISTER for point in profile.points)
        assert len(profile.test) >= 2
    assert load_dlt645_profile("dlt645_2007").moduli()["1-0:1.8.0*255"] == 10**8
    assert "1-0:16.8.0*255" not in load_dlt645_profile("dlt645_2007").moduli()
    assert load_dlt645_profile("dlt645_2007").memory_days == 62
    assert load_dlt645_profile("dlt645_1997").memory_days == 0


GOOD = """maker = "A"
model = "B"
edition = "2007"
phases = 1
sources = ["manual"]
serial = {baud = 2400, format = "8E1"}
points = [
    {name = "e", obis = "1-0:1.8.0*255", di = "00010000", format = "XXXXXX.XX", unit = "kWh"},
    {name = "t", obis = "1-0:1.8.1*255", di = "00010100", format = "XXXXXX.XX", unit = "kWh"},
]

[[block]]
di = "0001FF00"
points = ["e", "t", "skip:4"]

[load_record]
stamps = "end"
class = [
    {number = 4, interval = "15min", points = ["e"]},
]

[[event]]
name = "cover"
di = "03300D01"
begins = "cover-opened"
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('unit = "kWh"', 'unit = "kwh"', 8, "points[0].unit: 'kwh' is not a known unit; did you mean 'kWh'?"),
        ('unit = "kWh"', 'unti = "kWh"', 8, "points[0]"),
        ('"00010000"', '"0001000"', 8, "points[0].di: '0001000' is no data identifier"),
        ('"00010000"', '"9010"', 8, "points[0].di: '9010' has not the 8 digits of the edition"),
        ("XXXXXX.XX", "XXXXX.XX", 8, "points[0]: 'XXXXX.XX' is no format"),
        ('name = "t"', 'name = "e"', 9, "points[1].name: 'e' is already used in line 8"),
        ('1-0:1.8.1*255"', '1-0:1.8.0*255"', 9, "points[1].obis"),
        ('"00010100", format', '"00010000", extra = 5, format', 9, "points[1]: e has 4 bytes at 00010000, not 9"),
        ('"00010100", format = "XXXXXX.XX"', '"00010100", format = "YYMMDDhhmm"', 9, "a time is a channel of kind"),
        ('["e", "t", "skip:4"]', '["e", "tt"]', 14, "block[0].points: there is no point 'tt'; did you mean 't'?"),
        ('points = ["e"]', 'points = ["f"]', 19, "load_record.class[0].points: there is no point 'f'"),
        ("number = 4", "number = 7", 19, "load_record.class[0].number"),
        ('stamps = "end"', 'stamps = "last"', 17, "load_record.stamps"),
        ('"15min"', "900", 19, "write a duration as text"),
        ("cover-opened", "cover-open", 25, "event[0].begins: 'cover-open' is no event"),
        ('edition = "2007"', 'edition = "2017"', 3, "edition"),
        ("phases = 1", 'phases = 1\nzone = "Asia/Shanghi"', 1, "'Asia/Shanghi' is no time zone"),
        ('"8E1"', '"9E1"', 6, "not a line format"),
        ("phases = 1", "phases = 1\nphases = 2", 5, "not TOML"),
    ],
)
def test_a_wrong_profile_is_told_with_file_line_and_key(tmp_path: Path, old: str, new: str, line: int, message: str):
    path = tmp_path / "dlt645_mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_dlt645_profile(path)
    assert message in str(caught.value)
    assert caught.value.file == str(path)
    assert caught.value.line == line


def test_a_users_own_model_is_one_more_file(tmp_path: Path):
    (tmp_path / "dlt645_mine.toml").write_text(GOOD)
    assert load_dlt645_profile("dlt645_mine", tmp_path).select(("t",))[0].obis == "1-0:1.8.1*255"
    with pytest.raises(ConfigError, match="did you mean 'dlt645_mine'"):
        load_dlt645_profile("dlt645_min", tmp_path)
    with pytest.raises(ConfigError, match="has no point 'ee'; did you mean 'e'"):
        load_dlt645_profile("dlt645_mine", tmp_path).select(("ee",))


def test_the_example_in_the_documentation_loads_and_its_frames_hold(tmp_path: Path):
    text = (Path(__file__).parents[2] / "docs" / "adding-a-dlt645-meter.md").read_text()
    path = tmp_path / "dlt645_acme_e1.toml"
    path.write_text(text.split("```toml\n")[1].split("```")[0])
    profile = read_dlt645_profile(path)
    assert profile.clock.broadcast == "high-first"
    for test in profile.test:
        check_frames(profile, test)
