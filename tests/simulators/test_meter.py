"""The physical model: energy that never goes back, sums that agree, and a restart that nobody notices."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model import SECOND
from simulators.curves import STEP, WEEK, Curve
from simulators.meter import DEMAND_PERIOD, MONTH_START, REACTIVE_ABS, Meter, MeterSettings

YEAR = 365 * 86400 * SECOND
LOADS = ("household", "shop", "pv")
INSTANTS = st.integers(MONTH_START, MONTH_START + 3 * YEAR)
SETTINGS = st.builds(
    MeterSettings,
    seed=st.integers(0, 2**32),
    load=st.sampled_from(LOADS),
    phases=st.sampled_from((1, 3)),
    size=st.floats(0.1, 20),
    start_wh=st.integers(0, 10**9),
)
PHASES = {1: (21,), 3: (21, 41, 61)}


def energy(c: int) -> str:
    return f"1-0:{c}.8.0*255"


def present(c: int) -> str:
    return f"1-0:{c}.7.0*255"


@given(SETTINGS, INSTANTS, st.integers(0, YEAR))
def test_no_energy_total_ever_goes_back(settings: MeterSettings, at: int, later: int):
    meter = Meter(settings)
    before, after = meter.values(at), meter.values(at + later)
    for c in (1, 2, 3, 4, 15, 21, 22, 23, 24):
        assert after[energy(c)] >= before[energy(c)]


@given(SETTINGS, INSTANTS)
def test_a_meter_made_again_shows_the_same(settings: MeterSettings, at: int):
    first = Meter(settings)
    first.values(at - YEAR if at - YEAR > MONTH_START else at)
    assert first.values(at) == Meter(settings).values(at)


@given(SETTINGS, INSTANTS)
def test_phases_add_up_to_the_sum_to_the_last_digit(settings: MeterSettings, at: int):
    shown = Meter(settings).values(at)
    phases = PHASES[settings.phases]
    for offset in range(4):  # active in and out, reactive in and out
        assert shown[energy(1 + offset)] == sum(shown[energy(c + offset)] for c in phases)
    assert shown[energy(15)] == shown[energy(1)] + shown[energy(2)]
    assert shown[energy(16)] == shown[energy(1)] - shown[energy(2)]
    assert shown[REACTIVE_ABS] == shown[energy(3)] + shown[energy(4)]
    assert shown[present(16)] == sum(shown[present(c + 15)] for c in phases)
    assert shown[present(16)] == shown[present(1)] - shown[present(2)]


@given(SETTINGS, INSTANTS)
def test_power_is_voltage_times_current_times_power_factor(settings: MeterSettings, at: int):
    shown = Meter(settings).values(at)
    for base in range(20, 20 + 20 * settings.phases, 20):
        volts, amps = shown[present(base + 12)] / 1e6, shown[present(base + 11)] / 1e6
        factor, watts = shown[present(base + 13)] / 1e6, shown[present(base + 16)] / 1e6
        assert math.isclose(volts * amps * factor, watts, rel_tol=1e-4, abs_tol=0.01)
        assert math.isclose(volts * amps, shown[present(base + 9)] / 1e6, rel_tol=1e-4, abs_tol=0.01)
        assert 220 < volts < 240
    assert 49.9 < shown[present(14)] / 1e6 < 50.1


@given(SETTINGS, INSTANTS)
def test_energy_grows_by_the_power_that_is_shown(settings: MeterSettings, at: int):
    meter = Meter(settings)
    at -= at % STEP  # between two knots the power is a straight line: its mean is the mean of its ends
    first, last = meter.values(at), meter.values(at + STEP - 1)
    grown = last[energy(16)] - first[energy(16)]  # uWh
    mean = (first[present(16)] + last[present(16)]) / 2  # uW
    assert math.isclose(grown, mean * STEP / SECOND / 3600, rel_tol=1e-3, abs_tol=5_000)


@given(SETTINGS, INSTANTS)
def test_demand_is_the_energy_of_the_last_period_and_never_above_the_maximum(settings: MeterSettings, at: int):
    meter = Meter(settings)
    end = at - at % DEMAND_PERIOD + DEMAND_PERIOD * 2
    shown = meter.values(end)
    taken = shown[energy(1)] - meter.values(end - DEMAND_PERIOD)[energy(1)]
    assert math.isclose(shown["1-0:1.4.0*255"], taken * 4, abs_tol=100)
    assert shown["1-0:1.4.0*255"] <= shown["1-0:1.6.0*255"] * 1.001 + 100


@given(st.integers(), INSTANTS)
@pytest.mark.parametrize("part", [1, STEP // 3, STEP, WEEK])
def test_a_curves_energy_over_two_parts_is_the_energy_over_the_whole(part: int, seed: int, at: int):
    chance = random.Random(seed)
    curve = Curve([chance.choice((0, chance.randrange(10**7))) for _ in range(WEEK // STEP)])
    whole = curve.energy(at + 2 * part) - curve.energy(at)
    assert 0 <= curve.energy(at + part) - curve.energy(at) <= whole
    assert curve.power(at) >= 0


def test_a_household_uses_some_megawatt_hours_a_year_and_a_roof_feeds_in():
    shown = Meter(MeterSettings(load="pv", seed=4)).values(MONTH_START + YEAR)
    assert 3_000 < shown[energy(1)] / 1e9 < 30_000
    assert shown[energy(2)] > 0
    assert Meter(MeterSettings(load="shop", seed=4)).values(MONTH_START + YEAR)[energy(2)] == 0


def test_without_supply_nothing_flows_and_the_totals_stand_still():
    meter = Meter(MeterSettings(seed=2))
    off, on = MONTH_START + YEAR, MONTH_START + YEAR + 86400 * SECOND
    before = meter.values(off)
    meter.switch_supply(on=False, at=off)
    dark = meter.values(on)
    assert dark[energy(1)] == before[energy(1)]
    assert dark[present(16)] == dark[present(31)] == 0
    assert dark[present(32)] > 0  # the street is still there
    meter.switch_supply(on=True, at=on)
    assert meter.values(on)[energy(1)] == before[energy(1)]
    assert meter.values(on + 3600 * SECOND)[energy(1)] > before[energy(1)]


HOURS = st.lists(st.integers(1, 400), min_size=2, max_size=8, unique=True).map(sorted)


@given(SETTINGS, HOURS, HOURS)
def test_what_a_meter_showed_stays_so_whatever_happens_later(
    settings: MeterSettings, cuts: list[int], asked: list[int]
):
    hour = 3600 * SECOND
    meter = Meter(settings)
    known: dict[int, int] = {}
    steps = sorted([(at, 1) for at in cuts] + [(at, 0) for at in asked])
    for at, is_switch in steps:
        instant = MONTH_START + at * hour
        if is_switch:
            meter.switch_supply(on=not meter.supply_on, at=instant)
        known[instant] = meter.energies(instant)[energy(1)]
        assert {then: meter.energies(then)[energy(1)] for then in known} == known
    assert sorted(known.values()) == [known[instant] for instant in sorted(known)]


def test_a_power_failure_takes_out_what_would_have_flowed_even_while_the_switch_is_open():
    meter, plain = Meter(MeterSettings(seed=2)), Meter(MeterSettings(seed=2))
    start, hour = MONTH_START + YEAR, 3600 * SECOND
    meter.interrupt(start, start + hour)
    meter.switch_supply(on=False, at=start + hour // 2)
    meter.switch_supply(on=True, at=start + 2 * hour)
    taken = plain.energies(start + 2 * hour)[energy(1)] - plain.energies(start)[energy(1)]
    assert meter.energies(start + 2 * hour)[energy(1)] == plain.energies(start)[energy(1)]
    assert abs(plain.energies(start + 9 * hour)[energy(1)] - meter.energies(start + 9 * hour)[energy(1)] - taken) <= 6
    assert [meter.has_supply(start + part * hour // 4) for part in (-1, 0, 3, 7, 8)] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_a_swapped_meter_has_another_serial_and_begins_at_its_own_register():
    meter = Meter(MeterSettings(seed=2, start_wh=5_000_000, serial="777"))
    at = MONTH_START + YEAR
    old = meter.values(at)[energy(1)]
    meter.swap("888", at, start_wh=40)
    assert meter.serial == "888"
    assert meter.values(at)[energy(1)] == 40_000_000 < old
    assert meter.values(at + 3600 * SECOND)[energy(1)] > 40_000_000


def test_a_clock_runs_away_by_its_drift():
    meter = Meter(MeterSettings(offset_s=2, drift_ppm=100))
    assert meter.clock(MONTH_START) == MONTH_START + 2 * SECOND
    assert meter.clock(MONTH_START + 10_000 * SECOND) == MONTH_START + 10_003 * SECOND
