"""Whose rules judge a command: those of the customer's class in the registry, as it stands at that moment."""

import pytest

from headend.state.store import State as Database
from headend.supply.signatures import NotAcceptedError
from metering.model import MeterPoint
from metering.supply import Action
from metering.supply_states import State
from tests.headend.supply.centre import Centre


@pytest.fixture
def centre(state: Database) -> Centre:
    made = Centre(state)
    made.policy.strict = "hospital"
    return made


def move(centre: Centre, customer: str) -> None:
    """Give the customer at MP-1 another class."""
    centre.registrar.put_point(MeterPoint("MP-1", "js/nj", "Asia/Shanghai", customer=customer), centre.now, "token:aa")
    centre.registry.refresh()


def test_the_registrys_class_judges_a_request(centre: Centre):
    move(centre, "hospital")
    with pytest.raises(NotAcceptedError, match="not from a hospital"):
        centre.request(Action.DISCONNECT, "MP-1")


def test_a_class_that_changed_since_judges_at_the_last_approval(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna")
    move(centre, "hospital")
    centre.approve(cut.id, "ben")
    assert centre.state(cut.id) is State.REFUSED_BY_POLICY


async def test_a_class_that_changed_since_judges_at_dispatch(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    move(centre, "hospital")
    assert await centre.step() == []
    assert centre.state(cut.id) is State.REFUSED_BY_POLICY
