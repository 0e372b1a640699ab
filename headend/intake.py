"""From the inbox into the head-end's log, and receipts back: committed first, told afterwards. It knows no broker.

What gateways send is checked record by record; what is all right is stored byte for byte with where it came from.
A receipt is made from the ledger alone, and the ledger takes only what the log's append has returned for: so a receipt
never runs ahead of the log, whatever is killed when.
"""

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from headend.admission import Assigned, admit, alert
from headend.books import Books, Noting
from headend.group import Group
from headend.held import held_blocks
from headend.inbox.port import Delivery, Inbox
from headend.journal import Handler
from headend.receipts import Receipts
from headend.seqs import Ledger
from headend.state.held import HeldBack
from headend.statuses import Statuses
from headend.strikes import Strikes
from metering import events, timing, wire
from metering.batch import Batch
from metering.errors import StorageError
from metering.model import Block, Skipped
from metering.wire import Receipt, UnknownVersionError, Up, WireError
from storage.codec import Origin, pack
from storage.log import Log
from storage.quarantine import Quarantine

FETCH = 256  # deliveries that are committed together
REFUSED_PAUSE_S = 1.0  # while the log accepts nothing
SNAPSHOT_RECORDS = 20_000  # after so many the ledger is written down
NAK_S = 5.0

_log = structlog.get_logger(__name__)


@dataclass
class IntakeCounts:
    """What came since the start."""

    deliveries: int = 0
    records: int = 0
    readings: int = 0
    duplicates: int = 0  # records that were committed already
    refused_readings: int = 0  # of devices never assigned to the gateway
    future_blocks: int = 0
    quarantined: int = 0
    unknown_gateway: int = 0
    refused_versions: int = 0
    refused_runs: int = 0  # messages of a second gateway of the same id, which was told to leave
    receipts: int = 0
    last_error: str = ""


