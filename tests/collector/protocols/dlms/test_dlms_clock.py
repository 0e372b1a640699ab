"""Date-times as octets and as moments: deviations of both signs, zones, and the hours that come twice or never."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms.clock import DAYLIGHT_SAVING, DateTime, from_utc, parse_datetime, to_utc
from metering.errors import FrameError

BERLIN = ZoneInfo("Europe/Berlin")
SIGNS = ("utc=local+dev", "utc=local-dev")


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def local(text: str, status: int | None = 0, deviation: int | None = None) -> DateTime:
    at = datetime.fromisoformat(text)
    return DateTime(at.year, at.month, at.day, None, at.hour, at.minute, at.second, None, deviation, status)


def test_the_octets_are_read_field_by_field():
    value = parse_datetime(bytes.fromhex("07D20C04030A060BFF007800"))
    assert value == DateTime(2002, 12, 4, 3, 10, 6, 11, None, 120, 0)
    assert str(value) == "2002-12-04 10:06:11"
    assert parse_datetime(bytes.fromhex("FFFFFFFFFFFFFFFFFF8000FF")) == DateTime()
    assert str(DateTime()) == "------- --:--:--".replace("-------", "----------")


@given(st.binary(min_size=12, max_size=12))
def test_any_twelve_octets_come_back(octets: bytes):
    assert parse_datetime(octets).to_bytes() == octets


@pytest.mark.parametrize("length", [0, 11, 13])
def test_another_length_is_a_frame_error(length: int):
    with pytest.raises(FrameError, match="12 bytes"):
        parse_datetime(bytes(length))


def test_the_meters_deviation_decides_by_its_sign():
    assert to_utc(local("2024-01-15T12:00:00", deviation=-60)) == us("2024-01-15T11:00:00+00:00")
    opposite = to_utc(local("2024-01-15T12:00:00", deviation=60), deviation_sign="utc=local-dev")
    assert opposite == us("2024-01-15T11:00:00+00:00")
    # It also decides against the zone.
    assert to_utc(local("2024-01-15T12:00:00", deviation=0), zone=BERLIN) == us("2024-01-15T12:00:00+00:00")


def test_without_a_deviation_the_zone_decides():
    assert to_utc(local("2024-01-15T12:00:00"), zone=BERLIN) == us("2024-01-15T11:00:00+00:00")
    assert to_utc(local("2024-07-15T12:00:00"), zone=BERLIN) == us("2024-07-15T10:00:00+00:00")
    with pytest.raises(ValueError, match="must be configured"):
        to_utc(local("2024-01-15T12:00:00"))


def test_the_hour_that_comes_twice_is_told_by_the_status():
    at = "2024-10-27T02:30:00"
    assert to_utc(local(at, DAYLIGHT_SAVING), zone=BERLIN) == us("2024-10-27T00:30:00+00:00")
    assert to_utc(local(at, 0), zone=BERLIN) == us("2024-10-27T01:30:00+00:00")
    with pytest.raises(ValueError, match="comes twice in Europe/Berlin"):
        to_utc(local(at, None), zone=BERLIN)


def test_the_hour_that_is_left_out_is_of_a_clock_not_yet_put_forward():
    at = "2024-03-31T02:00:00"
    for status in (0, None):
        assert to_utc(local(at, status), zone=BERLIN) == us("2024-03-31T01:00:00+00:00")
    assert to_utc(local(at, DAYLIGHT_SAVING), zone=BERLIN) == us("2024-03-31T00:00:00+00:00")


@pytest.mark.parametrize(
    "value",
    [
        DateTime(),
        DateTime(2024, 1, 1),
        DateTime(2024, 2, 30, None, 0, 0, deviation=0),
        DateTime(2024, 0xFE, 0xFE, None, 0, 0, deviation=0),
        DateTime(2024, 1, 1, None, 24, 0, deviation=0),
        DateTime(2024, 1, 1, None, 0, 0, 0, 200, deviation=0),
        DateTime(0, 1, 1, None, 0, 0, deviation=0),
        DateTime(1, 1, 1, None, 0, 0, deviation=-60),
        DateTime(9999, 12, 31, None, 23, 0, deviation=720),
    ],
    ids=str,
)
def test_what_is_no_moment_is_told(value: DateTime):
    with pytest.raises(ValueError):
        to_utc(value)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("zone", [None, BERLIN, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/New_York")], ids=str)
@given(seconds=st.integers(0, 4_000_000_000))
def test_every_moment_comes_back(sign: str, zone: ZoneInfo | None, seconds: int):
    value = from_utc(seconds * 1_000_000, zone, sign)
    assert to_utc(value, deviation_sign=sign) == seconds * 1_000_000
    assert parse_datetime(value.to_bytes()) == value
    if zone is not None:
        # By zone and status bit alone, too.
        assert to_utc(value._replace(deviation=None), zone=zone) == seconds * 1_000_000


def test_hundredths_are_kept():
    assert to_utc(from_utc(1_230_000)) == 1_230_000
    assert from_utc(us("2024-07-01T00:00:00+00:00"), BERLIN).status == DAYLIGHT_SAVING
