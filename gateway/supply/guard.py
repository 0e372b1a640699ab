"""What the gateway lets pass: caps, hours, a fresh go, a trusted clock, the lock-out. Pure: it judges what it is told.

It is the last that stands between an order and a customer's supply. Whatever it is not sure of, it refuses to withhold
and does not refuse to give back.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.supply.items import Held
from gateway.supply.record import MAX_OPEN, MAX_READS, Record
from metering.model import SECOND
from metering.supply import RESTORING, WITHHOLDING, Action, Hours, SupplyCommand
from metering.supply_states import State
from trust.authority import Authorised
from trust.document import TrustDocument, persons_of

GO_S = 60.0  # how old a go may be
HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND
OF_SERVICES_A_DAY = 24  # commands of services for one meter; a restore that is made anew comes half as often
EARLY_S = 300  # how far before its time what no person signed may come
# Reasons of an opening that no single signature lifts: k of n do. What this system did not open is one of them.
HOLDS = frozenset({"safety", "field-work", "vacancy", "theft", "emergency"})
OF_A_DEBT = "debt"
LIFTS = frozenset({Action.RESTORE, Action.RECONNECT, Action.ARM, Action.UNLIMIT})  # keep-power on opens nothing
LATEST_TURN_S = 900  # before its expiry a staggered command has its turn, however many are before it


class Facts(NamedTuple):
    """What the guard judges by, at one instant. `lockout` says why nothing is withheld; empty: it is not locked."""

    now: int
    clock_trusted: bool
    lockout: str
    meters: int  # of this gateway
    go_age_s: float | None  # of this command's newest go; None: there is none


class Refusal(NamedTuple):
    """Why a command is refused for good."""

    why: str


class Wait(NamedTuple):
    """Why a command waits, and until when it is not looked at again (us UTC)."""

    why: str
    until: int
    needs_go: bool = False


def at_the_door(found: Authorised, record: Record, now: int, *, clock_trusted: bool = True) -> Refusal | None:
    """Judge a command that has just come: was it here before, is it too old, is it in order."""
    command = found.command
    if command.expires_at <= now:
        return Refusal("it is past its expiry")
    if not found.persons and (refused := _unattended(command, record, now, clock_trusted=clock_trusted)):
        return refused
    if command.action is Action.READ_STATE:
        return None
    if record.open_count >= MAX_OPEN:
        return Refusal(f"{MAX_OPEN} commands are under way here already")
    other = active_at(record, command) if command.action in WITHHOLDING else None
    if other is not None:
        return Refusal(f"{other.action} {other.id} is under way at this meter point")
    return _seen_before(command, record, of_service=not found.persons)


def _unattended(command: SupplyCommand, record: Record, now: int, *, clock_trusted: bool) -> Refusal | None:
    """Judge what no person signed: who has stolen a service's key, or needs none to read, fills nothing with it.

    A clock that is not trusted holds up nothing that gives back.
    """
    if clock_trusted and command.not_before > now + EARLY_S * SECOND:
        return Refusal("its time has not come, and no person signed it")
    reads = command.action is Action.READ_STATE
    if reads and record.reads >= MAX_READS:
        return Refusal(f"{MAX_READS} reads of a state were ordered within the last hour or so")
    if not reads and record.of_services_since(command.device, now - DAY) >= OF_SERVICES_A_DAY:
        return Refusal(f"services ordered {OF_SERVICES_A_DAY} times at this meter within a day: a person has to sign")
    for other, held in record.open_at(command.point):
        if other.action is Action.READ_STATE if reads else held.service:
            return Refusal(f"{other.action} {other.id} is under way at this meter point, and no person signed it")
    return None


def _seen_before(command: SupplyCommand, record: Record, *, of_service: bool) -> Refusal | None:
    if command.expires_at <= record.floor:
        return Refusal("it is older than what this gateway remembers: it may have been here before")
    if command.action in WITHHOLDING and record.was_refused(command):
        return Refusal("it was told as refused before, and ended so: a new one is needed")
    if other := record.is_spent(command.nonce):
        return Refusal(f"its nonce was used before, by {other}")
    # A service's numbers hold up what withholds, but never what people give back: they count for nothing there.
    also = of_service or command.action in WITHHOLDING
    last = max(record.last_seq(command.device), record.last_seq(command.device, of_services=True) if also else 0)
    if command.seq <= last:
        return Refusal(f"number {command.seq} comes after {last}, which was taken before")
    return None


def active_at(record: Record, command: SupplyCommand) -> SupplyCommand | None:
    """Return a command for the same meter point that is not at its end; reading a state is in nobody's way."""
    others = (other for other, _ in record.open_at(command.point) if other.id != command.id)
    return next((other for other in others if other.action is not Action.READ_STATE), None)


def superseded_by(record: Record, found: Authorised) -> list[Held]:
    """Return what a restore supersedes: what would withhold at the same point and has not begun.

    A service supersedes only what it could give back: what is for a debt (DOMAIN 19).
    """
    command = found.command
    if command.action not in RESTORING:
        return []
    waiting = [(other, held) for other, held in record.open_at(command.point) if held.state is State.ACCEPTED]
    may = [(other, held) for other, held in waiting if found.persons or other.reason == OF_A_DEBT]
    return [held for other, held in may if other.action in WITHHOLDING]


