import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.circuit import PROBE_JITTER, TRIP_FAILURES, WASTE_SHARE, Circuit, State, count_failing


def alone() -> Circuit:
    return Circuit(lambda _now: 1, chance=lambda: 0.0)


def test_three_failures_in_a_row_open_it_and_it_says_so_once():
    circuit = alone()
    assert [circuit.fail(now, 0.3) for now in (1.0, 2.0, 3.0)] == [False, False, True]
    assert circuit.refuses(3.1)


def test_failures_far_apart_open_it_too():
    circuit = alone()
    opened = [circuit.fail(now, 0.3) for now in (0.0, 900.0, 1800.0)]
    assert opened == [False, False, True]


def test_an_answer_between_starts_the_count_again():
    circuit = alone()
    for now in range(0, 3000, 100):
        assert not circuit.fail(float(now), 0.3)
        circuit.succeed()


def test_one_probe_at_a_time_and_a_good_one_closes_at_once():
    circuit = alone()
    for now in range(TRIP_FAILURES):
        circuit.fail(float(now), 0.3)
    assert not circuit.admit(circuit.probe_at - 0.01)
    assert circuit.admit(circuit.probe_at)
    assert circuit.state is State.HALF_OPEN
    assert not circuit.admit(circuit.probe_at + 100)
    assert circuit.succeed()
    assert circuit.admit(circuit.probe_at)


def test_a_probe_that_proved_nothing_may_be_made_again():
    circuit = alone()
    for now in range(TRIP_FAILURES):
        circuit.fail(float(now), 0.3)
    assert circuit.admit(circuit.probe_at)
    circuit.withdraw()
    assert circuit.state is State.OPEN
    assert circuit.admit(circuit.probe_at)


def test_a_command_may_bring_the_probe_forward():
    circuit = alone()
    for now in range(TRIP_FAILURES):
        circuit.fail(float(now), 0.3)
    assert circuit.admit(2.0, force=True)


def test_the_probe_interval_follows_from_what_a_probe_costs():
    circuit = alone()
    for now in range(TRIP_FAILURES):
        circuit.fail(float(now), 0.0)
    for _ in range(20):
        assert circuit.admit(circuit.probe_at)
        asked = circuit.probe_at
        circuit.fail(asked, 0.5)
    assert circuit.probe_at - asked >= 0.5 / WASTE_SHARE


def test_jitter_only_ever_delays_a_probe():
    for chance in (0.0, 0.5, 1.0):
        circuit = Circuit(lambda _now: 1, chance=lambda chance=chance: chance)
        for _ in range(TRIP_FAILURES):
            circuit.fail(0.0, 1.0)
        assert circuit.probe_at == (1 + chance * PROBE_JITTER) / WASTE_SHARE


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.05, 1.5), min_size=1, max_size=6),
    st.integers(0, 2**32),
    st.floats(0.0, 0.9),
    st.floats(0.05, 5.0),
)
def test_whatever_the_pattern_failing_meters_together_cost_no_more_than_their_share(
    costs: list[float], seed: int, luck: float, period: float
):
    """Meters that fail with their own cost and answer now and then, each asked every `period`, over two hours."""
    chance = random.Random(seed)
    circuits: list[Circuit] = []
    circuits += [Circuit(lambda now: count_failing(circuits, now), chance.random) for _ in costs]
    span = 7200.0
    wasted = 0.0
    now = 0.0
    for step in itertools.count():
        now = step * period
        if now > span:
            break
        for circuit, cost in zip(circuits, costs, strict=True):
            if not circuit.admit(now):
                continue
            if chance.random() < luck:
                circuit.succeed()
            else:
                circuit.fail(now, cost)
                wasted += cost
    # The failures before the circuits open are the price of finding out; they come once, not with time.
    first = (TRIP_FAILURES + 2) * sum(costs) + 2 * len(costs) * max(costs)
    assert wasted - first <= 0.05 * span
