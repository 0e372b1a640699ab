"""What the record is to say is withheld at a meter, after each step of a command. Pure: it writes nothing down.

A disconnect and a limit are two things: each has its own opening, and the end of one says nothing of the other.
"""

from collections.abc import Iterable

from gateway.supply.guard import HOLDS, OF_A_DEBT
from gateway.supply.items import Cut, Item, KeptLimit, Opening
from gateway.supply.record import Record
from metering.supply import WITHHOLDING, Action, SupplyCommand
from metering.supply_states import Cause
from trust.document import Binding

OPENS = frozenset({Action.DISCONNECT, Action.LIMIT})
CLOSES = frozenset({Action.RESTORE, Action.RECONNECT, Action.ARM})
UNDONE = frozenset({Cause.NOT_AS_ASKED, Cause.METER_REFUSED, Cause.GUARD_REFUSED})


def upon_intent(
    command: SupplyCommand, action: Action, before: KeptLimit | None, record: Record, now: int
) -> list[Item]:
    """Return what is true as soon as a frame may have left. `before` is what the limiter was set to."""
    items: list[Item] = []
    if command.action in WITHHOLDING:
        items.append(Cut(command.id, now))
    is_limit = action is Action.LIMIT
    if action in OPENS and record.opening(command.device, limit=is_limit) is None:
        items.append(Opening(command.device, command.id, command.reason, now, is_limit, command.serial))
    if before is not None:
        first = record.limits.get(command.device)
        items.append(before if first is None else _upon(first, command.id, before.until))
    return items


def upon_end(command: SupplyCommand, cause: Cause, record: Record, now: int) -> list[Item]:
    """Return what follows from how a command ended."""
    if command.action in OPENS and cause in UNDONE:
        return list(_undone(command, record))
    if cause is not Cause.AS_ASKED:
        return []
    if command.action in OPENS:
        return list(_withheld(command, record, now))
    if command.action in CLOSES:
        return [Opening(command.device, "", "", 0)]
    return given_back(command.device) if command.action is Action.UNLIMIT else []


def given_back(device: str) -> list[Item]:
    """Return what is true when a limiter is as it was before."""
    return [KeptLimit(device, "", {}, None, 0), Opening(device, "", "", 0, limit=True)]


def of_meters_gone(record: Record, bindings: Iterable[Binding]) -> list[Item]:
    """Return what ends because another meter hangs there now: what was done to the one before is not so at it."""
    serials, items = {each.device: each.serial for each in bindings}, list[Item]()
    for opening in (*record.openings.values(), *record.limited.values()):
        if serials.get(opening.device, opening.serial) != opening.serial:
            items.append(Opening(opening.device, "", "", 0, opening.limit))
    for kept in record.limits.values():
        serial = record.command(kept.command).serial
        if serials.get(kept.device, serial) != serial:
            items.append(KeptLimit(kept.device, "", {}, None, 0))
    return items


def _undone(command: SupplyCommand, record: Record) -> Iterable[Item]:
    """Return what follows where it never came to pass: a limit before it goes on to its own end."""
    is_limit = command.action is Action.LIMIT
    opening, kept = record.opening(command.device, limit=is_limit), record.limits.get(command.device)
    if opening is not None and opening.command == command.id:
        yield Opening(command.device, "", "", 0, is_limit)
    if kept is not None and kept.command == command.id:
        yield kept.earlier_one() or KeptLimit(command.device, "", {}, None, 0)


def _withheld(command: SupplyCommand, record: Record, now: int) -> Iterable[Item]:
    """Return what follows where it is so, by this command or already: it is so for its reason, too.

    A limit ends when the last one said.
    """
    is_limit = command.action is Action.LIMIT
    opening, kept = record.opening(command.device, limit=is_limit), record.limits.get(command.device)
    if opening is not None and _weight(command.reason) > _weight(opening.reason):
        yield Opening(command.device, command.id, command.reason, now, is_limit, command.serial)
    if is_limit and kept is not None and kept.command != command.id and command.limit_until is not None:
        yield _upon(kept, command.id, command.limit_until)


def _upon(first: KeptLimit, command: str, until: int) -> KeptLimit:
    """Return a limit upon a limit: it gives back what was before both."""
    return KeptLimit(first.device, command, first.values, first.limit_w, until, (first.command, first.until))


def _weight(reason: str) -> int:
    """Return how hard it is to lift: a debt by a service, another reason by a person, a hold by k of n."""
    return 2 if reason in HOLDS else int(reason != OF_A_DEBT)