class Intake:
    """Takes what an inbox gives for the gateways that `gateways` names. `run` until told to stop."""

    def __init__(
        self,
        inbox: Inbox,
        log: Log,
        books: Books,
        quarantine: Quarantine,
        gateways: Callable[[str], bool],
        assigned: Assigned,
        held: HeldBack,
        clock: Callable[[], int] = timing.now,
    ) -> None:
        self._inbox = inbox
        self._log = log
        self._books = books
        self._quarantine = quarantine
        self._is_known = gateways
        self._assigned = assigned
        self._held = held
        self._clock = clock
        self.ledger: Ledger = books.load()
        self._noting = Noting(books, self.ledger)
        self.reserved: Handler = lambda _entries: None  # takes counters that gateways reserved, before the receipt
        self.counts = IntakeCounts()
        self._receipts = Receipts(inbox, self.receipt, self._told)
        self.statuses = Statuses(inbox, gateways, books.holds, clock, self._receipts.tell)
        self.gateways = self.statuses.known
        self._strikes = Strikes()
        self._since_snapshot = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Take deliveries and publish receipts until `stop`; write the ledger down at the end."""
        async with asyncio.TaskGroup() as group:
            work = (self._take(), self._receipts.run(), self.statuses.run())
            tasks = [group.create_task(each) for each in work]
            await stop.wait()
            for task in tasks:
                task.cancel()
        with contextlib.suppress(OSError, StorageError):  # the log has it; the next start reads it there
            await asyncio.to_thread(self._books.save, self.ledger, self._log.next_seq)

    def tell_all(self) -> None:
        """Publish every known gateway's receipt anew: the broker may have lost what it retained."""
        for gateway in self.gateways:
            self._receipts.tell(gateway)

    def answers(self, gateway: str) -> bool:
        """Tell whether this head-end is the one that answers a gateway."""
        return self._books.holds(gateway)

    def receipt(self, gateway: str) -> Receipt | None:
        """Return what is committed of a gateway's present epoch; None where it is not known yet, or is another's."""
        known = self.gateways.get(gateway)
        if known is None or not known.epoch:
            return None
        seqs = self.ledger.of(gateway, known.epoch)
        boot, fence = self.statuses.boot(gateway), self._books.fence(gateway)
        found = Receipt(known.epoch, seqs.contiguous, seqs.held(), self._clock(), seqs.check, boot, fence)
        # Asked last: a partition that goes while this is made takes its ledger along.
        return found if self._books.holds(gateway) else None

    def _told(self) -> None:
        self.counts.receipts += 1

    # --- deliveries ---------------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        while True:
            await self.take(await self._inbox.fetch(FETCH))

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Commit a group of deliveries, then acknowledge them."""
        self.counts.deliveries += len(deliveries)
        for each in deliveries:
            if each.leaf == "status":
                self.counts.unknown_gateway += not self.statuses.take(each)
        try:
            work = await asyncio.to_thread(self.commit, deliveries)
        except StorageError as error:
            if self.counts.last_error != str(error):
                _log.error("nothing can be committed", reason=str(error))
            self.counts.last_error = str(error)
            await asyncio.sleep(REFUSED_PAUSE_S)
            for each in deliveries:
                await each.nak(NAK_S)
            return
        self.counts.last_error = ""
        for place, each in enumerate(deliveries):
            if place in work:
                await each.nak(NAK_S)
            else:
                await each.ack()
            if each.leaf == "up" and each.gateway in self.gateways:
                self._receipts.tell(each.gateway)

    def commit(self, deliveries: Sequence[Delivery]) -> set[int]:
        """Check and store what a group holds; return the places of those that are to come again. Blocking.

        Raises:
            StorageError: the log or the shared state took nothing.

        """
        self._noting.settle()
        work = Group()
        for place, each in enumerate(deliveries):
            if each.leaf == "up":
                self._up(work, place, each)
        raised = self.statuses.alerts()
        work.alerts.update((each.id, each) for each in raised)
        if work.alerts:
            work.payloads.append(pack(Batch(self._clock(), events=tuple(work.alerts.values()))))
        if work.held:
            self._held.put(work.held)
        if work.reserved:
            self.reserved(work.reserved)
        if work.payloads:
            self._log.append_now(work.payloads)
            self.statuses.stored(raised)
        if gone := self._noting.note(work.seqs):
            work.refused |= {place for place, each in enumerate(deliveries) if each.gateway in gone}
        self.counts.records += len(work.seqs)
        self.counts.readings += work.readings
        self._snapshot(len(work.seqs))
        return work.refused

    def _snapshot(self, taken: int) -> None:
        self._since_snapshot += taken
        if self._since_snapshot < SNAPSHOT_RECORDS:
            return
        self._since_snapshot = 0
        with contextlib.suppress(OSError, StorageError):  # an older snapshot and the log say the same
            self._books.save(self.ledger, self._log.next_seq)

    def _up(self, work: Group, place: int, delivery: Delivery) -> None:
        gateway = delivery.gateway
        if not self._is_known(gateway):
            self.counts.unknown_gateway += 1
            return
        if not self._books.holds(gateway):
            work.refused.add(place)
            return
        try:
            up = wire.decode(delivery.payload, Up)
            wire.end_of(up)
        except UnknownVersionError as error:
            self._version(work, gateway, str(error))
            return
        except WireError as error:
            if self._strikes.out((gateway, "", zlib.crc32(delivery.payload)), delivery.deliveries):
                self._aside(work, gateway, "a message", str(error), delivery.payload)
            else:
                work.refused.add(place)
            return
        if self.statuses.refuses(gateway, up.boot):
            self.counts.refused_runs += 1
            work.alert(self.statuses.refusal(gateway))
            return
        if not self.ledger.room(gateway, up.epoch):
            _log.error("a gateway came with too many epochs", gateway=gateway, epoch=up.epoch)
            return
        self.statuses.sent(gateway, up)
        if not self.ledger.knows(gateway, up.epoch) and self.ledger.epochs(gateway):
            work.alert(alert(gateway, events.LOG_REPLACED, self._clock(), epoch=up.epoch))
        self._records(work, place, gateway, up)

    def _records(self, work: Group, place: int, gateway: str, up: Up) -> None:
        seq = up.first_seq
        for record in up.records:
            last = record.to_seq if isinstance(record, Skipped) else seq
            if self.ledger.has(gateway, up.epoch, seq, last) or (gateway, up.epoch, seq) in work.pending:
                self.counts.duplicates += 1
            elif not self._record(work, Origin(gateway, up.epoch, seq, last), record):
                work.refused.add(place)
            seq = last + 1

    def _record(self, work: Group, origin: Origin, record: bytes | Skipped) -> bool:
        """Take one record; False: it cannot be decoded and is to come again."""
        now = self._clock()
        if isinstance(record, Skipped):
            work.store(origin, pack(Batch(now, skipped=(record,))))
            return True
        origin = origin._replace(check=zlib.crc32(record))
        known = self.gateways[origin.gateway]
        offset = f"{known.offset_s:.1f}" if known.offset_s is not None else ""
        try:
            admitted = admit(origin.gateway, record, now, self._assigned, offset)
        except ValueError as error:
            if not self._strikes.out((origin.gateway, origin.epoch, origin.first), 1):
                return False
            self._aside(work, origin.gateway, f"record {origin.first} of {origin.epoch}", str(error), record)
            gone = Skipped(origin.first, origin.last, "quarantined")
            work.store(origin, pack(Batch(now, skipped=(gone,))))
            return True
        if admitted.future and not self._hold(work, origin, admitted.future, known.offset_s):
            return False
        self.counts.future_blocks += len(admitted.future)
        self.counts.refused_readings += admitted.refused
        for each in admitted.alerts:
            work.alert(each)
        work.readings += admitted.readings
        work.reserved += [(origin.gateway, entry) for entry in admitted.journal if entry.kind == "counter"]
        work.store(origin, admitted.payload, admitted.journal)
        return True

    def _hold(self, work: Group, origin: Origin, blocks: Sequence[Block], offset_s: float | None) -> bool:
        """Have blocks of the future held back; False where too many of this gateway are: its own log keeps them."""
        if not self._held.room(origin.gateway):
            _log.error("too much of a gateway is held back: decide about it", gateway=origin.gateway)
            return False
        work.held += held_blocks(origin, blocks, self._clock(), offset_s)
        return True

    def _aside(self, work: Group, gateway: str, what: str, reason: str, payload: bytes) -> None:
        self.counts.quarantined += 1
        self._quarantine.put(f"{gateway}: {what}", reason, payload)
        _log.warning("put aside", gateway=gateway, what=what, reason=reason)
        work.alert(alert(gateway, events.BATCH_QUARANTINED, self._clock(), what=what, reason=reason[:200]))

    def _version(self, work: Group, gateway: str, reason: str) -> None:
        self.counts.refused_versions += 1
        work.alert(alert(gateway, events.VERSION_REFUSED, self._clock(), reason=reason))
