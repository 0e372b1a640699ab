"""What is committed of gateways, and who owns which partition of them, where head-ends share a fleet. No decisions.

Every write of committed seqs names the fence under which it is made, and is refused in the same transaction where the
partition was taken by another since: so two head-ends that both think to own a partition cannot both give receipts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from headend.seqs import EpochSeqs, SavedEpoch, hash_of
from headend.state.rows import put
from headend.state.store import State
from headend.state.tables import committed_seqs, head_ends, partitions
from storage.codec import Origin

NOBODY = ""


class Owned(NamedTuple):
    """Who owns a partition, under which fence."""

    owner: str
    fence: int


class Sight(NamedTuple):
    """Head-ends with their last beat, and partitions that were ever owned."""

    beats: Mapping[str, int]
    owned: Mapping[int, Owned]


class Ownership:
    """Partitions and their owners. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def beat(self, owner: str, beat: int) -> None:
        """Tell that a head-end lives."""
        self._state.write(lambda connection: put(connection, head_ends, {"id": owner, "beat": beat}))

    def look(self) -> Sight:
        """Return all head-ends and owners."""

        def work(connection: sa.Connection) -> Sight:
            beats = {row.id: row.beat for row in connection.execute(sa.select(head_ends))}
            owned = {row.number: Owned(row.owner, row.fence) for row in connection.execute(sa.select(partitions))}
            return Sight(beats, owned)

        return self._state.read(work)

    def take(self, number: int, owner: str, before: Owned | None) -> Owned | None:
        """Take a partition that was seen as `before` (None: never owned); None where another was faster."""

        def work(connection: sa.Connection) -> Owned | None:
            row = connection.execute(sa.select(partitions).where(partitions.c.number == number)).first()
            now = Owned(row.owner, row.fence) if row is not None else None
            taken = Owned(owner, (before.fence if before is not None else 0) + 1)
            if now == before:
                put(connection, partitions, {"number": number, **taken._asdict()})
            elif now != taken:  # equal: the commit of an earlier try was done after all
                return None
            return taken

        return self._state.write(work)

    def give(self, owner: str, numbers: Iterable[int]) -> None:
        """Let go of partitions; such as are no longer the owner's stay as they are."""
        mine = (partitions.c.owner == owner) & partitions.c.number.in_(list(numbers))
        self._state.write(lambda connection: connection.execute(sa.update(partitions).where(mine).values(owner=NOBODY)))

    def forget(self, owner: str, beat: int) -> None:
        """Remove a head-end that has not lived on since this beat."""
        gone = (head_ends.c.id == owner) & (head_ends.c.beat == beat)
        self._state.write(lambda connection: connection.execute(sa.delete(head_ends).where(gone)))


class CommittedSeqs:
    """Committed seqs of all gateways, of which each partition (of `count`) has one writer. Raises `StorageError`."""

    def __init__(self, state: State, count: int) -> None:
        self._state = state
        self._count = count

    def load(self, number: int) -> list[SavedEpoch]:
        """Return what is committed of a partition's gateways, epochs in the order in which they came."""
        query = (
            sa.select(committed_seqs)
            .where(committed_seqs.c.hash % self._count == number)
            .order_by(committed_seqs.c.gateway, committed_seqs.c.ordinal)
        )
        return [_saved(row) for row in self._state.read(lambda connection: connection.execute(query).all())]

    def add(self, owner: str, fences: Mapping[int, int], origins: Sequence[Origin]) -> frozenset[int]:
        """Add what is in the owner's log, and return the partitions of which nothing was added.

        These are the ones that `fences` (by partition) does not name as the database does.
        """
        wanted = {hash_of(each.gateway) % self._count for each in origins}

        def work(connection: sa.Connection) -> frozenset[int]:
            rows = connection.execute(sa.select(partitions).where(partitions.c.number.in_(wanted)))
            ours = {row.number for row in rows if row.owner == owner and row.fence == fences.get(row.number)}
            mine = [each for each in origins if hash_of(each.gateway) % self._count in ours]
            if mine:
                _merge(connection, mine)
            return frozenset(wanted - ours)

        return self._state.write(work)


def _saved(row: sa.Row[Any]) -> SavedEpoch:
    check = None if row.check_seq is None else (row.check_seq, row.check_crc)
    return SavedEpoch(row.gateway, row.epoch, msgspec.json.decode(row.ranges, type=list[tuple[int, int]]), check)


def _merge(connection: sa.Connection, origins: Sequence[Origin]) -> None:
    names = {each.gateway for each in origins}
    rows = connection.execute(sa.select(committed_seqs).where(committed_seqs.c.gateway.in_(names))).all()
    known = {(row.gateway, row.epoch): EpochSeqs(_saved(row)) for row in rows}
    ordinals = {(row.gateway, row.epoch): row.ordinal for row in rows}
    changed: dict[tuple[str, str], EpochSeqs] = {}
    for each in origins:
        key = each.gateway, each.epoch
        seqs = changed[key] = changed.get(key) or known.get(key) or EpochSeqs()
        seqs.add(each.first, each.last, each.check)
        ordinals.setdefault(key, sum(gateway == each.gateway for gateway, _ in ordinals))
    old = [_row(key, ordinals[key], seqs) for key, seqs in changed.items() if key in known]
    new = [_row(key, ordinals[key], seqs) for key, seqs in changed.items() if key not in known]
    if old:
        found = committed_seqs.c.gateway == sa.bindparam("of"), committed_seqs.c.epoch == sa.bindparam("under")
        values = [{"of": row.pop("gateway"), "under": row.pop("epoch"), **row} for row in old]
        connection.execute(sa.update(committed_seqs).where(*found), values)
    if new:
        connection.execute(sa.insert(committed_seqs), new)


def _row(key: tuple[str, str], ordinal: int, seqs: EpochSeqs) -> dict[str, Any]:
    seq, crc = seqs.check if seqs.check is not None else (None, None)
    return {
        "gateway": key[0],
        "epoch": key[1],
        "ordinal": ordinal,
        "hash": hash_of(key[0]),
        "ranges": msgspec.json.encode(list(seqs.ranges)).decode(),
        "check_seq": seq,
        "check_crc": crc,
    }
