"""What an order means in every state of a switch: the whole tables."""

import itertools

import pytest

from collector.supply_rules import Do, Done, Never, Step, class70, contact, limiter, outcome, relay645, trip70
from metering.supply import Action, SupplyState
from simulators.dlms_supply import target

A = Action
OUTPUT = {0: False, 1: True, 2: False}
# control_mode -> control_state -> what disconnect, reconnect, arm and restore mean; N: never, - : nothing to do, a: it
# waits for the customer already.
TABLE = {
    0: {0: "- N N N", 1: "N - - -", 2: "N N N N"},
    1: {0: "- N A A", 1: "D - - -", 2: "D N a a"},
    2: {0: "- R N R", 1: "D - - -", 2: "D N N a"},
    3: {0: "- N A A", 1: "D - - -", 2: "D N a a"},
    4: {0: "- R N R", 1: "D - - -", 2: "D N N a"},
    5: {0: "- N A A", 1: "D - - -", 2: "D N a a"},
    6: {0: "- N A A", 1: "D - - -", 2: "D N a a"},
}
ASKED = (A.DISCONNECT, A.RECONNECT, A.ARM, A.RESTORE)
SENT = {"D": A.DISCONNECT, "R": A.RECONNECT, "A": A.ARM}


def letter(step: Step) -> str:
    if isinstance(step, Never):
        return "N"
    if isinstance(step, Done):
        return "a" if step.armed else "-"
    return next(name for name, action in SENT.items() if action is step.action)


@pytest.mark.parametrize("mode", TABLE)
def test_class_70_by_the_blue_books_modes(mode: int):
    for control, expected in TABLE[mode].items():
        state = SupplyState(output=OUTPUT[control], control=control, mode=mode)
        assert " ".join(letter(class70(action, state)) for action in ASKED) == expected, (mode, control)


@pytest.mark.parametrize("mode", TABLE)
@pytest.mark.parametrize("control", [0, 1, 2])
def test_what_is_sent_is_what_the_standard_lets_the_meter_do(mode: int, control: int):
    state = SupplyState(output=OUTPUT[control], control=control, mode=mode)
    for action in ASKED:
        step = class70(action, state)
        if not isinstance(step, Do):
            continue
        cause = "remote_disconnect" if step.action is A.DISCONNECT else "remote_reconnect"
        after = target(control, mode, cause)
        assert after is not None
        reached = outcome(action, SupplyState(output=OUTPUT[after], control=after, mode=mode))
        assert reached == ("armed" if step.action is A.ARM else "as-asked")


def test_ready_for_reconnection_is_not_disconnected():
    assert outcome(A.DISCONNECT, SupplyState(output=False, control=2, mode=1)) == "not-yet"


@pytest.mark.parametrize(("control", "output", "action"), [(0, True, A.DISCONNECT), (1, False, A.RESTORE)])
def test_a_contact_that_does_not_do_what_it_is_told_is_never_taken_for_done(
    *, control: int, output: bool, action: Action
):
    assert isinstance(class70(action, SupplyState(output=output, control=control, mode=4)), Never)


@pytest.mark.parametrize(
    ("modes", "control", "action", "says"),
    [
        ({1, 3, 5, 6}, 0, A.RECONNECT, "this meter can only be armed"),
        ({1, 3, 5, 6}, 2, A.RECONNECT, "this meter can only be armed"),
        ({2, 4}, 2, A.RECONNECT, "it needs the customer"),
        ({2, 4}, 2, A.RESTORE, "it needs the customer"),
        ({2, 4}, 0, A.ARM, "knows no arming"),
        ({2, 4}, 2, A.ARM, "knows no arming"),
        ({0}, 0, A.ARM, "always connected"),
        ({0}, 1, A.DISCONNECT, "always connected"),
    ],
)
def test_what_it_does_not_do_it_says_in_words(modes: set[int], control: int, action: Action, says: str):
    for mode in modes:
        step = class70(action, SupplyState(output=OUTPUT[control], control=control, mode=mode))
        assert isinstance(step, Never | Done)
        assert says in step.why, mode


