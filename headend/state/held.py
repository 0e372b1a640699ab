"""Readings that were held back because they lie in the future, and what was decided about them. It decides nothing.

A row stands there before the gateway gets its receipt, and stays as evidence after the readings were released.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import sqlalchemy as sa

from headend.audit.chain import Entry, append
from headend.state.rows import put
from headend.state.store import State
from headend.state.tables import held_back

MAX_OF_A_GATEWAY = 100_000  # blocks that wait; more of its records are not taken, and wait in its own log
KEEP_S = 400 * 86_400  # for which a decided row stays as evidence

Decision = Literal["release", "retime"]


class HeldBlock(msgspec.Struct, frozen=True):
    """One block: where it came from, and how far ahead the gateway's clock was then (us; None: not known).

    `payload` is a packed batch of the block as it came. `action`, `shift` (us), `actor` and `reason` are what was
    decided, `done_at` when the readings went into the log.
    """

    gateway: str
    epoch: str
    seq: int
    number: int  # of the block among those held back of its record
    device: str
    source: str
    measured_at: int
    held_at: int
    offset: int | None
    readings: int
    payload: bytes
    action: str = ""
    shift: int = 0
    actor: str = ""
    reason: str = ""
    done_at: int | None = None


class Heap(msgspec.Struct, frozen=True):
    """What waits of one gateway's device: blocks and readings, first and last stamp, least and greatest offset."""

    gateway: str
    device: str
    source: str
    blocks: int
    readings: int
    first: int
    last: int
    offset_from: int | None
    offset_to: int | None


class Order(msgspec.Struct, frozen=True):
    """What a person decides about all that waits of a gateway, or of one of its devices.

    `offset` is how far ahead the stamps are (us); None: as it was measured when each block came.
    """

    action: Decision
    gateway: str
    device: str
    actor: str
    reason: str
    offset: int | None = None


class HeldBack:
    """The blocks that were held back. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def room(self, gateway: str) -> bool:
        """Tell whether more of this gateway may be held back."""
        query = sa.select(sa.func.count()).where(held_back.c.gateway == gateway, held_back.c.action == "")
        return self._state.read(lambda connection: connection.execute(query).scalar_one()) < MAX_OF_A_GATEWAY

    def put(self, blocks: Sequence[HeldBlock]) -> None:
        """Keep blocks; one that is there already stays as it is, with what was decided about it."""

        def work(connection: sa.Connection) -> None:
            for each in blocks:
                if connection.execute(sa.select(sa.literal(1)).where(_key(each))).first() is None:
                    put(connection, held_back, msgspec.structs.asdict(each))

        self._state.write(work)

    def heaps(self) -> list[Heap]:
        """Return what waits for a decision."""
        row = held_back.c
        key = (row.gateway, row.device, row.source)
        count, low, high = sa.func.count(), sa.func.min, sa.func.max
        query = (
            sa.select(
                *key,
                count,
                sa.func.sum(row.readings),
                low(row.measured_at),
                high(row.measured_at),
                low(row.offset),
                high(row.offset),
            )
            .where(row.action == "")
            .group_by(*key)
            .order_by(*key)
        )
        return [Heap(*found) for found in self._state.read(lambda connection: connection.execute(query).all())]

    def decide(self, order: Order, now: int) -> int:
        """Note a person's decision about what waits, with an audit entry; return the number of blocks.

        What a meter stamped by its own clock (its load profile) is not re-timed by the gateway's clock, and what has no
        measured offset only by a given one: both go on waiting.
        """
        return self._state.write(lambda connection: _decide(connection, order, now))

    def release_by_rule(self, now: int, tolerance: int, actor: str, reason: str) -> int:
        """Decide to release what is not ahead any more and came while its gateway's clock was right; return how many.

        Whoever stamped it was ahead, and not the gateway: its own time has come, and nothing better is known.
        """
        row = held_back.c
        due = sa.and_(
            row.action == "", row.measured_at <= now, row.offset.is_not(None), row.offset.between(-tolerance, tolerance)
        )
        values = {"action": "release", "actor": actor, "reason": reason}
        if (
            self._state.read(lambda connection: connection.execute(sa.select(row.seq).where(due).limit(1)).first())
            is None
        ):
            return 0  # it is asked every few seconds: what only looks takes no lock
        change = sa.update(held_back).where(due).values(**values)
        return self._state.write(lambda connection: connection.execute(change).rowcount)

    def due(self, limit: int) -> list[HeldBlock]:
        """Return blocks that were decided about and are not in the log yet, in the order of their stamps."""
        row = held_back.c
        query = sa.select(held_back).where(row.action != "", row.done_at.is_(None)).order_by(row.measured_at)
        found = self._state.read(lambda connection: connection.execute(query.limit(limit)).all())
        return [msgspec.structs.replace(HeldBlock(*each), payload=bytes(each.payload)) for each in found]

    def done(self, blocks: Sequence[HeldBlock], now: int) -> None:
        """Note that blocks are in the log, and forget what was done long ago."""

        def work(connection: sa.Connection) -> None:
            for each in blocks:
                connection.execute(sa.update(held_back).where(_key(each)).values(done_at=now))
            connection.execute(sa.delete(held_back).where(held_back.c.done_at < now - KEEP_S * 1_000_000))

        self._state.write(work)


def _key(block: HeldBlock) -> sa.ColumnElement[bool]:
    return sa.and_(*(column == getattr(block, column.name) for column in held_back.primary_key))


def _decide(connection: sa.Connection, order: Order, now: int) -> int:
    row = held_back.c
    where = [row.gateway == order.gateway, row.action == ""]
    if order.device:
        where.append(row.device == order.device)
    values: dict[str, object] = {"action": order.action, "actor": order.actor, "reason": order.reason}
    if order.action == "retime":
        where.append(row.source != "profile")
        if order.offset is None:
            where.append(row.offset.is_not(None))
        values["shift"] = -row.offset if order.offset is None else -order.offset
    count = connection.execute(sa.update(held_back).where(*where).values(**values)).rowcount
    if count:
        body = {**msgspec.structs.asdict(order), "blocks": count}
        append(connection, [Entry(now, order.actor, f"held-back-{order.action}", order.gateway, "", body)])
    return count
