from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.capabilities import ClockReading
from gateway.clocks import MAX_OFFSETS, Clocks, Correction, drift, offset_block
from gateway.grid import Grid
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.quality import Quality
from metering.timing import from_rfc3339

NOON = from_rfc3339("2026-06-01T12:00:00Z")
HOUR = 3600 * SECOND


def reading(offset_s: float, at: int = NOON, uncertainty_s: float = 0.05) -> ClockReading:
    return ClockReading(at + round(offset_s * SECOND), at, round(uncertainty_s * SECOND))


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    return Clocks(tmp_path / "clocks")


@given(st.floats(-5, 5), st.lists(st.integers(-40, 40), min_size=12, max_size=40), st.floats(-1000, 1000))
def test_the_drift_of_a_noisy_clock_is_found(rate: float, noise_ms: list[int], start_s: float) -> None:
    points = [
        (NOON + index * HOUR, round((start_s + rate * index / 24) * SECOND) + noise * 1000)
        for index, noise in enumerate(noise_ms)
    ]
    found = drift(points)
    assert found is not None
    assert found == pytest.approx(rate, abs=0.35)


def test_one_slow_answer_does_not_spoil_the_drift() -> None:
    points = [(NOON + index * HOUR, index * 20_000) for index in range(24)]
    points[20] = (points[20][0], points[20][1] + 1_500_000)
    assert drift(points) == pytest.approx(0.48, abs=0.001)


def test_a_clock_that_somebody_set_begins_a_new_series(clocks: Clocks) -> None:
    for index in range(MAX_OFFSETS + 10):
        clocks.note("m", reading(20 + index / 24, NOON + index * HOUR))
    assert clocks.status("m").drift == pytest.approx(1.0, abs=0.01)
    clocks.note("m", reading(0.5, NOON + 100 * HOUR))
    assert clocks.status("m") == (0.5, None)


def test_a_clock_past_the_limit_is_told_once_until_it_is_well_again(clocks: Clocks) -> None:
    offsets = [10, 61, 62, 59, 61, 20, 61]
    assert [clocks.note("m", reading(offset)) for offset in offsets] == [False, True, False, False, False, False, True]


@pytest.mark.parametrize(
    ("offset", "at", "limit", "shift"),
    [
        (20, "12:07:00", 900, -20),
        (-20, "12:07:00", 900, 20),
        (20.4, "12:07:00", 900, -20),
        (0.9, "12:07:00", 900, 0),  # too small to be worth it
        (20, "12:07:00", 10, 0),  # more than the meter takes
        (70, "12:07:00", 900, 0),  # past our limit: a person decides
        (20, "12:00:04", 900, 0),  # it would go back over the boundary
        (20, "12:14:50", 900, 0),  # the meter is past the boundary already, we are not
        (-20, "12:14:50", 900, 20),
        (-20, "12:14:56", 900, 0),
        (20, "12:14:38", 900, 0),  # too near
        (20, "12:14:30", 900, -20),
        (20, "12:07:00", -1, 0),
    ],
)
def test_a_shift_stays_inside_one_interval(clocks: Clocks, offset: float, at: str, limit: int, shift: int) -> None:
    now = from_rfc3339(f"2026-06-01T{at}Z")
    assert clocks.shift_s(reading(offset, now), [Grid(900)], limit) == shift


def test_a_shift_never_crosses_midnight_even_where_no_profile_says_so(clocks: Clocks) -> None:
    assert clocks.shift_s(reading(20, from_rfc3339("2026-06-01T23:59:50Z")), [], 900) == 0
    assert clocks.shift_s(reading(20, from_rfc3339("2026-06-01T23:00:00Z")), [], 900) == -20


@pytest.mark.parametrize(
    ("end", "marked"),
    [("12:00:00", False), ("12:15:00", True), ("12:30:00", True), ("12:45:00", True), ("13:00:00", False)],
)
def test_intervals_that_a_correction_touched_are_marked(clocks: Clocks, end: str, *, marked: bool) -> None:
    before, after = from_rfc3339("2026-06-01T12:10:00Z"), from_rfc3339("2026-06-01T12:40:00Z")
    clocks.corrected("m", Correction(before, before, after))
    layout = Layout(Kind.INTERVAL, Source.PROFILE, 900, (Column("1-0:1.29.0*255", "Wh", 0, "int"),))
    slot = from_rfc3339(f"2026-06-01T{end}Z")
    row = clocks.mark(Block(layout, "m", slot, slot, (1,), slot), slot - 900 * SECOND, slot)
    assert bool(row.quality_of(0) & Quality.CLOCK_ADJUSTED) == marked


def test_what_is_known_of_a_clock_outlives_a_restart(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path / "clocks")
    clocks.note("m", reading(7))
    clocks.corrected("n", Correction(NOON, NOON + 9, NOON))
    clocks.write(clocks.snapshot(["m", "n"]))
    again = Clocks(tmp_path / "clocks")
    assert again.status("m").offset == 7
    assert again.corrections("n") == [Correction(NOON, NOON + 9, NOON)]


def test_an_offset_is_a_reading_in_milliseconds() -> None:
    block = offset_block("m", reading(-1.2345))
    (column,) = block.layout.columns
    assert (column.obis, column.unit, column.scale, block.values) == ("0-0:1.0.0*255", "s", -3, (-1234,))
