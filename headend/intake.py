"""From the inbox into the head-end's log, and receipts back: committed first, told afterwards. It knows no broker.

What gateways send is checked record by record; what is all right is stored byte for byte with where it came from.
A receipt is made from the ledger alone, and the ledger takes only what the log's append has returned for: so a receipt
never runs ahead of the log, whatever is killed when.
"""

import asyncio
import contextlib
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from headend.admission import Assigned, admit, alert
from headend.books import Books, Noting
from headend.held import held_blocks
from headend.inbox.port import Delivery, Inbox
from headend.journal import Handler, entries_of
from headend.seqs import Ledger
from headend.state.held import HeldBack, HeldBlock
from headend.statuses import Statuses
from metering import events, timing, wire
from metering.batch import Batch
from metering.errors import LinkDownError, StorageError
from metering.model import Block, Event, JournalEntry, Skipped
from metering.wire import Receipt, UnknownVersionError, Up, WireError
from storage.codec import Origin, pack, with_origin
from storage.log import Log
from storage.quarantine import Quarantine

FETCH = 256  # deliveries that are committed together
RECEIPT_S = 0.2  # at most one receipt of a gateway in this time
STRIKES = 3  # deliveries of what cannot be decoded, before it goes to the quarantine
MAX_STRIKES = 10_000  # things that are being counted so; the oldest are forgotten
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


