"""The seq ledger across restarts: a snapshot beside the log, and what the log took since. It decides nothing.

The log is the truth: the snapshot only says up to where it was read. A cursor of the log stands where the snapshot
does, so that nothing goes from the log that the ledger would still need.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from headend.seqs import Ledger, SavedEpoch
from storage.codec import Origin, origin_of
from storage.files import replace_file
from storage.log import Log, Record

CURSOR = "ledger"
READ_RECORDS = 1024
READ_BYTES = 8 << 20


class _Snapshot(msgspec.Struct, frozen=True):
    log_epoch: str
    position: int
    epochs: list[SavedEpoch]


class LedgerFile:
    """`headend.books.Books` of the only head-end: `load` once, `save` now and then. Blocking."""

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._cursor = log.cursor(CURSOR, "first")

    def load(self) -> Ledger:
        """Return the ledger of all that the log has ever committed, as far as snapshot and log tell."""
        ledger = Ledger()
        position = self._log.first_seq
        try:
            snapshot = msgspec.msgpack.decode(self._path.read_bytes(), type=_Snapshot)
        except (OSError, msgspec.MsgspecError):
            snapshot = None
        if snapshot is not None and snapshot.log_epoch == self._log.epoch:
            ledger.load(snapshot.epochs)
            position = snapshot.position
        while found := self._log.read(position, READ_RECORDS, READ_BYTES):
            for item in found:
                if isinstance(item, Record):
                    _take(ledger, item.payload)
                    position = item.seq + 1
                else:
                    position = item.to_seq + 1
        self.save(ledger, position)
        return ledger

    def holds(self, gateway: str) -> bool:
        """Tell that this head-end, the only one, answers every gateway."""
        del gateway
        return True

    def fence(self, gateway: str) -> int:
        """Return 0: there is no other head-end."""
        del gateway
        return 0

    def note(self, origins: Sequence[Origin]) -> frozenset[str]:
        """Do nothing: the log that has them is where this ledger is read from."""
        del origins
        return frozenset()

    def save(self, ledger: Ledger, position: int) -> None:
        """Write down a ledger that holds all records of the log before `position`. Raises OSError, StorageError."""
        replace_file(self._path, msgspec.msgpack.encode(_Snapshot(self._log.epoch, position, ledger.save())))
        self._cursor.move(position)


def _take(ledger: Ledger, payload: bytes) -> None:
    try:
        origin = origin_of(payload)
    except ValueError:
        return
    if origin is not None:
        ledger.add(origin.gateway, origin.epoch, origin.first, origin.last, origin.check)
