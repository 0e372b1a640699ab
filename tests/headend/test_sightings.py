"""What gateways said of themselves outlives the head-end, in few writes."""

from msgspec import structs

from headend.fleet import Fleet, Live
from headend.seqs import Ledger
from headend.sightings import AGAIN_S, Sightings
from headend.state.gateways import Gateways
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from headend.statuses import Known
from headend.tokens import Grant
from metering.model import SECOND
from metering.wire import Status

ALL = Grant("t", "test", frozenset({"admin"}), ("",))


async def test_a_restarted_head_end_shows_gateways_as_they_were_last_seen(state: State):
    gateways = Gateways(state)
    for name in ("g1", "g2", "g3"):
        gateways.create(name, 1)
    here, gone = Status("g1", "e1", "b1"), Status("g2", "e2", "b2", online=False)
    known = {"g1": Known("e1", here, None, 10), "g2": Known("e2", gone, None, 20), "g3": Known()}
    await Sightings(known, lambda _gateway: True, gateways).step()
    after = Fleet(state, DatabaseRegistry(state), Live({}, Ledger()), lambda _model: ("", "", 0))
    found = [(each.online, each.boot, each.epoch, each.last_seen) for each in after.gateways(ALL, 10, "")[0]]
    assert found == [(True, "b1", "e1", 10), (False, "b2", "e2", 20), (False, "", "", None)]


async def test_only_news_are_written_at_once(state: State):
    gateways = Gateways(state)
    gateways.create("g1", 1)
    one = Known("e1", Status("g1", "e1", "b1"), None, SECOND)
    sightings = Sightings({"g1": one}, lambda _gateway: True, gateways)
    assert [await sightings.step(), await sightings.step()] == [1, 0]
    one.seen = 2 * SECOND
    assert await sightings.step() == 0
    one.seen = SECOND + int(AGAIN_S) * SECOND
    assert await sightings.step() == 1
    assert one.status is not None
    one.status = structs.replace(one.status, online=False)
    assert [await sightings.step(), await sightings.step()] == [1, 0]


async def test_a_head_end_leaves_gateways_of_another_to_it(state: State):
    known = {"g1": Known("e1", Status("g1", "e1", "b1"), None, 1)}
    assert await Sightings(known, lambda _gateway: False, Gateways(state)).step() == 0