@dataclass
class _Work:
    """What one group of deliveries will commit."""

    payloads: list[bytes] = field(default_factory=list)
    seqs: list[Origin] = field(default_factory=list)
    pending: set[tuple[str, str, int]] = field(default_factory=set)
    alerts: dict[str, Event] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)  # places of deliveries that are to come again
    readings: int = 0
    held: list[HeldBlock] = field(default_factory=list)
    reserved: list[tuple[str, JournalEntry]] = field(default_factory=list)


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
        self._statuses = Statuses(inbox, gateways, books.holds, clock, self._tell)
        self.gateways = self._statuses.known
        self._strikes: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self._due: dict[str, None] = {}
        self._some_due = asyncio.Event()
        self._since_snapshot = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Take deliveries and publish receipts until `stop`; write the ledger down at the end."""
        async with asyncio.TaskGroup() as group:
            work = (self._take(), self._receipts(), self._statuses.run())
            tasks = [group.create_task(each) for each in work]
            await stop.wait()
            for task in tasks:
                task.cancel()
        with contextlib.suppress(OSError, StorageError):  # the log has it; the next start reads it there
            await asyncio.to_thread(self._books.save, self.ledger, self._log.next_seq)

    def tell_all(self) -> None:
        """Publish every known gateway's receipt anew: the broker may have lost what it retained."""
        for gateway in self.gateways:
            self._tell(gateway)

    def answers(self, gateway: str) -> bool:
        """Tell whether this head-end is the one that answers a gateway."""
        return self._books.holds(gateway)

    def receipt(self, gateway: str) -> Receipt | None:
        """Return what is committed of a gateway's present epoch; None where it is not known yet, or is another's."""
        known = self.gateways.get(gateway)
        if known is None or not known.epoch:
            return None
        seqs = self.ledger.of(gateway, known.epoch)
        boot, fence = self._statuses.boot(gateway), self._books.fence(gateway)
        found = Receipt(known.epoch, seqs.contiguous, seqs.held(), self._clock(), seqs.check, boot, fence)
        # Asked last: a partition that goes while this is made takes its ledger along.
        return found if self._books.holds(gateway) else None

    # --- deliveries ---------------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        while True:
            await self.take(await self._inbox.fetch(FETCH))

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Commit a group of deliveries, then acknowledge them."""
        self.counts.deliveries += len(deliveries)
        for each in deliveries:
            if each.leaf == "status":
                self.counts.unknown_gateway += not self._statuses.take(each)
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
                self._tell(each.gateway)

    def commit(self, deliveries: Sequence[Delivery]) -> set[int]:
        """Check and store what a group holds; return the places of those that are to come again. Blocking.

        Raises:
            StorageError: the log or the shared state took nothing.

        """
        self._noting.settle()
        work = _Work()
        for place, each in enumerate(deliveries):
            if each.leaf == "up":
                self._up(work, place, each)
        raised = self._statuses.alerts()
        work.alerts.update((each.id, each) for each in raised)
        if work.alerts:
            work.payloads.append(pack(Batch(self._clock(), events=tuple(work.alerts.values()))))
        if work.held:
            self._held.put(work.held)
        if work.reserved:
            self.reserved(work.reserved)
        if work.payloads:
            self._log.append_now(work.payloads)
            self._statuses.stored(raised)
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

    def _up(self, work: _Work, place: int, delivery: Delivery) -> None:
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
            if self._strike((gateway, "", zlib.crc32(delivery.payload)), delivery.deliveries):
                self._aside(work, gateway, "a message", str(error), delivery.payload)
            else:
                work.refused.add(place)
            return
        if self._statuses.refuses(gateway, up.boot):
            self.counts.refused_runs += 1
            raised = self._statuses.refusal(gateway)
            work.alerts[raised.id] = raised
            return
        if not self.ledger.room(gateway, up.epoch):
            _log.error("a gateway came with too many epochs", gateway=gateway, epoch=up.epoch)
            return
        self._statuses.sent(gateway, up)
        if not self.ledger.knows(gateway, up.epoch) and self.ledger.epochs(gateway):
            raised = alert(gateway, events.LOG_REPLACED, self._clock(), epoch=up.epoch)
            work.alerts[raised.id] = raised
        self._records(work, place, gateway, up)

    def _records(self, work: _Work, place: int, gateway: str, up: Up) -> None:
        seq = up.first_seq
        for record in up.records:
            last = record.to_seq if isinstance(record, Skipped) else seq
            if self.ledger.has(gateway, up.epoch, seq, last) or (gateway, up.epoch, seq) in work.pending:
                self.counts.duplicates += 1
            elif not self._record(work, Origin(gateway, up.epoch, seq, last), record):
                work.refused.add(place)
            seq = last + 1

    def _record(self, work: _Work, origin: Origin, record: bytes | Skipped) -> bool:
        """Take one record; False: it cannot be decoded and is to come again."""
        now = self._clock()
        if isinstance(record, Skipped):
            self._store(work, origin, pack(Batch(now, skipped=(record,))))
            return True
        origin = origin._replace(check=zlib.crc32(record))
        known = self.gateways[origin.gateway]
        offset = f"{known.offset_s:.1f}" if known.offset_s is not None else ""
        try:
            admitted = admit(origin.gateway, record, now, self._assigned, offset)
        except ValueError as error:
            if not self._strike((origin.gateway, origin.epoch, origin.first), 1):
                return False
            self._aside(work, origin.gateway, f"record {origin.first} of {origin.epoch}", str(error), record)
            gone = Skipped(origin.first, origin.last, "quarantined")
            self._store(work, origin, pack(Batch(now, skipped=(gone,))))
            return True
        if admitted.future and not self._hold(work, origin, admitted.future, known.offset_s):
            return False
        self.counts.future_blocks += len(admitted.future)
        self.counts.refused_readings += admitted.refused
        for each in admitted.alerts:
            work.alerts[each.id] = each
        work.readings += admitted.readings
        work.reserved += entries_of("counter", origin.gateway, admitted.payload)
        self._store(work, origin, admitted.payload)
        return True

    def _hold(self, work: _Work, origin: Origin, blocks: Sequence[Block], offset_s: float | None) -> bool:
        """Have blocks of the future held back; False where too many of this gateway are: its own log keeps them."""
        if not self._held.room(origin.gateway):
            _log.error("too much of a gateway is held back: decide about it", gateway=origin.gateway)
            return False
        work.held += held_blocks(origin, blocks, self._clock(), offset_s)
        return True

    def _store(self, work: _Work, origin: Origin, payload: bytes) -> None:
        work.payloads.append(with_origin(origin, payload))
        work.seqs.append(origin)
        work.pending.add((origin.gateway, origin.epoch, origin.first))

    def _strike(self, key: tuple[str, str, int], deliveries: int) -> bool:
        """Count a delivery that could not be decoded; True when it was the last one."""
        count = max(self._strikes.pop(key, 0) + 1, deliveries)
        if count >= STRIKES:
            return True
        self._strikes[key] = count
        while len(self._strikes) > MAX_STRIKES:
            self._strikes.popitem(last=False)
        return False

    def _aside(self, work: _Work, gateway: str, what: str, reason: str, payload: bytes) -> None:
        self.counts.quarantined += 1
        self._quarantine.put(f"{gateway}: {what}", reason, payload)
        _log.warning("put aside", gateway=gateway, what=what, reason=reason)
        raised = alert(gateway, events.BATCH_QUARANTINED, self._clock(), what=what, reason=reason[:200])
        work.alerts[raised.id] = raised

    def _version(self, work: _Work, gateway: str, reason: str) -> None:
        self.counts.refused_versions += 1
        raised = alert(gateway, events.VERSION_REFUSED, self._clock(), reason=reason)
        work.alerts[raised.id] = raised

    # --- status and receipts ------------------------------------------------------------------------------------------

    def _tell(self, gateway: str) -> None:
        self._due[gateway] = None
        self._some_due.set()

    async def _receipts(self) -> None:
        """Publish what is due, each gateway at most once in RECEIPT_S."""
        while True:
            await self._some_due.wait()
            self._some_due.clear()
            due, self._due = self._due, {}
            for gateway in due:
                receipt = self.receipt(gateway)
                if receipt is None:
                    continue
                try:
                    await self._inbox.publish(wire.topic(gateway, "receipt"), wire.encode(receipt), retain=True)
                except LinkDownError:
                    self._due[gateway] = None  # told when the broker is back: `tell_all`
                    continue
                self.counts.receipts += 1
            await asyncio.sleep(RECEIPT_S)
            if self._due and not self._some_due.is_set():
                self._some_due.set()
