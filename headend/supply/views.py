"""What is shown of supply commands and of the supply at a meter point. It changes nothing."""

from collections.abc import Sequence

import msgspec

from headend.supply.command import Command, is_open
from metering.supply import CONTROL_CODES, WITHHOLDING, Action
from metering.supply_states import LIMIT_GIVEN_BACK, State
from metering.timing import to_rfc3339

_NAMES = {
    Action.DISCONNECT: "disconnected",
    Action.LIMIT: "limited",
    Action.RESTORE: "connected",
    Action.RECONNECT: "connected",
    Action.ARM: "connected",
    Action.UNLIMIT: "connected",
}
_TELLS = frozenset({State.VERIFIED, State.ARMED, State.UNKNOWN, State.EXECUTING})
_GIVES_BACK = "a restore that one approver signs, or the payment service for what was opened for a debt"
_HELD = "a restore that approvers sign: it was opened for {reason}, which no payment ends"


class CommandView(msgspec.Struct, frozen=True):
    """A command and where it stands. `code` is IEC 61968-9's EndDeviceControl; `missing` is what it waits for.

    What gives back and came to an end before it did is made anew at `renew_at`; `renews` is the one before it.
    """

    id: str
    campaign: str | None
    point: str
    device: str
    serial: str
    gateway: str
    action: str
    code: str
    state: str
    cause: str
    why: str
    missing: list[str]
    reason: str
    case: str
    requester: str
    requested_at: str
    not_before: str
    expires_at: str
    changed_at: str
    limit_w: int | None
    limit_until: str | None
    renews: str | None
    renew_at: str | None


class CommandsMade(msgspec.Struct, frozen=True):
    """What a request made. `signing` is where approvers find what they sign; null where nobody has to."""

    campaign: str | None
    commands: list[CommandView]
    signing: str | None


class CommandsPage(msgspec.Struct, frozen=True):
    """A page of commands in the order in which they were requested."""

    commands: list[CommandView]
    next: str | None


class SupplyView(msgspec.Struct, frozen=True):
    """The supply at a meter point: connected, disconnected, limited, armed, or unknown while nobody knows.

    `since`, `reason`, `case` and `command` are of the command that made it so; null where none ever acted.
    `to_come_back` says what must happen until there is full supply again; `open` are the commands under way.
    """

    point: str
    state: str
    since: str | None
    reason: str | None
    case: str | None
    command: str | None
    to_come_back: str | None
    open: list[CommandView]


def command_view(command: Command, missing: Sequence[str] = ()) -> CommandView:
    """Return a command as it is shown."""
    order = command.order
    return CommandView(
        command.id,
        command.campaign or None,
        command.point,
        order.device,
        order.serial,
        command.gateway,
        command.action,
        CONTROL_CODES[order.action],
        str(command.state),
        command.cause,
        command.why,
        list(missing),
        order.reason,
        order.case,
        order.requester,
        to_rfc3339(command.requested_at),
        to_rfc3339(command.not_before),
        to_rfc3339(command.expires_at),
        to_rfc3339(command.changed_at),
        order.limit_w,
        to_rfc3339(order.limit_until) if order.limit_until is not None else None,
        command.renews or None,
        to_rfc3339(command.renew_at) if command.renew_at else None,
    )


def supply_view(point: str, newest_first: Sequence[Command]) -> SupplyView:
    """Return how the supply stands by the commands of a meter point."""
    switching = [each for each in newest_first if each.order.action in _NAMES]
    open_now = [command_view(each) for each in newest_first if is_open(each)]
    last = next(
        (each for each in switching if each.state in {State.VERIFIED, State.ARMED, State.UNKNOWN, State.EXECUTING}),
        None,
    )
    if last is None:
        return SupplyView(point, "connected", None, None, None, None, None, open_now)
    state = _state(last)
    order = last.order
    back = None
    if state == "armed":
        back = "the customer closes it at the meter"
    elif state == "unknown":
        back = "the gateway reads the relay and settles it"
    elif state in {"disconnected", "limited"}:
        back = _GIVES_BACK if order.reason == "debt" else _HELD.format(reason=order.reason)
        if order.limit_until is not None:
            back = f"it ends by itself at {to_rfc3339(order.limit_until)}; sooner by {back}"
    return SupplyView(point, state, to_rfc3339(last.changed_at), order.reason, order.case, last.id, back, open_now)


def _state(last: Command) -> str:
    if last.state in {State.UNKNOWN, State.EXECUTING}:
        return "unknown"
    if last.state is State.ARMED:
        return "armed"
    if last.order.action in WITHHOLDING and last.cause == LIMIT_GIVEN_BACK:
        return "connected"
    return _NAMES[last.order.action]
