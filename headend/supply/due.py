"""When a supply command is due: the instant at which dispatch looks at it next. Pure; it sends and keeps nothing."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from headend.supply.command import Command
from metering.model import SECOND
from metering.supply import Hours
from metering.supply_states import State

FIRST_WAIT_S = 5  # until a command without an answer is sent again; doubled each time
LONGEST_WAIT_S = 300
LONGEST_LOOK_S = 3600  # what became of it is asked for: after its end, and before of what gives back
NEVER = 0
_DAYS = 8  # within which a window that opens at all opens once


def due_at(command: Command, at: int) -> int:
    """Return when a command that is as it is since `at` is looked at next, in us UTC; NEVER: others move it.

    Raises `ValueError`, `LookupError` or `OSError` where the zone of its hours is none.
    """
    match command.state:
        case State.QUARANTINED | State.AWAITING_APPROVAL:
            return command.expires_at
        case State.APPROVED | State.QUEUED:
            return at
        case State.WAITING_FOR_WINDOW:
            return min(opens_at(command, at), command.expires_at)
        case State.SENT:
            return min(at + wait_s(command.sent) * SECOND, max(at, command.expires_at))
        case State.UNKNOWN | State.ACCEPTED | State.EXECUTING:
            return _asked_at(command, at)
    return NEVER


def _asked_at(command: Command, at: int) -> int:
    """Return when a gateway is asked what became of what it took."""
    if command.gives_back and command.state is not State.UNKNOWN:
        return at + LONGEST_LOOK_S * SECOND
    is_asked = command.sent_at >= command.changed_at
    return at + wait_s(command.sent, LONGEST_LOOK_S) * SECOND if is_asked else max(at, command.expires_at)


def wait_s(times: int, longest: int = LONGEST_WAIT_S) -> int:
    """Return how many seconds pass until the next try after so many."""
    return min(longest, FIRST_WAIT_S << min(times, 16))


def opens_at(command: Command, now: int) -> int:
    """Return from when on a command may be sent: now, or when its window opens; its end where none opens before it."""
    start = max(now, command.not_before)
    hours = command.order.hours
    return start if hours is None else _opens(hours, start, command.expires_at)


def _opens(hours: Hours, start: int, end: int) -> int:
    zone = ZoneInfo(hours.zone)
    local = datetime.fromtimestamp(start / SECOND, zone)
    minute = local.hour * 60 + local.minute
    if hours.first <= minute < hours.last and local.weekday() in hours.weekdays:
        return start
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for days in range(_DAYS):
        opening = midnight + timedelta(days=days, minutes=hours.first)
        found = int(opening.replace(tzinfo=zone).timestamp()) * SECOND
        if found > start and opening.weekday() in hours.weekdays:
            return min(found, end)
    return end
