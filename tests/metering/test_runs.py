import pytest

from metering.model import Column, Kind, Source
from metering.ports import Channel, Reading
from metering.runs import Readings, Run, parts_of

CHANNEL = Channel("m", Kind.REGISTER, Source.POLL, 900, Column("1-0:1.8.0*255", "kWh", -2, "int"))
RUN = Run(CHANNEL, [10, 20, 30], [11, 21, 31], [1, 2, 3], [10, None, 30], [0, 0, 4])
ODD = [Reading(CHANNEL, 40, 41, None, 40, 1), Reading(CHANNEL, 50, 51, 5, 50)]
ALL = [
    Reading(CHANNEL, 10, 11, 1, 10),
    Reading(CHANNEL, 20, 21, 2),
    Reading(CHANNEL, 30, 31, 3, 30, 0, 4),
    *ODD,
]


def test_a_run_and_a_list_read_like_one_list() -> None:
    readings = Readings([RUN, ODD])
    assert (len(readings), list(readings), readings[2], readings[1:4]) == (5, ALL, ALL[2], ALL[1:4])


@pytest.mark.parametrize("count", range(6))
def test_the_first_readings_are_cut_inside_a_run_and_inside_a_list(count: int) -> None:
    first = Readings([RUN, ODD]).first(count)
    assert list(first) == ALL[:count]
    assert count == 0 or first.last == ALL[count - 1]


def test_a_plain_list_is_one_part() -> None:
    assert parts_of(ODD) == (ODD,)
    assert parts_of(Readings([RUN, ODD])) == [RUN, ODD]