@pytest.mark.parametrize("mode", TABLE)
def test_who_can_close_what_a_limiter_opened_is_what_the_standard_says(mode: int):
    said = trip70(SupplyState(output=True, control=1, mode=mode), 30, opens=True)
    assert "for 30 s" in said
    opened = target(1, mode, "local_disconnect")
    assert ("it opens the supply" in said) is (opened is not None)
    if opened is not None:
        assert ("the customer closes it" in said) is (target(opened, mode, "manual_reconnect") == 1)
        assert ("or the meter by itself" in said) is (target(opened, mode, "local_reconnect") == 1)
        apart = target(0, mode, "remote_reconnect")  # after a disconnect
        assert ("only a disconnect and then a reconnect" in said) is (apart == 1)
        assert ("it can be armed from afar" in said) is (apart == 2)
    assert "a script of its own" in trip70(SupplyState(mode=mode), 30, opens=False)


BOTH, PERMIT, DIRECT = frozenset({A.ARM, A.RECONNECT}), frozenset({A.ARM}), frozenset({A.RECONNECT})


@pytest.mark.parametrize(
    ("output", "ordered_open", "keep", "action", "closes", "expected"),
    [
        (True, False, False, A.DISCONNECT, BOTH, Do(A.DISCONNECT)),
        (False, True, False, A.DISCONNECT, BOTH, Done()),
        (False, False, False, A.DISCONNECT, BOTH, Do(A.DISCONNECT)),  # permitted to close: that is not disconnected
        (True, True, False, A.DISCONNECT, BOTH, Do(A.DISCONNECT)),  # in transition, or stuck
        (True, False, True, A.DISCONNECT, BOTH, "keep-power is on"),
        (False, True, True, A.DISCONNECT, BOTH, Done()),
        (False, True, False, A.RESTORE, BOTH, Do(A.ARM)),
        (False, True, False, A.RESTORE, DIRECT, Do(A.RECONNECT)),
        (False, True, False, A.RECONNECT, BOTH, Do(A.RECONNECT)),
        (False, True, False, A.RECONNECT, PERMIT, "knows no reconnect"),
        (False, True, False, A.ARM, DIRECT, "knows no arm"),
        (False, False, False, A.ARM, BOTH, "waits"),
        (False, False, False, A.RESTORE, BOTH, "waits"),
        (False, False, False, A.RECONNECT, BOTH, Do(A.RECONNECT)),
        (True, False, False, A.RESTORE, BOTH, Done()),
        (True, False, False, A.KEEP_POWER_ON, BOTH, Do(A.KEEP_POWER_ON)),
        (True, False, True, A.KEEP_POWER_ON, BOTH, Done()),
        (True, False, True, A.KEEP_POWER_OFF, BOTH, Do(A.KEEP_POWER_OFF)),
        (True, False, False, A.KEEP_POWER_OFF, BOTH, Done()),
    ],
)
def test_dlt645(
    *, output: bool, ordered_open: bool, keep: bool, action: Action, closes: frozenset[Action], expected: object
):
    state = SupplyState(output=output, ordered_open=ordered_open, keep_power=keep)
    step = relay645(action, state, closes=closes)
    if expected == "waits":
        assert isinstance(step, Done)
        assert step.armed
    elif isinstance(expected, str):
        assert isinstance(step, Never)
        assert expected in step.why
    else:
        assert step == expected


@pytest.mark.parametrize("output", [True, False])
def test_a_contact_is_open_or_closed(*, output: bool):
    state = SupplyState(output=output)
    assert contact(A.DISCONNECT, state) == (Do(A.DISCONNECT) if output else Done())
    assert contact(A.RESTORE, state) == (Done() if output else Do(A.RECONNECT))
    assert isinstance(contact(A.ARM, state), Done if output else Never)


def test_a_limit_is_set_once_and_given_back():
    assert limiter(A.LIMIT, SupplyState(limit_w=None), 500) == Do(A.LIMIT)
    assert limiter(A.LIMIT, SupplyState(limit_w=500), 500) == Done()
    assert limiter(A.UNLIMIT, SupplyState(limit_w=500), None) == Do(A.UNLIMIT)
    assert limiter(A.UNLIMIT, SupplyState(limit_w=4000), 4000) == Done()


def test_nothing_is_as_asked_where_the_meter_does_not_say():
    switching = set(A) - {A.READ_STATE}
    assert {outcome(action, SupplyState()) for action in switching} == {"not-yet"}


def test_no_state_is_open_and_closed_at_once():
    for output, control, ordered in itertools.product([True, False, None], [0, 1, 2, None], [True, False, None]):
        state = SupplyState(output=output, control=control, ordered_open=ordered)
        assert (outcome(A.DISCONNECT, state), outcome(A.RESTORE, state)) != ("as-asked", "as-asked")