def act_at(found: Authorised, record: Record, now: int, chance: float) -> int:
    """Return when a command is to act: at once, at a time of chance within its spread, or staggered.

    `chance` is 0 <= chance < 1. Commands of a service above its rate wait their turn; none is dropped. What withholds
    and comes so late that its time lies after its expiry never acts: to hold a campaign back until its last minute is
    no way around its spread.
    """
    command = found.command
    begin = max(now, command.not_before) + round(chance * found.spread_s * SECOND)
    if command.action in WITHHOLDING:
        return begin
    opened = record.opening(command.device, limit=command.action is Action.UNLIMIT)
    if found.service is None or found.persons or opened is None:  # without an opening it sends nothing: no turn is used
        return min(begin, command.expires_at - 1)
    rate = found.service.per_hour
    served = record.served_since(now - HOUR)
    if served < rate:
        return begin
    turn = now + (served - rate + 1) * HOUR // rate
    return max(begin, min(turn, command.expires_at - LATEST_TURN_S * SECOND))


def may_act(held: Held, document: TrustDocument, record: Record, facts: Facts) -> Refusal | Wait | None:
    """Judge a command whose time has come, before the meter is asked anything; None: go on."""
    command, now = held.command, facts.now
    if (refused := withdrawn(held, document, facts.lockout)) is not None:
        return refused
    if now < held.act_at and not _early_by_a_wrong_clock(held, record, facts):
        return Wait("its time has not come", held.act_at)
    if (opens := _opens_at(command.hours, now)) != now:
        return Wait("its hours have not come", opens)
    return _may_withhold(document, record, facts) if command.action in WITHHOLDING else None


def _early_by_a_wrong_clock(held: Held, record: Record, facts: Facts) -> bool:
    """Tell whether only a clock that is not trusted says that it is too early to give back (DOMAIN 15).

    What was opened for safety or field work waits all the same: somebody may be at the wires until then.
    """
    command = held.command
    if facts.clock_trusted or command.action not in RESTORING or facts.now >= command.not_before:
        return False
    opening = record.opening(command.device, limit=command.action is Action.UNLIMIT)
    return opening is None or opening.reason not in HOLDS


def withdrawn(held: Held, document: TrustDocument, lockout: str) -> Refusal | None:
    """Judge by what may have been changed since it came: who signed, the never-cut list, the lock-out.

    A key that was taken out of the trust document has no say, also not in what waits.
    """
    command, persons = held.command, persons_of(document.approvers, frozenset(held.kids))
    if command.action in WITHHOLDING:
        if lockout:
            return Refusal(f"this gateway is locked: {lockout}")
        if command.point in document.never_cut:
            return Refusal(f"the meter point {command.point} is on the never-cut list")
        if len(persons - {command.requester}) < document.k:
            return Refusal(f"{len(persons)} of those who signed it are approvers still; {document.k} are needed")
    elif command.action is not Action.READ_STATE and not persons and not document.service_keys().keys() & held.kids:
        return Refusal("nobody of those who signed it has a say any more")
    return None


def _may_withhold(document: TrustDocument, record: Record, facts: Facts) -> Refusal | Wait | None:
    if not facts.clock_trusted:
        return Wait("the gateway's clock is not trusted", facts.now + SECOND)
    if (refused := _capped(document, record, facts)) is not None:
        return refused
    if facts.go_age_s is None or not 0 <= facts.go_age_s <= GO_S:
        return Wait("it needs a fresh go of the head-end", facts.now + SECOND, needs_go=True)
    return None


def _capped(document: TrustDocument, record: Record, facts: Facts) -> Refusal | None:
    caps, now = document.caps, facts.now
    spans: Mapping[str, tuple[int, int]] = {
        "an hour": (HOUR, caps.per_hour),
        "a day": (DAY, caps.of_a_day(facts.meters)),
    }
    for name, (span, most) in spans.items():
        if record.cuts_since(now - span) >= most:
            return Refusal(
                f"this gateway withholds from at most {most} meters {name}: disconnects, limits and keep-power off"
            )
    return None


def may_restore(held: Held, document: TrustDocument, record: Record) -> Refusal | None:
    """Judge a command that gives back, once it is known that something is to be done (DOMAIN 19)."""
    command = held.command
    persons = persons_of(document.approvers, frozenset(held.kids))
    if command.action not in LIFTS or len(persons) >= document.k:
        return None
    opening = record.opening(command.device, limit=command.action is Action.UNLIMIT)
    reason = opening.reason if opening is not None else "a reason that this gateway does not know"
    if opening is None or reason in HOLDS:
        return Refusal(f"it was opened for {reason}: {document.k} approvers lift that, {len(persons)} signed")
    if not persons and reason != OF_A_DEBT:
        return Refusal(f"it was opened for {reason}: a service gives back only what was opened for a debt")
    return None


def _opens_at(hours: Hours | None, now: int) -> int:
    """Return the first instant at or after `now` inside the hours; looked for in steps of a minute, eight days on."""
    if hours is None:
        return now
    try:
        zone = ZoneInfo(hours.zone)
    except (ZoneInfoNotFoundError, ValueError):
        return now + 8 * DAY  # nobody knows these hours: it never acts, and expires
    minute = 60 * SECOND
    for at in range(now, now + 8 * DAY, minute):
        moment = datetime.fromtimestamp(at / SECOND, UTC).astimezone(zone)
        of_day = moment.hour * 60 + moment.minute
        if moment.weekday() in hours.weekdays and hours.first <= of_day < hours.last:
            return at if at == now else at - at % minute
    return now + 8 * DAY
