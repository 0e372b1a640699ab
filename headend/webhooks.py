"""What others are told of supply: an outbox written with the decision, and how far each webhook has it. Sends nothing.

A message is a row of the caller's own transaction. Each webhook passes all rows in their order behind a cursor of its
own. A meter point whose next message failed is put aside: the cursor goes on without it, and what is told of it has a
cursor of its own until nothing of it waits. So what is told of a meter point comes in its order, and holds up no other.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from headend.audit.chain import LOCK
from headend.state.store import State
from headend.state.tables import outbox, webhook_aside, webhooks

MAX_BODY = 16 * 1024  # bytes of a message's body
MAX_ROWS = 1_000_000  # that are kept
MAX_ASIDE = 1_000  # meter points of one webhook; with more it is the receiver that fails
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


class Batch(NamedTuple):
    """The next messages behind a cursor, and the seq up to which nothing else is due there; 0: nothing waits."""

    messages: Sequence[Message]
    up_to: int


class Aside(NamedTuple):
    """A meter point that was put aside, how often its next message failed, and its next messages in order."""

    point: str
    tries: int
    messages: Sequence[Message]


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
    """How far each webhook has it, by its name. Blocking; all methods raise `StorageError`.

    What changes that is done by the head-end that has the webhook (`lease`), and does nothing for any other.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def subscribe(self, name: str) -> None:
        """Begin a webhook that is new at the present end: what was before is not told."""

        def work(connection: sa.Connection) -> None:
            if _cursor(connection, name) is None:
                row = {"name": name, "after": _last(connection), "owner": "", "until": 0}
                connection.execute(sa.insert(webhooks).values(row))

        self._state.write(work)

    # --- behind the cursor --------------------------------------------------------------------------------------------

    def waiting(self, name: str, limit: int) -> Batch:
        """Return the next messages of a webhook in order, without those put aside."""

        def work(connection: sa.Connection) -> Batch:
            behind = outbox.c.seq > (_cursor(connection, name) or 0)
            aside = sa.select(webhook_aside.c.point).where(webhook_aside.c.webhook == name)
            due = sa.select(outbox).where(behind, outbox.c.point.not_in(aside)).order_by(outbox.c.seq).limit(limit)
            some = [Message(*row) for row in connection.execute(due)]
            if len(some) == limit:
                return Batch(some, some[-1].seq)
            return Batch(some, connection.execute(sa.select(sa.func.max(outbox.c.seq)).where(behind)).scalar() or 0)

        return self._state.read(work)

    def passed(self, name: str, owner: str, seq: int, *alerts: Outgoing) -> None:
        """Note that a webhook has everything up to a seq that is not put aside, and tell of what was given up."""

        def work(connection: sa.Connection) -> None:
            if _is_mine(connection, name, owner):
                forward = sa.and_(webhooks.c.name == name, webhooks.c.after < seq)
                connection.execute(sa.update(webhooks).where(forward).values(after=seq))
                enqueue(connection, *alerts)
                _take_back(connection, name)

        self._state.write(work)

    # --- put aside ----------------------------------------------------------------------------------------------------

    def put_aside(self, name: str, owner: str, failed: Message, until: int) -> bool:
        """Let a meter point whose next message failed wait by itself; False where MAX_ASIDE do already."""

        def work(connection: sa.Connection) -> bool:
            count = sa.select(sa.func.count()).select_from(webhook_aside).where(webhook_aside.c.webhook == name)
            if connection.execute(count).scalar_one() >= MAX_ASIDE or not _is_mine(connection, name, owner):
                return False
            found = connection.execute(sa.select(webhook_aside.c.after).where(_row(name, failed.point))).first()
            if found is None:
                row = {"webhook": name, "point": failed.point, "after": failed.seq - 1, "tries": 1, "until": until}
                connection.execute(sa.insert(webhook_aside).values(row))
            return True

        return self._state.write(work)

    def aside(self, name: str, now: int, limit: int) -> Aside | None:
        """Return what is due of the meter point that waited longest, one message where it failed; None: nothing is."""

        def work(connection: sa.Connection) -> Aside | None:
            mine = sa.and_(outbox.c.point == webhook_aside.c.point, outbox.c.seq > webhook_aside.c.after)
            due = sa.and_(webhook_aside.c.webhook == name, webhook_aside.c.until <= now, sa.exists().where(mine))
            query = sa.select(webhook_aside).where(due).order_by(webhook_aside.c.until, webhook_aside.c.point).limit(1)
            found = connection.execute(query).one_or_none()
            if found is None:
                return None
            next_of = sa.and_(outbox.c.point == found.point, outbox.c.seq > found.after)
            some = sa.select(outbox).where(next_of).order_by(outbox.c.seq).limit(1 if found.tries else limit)
            return Aside(found.point, found.tries, [Message(*row) for row in connection.execute(some)])

        return self._state.read(work)

    def aside_passed(self, name: str, owner: str, last: Message, *alerts: Outgoing) -> None:
        """Note that a webhook has everything of a meter point up to this message, and tell of what was given up."""

        def work(connection: sa.Connection) -> None:
            if _is_mine(connection, name, owner):
                values = {"after": last.seq, "tries": 0, "until": 0}
                forward = sa.and_(_row(name, last.point), webhook_aside.c.after < last.seq)
                connection.execute(sa.update(webhook_aside).where(forward).values(values))
                enqueue(connection, *alerts)
                _take_back(connection, name)

        self._state.write(work)

    def aside_failed(self, name: str, owner: str, point: str, until: int) -> None:
        """Note that the next message of a meter point failed once more, and when it is tried again."""

        def work(connection: sa.Connection) -> None:
            if _is_mine(connection, name, owner):
                values = {"tries": webhook_aside.c.tries + 1, "until": until}
                connection.execute(sa.update(webhook_aside).where(_row(name, point)).values(values))

        self._state.write(work)

    def count_aside(self, name: str) -> int:
        """Return how many meter points are put aside."""
        query = sa.select(sa.func.count()).select_from(webhook_aside).where(webhook_aside.c.webhook == name)
        return int(self._state.read(lambda connection: connection.execute(query).scalar_one()))

    # --- both ---------------------------------------------------------------------------------------------------------

    def depth(self, name: str) -> int:
        """Return how many messages wait for a webhook, those put aside as well."""

        def work(connection: sa.Connection) -> int:
            aside = sa.select(sa.func.min(webhook_aside.c.after)).where(webhook_aside.c.webhook == name)
            lowest = [
                each for each in (_cursor(connection, name), connection.execute(aside).scalar()) if each is not None
            ]
            unsent = sa.and_(webhooks.c.name == name, outbox.c.seq > min(lowest, default=0), _UNSENT)
            query = sa.select(sa.func.count()).select_from(_with_aside()).where(unsent)
            return int(connection.execute(query).scalar_one())

        return self._state.read(work)

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

    def trim(self, now: int) -> dict[str, int]:
        """Remove what is too old or too much, whoever has it; the newest stays, as its seq is counted on from.

        Returns how many of the messages a webhook had not had, by its name.
        """

        def work(connection: sa.Connection) -> dict[str, int]:
            last = _last(connection)
            old = sa.or_(outbox.c.at < now - KEEP_S * 1_000_000, outbox.c.seq <= last - MAX_ROWS)
            gone = sa.and_(outbox.c.seq < last, old)
            count = sa.select(webhooks.c.name, sa.func.count()).select_from(_with_aside()).where(gone, _UNSENT)
            missed = {row[0]: int(row[1]) for row in connection.execute(count.group_by(webhooks.c.name))}
            connection.execute(sa.delete(outbox).where(gone))
            return missed

        return self._state.write(work)


