"""The books of committed seqs as the intake sees them: its own file, or what head-ends share. They make no receipt."""

from collections.abc import Sequence
from typing import Protocol

from headend.seqs import Ledger
from storage.codec import Origin


class Books(Protocol):
    """Where the ledger outlives its process, and for which gateways this head-end answers. Blocking."""

    def load(self) -> Ledger:
        """Return the ledger as far as it is known here; the books keep it up as partitions come and go."""
        ...

    def holds(self, gateway: str) -> bool:
        """Tell whether this head-end takes from a gateway and answers it."""
        ...

    def fence(self, gateway: str) -> int:
        """Return the fence under which it answers; 0 where it is the only head-end."""
        ...

    def note(self, origins: Sequence[Origin]) -> frozenset[str]:
        """Write down what the log has, before any receipt; return the gateways that were another's by then.

        Raises:
            StorageError: nothing was written, or it is not known.

        """
        ...

    def save(self, ledger: Ledger, position: int) -> None:
        """Write down a ledger that holds all records of the log before `position`. Raises OSError, StorageError."""
        ...


class Noting:
    """Brings what the log has into the books, and only then into the ledger: receipts are made of that.

    What the books did not take in time stays owed and goes first the next time, so that a state that is down for long
    puts one group of records into the log, not one for each time that they come again. Blocking.
    """

    def __init__(self, books: Books, ledger: Ledger) -> None:
        self._books = books
        self._ledger = ledger
        self._owed: list[Origin] = []

    def settle(self) -> frozenset[str]:
        """Note what is owed; return the gateways that were another's by then. Raises `StorageError`: it stays owed."""
        if not self._owed:
            return frozenset()
        gone = self._books.note(self._owed)
        for each in self._owed:
            if each.gateway not in gone:
                self._ledger.add(each.gateway, each.epoch, each.first, each.last, each.check)
        self._owed = []
        return gone

    def note(self, origins: Sequence[Origin]) -> frozenset[str]:
        """Note what the log's append has just returned for, once nothing is owed; as `settle`."""
        self._owed = list(origins)
        return self.settle()
