"""How the supply at a meter point stands: what its commands and the meter itself told last. It asks nobody.

A command tells by its outcome, and by the state that the meter gave with it, whatever became of the command. The newest
word counts. Where nobody ever told, it is unknown.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from headend.supply.command import Command, is_open
from metering.model import Installation
from metering.supply import RESTORING, Action, SupplyState
from metering.supply_states import LIMIT_GIVEN_BACK, State
from metering.timing import to_rfc3339

Relay = Literal["connected", "disconnected", "armed", "unknown"]
READY = 2  # class 70's control_state: ready for reconnection

_SWITCHING: dict[Action, Relay] = {
    Action.DISCONNECT: "disconnected",
    Action.RESTORE: "connected",
    Action.RECONNECT: "connected",
    Action.ARM: "connected",
}
_OUTCOMES: dict[State, Relay] = {
    State.EXECUTING: "unknown",
    State.UNKNOWN: "unknown",
    State.ARMED: "armed",
    State.LAPSED: "disconnected",
}
# Ends with which a gateway may tell what the meter said.
_ENDS = frozenset({State.VERIFIED, State.FAILED, State.REFUSED_BY_METER, State.REFUSED_BY_GUARD})
_LIMITING = frozenset({Action.LIMIT, Action.UNLIMIT})
_CONTROL: dict[int, Relay] = {0: "disconnected", 1: "connected", READY: "armed"}
_GIVES_BACK = "a restore that one approver signs, or the payment service for what was opened for a debt"
_HELD = "a restore that approvers sign: it was opened for {reason}, which no payment ends"
_NO_WORD = "neither a command nor the meter has told yet"
_NO_METER = "no meter is installed there now"
_NEW_METER = "another meter hangs there now, and neither a command nor the meter itself has told yet"
_UNDER_WAY = "an order may have left for the meter, and what became of it is not known yet"
_TRIPPED = "the meter says that it is open; the limit of {limit} W stands, and may have tripped"
_CONTRADICTS = "the meter contradicts itself: what its contact does is not what it says of its switch"


class Word(NamedTuple):
    """What a command told of the relay. `by_meter`: in the meter's own words, apart from what was asked."""

    relay: Relay
    command: Command
    by_meter: bool


class Standing(NamedTuple):
    """How a supply stands. `by` made it so, where a command from here did; `since` in us: since when it is known so."""

    state: str
    since: int | None
    why: str
    by: Command | None = None
    limit: Command | None = None
    told_by: Command | None = None

    @property
    def at_trip(self) -> str | None:
        """Return what the limiter does when it trips, and who can close it then, as its gateway told."""
        return at_trip(self.limit) if self.limit is not None else None


def standing(commands: Sequence[Command], meter: Installation | None, now: int) -> Standing:
    """Return how it stands by the commands of a meter point, in any order, to the meter that hangs there now."""
    if meter is None:
        return Standing("unknown", None, _NO_METER)
    mine = [each for each in commands if (each.order.device, each.order.serial) == (meter.device, meter.serial)]
    newest = sorted(mine, key=lambda each: (each.changed_at, each.requested_at, each.id), reverse=True)
    words = [word for each in newest if (word := _word(each)) is not None]
    limit = _limit(newest)
    if not words:
        return Standing("unknown", None, _NO_WORD if len(mine) == len(commands) else _NEW_METER)
    last = words[0]
    if last.relay == "unknown":
        why = _CONTRADICTS if last.by_meter else _UNDER_WAY
        by = None if last.by_meter else last.command
        return Standing("unknown", last.command.changed_at, why, by, told_by=last.command)
    since = _since(words)
    if last.relay == "connected":
        return _limited(limit, last, now) if limit is not None else _connected(newest, words, since)
    return _open(newest, words, since, limit)


def meter_state(command: Command) -> SupplyState | None:
    """Return the last state that the meter gave with a command; None where it gave none."""
    return said(command, "after") or said(command, "before")


def said(command: Command, name: Literal["before", "after"]) -> SupplyState | None:
    """Return the state that the meter gave before or after an order; None where it gave none."""
    try:
        return msgspec.json.decode(msgspec.json.decode(command.detail)[name], type=SupplyState)
    except (KeyError, TypeError, msgspec.DecodeError):  # a gateway's text: it may be cut, or of another version
        return None


def at_trip(command: Command) -> str | None:
    """Return what a limiter does when it trips, and who can close it then, as its gateway told."""
    detail: dict[str, str] = msgspec.json.decode(command.detail)
    return detail.get("at_trip")


def relay_of(state: SupplyState) -> Relay | None:
    """Return how a relay stands by its meter's words; None where they say nothing, `unknown` where they contradict."""
    if state.output is None:
        return _CONTROL.get(state.control) if state.control is not None else None
    if state.output:
        ok = state.control in {1, None} and state.ordered_open is not True
        return "connected" if ok else "unknown"
    if state.control == READY or (state.control is None and state.ordered_open is False):
        return "armed"
    return "disconnected" if state.control in {0, None} else "unknown"


