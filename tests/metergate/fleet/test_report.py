"""Reports of workers are added up, and delays keep their meaning and a bounded size."""

from hypothesis import given
from hypothesis import strategies as st

from metergate.fleet.report import Delays, Edge, Report, total


def test_reports_add_up():
    edge = Edge("gw-1", "e", 3, 12)
    one = Report(gateways=2, up=1, taken=8, errors={"meter late": 1}, delays={100: 2}, final=True)
    two = Report(gateways=1, up=1, taken=4, errors={"meter late": 2, "connection": 1}, delays={100: 1, 200: 5})
    summed = total([one, two, Report(edges=[edge], final=True)])
    assert (summed.gateways, summed.up, summed.taken, summed.final) == (3, 2, 12, False)
    assert summed.errors == {"meter late": 3, "connection": 1}
    assert summed.delays == {100: 3, 200: 5}
    assert summed.edges == [edge]
    assert total([one]).final


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=200))
def test_a_quantile_is_never_below_what_was_measured_and_little_above(seconds: list[float]):
    delays = Delays()
    for each in seconds:
        delays.add(each)
    true = max(seconds)
    assert true - 0.001 <= delays.quantile(1.0) <= true * 1.1 + 0.001
    assert delays.quantile(0.0) <= delays.quantile(0.5) <= delays.quantile(1.0)


def test_the_number_of_kept_delays_is_bounded():
    delays = Delays()
    for ms in range(0, 1_000_000, 7):
        delays.add(ms / 1000)
    assert len(delays.counts()) < 1_500


def test_without_delays_there_is_nothing_to_tell():
    assert Delays().quantile(0.99) == 0.0
