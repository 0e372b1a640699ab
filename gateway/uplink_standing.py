"""What a head-end has of the gateway's log, by its receipts, and under which epoch. It sends nothing.

Seqs are only good within an epoch. Before anything is sent the head-end answers this very start with a receipt, and
its check must fit our log: a log that was put back to an earlier state would give known seqs to new records, so it
takes a new epoch and sends what it holds under that.
"""

import secrets
import zlib
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.epoch import load_epoch, new_epoch, save_epoch
from metering.model import SECOND
from metering.ranges import Ranges
from metering.wire import Receipt
from storage.log import Log, Record

CURSOR = "uplink"
LATE_S = 300.0  # that brokers bring a receipt later than a newer one; beyond it the head-end's clock was put back

_log = structlog.get_logger(__name__)


class Standing:
    """How one run of a gateway stands with its head-end. `boot` is the run's random id.

    `on_receipt` is told up to which seq the head-end has all, once the cursor has moved; `on_put_back` the new epoch of
    a log that was put back, before that epoch is used.
    """

    def __init__(
        self,
        log: Log,
        state: Path,
        on_receipt: Callable[[int], None] | None = None,
        on_put_back: Callable[[str], None] | None = None,
    ) -> None:
        self._log = log
        self._state = state
        self._on_receipt = on_receipt
        self._on_put_back = on_put_back
        self._cursor = log.cursor(CURSOR, "first")
        self._fence = 0  # the highest of this connection's receipts
        self._said_at = 0  # when the last receipt was made, by the head-end's clock
        self.boot = secrets.token_hex(8)
        self.epoch = load_epoch(state, log.epoch)
        self.have = Ranges()
        self.contiguous = 0
        self.answered = False  # the head-end has answered this boot
        self.put_back = 0  # times that the log was found to be at an earlier state

    def behind(self) -> int:
        """Return how many seqs of the log the head-end has not."""
        following = self._log.next_seq
        return max(0, following - 1 - self.have.count(1, following))

    def disconnected(self) -> None:
        """Know that the next word is of another connection: it begins with the answer to our birth."""
        self.answered = False
        self._fence = 0

    def goes_back(self, receipt: Receipt) -> bool:
        """Tell whether a receipt says less than one that was heard already."""
        return receipt.epoch == self.epoch and receipt.contiguous < self.contiguous

    def counts(self, receipt: Receipt) -> bool:
        """Tell whether a receipt is the head-end's present word about this log; the newest word is kept in mind."""
        if receipt.epoch != self.epoch or (not self.answered and receipt.boot != self.boot):
            return False  # of another log, or from before this start: the answer to our birth comes
        if receipt.fence < self._fence:
            return False  # from a head-end that was relieved since
        late_us = self._said_at - receipt.at
        if receipt.contiguous < self.contiguous and 0 < late_us <= LATE_S * SECOND:
            return False  # made before what was heard: sent again by the broker, or overtaken by what it retained
        self._fence, self._said_at = receipt.fence, receipt.at
        return True

    def fits(self, receipt: Receipt) -> bool:
        """Tell whether what the head-end has is what our log had: the record of the check is the same. Blocking."""
        following = self._log.next_seq
        highest = max([receipt.contiguous, *(last for _, last in receipt.held)])
        if highest >= following:
            return False
        if receipt.check is None or not receipt.check[1]:
            return True
        found = self._log.read(receipt.check[0], 1)
        if not found or not isinstance(found[0], Record):
            return True  # let go since: nothing to compare
        return zlib.crc32(found[0].payload) == receipt.check[1]

    def begin_anew(self) -> None:
        """Go on under a new epoch: the log was put back, and its seqs mean other records than the head-end's."""
        epoch = new_epoch()
        if self._on_put_back is not None:
            self._on_put_back(epoch)
        save_epoch(self._state, self._log.epoch, epoch)
        _log.error("the log was put back to an earlier state; it goes on under a new epoch", old=self.epoch, new=epoch)
        self.epoch = epoch
        self.put_back += 1
        self.answered = False
        self.have, self.contiguous, self._said_at = Ranges(), 0, 0

    def take(self, receipt: Receipt) -> bool:
        """Take up what the head-end has; tell whether it is more than was known."""
        have = Ranges([(1, receipt.contiguous + 1), *((first, last + 1) for first, last in receipt.held)])
        more = have.total > self.have.total
        self.have, self.contiguous = have, receipt.contiguous
        return more

    def settle(self) -> None:
        """Move the cursor to what the head-end lacks, and tell so. Blocking. Raises `StorageError`."""
        position = max(self.contiguous + 1, self._log.first_seq)
        if position != self._cursor.position:
            self._cursor.move(position)
        if self._on_receipt is not None:
            self._on_receipt(self.contiguous)