# What a webhook has not had: of a meter point put aside its own cursor counts, of any other the webhook's.
_UNSENT = outbox.c.seq > sa.func.coalesce(webhook_aside.c.after, webhooks.c.after)


def _with_aside() -> sa.Join:
    """Return each message with each webhook, and where its meter point is put aside with that."""
    mine = sa.and_(webhook_aside.c.webhook == webhooks.c.name, webhook_aside.c.point == outbox.c.point)
    return outbox.join(webhooks, sa.true()).outerjoin(webhook_aside, mine)


def _take_back(connection: sa.Connection, name: str) -> None:
    """End what was put aside and has all: only behind the webhook's cursor, or that would send it once more."""
    more = sa.exists().where(outbox.c.point == webhook_aside.c.point, outbox.c.seq > webhook_aside.c.after)
    behind = webhook_aside.c.after <= (_cursor(connection, name) or 0)
    connection.execute(sa.delete(webhook_aside).where(webhook_aside.c.webhook == name, behind, ~more))


def _row(name: str, point: str) -> sa.ColumnElement[bool]:
    return sa.and_(webhook_aside.c.webhook == name, webhook_aside.c.point == point)


def _is_mine(connection: sa.Connection, name: str, owner: str) -> bool:
    query = sa.select(webhooks.c.name).where(webhooks.c.name == name, webhooks.c.owner == owner)
    return connection.execute(query).first() is not None


def _last(connection: sa.Connection) -> int:
    seq: int = connection.execute(sa.select(sa.func.coalesce(sa.func.max(outbox.c.seq), 0))).scalar_one()
    return seq


def _cursor(connection: sa.Connection, name: str) -> int | None:
    return connection.execute(sa.select(webhooks.c.after).where(webhooks.c.name == name)).scalar_one_or_none()
