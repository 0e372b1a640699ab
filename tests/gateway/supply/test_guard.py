"""The guard by tables: what is refused, what waits, what passes, and what no clock, cap or lock holds up."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.supply.guard import Facts, Refusal, Wait, act_at, at_the_door, may_act, may_restore, superseded_by
from gateway.supply.items import Cut, Opening, held_of
from gateway.supply.record import Record
from metering.model import SECOND
from metering.supply import Action, Hours, SupplyCommand
from metering.supply_states import State
from metering.timing import from_rfc3339
from tests.gateway.supply.test_record import HOUR, NOW, command
from tests.trust.test_authority import DOCUMENT, KEYS
from trust.authority import Authorised
from trust.document import Binding, Caps, Service

A = Action
PERSONS = [KEYS[name].public.id for name in ("anna", "ben")]
SERVICE = [KEYS["service"].public.id]
BINDING = Binding("MP-1", "m1", "123", "serial:123", 0)
GOOD = Facts(NOW, clock_trusted=True, lockout="", meters=200, go_age_s=1.0)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "record")


def found(made: SupplyCommand, *persons: str, service: Service | None = None, spread_s: int = 0) -> Authorised:
    return Authorised(made, BINDING, frozenset(persons), service, spread_s=spread_s)


def take(record: Record, made: SupplyCommand, state: State = State.ACCEPTED) -> None:
    record.put(held_of(made, PERSONS, "", NOW, NOW, state))


# --- at the door ------------------------------------------------------------------------------------------------------


def test_a_fresh_command_comes_in(record: Record):
    assert at_the_door(found(command(), "anna", "ben"), record, NOW) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "c9", "point": "MP-9", "seq": 9}, "its nonce was used before, by c1"),
        ({"id": "c9", "point": "MP-9", "nonce": "9" * 32, "seq": 1}, "number 1 comes after 1"),
        ({"id": "c9", "nonce": "9" * 32, "seq": 9}, "disconnect c1 is under way at this meter point"),
        ({"id": "c9", "nonce": "9" * 32, "seq": 9, "point": "MP-9", "expires_at": NOW}, "past its expiry"),
    ],
    ids=["replayed", "reordered", "a second one", "expired"],
)
def test_what_was_here_before_or_is_out_of_order_is_refused(record: Record, changes: dict[str, Any], says: str):
    take(record, command())
    refused = at_the_door(found(command(**changes), "anna", "ben"), record, NOW)
    assert refused is not None
    assert says in refused.why


def test_what_was_forgotten_is_refused_however_far_back_the_clock_is(record: Record):
    record.floor = NOW + HOUR
    refused = at_the_door(found(command(), "anna", "ben"), record, NOW - 1000 * HOUR)
    assert refused is not None
    assert "older than what this gateway remembers" in refused.why


def test_a_restore_comes_in_beside_a_disconnect_and_supersedes_what_has_not_begun(record: Record):
    take(record, command(1))
    restore = command(2, action=A.RESTORE, point="MP-1", device="m1")
    assert at_the_door(found(restore, "anna"), record, NOW) is None
    assert [each.command.id for each in superseded_by(record, found(restore, "anna"))] == ["c1"]
    take(record, command(1), State.EXECUTING)
    assert superseded_by(record, found(restore, "anna")) == []
    assert superseded_by(record, found(command(3, point="MP-1"), "anna")) == []


# --- when it acts -----------------------------------------------------------------------------------------------------


def test_a_campaign_is_spread_by_chance(record: Record):
    made = found(command(), spread_s=1800)
    assert [act_at(made, record, NOW, chance) - NOW for chance in (0.0, 0.5)] == [0, 900 * SECOND]


def test_a_campaign_that_was_held_back_until_its_end_is_spread_all_the_same_and_so_expires(record: Record):
    late = command().expires_at - 60 * SECOND
    made = found(command(), spread_s=1800)
    assert [act_at(made, record, late, chance) - late for chance in (0.0, 0.5)] == [0, 900 * SECOND]


def test_what_a_service_gives_above_its_rate_waits_and_is_not_dropped(record: Record):
    service = Service("payments", "", 2)
    times = []
    for number in range(1, 7):
        record.put(Opening(f"m{number}", "c0", "debt", NOW))
        restore = command(number, action=A.RESTORE)
        at = act_at(found(restore, service=service), record, NOW, 0)
        record.put(held_of(restore, (), service.name, NOW, at, State.ACCEPTED))
        times.append(at - NOW)
    assert times[:2] == [0, 0]
    assert times == sorted(times)
    assert times[-1] <= 3 * HOUR
    assert act_at(found(command(9, action=A.RESTORE), "anna", service=service), record, NOW, 0) == NOW


def test_a_turn_that_would_come_after_the_expiry_comes_before_it(record: Record):
    service = Service("payments", "", 1)
    for number in range(1, 9):
        record.put(Opening(f"m{number}", "c0", "debt", NOW))
        restore = command(number, action=A.RESTORE)
        at = act_at(found(restore, service=service), record, NOW, 0)
        record.put(held_of(restore, (), service.name, NOW, at, State.ACCEPTED))
        assert at < restore.expires_at


# --- before the meter is asked ----------------------------------------------------------------------------------------

SUNDAY = from_rfc3339("2026-11-22T10:00:00Z")
OFFICE = Hours("Europe/London", 8 * 60, 15 * 60, (0, 1, 2, 3))


def judged(record: Record, made: SupplyCommand, facts: Facts = GOOD, **document: Any) -> Refusal | Wait | None:  # noqa: ANN401 - any field
    held = held_of(made, PERSONS, "", facts.now, facts.now, State.ACCEPTED)
    return may_act(held, msgspec.structs.replace(DOCUMENT, **document), record, facts)


@pytest.mark.parametrize(
    ("changes", "facts", "says"),
    [
        ({}, GOOD._replace(clock_trusted=False), "clock is not trusted"),
        ({}, GOOD._replace(lockout="the file lockout is there"), "locked: the file lockout"),
        ({}, GOOD._replace(go_age_s=None), "fresh go"),
        ({}, GOOD._replace(go_age_s=61.0), "fresh go"),
        ({}, GOOD._replace(go_age_s=-1.0), "fresh go"),
        ({"point": "MP-9"}, GOOD, "never-cut"),
        ({"hours": OFFICE}, GOOD._replace(now=SUNDAY), "hours have not come"),
        ({"hours": Hours("Nowhere/At_all", 0, 1440)}, GOOD, "hours have not come"),
    ],
)
@pytest.mark.parametrize("action", [A.DISCONNECT, A.LIMIT, A.KEEP_POWER_OFF])
def test_withholding_is_held_up(record: Record, action: Action, changes: dict[str, Any], facts: Facts, says: str):
    limit = {"limit_w": 500, "limit_until": NOW + HOUR} if action is A.LIMIT else {}
    verdict = judged(record, command(action=action, **limit, **changes), facts)
    assert verdict is not None
    assert says in verdict.why


@pytest.mark.parametrize("action", [A.RESTORE, A.UNLIMIT, A.RECONNECT, A.ARM, A.KEEP_POWER_ON, A.READ_STATE])
def test_nothing_holds_up_what_gives_back(record: Record, action: Action):
    bad = Facts(NOW, clock_trusted=False, lockout="locked", meters=1, go_age_s=None)
    assert judged(record, command(action=action), bad) is None


def test_hours_open_on_the_next_day_that_has_them(record: Record):
    verdict = judged(record, command(hours=OFFICE), GOOD._replace(now=SUNDAY))
    assert isinstance(verdict, Wait)
    assert verdict.until == from_rfc3339("2026-11-23T08:00:00Z")
    assert judged(record, command(hours=OFFICE), GOOD._replace(now=verdict.until)) is None


@pytest.mark.parametrize(("cuts", "passes"), [(1, True), (2, False)])
def test_the_cap_of_an_hour(record: Record, *, cuts: int, passes: bool):
    for number in range(cuts):
        record.put(Cut(f"x{number}", NOW - 1))
    verdict = judged(record, command(), caps=Caps(2, 100, 1000))
    assert (verdict is None) is passes
    assert judged(record, command(), GOOD._replace(now=NOW + 2 * HOUR), caps=Caps(2, 100, 1000)) is None


@pytest.mark.parametrize(("meters", "passes"), [(40, True), (20, False)])
def test_the_cap_of_a_day_is_a_share_of_the_meters(record: Record, *, meters: int, passes: bool):
    for number in range(3):
        record.put(Cut(f"x{number}", NOW - 5 * HOUR))
    verdict = judged(record, command(), GOOD._replace(meters=meters), caps=Caps(9, 100, 100))
    assert (verdict is None) is passes


@pytest.mark.parametrize("action", [A.DISCONNECT, A.LIMIT, A.KEEP_POWER_OFF])
def test_all_that_withholds_counts_against_the_caps(record: Record, action: Action):
    record.put(Cut("x", NOW))
    limit = {"limit_w": 5000, "limit_until": NOW + HOUR, "floor_w": 1000} if action is A.LIMIT else {}
    refused = judged(record, command(action=action, **limit), caps=Caps(1, 1, 1000))
    assert isinstance(refused, Refusal)
    assert "at most 1 meters an hour" in refused.why


# --- before something is given back -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "signers", "passes"),
    [
        ("debt", (), True),
        ("debt", ("anna",), True),
        ("request", (), False),
        ("request", ("anna",), True),
        ("safety", ("anna",), False),
        ("theft", ("anna",), False),
        ("vacancy", ("anna", "ben"), True),
        (None, (), False),
        (None, ("anna",), False),
        (None, ("anna", "ben"), True),
    ],
)
def test_who_may_give_back_what_was_opened_for(
    record: Record, *, reason: str | None, signers: tuple[str, ...], passes: bool
):
    if reason is not None:
        record.put(Opening("m1", "c0", reason, NOW - HOUR))
    made = command(2, action=A.RESTORE, device="m1")
    restore = held_of(
        made,
        [KEYS[name].public.id for name in signers] or SERVICE,
        "" if signers else "payments",
        NOW,
        NOW,
        State.ACCEPTED,
    )
    assert (may_restore(restore, DOCUMENT, record) is None) is passes


def test_a_limit_and_a_disconnect_of_one_meter_are_lifted_by_their_own_reasons(record: Record):
    record.put(Opening("m1", "c0", "debt", NOW - HOUR, limit=True), Opening("m1", "c1", "safety", NOW - HOUR))
    judged = {
        action: may_restore(
            held_of(command(2, action=action, device="m1"), SERVICE, "payments", NOW, NOW, State.ACCEPTED),
            DOCUMENT,
            record,
        )
        for action in (A.UNLIMIT, A.RESTORE)
    }
    assert judged[A.UNLIMIT] is None
    assert judged[A.RESTORE] is not None


def test_keep_power_is_put_on_by_one_signature_whatever_is_open(record: Record):
    keep = held_of(command(2, action=A.KEEP_POWER_ON), PERSONS[:1], "", NOW, NOW, State.ACCEPTED)
    assert may_restore(keep, DOCUMENT, record) is None


def test_whoever_was_taken_out_of_the_trust_document_has_no_say_in_what_waits(record: Record):
    approvers = tuple(each for each in DOCUMENT.approvers if each.person != "ben")
    refused = judged(record, command(), GOOD, approvers=approvers)
    assert refused == Refusal("1 of those who signed it are approvers still; 2 are needed")
    other = tuple(each for each in DOCUMENT.approvers if each.key != str(KEYS["ben"].public))  # he has a new key
    assert isinstance(judged(record, command(), GOOD, approvers=other), Refusal)
    assert isinstance(judged(record, command(), GOOD, k=3), Refusal)
    assert judged(record, command()) is None
    for kids, document in (
        (SERVICE, msgspec.structs.replace(DOCUMENT, services=())),
        (PERSONS[:1], msgspec.structs.replace(DOCUMENT, approvers=tuple(e for e in approvers if e.person != "anna"))),
    ):
        restore = held_of(command(2, action=A.RESTORE), kids, "", NOW, NOW, State.ACCEPTED)
        assert may_act(restore, DOCUMENT, record, GOOD) is None
        assert may_act(restore, document, record, GOOD) == Refusal("nobody of those who signed it has a say any more")


def test_a_clock_that_is_not_trusted_does_not_hold_up_what_gives_back_but_what_a_hold_keeps_open(record: Record):
    behind = GOOD._replace(now=NOW - 1000 * HOUR, clock_trusted=False)
    restore = held_of(command(2, action=A.RESTORE, device="m1"), PERSONS, "", behind.now, NOW, State.ACCEPTED)
    assert may_act(restore, DOCUMENT, record, behind) is None
    assert isinstance(may_act(restore, DOCUMENT, record, behind._replace(clock_trusted=True)), Wait)
    record.put(Opening("m1", "c0", "field-work", NOW - HOUR))
    assert isinstance(may_act(restore, DOCUMENT, record, behind), Wait)


NIGHT = Hours("Europe/London", 60, 120)  # from one to two


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z"),  # half past one, and an hour later once more
        ("2026-10-25T01:30:00Z", "2026-10-25T01:30:00Z"),
        ("2026-10-25T02:00:00Z", "2026-10-26T01:00:00Z"),
        ("2026-03-29T00:59:00Z", "2026-03-30T00:00:00Z"),  # this night has no such hour
        ("2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"),
    ],
)
def test_hours_are_local_ones_where_the_clocks_change(record: Record, at: str, opens: str):
    now = from_rfc3339(at)
    verdict = judged(record, command(hours=NIGHT), GOOD._replace(now=now))
    assert (verdict.until if isinstance(verdict, Wait) else now) == from_rfc3339(opens)
    assert verdict is None or isinstance(verdict, Wait)
