"""What gives back and came to an end before it did: it is made anew until it did, or somebody calls it off."""

import pytest

from headend.state.store import State as Database
from headend.supply.requests import NOT_NOW_S
from headend.supply.signatures import NotAcceptedError
from headend.supply.steps import FIRST_RENEWAL_S, LONGEST_RENEWAL_S
from metering.model import SECOND
from metering.supply import MAX_RESTORING_S, Action, parse_command
from metering.supply_states import Cause, State
from tests.headend.supply.centre import ANNA, CLERK, START, Centre
from trust.authority import Authority
from trust.signatures import Kind, sign

ENDS = {
    "failed": [("accepted", Cause.GATEWAY_ACCEPTED), ("executing", Cause.BEGAN), ("failed", Cause.NOT_AS_ASKED)],
    "expired": [("accepted", Cause.GATEWAY_ACCEPTED), ("expired", Cause.TIME_OVER)],
    "refused-by-guard": [("refused-by-guard", Cause.GUARD_REFUSED)],
}


@pytest.fixture
def centre(state: Database) -> Centre:
    return Centre(state, service=True)


async def sent_restore(centre: Centre, reason: str = "paid") -> str:
    (view,) = centre.request(Action.RESTORE, "MP-1", reason=reason).commands
    if reason != "paid":
        centre.approve(view.id, "anna")
    assert len(await centre.step()) == 1
    return view.id


def end(centre: Centre, name: str, how: str) -> None:
    for state, cause in ENDS[how]:
        centre.say(name, state, cause)
    assert centre.state(name) is State(how)


@pytest.mark.parametrize("how", sorted(ENDS))
async def test_a_paid_restore_that_came_to_an_end_is_made_and_sent_anew_by_itself(centre: Centre, how: str):
    first = await sent_restore(centre)
    old = centre.book.get(first)
    assert old is not None
    end(centre, first, how)
    assert await centre.step() == []
    centre.now += FIRST_RENEWAL_S * SECOND
    ((_, message),) = await centre.step()
    command = Authority(centre.document).authorise(message).command
    assert command.id != first
    assert command.nonce != old.order.nonce
    assert command.seq > old.order.seq
    assert command.expires_at == centre.now + MAX_RESTORING_S * SECOND
    view = centre.desk.view(CLERK, command.id)
    assert (view.renews, view.case, view.requester, view.state) == (first, "case-7", "clerk", "sent")
    (told,) = [each for each in centre.trail.all() if each.subject == command.id and each.kind == "command-requested"]
    assert (told.actor, f'"renews":"{first}"' in told.body) == ("head-end", True)


async def test_the_pauses_between_renewals_grow_up_to_a_quarter_of_a_day(centre: Centre):
    name, pauses = await sent_restore(centre), []
    for _ in range(12):
        end(centre, name, "failed")
        found = centre.book.get(name)
        assert found is not None
        pauses.append((found.renew_at - centre.now) // SECOND)
        centre.now = found.renew_at
        ((_, message),) = await centre.step()
        name = message.id
    assert pauses[:3] == [FIRST_RENEWAL_S, 2 * FIRST_RENEWAL_S, 4 * FIRST_RENEWAL_S]
    assert pauses[-1] == LONGEST_RENEWAL_S


async def test_what_a_person_signed_is_made_anew_and_waits_for_one_signature(centre: Centre):
    first = await sent_restore(centre, "request")
    end(centre, first, "failed")
    centre.now += FIRST_RENEWAL_S * SECOND
    assert await centre.step() == []
    (view,) = [each for each in centre.desk.page(CLERK, 10, "").commands if each.renews]
    assert (view.renews, view.state) == (first, "awaiting-approval")
    centre.approve(view.id, "anna")
    ((_, message),) = await centre.step()
    assert message.id == view.id


async def test_one_signature_of_a_person_holds_for_ninety_days(centre: Centre):
    name = await sent_restore(centre, "request")
    centre.now = START + (MAX_RESTORING_S - 1) * SECOND
    ((_, message),) = await centre.step()
    assert message.id == name
    assert parse_command(message.body).faults() == []


@pytest.mark.parametrize(
    ("comes_to", "cause"),
    [("verified", Cause.AS_ASKED), ("armed", Cause.READY), ("refused-by-meter", Cause.METER_REFUSED)],
)
async def test_what_gave_back_or_what_a_meter_refused_is_not_made_anew(centre: Centre, comes_to: str, cause: Cause):
    name = await sent_restore(centre)
    centre.say(name, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(name, comes_to, cause)
    centre.now += 86_400 * SECOND
    assert await centre.step() == []
    assert len(centre.desk.page(CLERK, 10, "").commands) == 1


async def test_a_disconnect_is_never_made_anew(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    await centre.step()
    centre.say(cut.id, "refused-by-guard", Cause.GUARD_REFUSED)
    centre.now += 3600 * SECOND
    assert await centre.step() == []


async def test_no_disconnect_is_requested_where_a_restore_is_about_to_be_made_anew(centre: Centre):
    name = await sent_restore(centre)
    end(centre, name, "failed")
    with pytest.raises(NotAcceptedError, match="another command is open"):
        centre.request(Action.DISCONNECT, "MP-1", key="k2")


async def test_another_restore_takes_the_place_of_one_that_is_to_be_made_anew(centre: Centre):
    name = await sent_restore(centre)
    end(centre, name, "failed")
    (other,) = centre.request(Action.RESTORE, "MP-1", key="k2", reason="request").commands
    centre.now += 3600 * SECOND
    await centre.step()
    assert {each.id for each in centre.desk.page(CLERK, 10, "").commands} == {name, other.id}


async def test_k_approvers_call_off_a_restore_that_is_to_be_made_anew(centre: Centre):
    name = await sent_restore(centre)
    end(centre, name, "failed")
    payload = centre.desk.signing(ANNA, name).payload
    with pytest.raises(NotAcceptedError, match="2 are needed"):
        centre.desk.cancel(CLERK, name, sign(payload, Kind.CANCEL, [centre.keys["anna"]]))
    view = centre.desk.cancel(CLERK, name, sign(payload, Kind.CANCEL, [centre.keys["anna"], centre.keys["ben"]]))
    assert view.renew_at is None
    centre.now += 3600 * SECOND
    assert await centre.step() == []


async def test_where_no_meter_hangs_now_the_renewal_waits_and_the_audit_says_why(centre: Centre):
    name = await sent_restore(centre)
    end(centre, name, "failed")
    bindings, centre.document = centre.document.bindings, centre.unbound()
    centre.now += FIRST_RENEWAL_S * SECOND
    assert await centre.step() == []
    (why,) = [each.body for each in centre.trail.all() if each.kind == "command-not-renewed"]
    assert "binds no mMP-1" in why
    centre.document = centre.bound(bindings)
    centre.now += NOT_NOW_S * SECOND
    assert len(await centre.step()) == 1


async def test_a_restore_is_queued_behind_a_disconnect_already_sent_which_gets_no_go_any_more(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    await centre.step()
    centre.now += SECOND
    name = (centre.request(Action.RESTORE, "MP-1", key="k2", reason="paid").commands)[0].id
    sent = await centre.step()
    assert [message.id for _, message in sent] == [name]
    centre.now += 3600 * SECOND
    assert {message.id for _, message in await centre.step()} == {name}
    centre.say(cut.id, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(cut.id, "superseded", Cause.SUPERSEDED)
    centre.say(name, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(name, "verified", Cause.AS_ASKED)
    assert centre.desk.supply(CLERK, "MP-1").state == "connected"
