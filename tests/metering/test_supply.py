"""Supply commands in their canonical form, and the table of their states."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.supply import CONTROL_CODES, RESTORING, WITHHOLDING, Action, canonical, parse_command
from metering.supply_states import FINAL, TRANSITIONS, Cause, NoSuchTransitionError, State, after
from tests.supply_command import HOUR, a_command


def test_a_command_is_read_back_from_its_canonical_bytes():
    made = a_command(case="K-7", spread_s=60)
    assert parse_command(canonical(made)) == made


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b":", b": ", 1),
        lambda body: body.replace(b'"id":"c1"', b'"id":"c1","id":"c1"'),
        lambda body: body[:-1] + b',"extra":1}',
        lambda body: body[:-1] + b',"spread_s":0}',
    ],
    ids=["a space", "a key twice", "an unknown key", "a default spelled out"],
)
def test_other_bytes_of_the_same_command_are_refused(change: Callable[[bytes], bytes]):
    with pytest.raises(ValueError):
        parse_command(change(canonical(a_command())))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"expires_at": 0}, "expires_at"),
        ({"action": Action.LIMIT}, "limit_w"),
        ({"action": Action.LIMIT, "limit_w": 100}, "limit_w"),
        ({"limit_w": 100}, "limit_w"),
        ({"limit_until": HOUR}, "limit_w"),
        ({"limit_w": 100, "limit_until": HOUR}, "limit_w"),
        ({"action": Action.LIMIT, "limit_w": 100, "limit_until": 0}, "limit_until"),
        ({"serial": ""}, "serial"),
        ({"reason": "paid"}, "reason: paid is a reason to give a supply back"),
        ({"action": Action.KEEP_POWER_OFF, "reason": "mistake"}, "reason: mistake"),
        ({"case": " "}, "case: disconnect names the case"),
    ],
)
def test_a_fault_is_named(changes: dict[str, object], says: str):
    assert any(says in each for each in a_command(**changes).faults())


def test_a_limit_below_the_floor_counts_as_a_disconnect():
    limit = a_command(action=Action.LIMIT, limit_w=500, limit_until=HOUR, floor_w=1000)
    assert limit.counts_as_disconnect
    assert not msgspec.structs.replace(limit, limit_w=1000).counts_as_disconnect


def test_a_limit_of_no_power_counts_as_a_disconnect_where_no_floor_is_set():
    limit = a_command(action=Action.LIMIT, limit_w=0, limit_until=HOUR, floor_w=0)
    assert limit.counts_as_disconnect
    assert not msgspec.structs.replace(limit, limit_w=1).counts_as_disconnect


def test_every_action_has_its_code_and_takes_gives_back_or_reads():
    assert set(CONTROL_CODES) == set(Action)
    assert not WITHHOLDING & RESTORING
    assert set(Action) - WITHHOLDING - RESTORING == {Action.READ_STATE}


def test_final_states_go_nowhere_and_all_others_lead_to_an_end():
    leads = {state: {to for (source, _), to in TRANSITIONS.items() if source is state} for state in State}
    assert all(not leads[state] for state in FINAL)
    ends = set(FINAL)
    while more := {state for state in State if leads[state] & ends} - ends:
        ends |= more
    assert ends == set(State)


def test_nothing_withheld_is_sent_again_out_of_unknown_but_by_send_again():
    assert [cause for (state, cause), to in TRANSITIONS.items() if state is State.UNKNOWN and to is State.QUEUED] == [
        Cause.SEND_AGAIN
    ]


@given(st.lists(st.sampled_from(list(Cause)), max_size=30))
def test_whatever_happens_a_command_is_in_a_known_state_and_an_end_stays(causes: list[Cause]):
    state = State.REQUESTED
    for cause in causes:
        try:
            to = after(state, cause)
        except NoSuchTransitionError:
            continue
        assert state not in FINAL
        state = to
