"""Whose turn it is: the due commands of the state, each for one head-end at a time, and all steps of a batch at once.

What is taken is put off first, so that a command whose step fails, hangs or dies with its process comes to nobody's
turn but its own: it is due again when the hold is over. Nothing here judges or sends.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from headend.audit.chain import Entry
from headend.state.store import State as Database
from headend.state.tables import commands
from headend.supply.command import Command
from headend.supply.due import NEVER, due_at
from headend.supply.steps import Advanced, Step, advanced, command_of, keep, parts
from metering.model import SECOND
from metering.supply_states import State

_AWAITED = (State.SENT, State.ACCEPTED, State.EXECUTING, State.UNKNOWN)


class Turn(NamedTuple):
    """What becomes of a command at an instant: its steps, what else the audit is told, and whether it is sent."""

    command: Command
    at: int
    steps: Sequence[Step] = ()
    entries: Sequence[Entry] = ()
    send: bool = False


class Turns:
    """The commands that are due. Blocking; all methods raise `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, now: int, limit: int, hold_s: int, *, gives_back: bool) -> list[Command]:
        """Return commands that are due, the longest due first; they are due again after `hold_s` unless they move."""
        where = (commands.c.gives_back == gives_back, commands.c.due_at > NEVER, commands.c.due_at <= now)
        due = sa.select(commands).where(*where).order_by(commands.c.due_at, commands.c.id).limit(limit)

        def work(connection: sa.Connection) -> list[Command]:
            found = [command_of(row) for row in connection.execute(due)]
            _put_off(connection, [each.id for each in found], now + hold_s * SECOND)
            return found

        any_due = sa.select(commands.c.id).where(*where).limit(1)
        if self._database.read(lambda connection: connection.execute(any_due).first()) is None:
            return []
        return self._database.write(work)

    def move(self, turns: Sequence[Turn]) -> list[Command]:
        """Take these steps, all or none, and return the commands that took them: one that was moved meanwhile did not.

        One that is sent is counted as sent. Raises `ValueError` where a step cannot be kept.
        """

        def work(connection: sa.Connection) -> list[Command]:
            states = _states(connection, [each.command.id for each in turns])
            done = [_done(each) for each in turns if states.get(each.command.id) == each.command.state]
            keep(connection, done)
            return [each.command for each in done]

        return self._database.write_in_turn(work)

    def put_off(self, until: Mapping[str, int]) -> None:
        """Look at each of these commands again only then; at those at which dispatch looks no more, never."""
        where = (commands.c.id == sa.bindparam("of"), commands.c.due_at > NEVER)
        statement = sa.update(commands).where(*where).values(due_at=sa.bindparam("until"))
        rows = [{"of": name, "until": at} for name, at in until.items()]
        self._database.write(lambda connection: connection.execute(statement, rows))

    def wake(self, gateways: Collection[str], now: int) -> None:
        """Have due at once what waits for the answer of these gateways."""
        waits = commands.c.state.in_([str(each) for each in _AWAITED])

        def work(connection: sa.Connection) -> None:
            for some in parts(sorted(gateways)):
                where = (commands.c.gateway.in_(some), commands.c.due_at > now, waits)
                connection.execute(sa.update(commands).where(*where).values(due_at=now))

        self._database.write(work)


def _done(turn: Turn) -> Advanced:
    found = turn.command
    if turn.send:
        found = msgspec.structs.replace(found, sent_at=turn.at, sent=found.sent + 1)
    command, entries, messages = advanced(found, turn.steps)
    return Advanced(
        msgspec.structs.replace(command, due_at=due_at(command, turn.at)), [*entries, *turn.entries], messages
    )


def _states(connection: sa.Connection, names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in parts(names):
        query = sa.select(commands.c.id, commands.c.state).where(commands.c.id.in_(some))
        found |= {row.id: row.state for row in connection.execute(query)}
    return found


def _put_off(connection: sa.Connection, names: Sequence[str], until: int) -> None:
    for some in parts(names):
        where = (commands.c.id.in_(some), commands.c.due_at > NEVER)
        connection.execute(sa.update(commands).where(*where).values(due_at=until))
