"""What an order means for a supply in a given state: do this, it is so already, or never. Tables; no meter is asked.

Class 70 is the Blue Book's table of control modes; DL/T 645 has a relay, what was commanded of it, and keep-power; a
contact is a relay point of a Modbus model. `restore` becomes here what the meter can.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from metering.supply import Action, SupplyState

DISCONNECTED, CONNECTED, READY = 0, 1, 2  # control_state (class 70)
ARMING = frozenset({1, 3, 5, 6})  # control modes in which remote_reconnect leads to ready_for_reconnection
CLOSING = frozenset({2, 4})  # and in which it connects


class Do(NamedTuple):
    """This is to be sent."""

    action: Action


class Done(NamedTuple):
    """It is so already; `armed`: the meter waits for the customer."""

    armed: bool = False
    why: str = ""


class Never(NamedTuple):
    """This meter does not do that in this state, whatever is sent; nothing is sent."""

    why: str


Step = Do | Done | Never
Outcome = Literal["as-asked", "armed", "not-yet"]


def class70(action: Action, state: SupplyState) -> Step:
    """Return the step of a switch of class 70, by control_mode, control_state and output_state (DOMAIN 20)."""
    if outcome(action, state) == "as-asked":
        return Done()
    if state.mode == 0:
        return Never("its control mode is 0: always connected, nothing moves its switch from afar")
    if action is Action.DISCONNECT:
        if state.control == DISCONNECTED:
            return Never("it says disconnected, and its output is closed: the contact does not do what it is told")
        return Do(action)
    if state.control == CONNECTED:
        return Never("it says connected, and its output is open: the contact does not do what it is told")
    return (_from_ready if state.control == READY else _from_disconnected)(action, state.mode)


def _from_ready(action: Action, mode: int | None) -> Step:
    needs = "it is ready for reconnection: it needs the customer, who closes it at the meter"
    if action is Action.RECONNECT:
        only = "this meter can only be armed" if mode in ARMING else "from there nothing connects it from afar"
        return Never(f"{needs}; {only}")
    if action is Action.ARM and mode in CLOSING:
        return Never("its control mode knows no arming")
    return Done(armed=True, why=needs)


def _from_disconnected(action: Action, mode: int | None) -> Step:
    if action is Action.RESTORE:
        return Do(Action.ARM if mode in ARMING else Action.RECONNECT)
    if action is Action.RECONNECT and mode in ARMING:
        return Never("this meter can only be armed: the customer closes it at the meter")
    if action is Action.ARM and mode in CLOSING:
        return Never("its control mode knows no arming: it is reconnected directly")
    return Do(action)


def trip70(state: SupplyState, after_s: int, *, opens: bool) -> str:
    """Return what a limiter does to a switch of class 70 when it trips, and who can close that then.

    It is a local disconnect, after which the switch is ready for reconnection (transition g; none in mode 0).
    """
    if not opens:
        return f"above the limit for {after_s} s it runs a script of its own, which is not known here"
    if state.mode is None or state.mode == 0:
        return f"above the limit for {after_s} s it asks for a disconnect, which its switch does not do in this mode"
    closes = "the customer closes it at the meter"
    if state.mode in {5, 6}:
        closes += ", or the meter by itself"
    afar = (
        "after a disconnect it can be armed from afar"
        if state.mode in ARMING
        else ("from afar only a disconnect and then a reconnect close it")
    )
    return f"above the limit for {after_s} s it opens the supply; {closes}; {afar}"


def relay645(action: Action, state: SupplyState, *, closes: frozenset[Action]) -> Step:
    """Return the step of a DL/T 645 switch (1CH). `closes` are the ways that the model is closed by.

    A trip is refused by the meter while keep-power is on.
    """
    if outcome(action, state) == "as-asked":
        return Done()
    if action is Action.DISCONNECT and state.keep_power:
        return Never("keep-power is on: the meter refuses every trip until it is lifted by a command of its own")
    if action in {Action.DISCONNECT, Action.KEEP_POWER_ON, Action.KEEP_POWER_OFF}:
        return Do(action)
    wanted = action
    if action is Action.RESTORE:
        wanted = Action.ARM if Action.ARM in closes else Action.RECONNECT
    if wanted not in closes:
        return Never(f"this model knows no {wanted}")
    if wanted is Action.ARM and state.output is False and state.ordered_open is False:
        return Done(armed=True, why="closing is permitted: the customer presses the button")
    return Do(wanted)


def contact(action: Action, state: SupplyState) -> Step:
    """Return the step of a relay point: open or closed, and nothing between."""
    if outcome(action, state) == "as-asked":
        return Done()
    if action is Action.ARM:
        return Never("this switch cannot be armed: it is open or closed")
    return Do(Action.RECONNECT if action is Action.RESTORE else action)


def limiter(action: Action, state: SupplyState, limit_w: int | None) -> Step:
    """Return the step of a limiter: `limit_w` is what is asked for; of an unlimit what was set before (None: none)."""
    return Done() if state.limit_w == limit_w else Do(action)


def outcome(action: Action, state: SupplyState) -> Outcome:
    """Return whether the switch is as asked: by its own word, contact and control state both (DOMAIN 20)."""
    return _OUTCOMES.get(action, _not_yet)(state)


def _open(state: SupplyState) -> Outcome:
    told = state.control in {DISCONNECTED, None} and state.ordered_open is not False
    return "as-asked" if state.output is False and told else "not-yet"


def _closed(state: SupplyState) -> Outcome:
    told = state.control in {CONNECTED, None} and state.ordered_open is not True
    if state.output is True and told:
        return "as-asked"
    waits = state.control == READY or (state.control is None and state.ordered_open is False)
    return "armed" if state.output is False and waits else "not-yet"


def _kept(state: SupplyState) -> Outcome:
    return "as-asked" if state.keep_power is True else "not-yet"


def _not_kept(state: SupplyState) -> Outcome:
    return "as-asked" if state.keep_power is False else "not-yet"


def _not_yet(_: SupplyState) -> Outcome:
    return "not-yet"


_OUTCOMES: dict[Action, Callable[[SupplyState], Outcome]] = {
    Action.DISCONNECT: _open,
    Action.RECONNECT: _closed,
    Action.RESTORE: _closed,
    Action.ARM: _closed,
    Action.KEEP_POWER_ON: _kept,
    Action.KEEP_POWER_OFF: _not_kept,
    Action.READ_STATE: lambda _: "as-asked",
}
