"""What is shown of supply commands and of the supply at a meter point. It changes nothing."""

from collections.abc import Callable, Sequence

import msgspec

from headend.supply.command import Command, is_open
from headend.supply.standing import at_trip, said, standing, to_come_back
from metering.model import Installation
from metering.supply import CONTROL_CODES, SupplyState
from metering.timing import to_rfc3339


class MeterView(msgspec.Struct, frozen=True):
    """What the meter itself said before and after an order, and what its limiter does when it trips.

    Of a state, what the meter does not say is left out: `output` is the contact, `control` and `mode` are class 70's,
    `ordered_open` is DL/T 645's relay command, `limit_w` the threshold, `load_side_v` and `load_a` beside it.
    """

    before: SupplyState | None
    after: SupplyState | None
    at_trip: str | None


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
    meter: MeterView | None
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
    """The supply at a meter point: connected, disconnected, limited, armed, or unknown where nobody told.

    It is known by the outcomes of commands and the meter's own words with them, whichever came last. `since` is since
    when it is known so, `why` a sentence; `reason`, `case` and `command` are of the command that made it so, null where
    none from here did. `to_come_back` says what must happen until there is full supply again; `open` are the commands
    under way. `at_trip` is what the limiter does when it trips, and who can close it then.
    """

    point: str
    state: str
    since: str | None
    why: str
    reason: str | None
    case: str | None
    command: str | None
    to_come_back: str | None
    limit_w: int | None
    limit_until: str | None
    at_trip: str | None
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
        _meter(command),
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


def _meter(command: Command) -> MeterView | None:
    found = MeterView(said(command, "before"), said(command, "after"), at_trip(command))
    return None if found == MeterView(None, None, None) else found


def supply_view(
    point: str,
    commands: Sequence[Command],
    meter: Installation | None,
    now: int,
    missing: Callable[[Command], Sequence[str]],
) -> SupplyView:
    """Return how the supply stands by the commands of a meter point, and the meter that hangs there now.

    `missing` gives what an open command waits for.
    """
    stands = standing(commands, meter, now)
    order = stands.by.order if stands.by is not None else None
    limit = stands.limit.order if stands.limit is not None else None
    return SupplyView(
        point,
        stands.state,
        to_rfc3339(stands.since) if stands.since is not None else None,
        stands.why,
        order.reason if order is not None else None,
        order.case if order is not None else None,
        stands.by.id if stands.by is not None else None,
        to_come_back(stands, commands),
        limit.limit_w if limit is not None else None,
        to_rfc3339(limit.limit_until) if limit is not None and limit.limit_until is not None else None,
        stands.at_trip,
        [command_view(each, missing(each)) for each in commands if is_open(each)],
    )
