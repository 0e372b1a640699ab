"""A clock that is put back lets nothing act that had expired, however long it has been quiet since."""

import asyncio
from pathlib import Path

from gateway.clock import SETTLE_S, Clock
from gateway.supply.onward import Onward
from metering import timing
from metering.model import SECOND
from metering.supply import Action, Go
from metering.supply_states import State
from tests.gateway.supply.edge import Desk, Edge, Street

HOUR = 3_600 * SECOND


class Hands:
    """The hands of a clock, which somebody moves."""

    def __init__(self) -> None:
        self.moved = 0
        self.quiet_s = 0.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: timing.now() + self.moved, monotonic=lambda: timing.now() / SECOND + self.quiet_s)

    def put_back(self, clock: Clock, by: int) -> None:
        """Move the wall clock, and let it be quiet for longer than a step counts."""
        self.moved -= by
        assert clock.check() is not None
        self.quiet_s += SETTLE_S + 1
        self.moved += round((SETTLE_S + 1) * SECOND)
        assert not clock.suspect


def test_it_is_believed_again_once_it_is_past_what_it_has_shown():
    hands = Hands()
    clock = hands.clock()
    onward = Onward(clock)
    assert onward.trusted()
    hands.put_back(clock, 2 * HOUR)
    assert not onward.trusted()
    hands.moved += 2 * HOUR
    hands.quiet_s += 2 * HOUR / SECOND
    assert onward.trusted()


async def test_a_disconnect_that_had_expired_does_not_act_in_the_time_that_comes_again(place: Street, tmp_path: Path):
    hands, desk = Hands(), Desk(place)
    clock = hands.clock()
    async with Edge(tmp_path, place, desk, clock=clock) as edge:
        yesterdays = desk.command(
            "modbus", Action.DISCONNECT, not_before=clock.now() - 2 * HOUR, expires_at=clock.now() - HOUR
        )
        await edge.order("modbus", Action.READ_STATE)  # a turn: it has seen what the clock shows
        hands.put_back(clock, 2 * HOUR)
        await edge.service.take(desk.message(yesterdays, go=False))
        for _ in range(20):
            edge.service.go(Go(yesterdays.id, clock.now()))
            await asyncio.sleep(0.05)
        assert edge.service.account.record.held[yesterdays.id].state is State.ACCEPTED
        assert place.relay.moved == []
        assert (await edge.order("modbus", Action.RESTORE, "anna")).state is State.VERIFIED
        assert edge.service.account.record.held[yesterdays.id].state is State.SUPERSEDED
