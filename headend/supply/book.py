"""Supply commands in the state: each step moves one row and adds one entry to the audit, in one transaction, or none.

The table of states is `metering.supply_states`; who causes a step is the caller's business.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from msgspec.json import encode

from headend.audit.chain import Entry, append
from headend.state.store import State as Database
from headend.state.tables import campaigns, command_numbers, commands, requests
from headend.supply import around
from headend.supply.command import Command
from headend.supply.steps import Advanced, Step, advanced, command_of, move, row_of
from headend.supply.thresholds import Limits
from headend.supply.told import telling
from headend.supply.turns import Turns
from headend.supply.unsigned import Unsigned
from headend.webhooks import Outgoing, enqueue
from metering.supply_states import LIMIT_GIVEN_BACK, Cause, State


class Answered(NamedTuple):
    """What a request with the same Idempotency-Key was answered with."""

    digest: bytes
    command: str
    campaign: str


class New(NamedTuple):
    """What comes with new commands: the Idempotency-Key and the digest of its request, and a campaign's manifest.

    `exclusive`: no other command may be open at their meter points. `supersedes`: what withholds there and has not
    been sent is superseded, by `actor`, and what was to be made anew there is not. `renews`: the command in whose place
    it comes, if nobody was faster. `limits`: above them the commands are quarantined instead of their first steps.
    """

    key: str
    digest: bytes
    manifest: bytes
    actor: str
    signed: bytes = b""
    exclusive: bool = False
    supersedes: bool = False
    renews: str = ""
    limits: Limits | None = None


class BusyError(ValueError):
    """Another command is open at these meter points (points and commands)."""

    def __init__(self, points: Mapping[str, str]) -> None:
        super().__init__(f"another command is open at {len(points)} of the meter points")
        self.points = points


class Book:
    """All supply commands. All methods raise `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.turns = Turns(database)
        self.unsigned = Unsigned(database)

    # --- asking -------------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Command | None:
        """Return a command; None where there is none."""
        found = self._select(commands.c.id == name, limit=1)
        return found[0] if found else None

    def all(self, names: Sequence[str]) -> list[Command]:
        """Return those of at most AT_ONCE commands that are there."""
        return self._select(commands.c.id.in_(names))

    def of_campaign(self, name: str) -> list[Command]:
        """Return the commands of a campaign in the order of its manifest."""
        return self._select(commands.c.campaign == name, order=(commands.c.requested_at, commands.c.id))

    def at(self, point: str, limit: int = 50) -> list[Command]:
        """Return the newest commands of a meter point, the newest first."""
        return self._select(commands.c.point == point, limit=limit, order=(commands.c.requested_at.desc(),))

    def telling(self, point: str) -> list[Command]:
        """Return what tells how the supply of a meter point stands, and what is under way, the newest first."""
        return self._database.read(lambda connection: telling(connection, point))

    def page(self, after_id: str, limit: int, where: Sequence[sa.ColumnElement[bool]] = ()) -> list[Command]:
        """Return commands after an id in the order of ids."""
        return self._select(sa.and_(commands.c.id > after_id, *where), limit=limit, order=(commands.c.id,))

    def given_back(self, points: Sequence[str]) -> dict[str, int]:
        """Return when something that gives back was requested last at each of at most AT_ONCE meter points."""
        where = (
            commands.c.point.in_(points),
            commands.c.gives_back == sa.true(),
            commands.c.state.not_in([str(State.CANCELLED), str(State.REFUSED_BY_POLICY)]),
        )
        query = (
            sa.select(commands.c.point, sa.func.max(commands.c.requested_at)).where(*where).group_by(commands.c.point)
        )
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return {row[0]: row[1] for row in rows}

    def manifest(self, name: str) -> tuple[bytes, bytes]:
        """Return a campaign's manifest and its signatures so far. Raises `KeyError`."""
        query = sa.select(campaigns.c.body, campaigns.c.signed).where(campaigns.c.id == name)
        row = self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise KeyError(name)
        return bytes(row.body), bytes(row.signed)

    def answered(self, token: str, key: str) -> Answered | None:
        """Return what a request with this key was answered with; None where it is new."""
        query = sa.select(requests.c.digest, requests.c.command, requests.c.campaign)
        where = query.where(requests.c.token == token, requests.c.key == key)
        row = self._database.read(lambda connection: connection.execute(where).one_or_none())
        return None if row is None else Answered(bytes(row.digest), row.command, row.campaign)

    def renewals(self, now: int, limit: int) -> list[Command]:
        """Return what gives back, came to an end before it did, and is to be made anew by now."""
        due = sa.and_(commands.c.renew_at > 0, commands.c.renew_at <= now)
        return self._select(due, limit=limit, order=(commands.c.renew_at, commands.c.id))

    # --- changing -----------------------------------------------------------------------------------------------------

    def numbers(self, gateway: str, count: int) -> int:
        """Take numbers for commands of a gateway, and return the first: each is given out once, over all head-ends."""

        def take(connection: sa.Connection) -> int:
            where = command_numbers.c.gateway == gateway
            last = connection.execute(sa.select(command_numbers.c.last).where(where)).scalar_one_or_none()
            if last is None:
                connection.execute(sa.insert(command_numbers).values(gateway=gateway, last=count))
                return 1
            connection.execute(sa.update(command_numbers).where(where).values(last=last + count))
            return int(last) + 1

        return self._database.write(take)

    def number_beyond(self, gateway: str, number: int) -> None:
        """Give out only numbers above this one from now on: it was given while the state was not there."""

        def raise_it(connection: sa.Connection) -> None:
            where = command_numbers.c.gateway == gateway
            last = connection.execute(sa.select(command_numbers.c.last).where(where)).scalar_one_or_none()
            if last is None:
                connection.execute(sa.insert(command_numbers).values(gateway=gateway, last=number))
            elif last < number:
                connection.execute(sa.update(command_numbers).where(where).values(last=number))

        self._database.write(raise_it)

    def add(self, made: Sequence[tuple[Command, Sequence[Step]]], new: New) -> None:
        """Keep new commands with their first steps, the request that made them, and what they supersede: all or none.

        Raises:
            BusyError: another command is open where none may be.

        """
        first = made[0][0]
        done = [advanced(command, steps) for command, steps in made]
        points = [command.point for command, _ in made]

        def keep(connection: sa.Connection) -> None:
            where = sa.and_(requests.c.token == first.token, requests.c.key == new.key)
            if new.key and connection.execute(sa.select(requests.c.digest).where(where)).first() is not None:
                return  # our own, of a try whose answer was lost; or another's, who was faster with the same key
            if new.renews and not around.is_due(connection, new.renews):
                return
            if new.exclusive and (busy := around.open_at(connection, points)):
                raise BusyError(busy)
            kept = done
            if new.limits is not None and (why := new.limits.exceeded(connection, [each for each, _ in made])):
                held = Step(Cause.THRESHOLD_EXCEEDED, new.actor, first.requested_at, why)
                kept = [advanced(each, [held._replace(evidence=steps[0].evidence)]) for each, steps in made]
            if new.key:
                row = {"token": first.token, "key": new.key, "digest": new.digest, "at": first.requested_at}
                connection.execute(sa.insert(requests).values(row | {"command": first.id, "campaign": first.campaign}))
            if new.manifest:
                row = {"id": first.campaign, "body": new.manifest, "signed": new.signed}
                connection.execute(sa.insert(campaigns).values(row))
            _insert(connection, kept)
            if new.supersedes:
                around.renew_no_more(connection, points)
            for name in around.waiting_at(connection, points) if new.supersedes else ():
                move(connection, name, [Step(Cause.SUPERSEDED, new.actor, first.requested_at, f"by {first.id}")])

        self._database.write_in_turn(keep)

    def sign(self, command: Command, signed: bytes, entry: Entry) -> None:
        """Keep the signatures of a command, or of its whole campaign, as they are now."""

        def keep(connection: sa.Connection) -> None:
            if command.campaign:
                connection.execute(sa.update(campaigns).where(campaigns.c.id == command.campaign).values(signed=signed))
            else:
                connection.execute(sa.update(commands).where(commands.c.id == command.id).values(signed=signed))
            append(connection, [entry])

        self._database.write_in_turn(keep)

    def move(self, name: str, *steps: Step) -> Command:
        """Move a command by these steps, and tell the audit and the webhooks each of them.

        Raises:
            NoSuchTransitionError: it is not where these steps begin (somebody was faster).
            KeyError: there is no such command.

        """
        return self._database.write_in_turn(lambda connection: move(connection, name, steps))

    def renew_at(self, command: Command, at: int, entry: Entry) -> None:
        """Make a command anew at another time (0: not at all), and tell the audit why."""

        def change(connection: sa.Connection) -> None:
            due = sa.and_(commands.c.id == command.id, commands.c.renew_at > 0)
            if connection.execute(sa.update(commands).where(due).values(renew_at=at)).rowcount:
                append(connection, [entry])

        self._database.write_in_turn(change)

    def limit_ended(self, name: str, entry: Entry) -> None:
        """Note that a limit which held was given back at the meter, and tell the audit."""

        def change(connection: sa.Connection) -> None:
            held = sa.and_(commands.c.id == name, commands.c.state == str(State.VERIFIED))
            values = {"cause": LIMIT_GIVEN_BACK, "changed_at": entry.at, "detail": encode(entry.body).decode()}
            connection.execute(sa.update(commands).where(held).values(values))
            append(connection, [entry])

        self._database.write_in_turn(change)

    def tell(self, *entries: Entry, alert: Outgoing | None = None) -> None:
        """Tell the audit what moves nothing, and others where somebody should look."""

        def keep(connection: sa.Connection) -> None:
            append(connection, entries)
            enqueue(connection, *([alert] if alert is not None else []))

        self._database.write_in_turn(keep)

    def _select(
        self, where: sa.ColumnElement[bool], *, limit: int | None = None, order: Sequence[Any] = ()
    ) -> list[Command]:
        query = sa.select(commands).where(where).order_by(*order).limit(limit)
        return [command_of(row) for row in self._database.read(lambda connection: connection.execute(query).all())]


def _insert(connection: sa.Connection, new: Sequence[Advanced]) -> None:
    connection.execute(sa.insert(commands), [row_of(each.command) for each in new])
    append(connection, [entry for each in new for entry in each.entries])
    enqueue(connection, *(message for each in new for message in each.messages))
