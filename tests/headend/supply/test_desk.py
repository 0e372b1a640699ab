"""What people ask of the supply desk, and what the audit keeps of it."""

import msgspec
import pytest
from msgspec import structs

from headend.readings import BadRequestError, NotFoundError
from headend.state.store import State as Database
from headend.supply.signatures import NotAcceptedError
from headend.supply.thresholds import Limits
from headend.webhooks import Outbox
from metering.model import SECOND
from metering.supply import Action, Go, Hours, parse_command
from metering.supply_states import LIMIT_GIVEN_BACK, Cause, State
from metering.timing import to_rfc3339
from tests.headend.supply.centre import ABROAD, ANNA, CLERK, SAYS, START, Centre
from trust.authority import Authority, NotAuthorisedError
from trust.sheet import Checked
from trust.signatures import Kind, sign


@pytest.fixture
def centre(state: Database) -> Centre:
    return Centre(state)


async def test_a_command_is_requested_approved_sent_with_a_go_and_verified(centre: Centre):
    made = centre.request(Action.DISCONNECT, "MP-1")
    (view,) = made.commands
    assert (view.state, view.code, view.missing) == ("awaiting-approval", "3.31.0.23", ["2 approvals"])
    assert await centre.step() == []
    (view,) = centre.approve(view.id, "anna").commands
    assert view.missing == ["1 of the approvers signed it; 2 are needed"]
    assert await centre.step() == []
    (view,) = centre.approve(view.id, "ben").commands
    assert view.state == "approved"
    ((leaf, message),) = await centre.step()
    assert (leaf, message.go) == ("commands", Go(view.id, centre.now))
    assert Authority(centre.document).authorise(message).persons == {"anna", "ben"}
    assert parse_command(message.body).hours == Hours("Asia/Shanghai", 0, 1440)
    centre.say(view.id, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(view.id, "executing", Cause.BEGAN)
    assert centre.desk.supply(CLERK, "MP-1").state == "unknown"
    centre.say(view.id, "verified", Cause.AS_ASKED, after="{}")
    assert await centre.step() == []
    supply = centre.desk.supply(CLERK, "MP-1")
    assert (supply.state, supply.case, supply.command, supply.open) == ("disconnected", "case-7", view.id, [])
    kinds = [kind for kind, _ in centre.entries(view.id)]
    assert kinds[0] == "command-requested"
    assert kinds[-3:] == ["command-accepted", "command-executing", "command-verified"]
    assert kinds.count("approval") == 2


async def test_a_campaign_is_approved_as_one_and_each_command_proves_that_it_belongs_to_it(centre: Centre):
    made = centre.request(Action.DISCONNECT, "MP-1", "MP-2", "MP-3")
    first = made.commands[0].id
    sheet = centre.desk.signing(ANNA, first)
    assert len(Checked(sheet).commands) == 3
    centre.approve(first, "anna", "ben")
    sent = await centre.step()
    authority = Authority(centre.document)
    found = [authority.authorise(message) for _, message in sent]
    assert [each.command.point for each in found] == ["MP-1", "MP-2", "MP-3"]
    assert {(each.command.spread_s, each.spread_s) for each in found} == {(300, 300)}  # what approvers read is so


def test_the_supply_view_says_what_an_open_command_waits_for(centre: Centre):
    centre.request(Action.DISCONNECT, "MP-1")
    assert [each.missing for each in centre.desk.supply(CLERK, "MP-1").open] == [["2 approvals"]]


def test_the_same_key_and_body_give_the_same_answer_and_another_body_is_refused(centre: Centre):
    made = centre.request(Action.DISCONNECT, "MP-1")
    assert centre.request(Action.DISCONNECT, "MP-1") == made
    with pytest.raises(NotAcceptedError, match="another request"):
        centre.request(Action.DISCONNECT, "MP-2")
    assert len(centre.desk.page(CLERK, 10, "").commands) == 1


def test_policy_refuses_in_its_own_sentence_and_the_evidence_stays(centre: Centre):
    centre.policy.says = SAYS
    with pytest.raises(NotAcceptedError, match="notice 7 days before") as caught:
        centre.request(Action.DISCONNECT, "MP-1")
    assert caught.value.reasons == [SAYS]
    (view,) = centre.desk.page(CLERK, 10, "").commands
    assert (view.state, view.why) == ("refused-by-policy", SAYS)
    (link,) = [each for each in centre.trail.all() if each.kind == "command-refused-by-policy"]
    assert link.actor == "rule-set:test@3"
    assert msgspec.json.decode(link.body)["verdict"]["results"][0]["inputs"]["point"] == "MP-1"


def test_policy_is_asked_again_at_the_last_approval(centre: Centre):
    (view,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.policy.says = SAYS
    (view,) = centre.approve(view.id, "anna", "ben").commands
    assert view.state == "refused-by-policy"


async def test_policy_is_asked_again_at_dispatch_and_for_each_go(centre: Centre):
    (first,) = centre.request(Action.DISCONNECT, "MP-1").commands
    (second,) = centre.request(Action.DISCONNECT, "MP-2", key="k2").commands
    centre.approve(first.id, "anna", "ben")
    await centre.step()
    centre.say(first.id, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(first.id, "asks-go")
    ((leaf, control),) = await centre.step()
    assert (leaf, control.kind) == ("control", "go")
    assert msgspec.msgpack.decode(control.body, type=Go) == Go(first.id, centre.now)
    centre.approve(second.id, "anna", "ben")
    centre.policy.says = SAYS
    centre.say(first.id, "asks-go")
    assert await centre.step() == []
    centre.say(first.id, "asks-go")
    assert await centre.step() == []
    assert centre.state(second.id) is State.REFUSED_BY_POLICY
    assert [kind for kind, _ in centre.entries(first.id)].count("go-withheld") == 1


@pytest.mark.parametrize("people", [("anna",), ("anna", "clerk"), ("clerk",)])
async def test_too_few_approvers_or_the_requester_among_them_send_nothing(centre: Centre, people: tuple[str, ...]):
    (view,) = centre.request(Action.DISCONNECT, "MP-1").commands
    if "clerk" in people:
        with pytest.raises(NotAcceptedError, match="clerk requested it and cannot approve it"):
            centre.approve(view.id, *people)
    else:
        centre.approve(view.id, *people)
    assert centre.state(view.id) is State.AWAITING_APPROVAL
    assert await centre.step() == []


def test_another_token_of_the_requester_is_the_requester(centre: Centre):
    (view,) = centre.request(Action.DISCONNECT, "MP-1").commands
    again = msgspec.structs.replace(ANNA, token="dddddddd", name="the clerk's phone", person="clerk")
    with pytest.raises(NotAcceptedError, match="who requested a command does not approve it"):
        centre.desk.approve(again, view.id, centre.signed(view.id, "anna"))
    assert centre.desk.view(ANNA, view.id).missing == ["2 approvals"]


def test_the_signed_command_names_the_person_and_the_edge_refuses_that_person_as_approver(centre: Centre):
    phone = msgspec.structs.replace(CLERK, name="anna's phone", person="anna")
    (view,) = centre.request(Action.DISCONNECT, "MP-1", grant=phone).commands
    assert view.requester == "anna"
    ben = structs.replace(ANNA, token="dddddddd", name="ben")
    with pytest.raises(NotAcceptedError, match="anna requested it and cannot approve it"):
        centre.desk.approve(ben, view.id, centre.signed(view.id, "anna", "ben"))
    command = centre.book.get(view.id)
    assert command is not None
    forced = structs.replace(command, signed=centre.signed(view.id, "anna", "ben"))
    with pytest.raises(NotAuthorisedError, match="anna requested it and cannot approve it"):
        Authority(centre.document).authorise(centre.desk.signatures.message(forced))


def test_signatures_that_prove_nothing_are_refused_and_not_kept(centre: Centre):
    (view,) = centre.request(Action.DISCONNECT, "MP-1").commands
    (other,) = centre.request(Action.DISCONNECT, "MP-2", key="k2").commands
    wrong = [
        centre.signed(other.id, "anna"),
        centre.signed(view.id, "dora"),
        centre.signed(view.id, "anna", "dora"),
        sign(centre.desk.signing(ANNA, view.id).payload, Kind.CANCEL, [centre.keys["anna"]]),
        b"{}",
    ]
    for signed in wrong:
        with pytest.raises(NotAcceptedError):
            centre.desk.approve(ANNA, view.id, signed)
    with pytest.raises(NotAcceptedError, match="requested"):
        centre.desk.approve(structs.replace(CLERK, name="other"), view.id, centre.signed(view.id, "anna"))
    with pytest.raises(NotFoundError):
        centre.desk.approve(ABROAD, view.id, centre.signed(view.id, "anna"))
    assert centre.desk.view(CLERK, view.id).missing == ["2 approvals"]


async def test_one_command_is_open_at_a_meter_point_and_a_restore_supersedes_what_waits(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    with pytest.raises(NotAcceptedError, match="another command is open") as caught:
        centre.request(Action.LIMIT, "MP-1", key="k2", limit_w=2000, limit_until=START + 7200 * SECOND)
    assert caught.value.reasons == [f"MP-1: the command {cut.id} is open"]
    (back,) = centre.request(Action.RESTORE, "MP-1", key="k3").commands
    assert centre.state(cut.id) is State.SUPERSEDED
    centre.approve(back.id, "anna")
    ((_, message),) = await centre.step()
    assert message.id == back.id


async def test_a_disconnect_gets_no_go_once_the_supply_was_asked_back(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    await centre.step()
    centre.now += SECOND
    centre.request(Action.RESTORE, "MP-1", key="k2")
    centre.say(cut.id, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(cut.id, "asks-go")
    assert await centre.step() == []
    centre.say(cut.id, "superseded", Cause.SUPERSEDED)
    assert centre.state(cut.id) is State.SUPERSEDED


async def test_a_command_is_sent_again_until_the_gateway_answers_and_is_unknown_after_its_end(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    assert len(await centre.step()) == 1
    assert await centre.step() == []
    centre.now += 11 * SECOND
    ((_, message),) = await centre.step()
    assert message.go.at == centre.now
    centre.now += 4 * 3600 * SECOND
    ((_, message),) = await centre.step()
    assert (centre.state(cut.id), message.go) == (State.UNKNOWN, None)
    centre.say(cut.id, "refused-by-guard", Cause.GUARD_REFUSED)
    assert centre.state(cut.id) is State.REFUSED_BY_GUARD


async def test_a_gateway_that_is_back_gets_at_once_what_waits_for_its_answer(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    await centre.step()
    for _ in range(5):  # unanswered, so that the pauses grow
        centre.now += 300 * SECOND
        assert len(await centre.step()) == 1
    centre.now += SECOND
    assert await centre.step() == []
    centre.dispatch.here("another")
    assert await centre.step() == []
    centre.dispatch.here("gw1")
    ((_, message),) = await centre.step()
    assert message.go.at == centre.now
    assert await centre.step() == []


async def test_what_a_gateway_tells_late_or_of_another_gateways_command_moves_nothing(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    await centre.step()
    centre.say(cut.id, "accepted", Cause.GATEWAY_ACCEPTED, gateway="gw2")
    assert centre.state(cut.id) is State.SENT
    for state, cause in (("verified", "as-asked"), ("dancing", "whim"), ("accepted", "began")):
        centre.say(cut.id, state, cause)
    centre.say("nobody", "verified", "as-asked")
    assert centre.state(cut.id) is State.SENT
    assert [kind for kind, _ in centre.entries(cut.id)].count("command-told") == 3


def test_above_a_threshold_a_second_person_releases_or_deletes(state: Database):
    centre = Centre(state, Limits(1, 10, 10, 10))
    centre.request(Action.DISCONNECT, "MP-1")
    (view,) = centre.request(Action.DISCONNECT, "MP-2", key="k2").commands
    assert (view.state, view.missing[0][:23]) == ("quarantined", "2 times disconnect of o")
    with pytest.raises(NotAcceptedError, match="second person"):
        centre.desk.release(CLERK, view.id)
    with pytest.raises(NotAcceptedError, match="second person"):
        centre.desk.delete(structs.replace(ANNA, person="clerk"), view.id)
    assert centre.desk.release(ANNA, view.id).commands[0].state == "awaiting-approval"
    (view,) = centre.request(Action.DISCONNECT, "MP-3", key="k3").commands
    assert centre.desk.delete(ANNA, view.id).commands[0].state == "cancelled"
    with pytest.raises(NotAcceptedError, match="not quarantined"):
        centre.desk.release(ANNA, view.id)
    (back,) = centre.request(Action.RESTORE, "MP-4", key="k4").commands
    assert back.state == "awaiting-approval"


async def test_the_service_key_signs_a_restore_after_a_payment_alone(state: Database):
    centre = Centre(state, service=True)
    (other,) = centre.request(Action.RESTORE, "MP-2", reason="request").commands
    assert other.state == "awaiting-approval"
    (back,) = centre.request(Action.RESTORE, "MP-1", key="k2", reason="paid").commands
    assert back.state == "approved"
    ((_, message),) = await centre.step()
    service = Authority(centre.document).authorise(message).service
    assert service is not None
    assert service.name == "payments"


def test_a_disconnect_is_called_off_before_it_is_sent_and_a_restore_by_k_approvers_alone(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    assert centre.desk.cancel(CLERK, cut.id).state == "cancelled"
    with pytest.raises(NotAcceptedError, match="only what has not been sent"):
        centre.desk.cancel(CLERK, cut.id)
    (back,) = centre.request(Action.RESTORE, "MP-1", key="k2").commands
    body = centre.desk.signing(ANNA, back.id).payload
    for people in ((), ("anna",)):
        signed = sign(body, Kind.CANCEL, [centre.keys[each] for each in people]) if people else b""
        with pytest.raises(NotAcceptedError):
            centre.desk.cancel(CLERK, back.id, signed)
    signed = sign(body, Kind.CANCEL, [centre.keys["anna"], centre.keys["ben"]])
    assert centre.desk.cancel(CLERK, back.id, signed).state == "cancelled"


def test_what_cannot_be_ordered_is_named(centre: Centre):
    with pytest.raises(NotFoundError):
        centre.request(Action.DISCONNECT, "MP-9")
    with pytest.raises(NotFoundError):
        centre.request(Action.DISCONNECT, "MP-1", grant=ABROAD)
    with pytest.raises(BadRequestError, match="twice"):
        centre.request(Action.DISCONNECT, "MP-1", "MP-1")
    with pytest.raises(BadRequestError, match="limit_w"):
        centre.request(Action.LIMIT, "MP-1")
    with pytest.raises(BadRequestError, match="by at most 14400 s"):
        centre.request(Action.DISCONNECT, "MP-1", expires_at=START + 5 * 3600 * SECOND)


def test_numbers_of_a_gateway_are_given_out_once(centre: Centre):
    taken = [centre.book.numbers("gw1", count) for count in (1, 5, 2)]
    assert taken == [1, 2, 7]
    assert centre.book.numbers("gw2", 1) == 1


def test_reading_a_state_needs_no_approval_and_is_in_nobodys_way(centre: Centre):
    (look,) = centre.request(Action.READ_STATE, "MP-1").commands
    assert look.state == "approved"
    (cut,) = centre.request(Action.DISCONNECT, "MP-1", key="k2").commands
    assert cut.state == "awaiting-approval"


async def test_a_limit_that_ended_by_itself_is_full_supply_and_a_gateways_word_ends_no_disconnect(centre: Centre):
    (limit,) = centre.request(Action.LIMIT, "MP-1", limit_w=3000, limit_until=START + 8 * 3600 * SECOND).commands
    (cut,) = centre.request(Action.DISCONNECT, "MP-2", key="k2").commands
    for each in (limit, cut):
        centre.approve(each.id, "anna", "ben")
        await centre.step()
        centre.say(each.id, "accepted", Cause.GATEWAY_ACCEPTED)
        centre.say(each.id, "executing", Cause.BEGAN)
        centre.say(each.id, "verified", Cause.AS_ASKED)
    assert [centre.desk.supply(CLERK, point).state for point in ("MP-1", "MP-2")] == ["limited", "disconnected"]
    centre.now += 8 * 3600 * SECOND
    for each in (limit, cut):
        centre.say(each.id, "verified", LIMIT_GIVEN_BACK)
    full, dark = (centre.desk.supply(CLERK, point) for point in ("MP-1", "MP-2"))
    assert (full.state, full.to_come_back, full.since) == ("connected", None, to_rfc3339(centre.now))
    assert dark.state == "disconnected"


async def test_alerts_go_out_for_what_somebody_should_look_at(centre: Centre, state: Database):
    outbox = Outbox(state)
    outbox.subscribe("desk")
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    centre.approve(cut.id, "anna", "ben")
    await centre.step()
    centre.now += 5 * 3600 * SECOND
    await centre.step()
    centre.say(cut.id, "refused-by-guard", Cause.GUARD_REFUSED, why="too many in this hour")
    told = outbox.waiting("desk", 100).messages
    alerts = [msgspec.json.decode(each.body) for each in told if each.event == "alert"]
    assert [(each["command"], each["alert"]) for each in alerts] == [
        (cut.id, "what became of a command is not known"),
        (cut.id, "a gateway's guard refused a command"),
    ]
    assert alerts[-1]["why"] == "too many in this hour"
