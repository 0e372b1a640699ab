import pytest

from gateway.clock import SETTLE_S, Clock
from metering.model import SECOND


class Hands:
    """Both clocks of a machine, moved by hand."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000 * SECOND
        self.monotonic = 50.0

    def pass_time(self, seconds: float, *, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += round((seconds if wall is None else wall) * SECOND)

    def clock(self, floor: int = 0) -> Clock:
        return Clock(floor, wall=lambda: self.wall, monotonic=lambda: self.monotonic)


def test_a_clock_that_runs_evenly_is_trusted() -> None:
    hands = Hands()
    clock = hands.clock()
    for _ in range(100):
        hands.pass_time(1.0, wall=1.0005)  # 500 ppm: a slew, not a step
        assert clock.check() is None
    assert not clock.suspect


@pytest.mark.parametrize("jump", [-3600.0, -1.5, 1.5, 30 * 86400.0])
def test_a_step_is_told_with_its_size_and_makes_readings_suspect_until_it_was_quiet(jump: float) -> None:
    hands = Hands()
    clock = hands.clock()
    hands.pass_time(1.0, wall=1.0 + jump)
    step = clock.check()
    assert step is not None
    assert step.seconds == pytest.approx(jump)
    assert clock.suspect
    hands.pass_time(SETTLE_S - 1)
    assert clock.check() is None
    assert clock.suspect
    hands.pass_time(2)
    assert not clock.suspect


def test_a_step_counts_before_it_was_noticed() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.pass_time(0.1, wall=-7200.0)
    assert clock.suspect
    assert clock.check() is not None


def test_a_clock_before_the_newest_record_of_the_log_is_suspect_until_it_is_past_it() -> None:
    hands = Hands()
    clock = hands.clock(floor=hands.wall + 10 * SECOND)
    assert clock.suspect
    hands.pass_time(11)
    assert not clock.suspect
