"""The one table of a supply command's states: what may follow what. Pure; who causes it stands elsewhere.

The picture of it is docs/supply-states.md, which a test holds to this table.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a command stands."""

    REQUESTED = "requested"
    REFUSED_BY_POLICY = "refused-by-policy"
    QUARANTINED = "quarantined"  # above a threshold: a second person processes or deletes it
    AWAITING_APPROVAL = "awaiting-approval"
    APPROVED = "approved"
    WAITING_FOR_WINDOW = "waiting-for-window"
    QUEUED = "queued"
    SENT = "sent"
    ACCEPTED = "accepted"  # the gateway has it, verified and durable
    EXECUTING = "executing"  # the intent is durable; a frame may have left
    VERIFIED = "verified"
    ARMED = "armed"  # waits for the customer at the meter
    LAPSED = "lapsed"
    FAILED = "failed"
    REFUSED_BY_METER = "refused-by-meter"
    REFUSED_BY_GUARD = "refused-by-guard"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"  # nothing is sent again blindly: the gateway reads the relay and settles it


class Cause(StrEnum):
    """What moves a command from one state to the next."""

    POLICY_PASSED = "policy-passed"
    POLICY_REFUSED = "policy-refused"
    THRESHOLD_EXCEEDED = "threshold-exceeded"
    RELEASED = "released"  # by a second person
    DELETED = "deleted"  # by a second person
    APPROVALS_COMPLETE = "approvals-complete"
    WINDOW_AHEAD = "window-ahead"
    WINDOW_OPEN = "window-open"
    DISPATCHED = "dispatched"
    GATEWAY_ACCEPTED = "gateway-accepted"
    GUARD_REFUSED = "guard-refused"
    BEGAN = "began"
    AS_ASKED = "as-asked"  # read back, or already so: verified
    READY = "ready"  # the meter waits for the customer
    NOT_AS_ASKED = "not-as-asked"  # read back after the time was over, or when an unknown one was settled
    METER_REFUSED = "meter-refused"
    OUTCOME_LOST = "outcome-lost"  # a frame left, and nobody knows what became of it
    SEND_AGAIN = "send-again"  # a restore that was not as asked: never a disconnect or a limit
    TIME_OVER = "time-over"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


LIMIT_GIVEN_BACK = "limit-given-back"  # what a gateway tells of a limit that held and that it has ended: no new state

S, C = State, Cause
_BEFORE_SENT = (S.QUARANTINED, S.AWAITING_APPROVAL, S.APPROVED, S.WAITING_FOR_WINDOW, S.QUEUED)

