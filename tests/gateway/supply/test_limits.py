"""Limits on a simulated DLMS meter: set, told, and given back when their time is over, whatever happened meanwhile."""

from pathlib import Path

from gateway.clock import Clock
from metering import timing
from metering.model import SECOND
from metering.supply import Action
from metering.supply_states import State
from tests.faults.site_process import until
from tests.gateway.supply.edge import Desk, Edge, Street

A = Action


class Ahead(Clock):
    """A clock two hours later."""

    def now(self) -> int:
        return super().now() + 7200 * SECOND


async def test_a_limit_is_set_and_given_back_by_itself_when_its_time_is_over(place: Street, tmp_path: Path):
    desk = Desk(place)
    async with Edge(tmp_path, place, desk) as edge:
        end = timing.now() + 3600 * SECOND
        found = await edge.order("dlms", A.LIMIT, limit_w=2000, limit_until=end)
        assert (found.state, place.dlms.limiter.normal) == (State.VERIFIED, 2000)
    said = edge.told(found.command.id)[-1].detail["at_trip"]
    assert "it opens the supply; the customer closes it at the meter" in said
    assert "from afar only a disconnect and then a reconnect close it" in said
    async with Edge(tmp_path, place, desk, clock=Ahead()) as edge:  # the gateway was off for hours, and is offline

        async def given_back() -> bool:
            return not edge.service.account.record.limits

        await until(given_back, "the limit's end")
        assert place.dlms.limiter.normal == 4600


async def test_an_unlimit_gives_back_what_was_there_before_two_limits(place: Street, tmp_path: Path):
    async with Edge(tmp_path, place, Desk(place)) as edge:
        end = timing.now() + 3600 * SECOND
        for watts in (2000, 1500):
            found = await edge.order("dlms", A.LIMIT, limit_w=watts, limit_until=end)
            assert found.state is State.VERIFIED
        assert (await edge.order("dlms", A.UNLIMIT, "payments")).state is State.VERIFIED
        assert place.dlms.limiter.normal == 4600
        assert edge.service.account.record.limits == {}
