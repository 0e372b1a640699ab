import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.grid import DAY_S, Grid
from metering.timing import from_rfc3339

ZONES = st.sampled_from(["UTC", "Asia/Shanghai", "Asia/Kolkata", "Europe/Berlin", "Europe/London", "America/New_York"])


@given(st.sampled_from([60, 300, 900, 1800, 3600, DAY_S]), ZONES, st.integers(0, 4 * 10**15))
def test_an_instant_lies_between_its_boundary_and_the_next(interval: int, zone: str, instant: int) -> None:
    grid = Grid(interval, zone)
    number = grid.at_or_before(instant)
    assert grid.slot(number) <= instant < grid.slot(number + 1)
    assert grid.index(grid.slot(number)) == number


@pytest.mark.parametrize(
    ("interval", "zone", "slot"),
    [
        (900, "Asia/Kolkata", "2026-06-01T10:15:00Z"),
        (3600, "Asia/Kolkata", "2026-06-01T10:30:00Z"),
        (DAY_S, "Asia/Shanghai", "2026-06-01T16:00:00Z"),
        (DAY_S, "Europe/Berlin", "2026-10-24T22:00:00Z"),
        (DAY_S, "Europe/Berlin", "2026-10-25T23:00:00Z"),
    ],
)
def test_boundaries_are_those_of_the_meters_own_day(interval: int, zone: str, slot: str) -> None:
    assert Grid(interval, zone).index(from_rfc3339(slot)) is not None


def test_a_time_beside_the_boundary_is_none() -> None:
    assert Grid(900).index(from_rfc3339("2026-06-01T10:15:03Z")) is None


def test_the_day_of_25_hours_is_one_day() -> None:
    grid = Grid(DAY_S, "Europe/Berlin")
    before, after = (grid.index(from_rfc3339(text)) for text in ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"))
    assert before is not None
    assert after == before + 1


@given(st.sampled_from([900, 3600, DAY_S]), ZONES, st.integers(10**9, 2 * 10**9), st.integers(-11, 11))
def test_a_window_holds_the_rows_of_its_numbers_even_of_days_of_another_zone(
    interval: int, zone: str, second: int, hours_beside: int
) -> None:
    grid = Grid(interval, zone)
    first = grid.at_or_before(second * 1_000_000)
    start, end = grid.window(first, first + 3)
    beside = hours_beside * 3600 * 1_000_000 if interval == DAY_S else 0
    rows = [grid.slot(number) + beside for number in range(first - 1, first + 4)]
    assert [grid.index(row) for row in rows if start < row <= end] == [first, first + 1, first + 2]
