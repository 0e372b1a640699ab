from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from metering.ranges import Ranges

SPAN = st.tuples(st.integers(0, 60), st.integers(0, 60))


@given(st.lists(st.tuples(st.booleans(), SPAN)), SPAN)
def test_ranges_hold_what_a_plain_set_holds(steps: list[tuple[bool, tuple[int, int]]], window: tuple[int, int]) -> None:
    ranges, model = Ranges(), set[int]()
    for put, (start, end) in steps:
        if put:
            ranges.add(start, end)
            model |= set(range(start, end))
        else:
            ranges.remove(start, end)
            model -= set(range(start, end))
    start, end = window
    inside = set(range(start, end))
    assert {n for low, high in ranges for n in range(low, high)} == model
    assert [n for low, high in ranges.inside(start, end) for n in range(low, high)] == sorted(model & inside)
    assert [n for low, high in ranges.gaps(start, end) for n in range(low, high)] == sorted(inside - model)
    assert (ranges.total, ranges.count(start, end)) == (len(model), len(model & inside))
    assert ranges.last == max(model, default=None)
    assert all((n in ranges) == (n in model) for n in range(-1, 62))


@given(st.lists(SPAN))
def test_neighbours_are_one_range_in_whatever_order_they_came(spans: list[tuple[int, int]]) -> None:
    ranges = Ranges(spans)
    assert ranges == Ranges(reversed(spans))
    pieces = list(ranges)
    assert all(one[1] < other[0] for one, other in pairwise(pieces))