def _word(command: Command) -> Word | None:
    action, state = command.order.action, command.state
    if state in _OUTCOMES:
        moves = action in _SWITCHING or action in _LIMITING
        return Word(_OUTCOMES[state], command, by_meter=False) if moves else None
    if state not in _ENDS:
        return None
    told = meter_state(command)
    if told is not None and (relay := relay_of(told)) is not None:
        return Word(relay, command, by_meter=True)
    asked = _SWITCHING.get(action, "connected" if action in _LIMITING else None)
    return Word(asked, command, by_meter=False) if asked is not None and state is State.VERIFIED else None


def _limit(newest: Sequence[Command]) -> Command | None:
    """Return the limit that stands: verified, neither lifted nor given back, nor another one at the meter since."""
    last = next((each for each in newest if each.order.action in _LIMITING and each.state is State.VERIFIED), None)
    if last is None or last.order.action is not Action.LIMIT or last.cause == LIMIT_GIVEN_BACK:
        return None
    for each in newest[: newest.index(last)]:
        told = meter_state(each) if each.state is State.VERIFIED else None
        if told is not None and told.limit_w is not None:
            return last if told.limit_w == last.order.limit_w else None
    return last


def _since(words: Sequence[Word]) -> int:
    """Return since when all words are the same."""
    same = words[0].command.changed_at
    for each in words:
        if each.relay != words[0].relay:
            break
        same = each.command.changed_at
    return same


def _switch(newest: Sequence[Command]) -> Command | None:
    """Return the command from here that moved the switch last."""
    done = {State.VERIFIED, State.ARMED, State.LAPSED}
    return next((each for each in newest if each.order.action in _SWITCHING and each.state in done), None)


def _owner(switch: Command | None, words: Sequence[Word]) -> Command | None:
    """Return the command that moved the switch last, where nothing was told since that contradicts it."""
    closed = words[0].relay == "connected"
    for each in words:
        if each.relay != "unknown" and (each.relay == "connected") != closed:
            return None
        if each.command is switch:
            return switch
    return None


def _connected(newest: Sequence[Command], words: Sequence[Word], since: int) -> Standing:
    switch, told = _switch(newest), words[0].command
    ended = [each.changed_at for each in newest if each.order.action in _LIMITING and each.state is State.VERIFIED]
    since, owner = max([since, *ended[:1]]), _owner(switch, words)
    why = "the meter says that it is closed"
    if owner is not None:
        why = f"closed by {owner.order.action} {owner.id}"
    elif switch is not None and switch.order.action is Action.DISCONNECT:
        why += f"; it was opened by {switch.id}, and no command from here closed it"
    return Standing("connected", since, why, owner, told_by=told)


def _limited(limit: Command, last: Word, now: int) -> Standing:
    until = limit.order.limit_until or 0
    why = f"limit {limit.id} holds it to {limit.order.limit_w} W"
    if until <= now:
        why += f"; it was to end at {to_rfc3339(until)}, and the gateway has not told yet that it did"
    return Standing("limited", limit.changed_at, why, limit, limit, last.command)


def _open(newest: Sequence[Command], words: Sequence[Word], since: int, limit: Command | None) -> Standing:
    last, owner = words[0], _owner(_switch(newest), words)
    why = "the meter says that it is open; no command from here opened it"
    if owner is not None and owner.order.action is Action.DISCONNECT:
        why = f"opened by disconnect {owner.id} for {owner.order.reason}"
    elif owner is not None and owner.state is State.LAPSED:
        why = f"armed by {owner.order.action} {owner.id}, and nobody closed it at the meter in time"
    elif owner is not None and last.relay == "armed":
        why = f"armed by {owner.order.action} {owner.id}"
    elif limit is not None and limit.changed_at <= since:
        owner, why = limit, _TRIPPED.format(limit=limit.order.limit_w)
    else:
        owner = None
    return Standing(last.relay, since, why, owner, limit, last.command)


def to_come_back(stands: Standing, commands: Sequence[Command]) -> str | None:
    """Return what must happen until there is full supply again; None where there is."""
    if stands.state == "connected":
        return None
    back = _way_back(stands)
    if stands.state == "unknown":
        return back
    for each in commands:
        if each.order.action in RESTORING and is_open(each) and each.state is not State.ARMED:
            return f"{each.order.action} {each.id} is under way: it is {each.state}; else: {back}"
        if each.renew_at:
            return f"{each.order.action} {each.id} is made anew at {to_rfc3339(each.renew_at)}; else: {back}"
    return back


def _way_back(stands: Standing) -> str:
    if stands.state == "unknown" and stands.told_by is None:
        return "a meter is installed" if stands.why is _NO_METER else "a read-state asks the meter"
    if stands.state == "unknown":
        return "the gateway reads the relay and settles it" if stands.by is not None else "somebody looks at the meter"
    if stands.state == "armed":
        return "the customer closes it at the meter"
    if stands.by is None:
        return "a restore that approvers sign: it was not opened from here, so the payment service may not"
    return _of_ours(stands, stands.by)


def _of_ours(stands: Standing, by: Command) -> str:
    if by.state is State.LAPSED:
        return "a new restore; or the customer closes it, while the meter still lets him"
    back = _GIVES_BACK if by.order.reason == "debt" else _HELD.format(reason=by.order.reason)
    if by.order.limit_until is not None and stands.state == "limited":
        return f"it ends by itself at {to_rfc3339(by.order.limit_until)}; sooner by {back}"
    return f"{stands.at_trip}; then {back}" if by is stands.limit and stands.at_trip else back
