"""The clock of a simulated DLMS meter: shown, shifted, set, adjusted; with or without a deviation."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms.axdr import Data, i16, octets, structure
from collector.protocols.dlms.clock import from_utc, parse_datetime, to_utc
from collector.protocols.dlms.references import DataAccessResult
from metering.model import SECOND
from simulators.dlms_clock import ClockSettings, Line, MeterClock
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_objects import Ask, Denied, Role

Bench = Any
Make = Callable[..., Any]

NOW = 1_795_000_000 * SECOND
CLOCK = "0-0:1.0.0*255"


@given(st.floats(-500, 500), st.integers(-(10**12), 10**12), st.integers(0, 10**14))
def test_a_line_shows_each_instant_first_when_it_is_said_to(ppm: float, shown: int, passed: int):
    line = Line(NOW, NOW + shown, ppm)
    wanted = line.at(NOW + passed)
    at = line.true(wanted)
    assert line.at(at) >= wanted
    assert at == NOW or line.at(at - 1) < wanted


@pytest.mark.parametrize(
    ("method", "parameter", "offset"),
    [
        (1, i16(0), -400),  # 11:06:40 is nearer to 11:00
        (3, i16(0), 20),
        (6, i16(-900), -900),
        (6, i16(13), 13),
    ],
)
def test_methods_move_the_clock_and_the_log_says_so(quiet: Bench, method: int, parameter: Data, offset: int):
    meter = quiet.meter
    meter.objects[CLOCK].do(method, parameter, Ask(NOW))
    assert meter.clock.shown(NOW) == NOW + offset * SECOND
    assert meter.clock.shown(NOW + 1000) == NOW + offset * SECOND + 1000
    events = meter.objects["0-0:99.98.0*255"].get(2, Ask(NOW)).value
    assert [row.value[1].value for row in events] == [4, 5]
    assert [to_utc(parse_datetime(row.value[0].value)) for row in events] == [NOW, NOW + offset * SECOND]


def test_a_preset_time_is_taken_when_it_is_told_to(quiet: Bench):
    clock = quiet.meter.objects[CLOCK]
    with pytest.raises(Denied):
        clock.do(4, None, Ask(NOW))
    stamp = octets(quiet.meter.clock.stamp(NOW + 60 * SECOND))
    clock.do(5, structure(stamp, stamp, stamp), Ask(NOW))
    assert quiet.meter.clock.shown(NOW) == NOW
    clock.do(4, i16(0), Ask(NOW))
    assert quiet.meter.clock.shown(NOW) == NOW + 60 * SECOND


def test_setting_the_time_takes_any_deviation(quiet: Bench):
    wanted = NOW + 86400 * SECOND
    for octet_string in (from_utc(wanted, quiet.meter.clock.zone), from_utc(wanted)._replace(deviation=None)):
        quiet.meter.objects[CLOCK].set(2, octets(octet_string.to_bytes()), Ask(NOW))
        assert quiet.meter.clock.shown(NOW) == wanted


@pytest.mark.parametrize("stamp", [b"", b"\xff" * 12, bytes.fromhex("07EA0D0100000000FF800000")])
def test_what_is_no_time_is_refused(quiet: Bench, stamp: bytes):
    with pytest.raises(Denied) as caught:
        quiet.meter.objects[CLOCK].set(2, octets(stamp), Ask(NOW))
    assert caught.value.result is DataAccessResult.TYPE_UNMATCHED


def test_a_reader_cannot_set_the_clock_and_nobody_shifts_it_by_more_than_a_quarter(quiet: Bench):
    with pytest.raises(Denied):
        quiet.meter.objects[CLOCK].do(6, i16(1), Ask(NOW, Role.READER))
    with pytest.raises(Denied):
        quiet.meter.objects[CLOCK].do(6, i16(901), Ask(NOW))


@pytest.mark.parametrize(
    ("settings", "deviation", "hour", "zone"),
    [
        (ClockSettings(), 0, 11, 0),
        (ClockSettings("Asia/Shanghai"), -480, 19, -480),
        (ClockSettings("Asia/Shanghai", "utc=local-dev"), 480, 19, 480),
        (ClockSettings("Asia/Shanghai", deviation=False, status=0x02), None, 19, -480),
        (ClockSettings("Europe/Berlin"), -60, 12, -60),
    ],
)
def test_the_time_is_told_as_the_field_tells_it(
    make: Make, settings: ClockSettings, deviation: int | None, hour: int, zone: int
):
    meter = make(DlmsSettings(clock=settings)).meter
    told = parse_datetime(meter.objects[CLOCK].get(2, Ask(NOW)).value)
    assert (told.deviation, told.hour, told.minute, told.second) == (deviation, hour, 6, 40)
    assert told.status == settings.status
    assert meter.objects[CLOCK].get(3, Ask(NOW)).value == zone
    assert meter.clock.instant(told.to_bytes()) == NOW


def test_a_clock_before_its_first_line_is_that_line_carried_back():
    clock = MeterClock(ClockSettings(), Line(NOW, NOW + 5, 0.0))
    assert clock.shown(NOW - 100) == NOW - 95