TRANSITIONS: dict[tuple[State, Cause], State] = {
    (S.REQUESTED, C.POLICY_REFUSED): S.REFUSED_BY_POLICY,
    (S.REQUESTED, C.THRESHOLD_EXCEEDED): S.QUARANTINED,
    (S.REQUESTED, C.POLICY_PASSED): S.AWAITING_APPROVAL,
    (S.QUARANTINED, C.RELEASED): S.AWAITING_APPROVAL,
    (S.QUARANTINED, C.DELETED): S.CANCELLED,
    (S.AWAITING_APPROVAL, C.APPROVALS_COMPLETE): S.APPROVED,
    (S.AWAITING_APPROVAL, C.POLICY_REFUSED): S.REFUSED_BY_POLICY,
    (S.APPROVED, C.WINDOW_AHEAD): S.WAITING_FOR_WINDOW,
    (S.APPROVED, C.WINDOW_OPEN): S.QUEUED,
    (S.APPROVED, C.POLICY_REFUSED): S.REFUSED_BY_POLICY,
    (S.WAITING_FOR_WINDOW, C.WINDOW_OPEN): S.QUEUED,
    (S.WAITING_FOR_WINDOW, C.POLICY_REFUSED): S.REFUSED_BY_POLICY,
    (S.QUEUED, C.DISPATCHED): S.SENT,
    (S.QUEUED, C.POLICY_REFUSED): S.REFUSED_BY_POLICY,
    (S.QUEUED, C.WINDOW_AHEAD): S.WAITING_FOR_WINDOW,
    (S.SENT, C.GATEWAY_ACCEPTED): S.ACCEPTED,
    (S.SENT, C.GUARD_REFUSED): S.REFUSED_BY_GUARD,
    (S.SENT, C.TIME_OVER): S.UNKNOWN,  # it may have arrived: the gateway tells
    (S.ACCEPTED, C.BEGAN): S.EXECUTING,
    (S.ACCEPTED, C.AS_ASKED): S.VERIFIED,  # already so, no action
    (S.ACCEPTED, C.READY): S.ARMED,  # it waits for the customer already
    (S.ACCEPTED, C.GUARD_REFUSED): S.REFUSED_BY_GUARD,
    (S.ACCEPTED, C.METER_REFUSED): S.REFUSED_BY_METER,  # the meter can never do this: nothing was sent
    (S.ACCEPTED, C.NOT_AS_ASKED): S.FAILED,  # could not be asked at all; nothing was sent
    (S.ACCEPTED, C.TIME_OVER): S.EXPIRED,
    (S.ACCEPTED, C.POLICY_REFUSED): S.REFUSED_BY_POLICY,  # no fresh go
    (S.ACCEPTED, C.SUPERSEDED): S.SUPERSEDED,
    (S.ACCEPTED, C.CANCELLED): S.CANCELLED,
    (S.EXECUTING, C.AS_ASKED): S.VERIFIED,
    (S.EXECUTING, C.READY): S.ARMED,
    (S.EXECUTING, C.NOT_AS_ASKED): S.FAILED,
    (S.EXECUTING, C.METER_REFUSED): S.REFUSED_BY_METER,
    (S.EXECUTING, C.OUTCOME_LOST): S.UNKNOWN,
    (S.UNKNOWN, C.AS_ASKED): S.VERIFIED,
    (S.UNKNOWN, C.READY): S.ARMED,
    (S.UNKNOWN, C.NOT_AS_ASKED): S.FAILED,
    (S.UNKNOWN, C.SEND_AGAIN): S.QUEUED,
    (S.UNKNOWN, C.GATEWAY_ACCEPTED): S.ACCEPTED,
    (S.UNKNOWN, C.GUARD_REFUSED): S.REFUSED_BY_GUARD,
    (S.UNKNOWN, C.METER_REFUSED): S.REFUSED_BY_METER,
    (S.UNKNOWN, C.TIME_OVER): S.EXPIRED,  # the gateway says so: it never acted
    (S.ARMED, C.AS_ASKED): S.VERIFIED,
    (S.ARMED, C.TIME_OVER): S.LAPSED,
    **{(state, C.CANCELLED): S.CANCELLED for state in _BEFORE_SENT},
    **{(state, C.SUPERSEDED): S.SUPERSEDED for state in _BEFORE_SENT},
    **{(state, C.TIME_OVER): S.EXPIRED for state in _BEFORE_SENT},
}

FINAL = frozenset(
    {
        S.REFUSED_BY_POLICY,
        S.VERIFIED,
        S.LAPSED,
        S.FAILED,
        S.REFUSED_BY_METER,
        S.REFUSED_BY_GUARD,
        S.EXPIRED,
        S.CANCELLED,
        S.SUPERSEDED,
    }
)
# Nothing has left for the meter yet: a restore supersedes a disconnect here, and waits behind it later.
NOT_SENT = frozenset({S.REQUESTED, *_BEFORE_SENT})


class NoSuchTransitionError(ValueError):
    """A cause that a state does not know: the caller's mistake, or word of something that is over."""


def after(state: State, cause: Cause) -> State:
    """Return the state that follows.

    Raises:
        NoSuchTransitionError: this cause does not move this state.

    """
    try:
        return TRANSITIONS[state, cause]
    except KeyError:
        raise NoSuchTransitionError(f"{cause} does not move a command that is {state}") from None
