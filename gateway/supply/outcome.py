"""What a meter's state means for a command, in the words in which it is reported. Pure: no meter is asked."""

from typing import NamedTuple

import msgspec

from collector.supply_rules import Done, Never, Outcome, outcome
from gateway.supply.guard import Refusal
from gateway.supply.items import KeptLimit
from metering.supply import Action, SupplyCommand, SupplyState
from metering.supply_states import Cause

BACK_FEED_V = 50.0  # at the load side of an open switch: above it nothing is closed
MAX_WHY = 300  # characters


class Result(NamedTuple):
    """What became of a command. `detail` has plain strings: states before and after, frames as they may be kept."""

    cause: Cause
    why: str
    detail: dict[str, str]


def target(command: SupplyCommand, back: KeptLimit | None) -> int | None:
    """Return the threshold that is asked for, in W; of an unlimit what was set before (None: no limit)."""
    if command.action is Action.UNLIMIT:
        return back.limit_w if back is not None else None
    return command.limit_w


def found(command: SupplyCommand, state: SupplyState, back: KeptLimit | None) -> Outcome:
    """Return whether it is as asked, by the meter's own state."""
    if command.action in {Action.LIMIT, Action.UNLIMIT}:
        return "as-asked" if state.limit_w == target(command, back) else "not-yet"
    return outcome(command.action, state)


def at_rest(action: Action, step: Done | Never, state: SupplyState) -> Result:
    """Return what a command comes to for which nothing is sent."""
    if isinstance(step, Never):
        return Result(Cause.METER_REFUSED, step.why, states(state))
    already = "it was so already: no action" if action is not Action.READ_STATE else "the meter was read"
    why = step.why or already
    return Result(Cause.READY if step.armed else Cause.AS_ASKED, why, states(state))


def back_feed(action: Action, state: SupplyState) -> Refusal | None:
    """Refuse to close a switch onto a voltage."""
    if action in {Action.RECONNECT, Action.ARM} and (state.load_side_v or 0.0) > BACK_FEED_V:
        return Refusal(
            f"{state.load_side_v:.0f} V stand on the load side of the open switch: it is not closed onto that"
        )
    return None


def result_of(seen: Outcome, state: SupplyState, detail: dict[str, str]) -> Result:
    """Return what a command has come to, by what was seen afterwards."""
    if seen == "not-yet":
        return Result(Cause.NOT_AS_ASKED, f"it is not as asked: {text_of(state)}", detail)
    if seen == "armed":
        return Result(Cause.READY, "it waits for the customer at the meter", detail)
    return Result(Cause.AS_ASKED, "the meter says so itself", detail)


def states(before: SupplyState) -> dict[str, str]:
    """Return the detail of a result that changed nothing."""
    return {"before": text_of(before)}


def text_of(state: SupplyState) -> str:
    """Return a state as it is reported."""
    return msgspec.json.encode(state).decode()


def why_of(error: BaseException | None) -> str:
    """Return an error in words, no longer than a report has room for."""
    return (str(error) or type(error).__name__)[:MAX_WHY]
