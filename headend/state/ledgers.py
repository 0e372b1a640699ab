"""What the head-end has committed of each gateway. It decides nothing; what is missing stands in `gaps`.

A snapshot of seqs only saves reading the head-end's log from its beginning: the log is the truth.
"""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from headend.state.store import State
from headend.state.tables import seq_snapshots


class SeqSnapshot(msgspec.Struct, frozen=True):
    """The committed seqs of one gateway's epoch: all up to `contiguous`, and the inclusive ranges above it.

    `position` is the head-end log's seq before which everything is in it; `check` the highest seq and its record's CRC.
    """

    gateway: str
    epoch: str
    contiguous: int
    held: tuple[tuple[int, int], ...]
    position: int
    check: tuple[int, int] | None = None


class SeqSnapshots:
    """Snapshots of seqs, by the epoch of the head-end log that they rest on. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def save(self, log: str, snapshots: Sequence[SeqSnapshot]) -> None:
        """Put these in the place of all snapshots of this log, at once."""
        rows = [_snapshot_row(log, number, each) for number, each in enumerate(snapshots)]
        self._state.write(lambda connection: _replace(connection, log, rows))

    def load(self, log: str) -> list[SeqSnapshot]:
        """Return the snapshots of this log in the order in which they were saved."""
        query = sa.select(seq_snapshots).where(seq_snapshots.c.log == log).order_by(seq_snapshots.c.ordinal)
        rows = self._state.read(lambda connection: connection.execute(query).all())
        return [
            SeqSnapshot(
                row.gateway,
                row.epoch,
                row.contiguous,
                msgspec.json.decode(row.held, type=tuple[tuple[int, int], ...]),
                row.position,
                None if row.check_seq is None else (row.check_seq, row.check_crc),
            )
            for row in rows
        ]


def _snapshot_row(log: str, number: int, each: SeqSnapshot) -> dict[str, str | int | None]:
    seq, crc = each.check if each.check is not None else (None, None)
    return {
        "log": log,
        "gateway": each.gateway,
        "epoch": each.epoch,
        "ordinal": number,
        "position": each.position,
        "contiguous": each.contiguous,
        "held": msgspec.json.encode(each.held).decode(),
        "check_seq": seq,
        "check_crc": crc,
    }


def _replace(connection: sa.Connection, log: str, rows: list[dict[str, str | int | None]]) -> None:
    connection.execute(sa.delete(seq_snapshots).where(seq_snapshots.c.log == log))
    if rows:
        connection.execute(sa.insert(seq_snapshots), rows)
