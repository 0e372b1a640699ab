"""What policy said is kept as evidence when it passes as well: at request, at the last approval and at dispatch."""

from typing import Any

import msgspec
import pytest

from headend.audit.desk import AuditDesk, AuditQuery
from headend.state.store import State as Database
from headend.supply.thresholds import Limits
from headend.tokens import Grant
from metering.model import SECOND
from metering.supply import Action
from metering.supply_states import Cause
from tests.headend.supply.centre import SAYS, Centre

READER = Grant("dddddddd", "reader", frozenset({"audit:read"}), ("js/nj",))
VERDICTS = ["command-awaiting-approval", "command-approved", "command-sent"]


@pytest.fixture
def centre(state: Database) -> Centre:
    return Centre(state)


def told(centre: Centre, name: str, kind: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return kinds and bodies of what a reader of the audit gets of a command."""
    found, _ = AuditDesk(centre.trail).page(READER, AuditQuery(subject=name, kind=kind), 100, "")
    return [(each.kind, msgspec.json.decode(each.body)) for each in found]


async def test_a_verdict_that_passed_is_in_the_audit_at_each_of_the_three_moments(centre: Centre):
    made = centre.request(Action.DISCONNECT, "MP-1", "MP-2", "MP-3").commands
    centre.now += SECOND
    centre.approve(made[0].id, "anna", "ben")
    centre.now += SECOND
    await centre.step()
    for view in made:
        with_one = [(kind, body["verdict"]) for kind, body in told(centre, view.id) if "verdict" in body]
        assert [kind for kind, _ in with_one] == VERDICTS
        for number, (_, verdict) in enumerate(with_one):
            assert (verdict["rule_set"], verdict["version"], verdict["passed"]) == ("test", 3, True)
            (result,) = verdict["results"]
            assert result["inputs"] == {"point": view.point, "customer": "resident"}
            assert verdict["at"] == centre.now - (2 - number) * SECOND


async def test_a_renewed_go_is_kept_by_its_rules_and_the_digest_of_its_verdict(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    await centre.step()
    centre.now += 11 * SECOND
    await centre.step()  # sent again, with a new go
    centre.say(cut.id, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(cut.id, "asks-go")
    await centre.step()
    goes = [body for _, body in told(centre, cut.id, "go")]
    assert [each["rules"] for each in goes] == ["rule-set:test@3"] * 2
    assert all(sorted(each) == ["rules", "verdict_sha256"] for each in goes)


async def test_why_a_go_is_withheld_is_kept_whole_and_once(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    await centre.step()
    centre.policy.says = SAYS
    for _ in range(5):
        centre.now += 300 * SECOND
        assert await centre.step() == []
    ((_, body),) = told(centre, cut.id, "go-withheld")
    assert body["why"] == SAYS
    assert body["verdict"]["results"][0]["says"] == SAYS


def test_what_is_quarantined_keeps_the_verdict_that_it_passed(state: Database):
    centre = Centre(state, Limits(0, 0, 0, 0))
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    ((_, body),) = told(centre, cut.id, "command-quarantined")
    assert body["verdict"]["passed"]


def test_what_policy_refused_is_kept_with_its_verdict(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.policy.says = SAYS
    centre.approve(cut.id, "anna", "ben")
    ((_, body),) = told(centre, cut.id, "command-refused-by-policy")
    assert not body["verdict"]["passed"]


async def test_what_gives_back_is_not_judged(centre: Centre):
    (back,) = centre.request(Action.RESTORE, "MP-1").commands
    centre.approve(back.id, "anna")
    await centre.step()
    assert not any("verdict" in body for _, body in told(centre, back.id))
