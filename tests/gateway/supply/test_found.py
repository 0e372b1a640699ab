"""What the random test found once, step by step: each failed before it was mended."""

from collections.abc import Iterator

import pytest

from metering.supply import Action
from metering.supply_states import State
from tests.gateway.supply.test_machine import Supply

A = Action


@pytest.fixture
def supply() -> Iterator[Supply]:
    machine = Supply()
    machine.meters_hang_there((2, 1, 1))
    yield machine
    machine.teardown()  # all comes to its end, and relay and record agree


def test_a_restore_that_ends_while_a_slow_relay_still_moves_is_read_until_that_is_over(supply: Supply):
    supply._order("m1", A.DISCONNECT)
    supply.world.run(12.0)
    supply.an_order_goes_wrong("m1", A.RESTORE, fault="late", ticks=25, valid_s=1, silent=0, dies=True, restore=False)
    assert supply.world.meters["m1"].output
    assert supply.world.record.openings == {}
    assert supply.world.record.held["c2"].state is State.VERIFIED
