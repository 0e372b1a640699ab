"""What a gateway tells of commands that no head-end made: kept in the audit, told as an alert, and bounded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headend.state.store import State as Database
from headend.supply.strangers import A_MINUTE
from headend.webhooks import Outbox
from metering.model import SECOND
from metering.supply import Action
from tests.headend.supply.centre import Centre


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "state.db")
    yield opened
    opened.close()


def test_a_command_that_was_not_made_here_is_in_the_audit_and_told_as_an_alert(state: Database):
    centre = Centre(state)
    Outbox(state).subscribe("soc")
    centre.say("forged", "refused-by-guard", "guard-refused")
    assert centre.entries("forged") == [("command-stranger", "gateway")]
    (alert,) = Outbox(state).waiting("soc", 10).messages
    assert (alert.event, "forged" in alert.body, "gw1" in alert.body) == ("alert", True, True)


def test_another_gateways_command_is_a_stranger_and_moves_nothing(state: Database):
    centre = Centre(state)
    name = centre.request(Action.READ_STATE, "MP-1").commands[0].id
    before = centre.state(name)
    centre.say(name, "verified", "as-asked", gateway="gw2")
    assert centre.state(name) is before
    assert centre.entries(name)[-1] == ("command-stranger", "gateway")


def test_a_flood_of_them_does_not_fill_the_audit(state: Database):
    centre = Centre(state)
    for number in range(A_MINUTE + 50):
        centre.say(f"f{number}", "refused-by-guard", "guard-refused")
    assert len([each for each in centre.trail.all() if each.kind == "command-stranger"]) == A_MINUTE
    centre.now += 61 * SECOND
    centre.say("later", "refused-by-guard", "guard-refused")
    assert centre.entries("later")
