import pytest

from gateway.compare import KEEP_S, MAX_POLLS, Compare
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.quality import Quality

OBIS = "1-0:1.8.0*255"
SLOT = 1_000_000 * 900 * SECOND


def poll(value: float | None, *, late_s: int = 5, slot: int = SLOT, device: str = "m", flags: int = 0) -> Block:
    layout = Layout(Kind.REGISTER, Source.POLL, 900, (Column(OBIS, "kWh", -2, "int"),))
    at = slot + late_s * SECOND
    return Block(layout, device, at, at, (value,), slot, (flags,))


def row(value: int, unit: str = "Wh", scale: int = 0) -> Block:
    layout = Layout(Kind.REGISTER, Source.PROFILE, 900, (Column(OBIS, unit, scale, "int"),))
    return Block(layout, "m", SLOT, SLOT + 10, (value,), SLOT)


@pytest.mark.parametrize(
    ("polled", "late_s", "differs"),
    [
        (100_00, 5, False),
        (100_01, 5, False),
        (99_99, 5, False),  # one of the two was cut to its last digit
        (99_98, 5, True),
        (100_17, 5, False),  # 100 kW for six seconds are 0.167 kWh
        (100_18, 5, True),
        (101_70, 60, False),
        (101_71, 60, True),
    ],
)
def test_a_poll_shows_what_the_row_shows_and_no_more_than_the_meter_can_take_until_then(
    polled: int, late_s: int, differs: object
) -> None:
    compare = Compare({"m": 100_000})
    compare.remember(poll(polled, late_s=late_s))
    for each in (row(100_000), row(100_00, "kWh", -2)):
        judged, found = compare.check(each)
        assert bool(found) == differs == bool(judged.quality_of(0) & Quality.DIFFERS)


@pytest.mark.parametrize(
    ("offset_s", "polled", "differs"),
    [
        (40, 101_00, False),  # its boundary was 45 s before the poll
        (-65, 98_50, False),  # its boundary came a minute after the poll
        (-65, 97_00, True),
        (-65, 100_20, True),
        (None, 98_50, False),  # nobody knows
        (None, 97_00, True),
    ],
)
def test_the_boundary_is_that_of_the_meters_clock(offset_s: int | None, polled: int, differs: object) -> None:
    compare = Compare({"m": 100_000})
    compare.remember(poll(polled))
    _, found = compare.check(row(100_000), None if offset_s is None else offset_s * SECOND)
    assert bool(found) == differs


@pytest.mark.parametrize(
    "other", [poll(None), poll(7, flags=Quality.CLOCK_SUSPECT), poll(7, slot=SLOT + 900 * SECOND), poll(7, device="n")]
)
def test_what_cannot_be_compared_is_left_as_it_is(other: Block) -> None:
    compare = Compare({"m": 100_000})
    compare.remember(other)
    assert compare.check(row(100_000)) == (row(100_000), [])


def test_two_days_and_a_fixed_number_of_polls_are_remembered() -> None:
    compare = Compare({"m": 100_000})
    for number in range(1000):
        compare.remember(poll(1, slot=SLOT + number * 900 * SECOND))
    assert len(compare._polls) == KEEP_S // 900 + 1
    many = Compare(dict.fromkeys(map(str, range(MAX_POLLS + 10)), 1.0))
    for number in range(MAX_POLLS + 10):
        many.remember(poll(1, device=str(number)))
    assert len(many._polls) == MAX_POLLS
