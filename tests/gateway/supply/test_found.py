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


def test_a_limit_of_a_meter_that_was_exchanged_is_not_set_at_the_next_one(supply: Supply):
    supply.a_good_order_comes("m1", A.LIMIT, "debt", (1500, 60), 10.0)
    assert supply.world.record.limits["m1"].limit_w == 4600
    supply.world.exchange("m1")
    supply.world.run(12.0)
    assert (supply.world.record.limits, supply.world.record.limited) == ({}, {})
    supply.a_good_order_comes("m1", A.LIMIT, "debt", (2000, 20), 40.0)
    assert supply.world.meters["m1"].normal == 4600
    assert [detail.get("why") for name, _, detail in supply.world.told if name == "c1"][
        -1
    ] == "another meter hangs there now"


@pytest.mark.parametrize(
    "change", [{"never_cut": ("MP-1",)}, {"k": 3}, {}], ids=["never-cut", "more approvers", "locked"]
)
def test_a_word_that_comes_while_the_intent_is_written_stops_the_order(supply: Supply, change: dict[str, object]):
    world = supply.world
    put = world._put

    def put_and_hear(*items: object) -> None:
        put(*items)
        if world.executing("m1"):
            world.renew(**change)
            world.service._trust.renew()
            world.lockout = "" if change else "the key switch"

    world._put = put_and_hear
    supply._order("m1", A.DISCONNECT)
    world.run(12.0)
    assert (world.sent, world.record.held["c1"].state) == ([], State.FAILED)
    assert world.record.openings == {}
