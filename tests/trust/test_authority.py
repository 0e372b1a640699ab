"""What a gateway makes of commands: ordered by those who may, and everything a thief of the head-end could try."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from metering.supply import Action, CommandMessage, Manifest, SupplyCommand, canonical
from tests.supply_command import HOUR, a_command
from trust import document as trusted
from trust.authority import Authority, NotAuthorisedError
from trust.document import Binding, Caps, Holder, Service, TrustDocument, accept
from trust.keys import SigningKey
from trust.merkle import leaf, proofs_of, root_of
from trust.signatures import BadSignatureError, Kind, sign

KEYS = {
    name: SigningKey.generate() for name in ("anna", "ben", "ben's other", "cleo", "service", "dora", "emil", "eve")
}
DOCUMENT = TrustDocument(
    gateway="gw1",
    version=3,
    issued_at=0,
    m=2,
    custodians=(Holder("dora", str(KEYS["dora"].public)), Holder("emil", str(KEYS["emil"].public))),
    k=2,
    approvers=tuple(
        Holder(name.split("'")[0], str(KEYS[name].public)) for name in ("anna", "ben", "ben's other", "cleo")
    ),
    caps=Caps(10, 50, 100),
    services=(Service("payments", str(KEYS["service"].public), 100),),
    never_cut=("MP-9",),
    bindings=(
        Binding("MP-1", "m1", "123", "address:000000000123", 7, 1000),
        Binding("MP-2", "m2", "124", "address:000000000124", 7),
        Binding("MP-9", "m9", "129", "address:000000000129", 7),
    ),
)
AUTHORITY = Authority(DOCUMENT)
command = partial(a_command, floor_w=1000)


def message(made: SupplyCommand, *signers: str, kind: Kind = Kind.COMMAND) -> CommandMessage:
    body = canonical(made)
    return CommandMessage(made.id, body, sign(body, kind, [KEYS[name] for name in signers]))


def test_two_approvers_order_a_disconnect():
    found = AUTHORITY.authorise(message(command(), "anna", "ben"))
    assert found.command == command()
    assert found.persons == {"anna", "ben"}
    assert found.binding.identity == "address:000000000123"


SECOND = {"point": "MP-2", "device": "m2", "serial": "124", "floor_w": 0}
REFUSED: list[tuple[str, SupplyCommand, Sequence[str], str]] = [
    ("one approver", command(), ["anna"], "1 of the approvers signed it; 2 are needed"),
    ("two keys of one person", command(), ["ben", "ben's other"], "1 of the approvers"),
    ("the requester among them", command(), ["anna", "ben", "cleo"], "cleo requested it"),
    ("a stranger", command(), ["anna", "eve"], "1 of the approvers"),
    ("a custodian", command(), ["anna", "dora"], "1 of the approvers"),
    ("a service as the second", command(), ["anna", "service"], "1 of the approvers"),
    ("another gateway's", command(gateway="gw2"), ["anna", "ben"], "for the gateway gw2"),
    ("a meter that is not bound", command(device="m7"), ["anna", "ben"], "binds no meter m7"),
    ("another point", command(point="MP-2"), ["anna", "ben"], "point 'MP-2' is meant"),
    ("another serial number", command(serial="124"), ["anna", "ben"], "serial '124' is meant"),
    ("an earlier installation", command(installation=6), ["anna", "ben"], "installation 6 is meant"),
    ("a lower floor", command(floor_w=0), ["anna", "ben"], "floor_w 0 is meant"),
    (
        "who is never cut",
        command(point="MP-9", device="m9", serial="129", floor_w=0),
        ["anna", "ben"],
        "never-cut list",
    ),
    ("no time at all", command(expires_at=0), ["anna", "ben"], "expires_at"),
    ("a limit of one approver", command(action=Action.LIMIT, limit_w=1, limit_until=9), ["anna"], "2 are needed"),
    ("keep-power off of one", command(action=Action.KEEP_POWER_OFF), ["anna"], "2 are needed"),
    ("a reconnect by the service", command(action=Action.RECONNECT, reason="paid"), ["service"], "restore and unlimit"),
    ("a restore by nobody", command(action=Action.RESTORE, reason="paid"), ["eve"], "no key that is known"),
]


@pytest.mark.parametrize(("made", "signers", "says"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_it_is_refused(made: SupplyCommand, signers: Sequence[str], says: str):
    with pytest.raises(NotAuthorisedError, match=says):
        AUTHORITY.authorise(message(made, *signers))


@pytest.mark.parametrize("action", [Action.RESTORE, Action.UNLIMIT])
@pytest.mark.parametrize("signer", ["anna", "service"])
def test_giving_back_needs_one_signature(action: Action, signer: str):
    found = AUTHORITY.authorise(message(command(action=action, reason="paid"), signer))
    assert (found.persons, found.service is not None) == (
        (frozenset(), True) if signer == "service" else (frozenset({"anna"}), False)
    )


def test_reading_the_state_needs_no_signature():
    made = command(action=Action.READ_STATE)
    assert AUTHORITY.authorise(CommandMessage("c1", canonical(made), b"")).persons == frozenset()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda m: msgspec.structs.replace(m, body=canonical(command(**SECOND))),
            "not a metergate-manifest",
        ),
        (lambda m: msgspec.structs.replace(m, id="c2"), "the message c2 carries the command c1"),
        (lambda m: msgspec.structs.replace(m, body=m.body.replace(b":", b": ", 1)), "canonical form"),
        (lambda m: msgspec.structs.replace(m, body=b"[" * 4000), "no command"),
        (lambda m: msgspec.structs.replace(m, body=b" " * 5000), "the limit"),
        (lambda m: msgspec.structs.replace(m, signed=b"{}"), "no JWS"),
        (lambda m: msgspec.structs.replace(m, proof=[("l", bytes(32))]), "not a metergate-manifest"),
    ],
    ids=["cross-meter", "renamed", "respelled", "deep", "large", "stripped", "a proof put on it"],
)
def test_a_message_that_was_tampered_with_is_refused(change: Callable[[CommandMessage], CommandMessage], says: str):
    with pytest.raises(NotAuthorisedError, match=says):
        AUTHORITY.authorise(change(message(command(), "anna", "ben")))


# --- campaigns --------------------------------------------------------------------------------------------------------


def campaign(commands: Sequence[SupplyCommand], *signers: str, **changes: Any) -> list[CommandMessage]:  # noqa: ANN401 - any field
    bodies = [canonical(each) for each in commands]
    leaves = [leaf(each) for each in bodies]
    head = Manifest("k1", Action.DISCONNECT, "cleo", len(commands), root_of(leaves).hex(), 0, HOUR)
    signed = sign(canonical(msgspec.structs.replace(head, **changes)), Kind.MANIFEST, [KEYS[name] for name in signers])
    return [
        CommandMessage(each.id, body, signed, proof)
        for each, body, proof in zip(commands, bodies, proofs_of(leaves), strict=True)
    ]


def test_a_campaign_is_approved_as_one():
    for each in campaign([command(), command(**SECOND, id="c2")], "anna", "ben"):
        assert AUTHORITY.authorise(each).persons == {"anna", "ben"}


def test_a_campaign_of_one_needs_no_proof():
    (only,) = campaign([command()], "anna", "ben")
    assert only.proof == []
    assert AUTHORITY.authorise(only).command.id == "c1"


@pytest.mark.parametrize(
    ("changes", "spread_s"),
    [
        ({}, 300),
        ({"spread_s": 60}, 300),
        ({"spread_s": 900}, 900),
        ({"action": Action.RESTORE}, 0),
        ({"action": Action.KEEP_POWER_OFF}, 300),
    ],
)
def test_what_a_campaign_withholds_is_spread_whatever_the_command_says(changes: dict[str, Any], spread_s: int):
    made = [command(**changes), command(**SECOND, **changes, id="c2")]
    first, _ = campaign(made, "anna", "ben", action=made[0].action)
    assert AUTHORITY.authorise(first).spread_s == spread_s
    alone = AUTHORITY.authorise(message(command(**changes), "anna", "ben"))
    assert alone.spread_s == changes.get("spread_s", 0)


def test_a_command_that_was_not_in_the_campaign_is_refused():
    first, _ = campaign([command(), command(**SECOND, id="c2")], "anna", "ben")
    smuggled = command(**SECOND, id="c3")
    with pytest.raises(NotAuthorisedError, match="none of the campaign"):
        AUTHORITY.authorise(msgspec.structs.replace(first, id="c3", body=canonical(smuggled)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"action": Action.RESTORE}, "action or requester"),
        ({"requester": "somebody"}, "action or requester"),
        ({"expires_at": HOUR - 1}, "beyond the time"),
        ({"not_before": 1}, "beyond the time"),
    ],
    ids=["another action", "another requester", "ends before", "begins after"],
)
def test_a_command_does_not_reach_beyond_its_campaign(changes: dict[str, Any], says: str):
    (only,) = campaign([command()], "anna", "ben", **changes)
    with pytest.raises(NotAuthorisedError, match=says):
        AUTHORITY.authorise(only)


def test_a_signed_command_is_no_manifest_and_a_signed_manifest_no_command():
    (only,) = campaign([command()], "anna", "ben")
    body = canonical(command())
    with pytest.raises(NotAuthorisedError, match="not a metergate-manifest"):
        AUTHORITY.authorise(msgspec.structs.replace(only, signed=sign(body + b" ", Kind.COMMAND, [KEYS["anna"]])))
    with pytest.raises(NotAuthorisedError, match="not a metergate-command"):
        AUTHORITY.authorise(CommandMessage("c1", body, sign(body, Kind.MANIFEST, [KEYS["anna"], KEYS["ben"]])))


# --- the document -----------------------------------------------------------------------------------------------------


def signed(document: TrustDocument, *signers: str) -> bytes:
    return sign(trusted.canonical(document), Kind.TRUST, [KEYS[name] for name in signers])


NEXT = msgspec.structs.replace(DOCUMENT, version=4)
TAKEN_OVER = msgspec.structs.replace(
    NEXT, m=1, custodians=(Holder("eve", str(KEYS["eve"].public)),), approvers=DOCUMENT.approvers
)


def test_custodians_of_the_document_in_force_change_it():
    assert accept(DOCUMENT, signed(NEXT, "dora", "emil"), "gw1") == NEXT
    assert accept(None, signed(DOCUMENT, "dora", "emil"), "gw1") == DOCUMENT


@pytest.mark.parametrize(
    ("document", "signers", "says"),
    [
        (NEXT, ["dora"], "1 of the custodians signed it; 2 are needed"),
        (NEXT, ["anna", "ben"], "no key that is known"),
        (DOCUMENT, ["dora", "emil"], "version 3 is not newer than 3"),
        (msgspec.structs.replace(DOCUMENT, version=2), ["dora", "emil"], "not newer"),
        (msgspec.structs.replace(NEXT, gateway="gw2"), ["dora", "emil"], "for the gateway 'gw2'"),
        (TAKEN_OVER, ["eve"], "no key that is known"),
        (TAKEN_OVER, ["eve", "dora"], "1 of the custodians"),
    ],
    ids=["one", "approvers", "the same", "an older one", "another's", "new custodians sign", "one of each"],
)
def test_nobody_else_does(document: TrustDocument, signers: Sequence[str], says: str):
    with pytest.raises(BadSignatureError, match=says):
        accept(DOCUMENT, signed(document, *signers), "gw1")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k": 4}, "k: 4 of 3 approvers"),
        ({"m": 3}, "m: 3 of 2 custodians"),
        ({"k": 1}, "k"),
        ({"approvers": (*DOCUMENT.approvers, DOCUMENT.custodians[0])}, "a key stands twice"),
        ({"approvers": (*DOCUMENT.approvers, Holder("x", "ed25519:AAAA"))}, r"approvers\[4\].key"),
        ({"bindings": (*DOCUMENT.bindings, DOCUMENT.bindings[0])}, "the device m1 stands twice"),
    ],
    ids=["k too high", "m too high", "one person alone", "two roles", "no key", "bound twice"],
)
def test_a_document_that_cannot_work_is_refused(changes: dict[str, Any], says: str):
    body = trusted.canonical(msgspec.structs.replace(DOCUMENT, **changes))
    with pytest.raises(ValueError, match=says):
        trusted.parse(body)


def test_a_key_that_left_the_document_approves_nothing_any_more():
    newer = msgspec.structs.replace(NEXT, approvers=DOCUMENT.approvers[1:])
    with pytest.raises(NotAuthorisedError, match="1 of the approvers"):
        Authority(newer).authorise(message(command(), "anna", "ben"))


@pytest.mark.parametrize(("meters", "most"), [(1, 1), (100, 10), (500, 50), (5000, 50)])
def test_the_cap_of_a_day_is_a_share_of_the_meters_and_at_least_one(meters: int, most: int):
    assert Caps(10, 50, 100).of_a_day(meters) == most


def test_a_share_of_nothing_is_nothing():
    assert Caps(10, 50, 0).of_a_day(5000) == 0
