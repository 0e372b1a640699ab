from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import Clock
from gateway.schedule import OFFSET_SHARE, Schedule, ScheduledRead, gateway_offset, spread_offset
from metering.model import SECOND

START = 1_800_000_000 * SECOND  # a whole quarter of an hour


class Wall:
    def __init__(self, now: int = START) -> None:
        self.now = now

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now, monotonic=lambda: self.now / SECOND)


def test_each_boundary_is_started_once_at_its_offset_and_named_by_its_slot() -> None:
    wall, slots = Wall(), []
    schedule = Schedule(wall.clock())
    schedule.add(ScheduledRead("m1", 900, 3.0, slots.append))
    for _ in range(2 * 900):
        wall.now += SECOND
        schedule.start_due()
    assert slots == [START, START + 900 * SECOND]


def test_boundaries_missed_while_the_process_stood_still_are_not_made_up() -> None:
    wall, slots = Wall(), []
    schedule = Schedule(wall.clock())
    schedule.add(ScheduledRead("m1", 60, 0.0, slots.append))
    wall.now += 600 * SECOND
    schedule.start_due()
    assert slots == [START + 60 * SECOND]
    wall.now += 60 * SECOND
    schedule.start_due()
    assert slots[1:] == [START + 660 * SECOND]


def test_after_the_clock_stepped_back_the_next_boundary_is_soon_again() -> None:
    wall, slots = Wall(), []
    schedule = Schedule(wall.clock())
    schedule.add(ScheduledRead("m1", 60, 0.0, slots.append))
    wall.now -= 3600 * SECOND
    schedule.restart()
    wall.now += 61 * SECOND
    schedule.start_due()
    assert slots == [START - 3540 * SECOND]


@given(gateway=st.text(min_size=1), jitter=st.floats(0, 60), interval=st.sampled_from([1, 5, 60, 900, 3600]))
def test_a_gateways_offset_is_its_own_and_never_takes_more_than_a_tenth_of_the_interval(
    gateway: str, jitter: float, interval: int
) -> None:
    offset = gateway_offset(gateway, jitter, interval)
    assert 0 <= offset <= min(jitter, interval * OFFSET_SHARE)
    assert offset == gateway_offset(gateway, jitter, interval)
    assert 0 <= spread_offset(gateway, interval) < interval


@given(
    intervals=st.lists(st.sampled_from([1, 2, 5, 15, 60]), min_size=1, max_size=5),
    steps=st.lists(st.integers(1, 5 * SECOND), max_size=60),
)
def test_slots_of_each_read_only_ever_rise_and_never_repeat(intervals: list[int], steps: list[int]) -> None:
    wall = Wall()
    schedule = Schedule(wall.clock())
    seen: list[list[int]] = [[] for _ in intervals]
    for index, interval in enumerate(intervals):
        schedule.add(ScheduledRead(str(index), interval, 0.01 * index, seen[index].append))
    for step in steps:
        wall.now += step
        wait = schedule.start_due()
        assert wait > 0
    for slots, interval in zip(seen, intervals, strict=True):
        assert slots == sorted(set(slots))
        assert all(slot % (interval * SECOND) == 0 for slot in slots)
