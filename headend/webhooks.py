"""What others are told of supply: an outbox written with the decision, and how far each webhook has it. Sends nothing.

A message is a row of the caller's own transaction. Each webhook passes all rows in their order behind a cursor of its
own, so that what is told of a meter point comes in its order.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from headend.audit.chain import LOCK
from headend.state.store import State
from headend.state.tables import outbox, webhooks

MAX_BODY = 16 * 1024  # bytes of a message's body
MAX_ROWS = 1_000_000  # that are kept
TRIED_S = 3 * 86_400  # how long a message is tried
KEEP_S = 2 * TRIED_S  # and kept, so that giving it up is told
LEASE_S = 60  # how long one head-end has a webhook for itself, from each batch on
ID_BYTES = 16

Event = Literal["command", "alert"]
EVENTS: tuple[Event, ...] = ("command", "alert")


class Outgoing(msgspec.Struct, frozen=True):
    """One message: `command` (a supply command has a new state) or `alert` (somebody should look). `at` in us, UTC.

    `body` is JSON that holds no secret. An alert that is about no meter point has an empty `point`.
    """

    event: Event
    at: int
    point: str
    region: str
    body: Mapping[str, object]


class Message(NamedTuple):
    """A message in its place. `id` stays the same however often it is sent."""

    seq: int
    id: str
    event: str
    at: int
    point: str
    region: str
    body: str


def enqueue(connection: sa.Connection, *messages: Outgoing) -> None:
    """Put messages into the outbox within the caller's transaction (`State.write`), in their order.

    Raises:
        ValueError: a body is longer than MAX_BODY.

    """
    if connection.dialect.name == "postgresql":  # the audit's own lock: whoever appends there as well has it already
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    rows = []
    for seq, each in enumerate(messages, _last(connection) + 1):
        body = msgspec.json.encode(each.body).decode()
        if len(body) > MAX_BODY:
            raise ValueError(f"a message of {len(body)} bytes; the limit is {MAX_BODY}")
        rows.append(Message(seq, secrets.token_hex(ID_BYTES), each.event, each.at, each.point, each.region, body))
    if rows:
        connection.execute(sa.insert(outbox), [row._asdict() for row in rows])


class Outbox:
    """How far each webhook has it, by its name. Blocking; all methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def subscribe(self, name: str) -> None:
        """Begin a webhook that is new at the present end: what was before is not told."""

        def work(connection: sa.Connection) -> None:
            if _cursor(connection, name) is None:
                row = {"name": name, "after": _last(connection), "owner": "", "until": 0}
                connection.execute(sa.insert(webhooks).values(row))

        self._state.write(work)

    def waiting(self, name: str, limit: int) -> Sequence[Message]:
        """Return the next messages of a webhook, in order."""

        def work(connection: sa.Connection) -> Sequence[Message]:
            after = _cursor(connection, name) or 0
            query = sa.select(outbox).where(outbox.c.seq > after).order_by(outbox.c.seq).limit(limit)
            return [Message(*row) for row in connection.execute(query)]

        return self._state.read(work)

    def missed(self, name: str) -> int:
        """Return how many messages were removed before a webhook had them."""

        def work(connection: sa.Connection) -> int:
            after = _cursor(connection, name) or 0
            first = connection.execute(sa.select(sa.func.min(outbox.c.seq)).where(outbox.c.seq > after)).scalar_one()
            return 0 if first is None else first - after - 1

        return self._state.read(work)

    def depth(self, name: str) -> int:
        """Return how many messages wait for a webhook."""
        return self._state.read(lambda connection: _last(connection) - (_cursor(connection, name) or 0))

    def lease(self, name: str, owner: str, now: int) -> bool:
        """Have a webhook for this head-end alone, for LEASE_S; False while it is another's."""
        free = sa.or_(webhooks.c.owner == owner, webhooks.c.until <= now)
        statement = sa.update(webhooks).where(webhooks.c.name == name, free)
        values = {"owner": owner, "until": now + LEASE_S * 1_000_000}
        return self._state.write(lambda connection: connection.execute(statement.values(values)).rowcount) > 0

    def release(self, name: str, owner: str) -> None:
        """Leave a webhook to another head-end."""
        statement = sa.update(webhooks).where(webhooks.c.name == name, webhooks.c.owner == owner)
        self._state.write(lambda connection: connection.execute(statement.values(until=0)))

    def passed(self, name: str, owner: str, seq: int) -> None:
        """Note that a webhook has everything up to a seq; nothing where it is another head-end's by now."""
        mine = sa.and_(webhooks.c.name == name, webhooks.c.owner == owner, webhooks.c.after < seq)
        self._state.write(lambda connection: connection.execute(sa.update(webhooks).where(mine).values(after=seq)))

    def trim(self, now: int) -> int:
        """Remove what is too old or too much, whoever has it; the newest stays, as its seq is counted on from."""

        def work(connection: sa.Connection) -> int:
            last = _last(connection)
            old = sa.or_(outbox.c.at < now - KEEP_S * 1_000_000, outbox.c.seq <= last - MAX_ROWS)
            return connection.execute(sa.delete(outbox).where(outbox.c.seq < last, old)).rowcount

        return self._state.write(work)


def _last(connection: sa.Connection) -> int:
    seq: int = connection.execute(sa.select(sa.func.coalesce(sa.func.max(outbox.c.seq), 0))).scalar_one()
    return seq


def _cursor(connection: sa.Connection, name: str) -> int | None:
    return connection.execute(sa.select(webhooks.c.after).where(webhooks.c.name == name)).scalar_one_or_none()
