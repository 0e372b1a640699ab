import pytest

from gateway.checks import RegisterWatch, suspect_clock
from metering.model import Block, Column, Kind, Layout, Source
from metering.quality import Quality, is_valid

IMPORT = "1-0:1.8.0*255"
LAYOUT = Layout(Kind.REGISTER, Source.POLL, 900, (Column(IMPORT, "kWh", -2, "int"),))


def register(value: int | None, at: int, layout: Layout = LAYOUT) -> Block:
    return Block(layout, "m1", at, at, [value])


@pytest.mark.parametrize(
    ("modulus", "before", "after", "flag"),
    [
        (None, 1000, 1000, Quality.VALID),
        (None, 1000, 1001, Quality.VALID),
        (None, 500_000, 499_000, Quality.BACKWARDS),
        (1_000_000, 999_990, 12, Quality.ROLLOVER),
        (1_000_000, 600_000, 12, Quality.RESTARTED),
        (None, 999_990, 12, Quality.RESTARTED),
        (1_000_000, 999_990, 899_990, Quality.BACKWARDS),
    ],
)
def test_a_total_that_falls_is_flagged_by_how_it_fell(
    modulus: int | None, before: int, after: int, flag: Quality
) -> None:
    watch = RegisterWatch({"m1": {IMPORT: modulus}} if modulus else {})
    watch.check(register(before, 1))
    checked = watch.check(register(after, 2))
    assert checked.values == [after], "nothing is dropped or changed"
    assert checked.quality_of(0) == flag
    assert is_valid(checked.quality_of(0)) == (flag in (Quality.VALID, Quality.ROLLOVER))


def test_a_missing_value_does_not_hide_a_fall_after_it() -> None:
    watch = RegisterWatch({})
    watch.check(register(5000, 1))
    watch.check(register(None, 2))
    assert watch.check(register(4000, 3)).quality_of(0) == Quality.BACKWARDS


def test_what_the_log_held_before_a_restart_is_what_the_next_reading_is_compared_with() -> None:
    watch = RegisterWatch({})
    watch.remember(register(5000, 1, Layout(Kind.REGISTER, Source.POLL, 900, LAYOUT.columns)))
    assert watch.check(register(4000, 2)).quality_of(0) == Quality.BACKWARDS


def test_an_instant_from_before_the_last_one_is_not_judged_by_it() -> None:
    watch = RegisterWatch({})
    watch.check(register(5000, 10))
    assert watch.check(register(4000, 9)).quality_of(0) == Quality.VALID


def test_a_suspect_clock_marks_each_value_and_keeps_its_other_flags() -> None:
    block = Block(LAYOUT, "m1", 1, 1, [1], quality=[Quality.ROLLOVER])
    assert suspect_clock(block).quality == [Quality.ROLLOVER | Quality.CLOCK_SUSPECT]
    assert not is_valid(suspect_clock(register(1, 1)).quality_of(0))
