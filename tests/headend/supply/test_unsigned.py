"""What gives back and waits for a signature is told once, counted, and shown with what it waits for."""

from typing import Any

import msgspec
import pytest

from headend.state.store import State as Database
from headend.supply.desk import LOOK_S
from headend.supply.steps import FIRST_RENEWAL_S
from headend.supply.unsigned import ALERT, PATIENCE_S
from headend.webhooks import Message, Outbox
from metering.model import SECOND
from metering.supply import Action
from metering.supply_states import Cause
from tests.headend.supply.centre import CLERK, Centre


class Place:
    """A centre and what a webhook has been told there."""

    def __init__(self, database: Database) -> None:
        self.centre = Centre(database)
        self.outbox = Outbox(database)
        self.outbox.subscribe("desk")

    @property
    def alerts(self) -> list[tuple[Message, dict[str, Any]]]:
        told = self.outbox.waiting("desk", 1000).messages
        pairs = [(each, msgspec.json.decode(each.body)) for each in told if each.event == "alert"]
        return [pair for pair in pairs if pair[1]["alert"] == ALERT]

    async def pass_time(self, seconds: int) -> None:
        self.centre.now += seconds * SECOND
        await self.centre.step()

    def counted(self) -> list[float]:
        return [each.value for each in self.centre.desk.measures()]


@pytest.fixture
def place(state: Database) -> Place:
    return Place(state)


async def test_a_renewed_restore_that_waits_for_a_signature_is_told_once_for_each_renewal(place: Place):
    centre = place.centre
    (made,) = centre.request(Action.RESTORE, "MP-1", reason="paid").commands
    name = made.id
    for times in (1, 2):
        centre.approve(name, "anna")
        await place.pass_time(LOOK_S)
        centre.say(name, "accepted", Cause.GATEWAY_ACCEPTED)
        centre.say(name, "executing", Cause.BEGAN)
        centre.say(name, "failed", Cause.NOT_AS_ASKED)
        for _ in range(4):
            await place.pass_time(times * FIRST_RENEWAL_S)
        (view,) = [each for each in centre.desk.page(CLERK, 10, "").commands if each.renews == name]
        assert (view.state, view.missing) == ("awaiting-approval", ["1 approvals"])
        assert len(place.alerts) == times
        message, body = place.alerts[-1]
        assert (message.point, message.region) == ("MP-1", "js/nj")
        assert (body["command"], body["renews"], body["commands"]) == (view.id, name, 1)
        assert "an approver has to" in body["why"]
        assert place.counted()[0] == 1
        name = view.id
    for _ in range(5):
        await place.pass_time(PATIENCE_S)
    assert len(place.alerts) == 2


async def test_what_gives_back_and_is_not_signed_for_long_is_told_once(place: Place):
    centre = place.centre
    (made,) = centre.request(Action.RESTORE, "MP-1", reason="paid").commands
    await place.pass_time(PATIENCE_S - 1)
    assert place.alerts == []
    assert place.counted() == [1, PATIENCE_S - 1]
    await place.pass_time(LOOK_S)
    ((_, body),) = place.alerts
    assert (body["command"], body["renews"]) == (made.id, None)
    await place.pass_time(PATIENCE_S)
    assert len(place.alerts) == 1
    centre.approve(made.id, "anna")
    assert place.counted() == [0, 0]


async def test_what_is_signed_in_time_or_withholds_is_not_told(place: Place):
    centre = place.centre
    (made,) = centre.request(Action.UNLIMIT, "MP-1", reason="paid").commands
    centre.request(Action.DISCONNECT, "MP-2", key="k2")
    centre.approve(made.id, "anna")
    for _ in range(3):
        await place.pass_time(PATIENCE_S)
    assert place.alerts == []
    assert place.counted() == [0, 0]


async def test_a_campaign_that_waits_is_one_alert(place: Place):
    made = place.centre.request(Action.RESTORE, "MP-1", "MP-2", "MP-3", reason="paid")
    await place.pass_time(PATIENCE_S + 1)
    ((message, body),) = place.alerts
    assert message.point == ""
    assert (body["campaign"], body["commands"]) == (made.campaign, 3)
    listed = place.centre.desk.page(CLERK, 10, "").commands
    assert {tuple(each.missing) for each in listed} == {(f"approvals of its campaign {made.campaign}",)}


async def test_two_head_ends_tell_it_once(place: Place):
    centre = place.centre
    centre.request(Action.RESTORE, "MP-1", reason="paid")
    centre.now += (PATIENCE_S + 1) * SECOND
    assert centre.book.unsigned.remind(centre.now) == 1
    assert centre.book.unsigned.remind(centre.now) == 0
    assert len(place.alerts) == 1
