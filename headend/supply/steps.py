"""One step of a supply command within a transaction: its row, its entry in the audit, and what others are told.

What may follow what stands in `metering.supply_states`; who causes a step is the caller's business.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa

from headend.audit.chain import Entry, append
from headend.state.tables import commands
from headend.supply.command import Command
from headend.supply.due import due_at
from headend.webhooks import Outgoing, enqueue
from metering.model import SECOND
from metering.supply import RESTORING
from metering.supply_states import Cause, State, after

# Ends after which what gives back is made anew (DOMAIN 21); a meter that says no says it again: people look there.
RENEWED = frozenset({State.EXPIRED, State.FAILED, State.REFUSED_BY_GUARD})
AT_ONCE = 200  # commands that are named in one statement, or moved in one transaction
FIRST_RENEWAL_S = 60  # after the end; doubled each time
LONGEST_RENEWAL_S = 6 * 3600
ALERTED = {  # states at which somebody should look
    State.QUARANTINED: "a command above a threshold waits for a second person",
    State.REFUSED_BY_GUARD: "a gateway's guard refused a command",
    State.UNKNOWN: "what became of a command is not known",
}


_T = TypeVar("_T")
_CHANGES = ("state", "cause", "why", "detail", "changed_at", "sent_at", "sent", "renew_at", "due_at")


class Step(NamedTuple):
    """What moves a command: its cause, who caused it (an actor of the audit), when, and why.

    `detail` stays with the command and its entry of the audit, `evidence` with the entry alone.
    """

    cause: Cause
    actor: str
    at: int
    why: str = ""
    detail: Mapping[str, object] = {}
    evidence: Mapping[str, object] = {}


class Advanced(NamedTuple):
    """A command after some steps, and what is told of them."""

    command: Command
    entries: list[Entry]
    messages: list[Outgoing]


def move(connection: sa.Connection, name: str, steps: Sequence[Step]) -> Command:
    """Move a command, and tell it. Raises `KeyError`, `NoSuchTransitionError`."""
    row = connection.execute(sa.select(commands).where(commands.c.id == name)).one_or_none()
    if row is None:
        raise KeyError(name)
    done = advanced(command_of(row), steps)
    keep(connection, [done])
    return done.command


def keep(connection: sa.Connection, done: Sequence[Advanced]) -> None:
    """Keep commands that are there as they are after their steps, and tell these."""
    if not done:
        return
    alike: dict[tuple[object, ...], list[str]] = {}
    for each in done:  # those of a campaign change alike: one statement for all of them
        alike.setdefault(tuple(getattr(each.command, name) for name in _CHANGES), []).append(each.command.id)
    for values, names in alike.items():
        changes = dict(zip(_CHANGES, values, strict=True)) | {"state": str(values[0])}
        connection.execute(sa.update(commands).where(commands.c.id.in_(names)).values(changes))
    append(connection, [entry for each in done for entry in each.entries])
    enqueue(connection, *(message for each in done for message in each.messages))


def advanced(found: Command, steps: Sequence[Step]) -> Advanced:
    """Return a command after these steps; a new one is told first. Raises `NoSuchTransitionError`, as `due_at`."""
    entries, messages = [], []
    if found.state is State.REQUESTED:
        entries.append(_requested(found))
    for step in steps:
        state = after(found.state, step.cause)
        told = {"from": found.state, "to": state, "cause": step.cause, "why": step.why} | dict(step.detail)
        told |= step.evidence
        entries.append(Entry(step.at, step.actor, f"command-{state}", found.id, found.region, told))
        found = msgspec.structs.replace(
            found,
            state=state,
            cause=str(step.cause),
            why=step.why,
            changed_at=step.at,
            detail=msgspec.json.encode(step.detail).decode() if step.detail else found.detail,
            renew_at=_renewal(found, state, step.at),
        )
        messages.append(_outgoing(found, step.at))
        if state in ALERTED:
            messages.append(_alert(found, step.at))
        found = msgspec.structs.replace(found, due_at=due_at(found, step.at))
    return Advanced(found, entries, messages)


def _requested(found: Command) -> Entry:
    body: dict[str, object] = {"order": msgspec.to_builtins(found.order), "facts": msgspec.Raw(found.facts.encode())}
    body |= {"renews": found.renews} if found.renews else {}
    actor = "head-end" if found.renews else f"token:{found.token}"
    return Entry(found.requested_at, actor, "command-requested", found.id, found.region, body)


def _renewal(command: Command, state: State, at: int) -> int:
    """Return when a command is made anew that comes to this end; 0: it is not."""
    if state not in RENEWED or command.action not in RESTORING:
        return 0
    return at + min(LONGEST_RENEWAL_S, FIRST_RENEWAL_S << min(command.tries, 16)) * SECOND


def _outgoing(command: Command, at: int) -> Outgoing:
    order = command.order
    body = {
        "command": command.id,
        "action": command.action,
        "state": command.state,
        "why": command.why[:1000],
        "case": order.case,
        "device": order.device,
    }
    return Outgoing("command", at, command.point, command.region, body)


def _alert(command: Command, at: int) -> Outgoing:
    body = {"alert": ALERTED[command.state], "command": command.id, "why": command.why[:1000]}
    return Outgoing("alert", at, command.point, command.region, body)


def command_of(row: Any) -> Command:  # noqa: ANN401 - a row has the type of its query
    """Return the command of a row."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's own name of it
    del values["gives_back"]
    for name in ("body", "proof", "signed"):
        values[name] = bytes(values[name])
    return Command(**values | {"state": State(values["state"])})


def parts(names: Sequence[_T]) -> list[Sequence[_T]]:
    """Return a long list as lists of AT_ONCE."""
    return [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]


def row_of(command: Command) -> dict[str, Any]:
    """Return the row of a command."""
    return msgspec.structs.asdict(command) | {"state": str(command.state), "gives_back": command.gives_back}
