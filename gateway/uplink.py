"""From the gateway's log to the head-end: a cursor that only receipts move, two lanes, and sending again. No meters.

What the broker acknowledges proves nothing, so nothing rests on it. A receipt says which seqs the head-end has; what
it lacks is sent: the newest by the live lane as it comes, older gaps by the backlog lane, oldest first, each with a
window of its own, so that catching up never delays the present. What got no receipt in time is a gap again and is
sent again after a pause that grows. What the log cannot deliver any more goes up as `Skipped`, counted.

Seqs are only good within an epoch. Before anything is sent the head-end answers this very start with a receipt, and
its check must fit our log: a log that was put back to an earlier state would give known seqs to new records, so it
takes a new epoch and sends what it holds under that.
"""

import asyncio
import contextlib
import random
import secrets
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
from paho.mqtt import client as paho

from gateway.epoch import load_epoch, new_epoch, save_epoch
from metering import wire
from metering.errors import LinkDownError, StorageError
from metering.model import SECOND, Skipped
from metering.ranges import Ranges
from metering.supply import CommandMessage
from metering.timing import now
from metering.wire import ConfigOffer, Control, Receipt, Status, Up, WireError
from mqtt.client import MqttSettings, Will
from mqtt.loop import ConnectionStatus, MqttConnection
from storage.log import Log, Record

CURSOR = "uplink"
LIVE_WINDOW = 8  # messages of a lane that wait for their receipt
BACKLOG_WINDOW = 8
MESSAGE_RECORDS = 64
MESSAGE_BYTES = 128 * 1024  # a message ends after the record that reaches it
MAX_RECORD_BYTES = wire.MAX_UP_BYTES - 4096  # a longer record fits no message and is told as unreadable
LIVE_RECORDS = 64  # a log that is behind by no more is live altogether
RECEIPT_WAIT_S = 10.0  # for a receipt; then it is sent again
LONGEST_WAIT_S = 300.0
SPREAD = 0.5  # a pause is shortened by up to this part, by chance
LATE_S = 300.0  # that brokers bring a receipt later than a newer one; beyond it the head-end's clock was put back
BIRTH_S = 10.0  # until a birth without an answer is repeated
STATUS_S = 300.0
MAX_ROUND_TRIP_S = 5.0  # of a birth and its receipt; a longer one says too little of our clock
TICK_S = 0.5
LEAVES = ("receipt", "control", "config", "commands")  # of the topics that a head-end speaks on
MAX_CONTROLS = 100  # ids of controls that were done, to know them again

_log = structlog.get_logger(__name__)


class Facts(NamedTuple):
    """What the status tells of the gateway."""

    meters: int = 0
    clock_suspect: bool = False
    version: str = ""
    config_version: int = 0


class Flight(NamedTuple):
    """A message on its way: seqs `first` to `end` (exclusive)."""

    first: int
    end: int
    sent: float
    due: float
    live: bool


class UplinkStatus(NamedTuple):
    """How the uplink fares. `behind` are the seqs that the head-end has not."""

    connection: ConnectionStatus
    epoch: str
    contiguous: int
    behind: int
    in_flight: int
    sent: int
    sent_again: int
    put_back: int  # times that the log was found to be at an earlier state


class Uplink:
    """Brings one log to the head-end. `run` until told to stop.

    `on_receipt` is told, in a thread of its own, up to which seq the head-end has all, once the cursor has moved;
    `on_put_back`, likewise, the new epoch of a log that was put back, before that epoch is used.
    """

    def __init__(
        self,
        log: Log,
        state: Path,
        gateway: str,
        settings: MqttSettings,
        facts: Callable[[], Facts] = Facts,
        *,
        on_control: Mapping[str, Callable[[Control], None]] | None = None,
        on_receipt: Callable[[int], None] | None = None,
        on_put_back: Callable[[str], None] | None = None,
        on_offer: Callable[[ConfigOffer], None] | None = None,
        on_command: Callable[[CommandMessage], None] | None = None,
    ) -> None:
        self._log = log
        self._state = state
        self._gateway = gateway
        self._facts = facts
        self._on_control = dict(on_control or {})
        self._on_receipt = on_receipt
        self._on_put_back = on_put_back
        self._on_offer = on_offer
        self._on_command = on_command
        self._cursor = log.cursor(CURSOR, "first")
        self._epoch = load_epoch(state, log.epoch)
        self._boot = secrets.token_hex(8)
        self._offset_ms: int | None = None
        self._born_at = 0
        self.told_to_leave = asyncio.Event()  # another gateway of this id is at work: end, and say so
        # A name of its own for each run: brokers cut off the first of two clients of one name, and would not tell.
        settings = replace(settings, client_id=f"{settings.client_id}-{self._boot[:8]}")
        self._connection = MqttConnection(
            settings,
            self._message,
            on_up=self._up,
            on_down=self._down,
            will=Will(wire.topic(gateway, "status"), self._gone()),
        )
        self._connection.subscribe([wire.topic(gateway, leaf) for leaf in LEAVES])
        self._have = Ranges()
        self._contiguous = 0
        self._fence = 0  # the highest of this connection's receipts
        self._said_at = 0  # when the last receipt was made, by the head-end's clock
        self._answered = False  # the head-end has answered this boot
        self._live_at = 0
        self._again = Ranges()
        self._flights: list[Flight] = []
        self._failed = 0
        self._hold_until = 0.0
        self._told_nothing = False  # the last receipt had nothing new
        self._receipts: deque[Receipt] = deque(maxlen=16)
        self._done: deque[str] = deque(maxlen=MAX_CONTROLS)
        self._wake = asyncio.Event()
        self._next_status = 0.0
        self._sent = self._sent_again = self._put_back = 0
        self._highest = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the connection and send until `stop`; then say that this run ends, and end."""
        hang_up = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connection.run(hang_up))
            pump = group.create_task(self._pump(stop))
            watch = group.create_task(self._watch())
            await stop.wait()
            for task in (pump, watch):
                task.cancel()
            await asyncio.wait((pump, watch))  # nothing of this run comes after its last word
            self._say_gone()
            hang_up.set()

    @property
    def boot(self) -> str:
        """Return the random id of this run."""
        return self._boot

    def holds(self, seq: int) -> bool:
        """Tell whether the head-end has this record, as far as its receipts say."""
        return self._have.count(seq, seq + 1) > 0

    def status(self) -> UplinkStatus:
        """Return how it fares."""
        behind = self._log.next_seq - 1 - self._have.count(1, self._log.next_seq)
        return UplinkStatus(
            self._connection.status(),
            self._epoch,
            self._contiguous,
            max(0, behind),
            len(self._flights),
            self._sent,
            self._sent_again,
            self._put_back,
        )

    # --- the epoch ----------------------------------------------------------------------------------------------------

    def _fits(self, receipt: Receipt) -> bool:
        """Tell whether what the head-end has is what our log had: the record of the check is the same."""
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

    def _begin_anew(self) -> None:
        """Go on under a new epoch: the log was put back, and its seqs mean other records than the head-end's."""
        epoch = new_epoch()
        if self._on_put_back is not None:
            self._on_put_back(epoch)
        save_epoch(self._state, self._log.epoch, epoch)
        _log.error("the log was put back to an earlier state; it goes on under a new epoch", old=self._epoch, new=epoch)
        self._epoch = epoch
        self._put_back += 1
        self._answered = False
        self._have, self._flights, self._contiguous, self._said_at = Ranges(), [], 0, 0
        self._next_status = 0.0

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _up(self) -> None:
        self._next_status = 0.0
        self._hold_until = 0.0
        self._wake.set()

    def _down(self) -> None:
        self._flights = []  # gaps again, once connected
        self._answered = False
        self._fence = 0

    def _message(self, message: paho.MQTTMessage) -> None:
        leaf = message.topic.rpartition("/")[2]
        try:
            if leaf == "receipt":
                receipt = wire.decode(bytes(message.payload), Receipt)
                if message.retain and receipt.epoch == self._epoch and receipt.contiguous < self._contiguous:
                    return  # a broker's node that was dead brings an old one; what holds now answers our birth
                self._receipts.append(receipt)
            elif leaf == "control":
                self._control(wire.decode(bytes(message.payload), Control))
            elif leaf == "config" and self._on_offer is not None:
                self._on_offer(wire.decode(bytes(message.payload), ConfigOffer))
            elif leaf == "commands" and self._on_command is not None:
                self._on_command(wire.decode(bytes(message.payload), CommandMessage))
        except WireError as error:
            _log.warning("a message of the head-end that cannot be read", leaf=leaf, reason=str(error))
        self._wake.set()

    def _control(self, control: Control) -> None:
        if control.id in self._done:
            return
        if control.kind in {"replay", "afresh"}:
            self._ask_again(control)
        elif control.kind in {"call", "leave"}:
            self._summon(control)
        elif (handler := self._on_control.get(control.kind)) is not None:
            handler(control)
        self._done.append(control.id)

    def _summon(self, control: Control) -> None:
        if control.boot != self._boot:
            return
        if control.kind == "leave":
            _log.error("another gateway of this id is at work; this one ends", gateway=self._gateway)
            self.told_to_leave.set()
        else:
            self._next_status = 0.0

    def _ask_again(self, control: Control) -> None:
        if control.epoch != self._epoch:
            return
        first, last = max(1, control.first), min(control.last, self._log.next_seq - 1)
        if control.kind == "afresh":
            first, last = 1, self._log.next_seq - 1
        self._again.add(first, last + 1)

    def _take(self, receipt: Receipt) -> None:
        """Take up what the head-end has. Blocking: it reads the log and moves the cursor."""
        if receipt.epoch != self._epoch or (not self._answered and receipt.boot != self._boot):
            return  # of another log, or from before this start: the answer to our birth comes
        if receipt.fence < self._fence:
            return  # from a head-end that was relieved since
        late_us = self._said_at - receipt.at
        if receipt.contiguous < self._contiguous and 0 < late_us <= LATE_S * SECOND:
            return  # made before what was heard: sent again by the broker, or overtaken by what it retained
        self._fence, self._said_at = receipt.fence, receipt.at
        if not self._fits(receipt):
            self._begin_anew()
            return
        have = Ranges([(1, receipt.contiguous + 1), *((first, last + 1) for first, last in receipt.held)])
        self._hold_until = 0.0  # the head-end speaks
        if have.total > self._have.total:
            self._failed = 0
        else:
            self._told_nothing = True
        self._have, self._contiguous = have, receipt.contiguous
        self._flights = [each for each in self._flights if have.count(each.first, each.end) < each.end - each.first]
        position = max(receipt.contiguous + 1, self._log.first_seq)
        if position != self._cursor.position:
            self._cursor.move(position)
        if self._on_receipt is not None:
            self._on_receipt(receipt.contiguous)
        if not self._answered:
            self._answered = True
            self._offset_ms = _clock_offset_ms(self._born_at, receipt.at, now())
            self._next_status = 0.0
            behind = self._log.next_seq - self._contiguous - 1
            self._live_at = self._contiguous + 1 if behind <= LIVE_RECORDS else self._log.next_seq

    # --- what goes ----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Wake the pump when the log grows."""
        while True:
            await self._log.wait_for(max(self._live_at, self._log.next_seq))
            self._wake.set()

    async def _pump(self, stop: asyncio.Event) -> None:
        while not stop.is_set():  # in Python 3.11 the wait below can swallow a cancellation
            self._wake.clear()
            try:
                while self._receipts:
                    receipt = self._receipts.popleft()
                    await asyncio.to_thread(self._take, receipt)
                if self._connection.status().connected:
                    self._say_status()
                    if self._answered:
                        await self._send()
            except (StorageError, LinkDownError, OSError) as error:
                _log.warning("the uplink waits", reason=str(error))
                await asyncio.sleep(TICK_S)
            try:
                await asyncio.wait_for(self._wake.wait(), TICK_S)
            except TimeoutError:
                continue

    async def _send(self) -> None:
        clock = asyncio.get_running_loop().time()
        if self._told_nothing:  # it speaks, and not of these: it came back without them
            self._told_nothing = False
            self._flights = [each for each in self._flights if each.sent + RECEIPT_WAIT_S > clock]
        late = [each for each in self._flights if each.due <= clock]
        if late:
            self._flights = [each for each in self._flights if each.due > clock]
            self._back_off(clock)
        if clock < self._hold_until:
            return
        while self._room(live=True) and self._live_at < self._log.next_seq:
            if not await self._fly(self._live_at, self._log.next_seq, live=True):
                break
        while self._room(live=False) and (gap := self._next_gap()) is not None:
            if not await self._fly(*gap, live=False):
                break

    def _back_off(self, clock: float) -> None:
        """Wait longer after each round without a receipt; what else of a round is late makes it no longer."""
        if clock < self._hold_until:
            return
        self._failed += 1
        longest = min(LONGEST_WAIT_S, RECEIPT_WAIT_S * 2.0 ** min(self._failed - 1, 10))
        self._hold_until = clock + longest * (1 - SPREAD * random.random()) * min(1, self._failed - 1)  # noqa: S311 - spreads a fleet

    def _room(self, *, live: bool) -> bool:
        window = LIVE_WINDOW if live else BACKLOG_WINDOW
        return sum(each.live == live for each in self._flights) < window

    def _next_gap(self) -> tuple[int, int] | None:
        """Return the oldest seqs that are neither held nor on their way, or that were asked for once more."""
        taken = Ranges((each.first, each.end) for each in self._flights)
        for start, end in self._again:
            return start, end
        taken.update(self._have)
        return next(taken.gaps(1, min(self._live_at, self._log.next_seq)), None)

    async def _fly(self, first: int, end: int, *, live: bool) -> bool:
        """Send one message of seqs from `first`, below `end`; False where the log gives none."""
        up, after = await asyncio.to_thread(self._message_of, first, end)
        if up is None:
            return False
        self._connection.publish(wire.topic(self._gateway, "up"), wire.encode(up))
        wait = min(LONGEST_WAIT_S, RECEIPT_WAIT_S * 2.0 ** min(self._failed, 10))
        clock = asyncio.get_running_loop().time()
        self._flights.append(Flight(first, after, clock, clock + wait, live))
        self._sent += 1
        self._sent_again += after <= self._highest
        self._highest = max(self._highest, after)
        self._again.remove(first, after)
        if live:
            self._live_at = after
        return True

    def _message_of(self, first: int, end: int) -> tuple[Up | None, int]:
        """Return a message of the records from `first` on, and the seq after its last. Blocking."""
        records: list[bytes | Skipped] = []
        size, seq = 0, first
        for item in self._log.read(first, min(MESSAGE_RECORDS, end - first), MESSAGE_BYTES):
            record, after = _wire_form(item, seq)
            length = len(record) if isinstance(record, bytes) else 0
            if records and size + length > MAX_RECORD_BYTES:
                break
            records.append(record)
            size, seq = size + length, after
            if seq >= end:
                break
        return (Up(self._epoch, first, records, self._boot), seq) if records else (None, first)

    def _say_status(self) -> None:
        """Publish the status when it is time: at each connect until it is answered, and now and then."""
        clock = asyncio.get_running_loop().time()
        if clock < self._next_status:
            return
        facts = self._facts()
        status = Status(
            self._gateway,
            self._epoch,
            self._boot,
            facts.version,
            facts.meters,
            self._log.first_seq,
            self._log.next_seq,
            self._contiguous,
            facts.clock_suspect,
            self._offset_ms,
            at=(at := now()),
            config_version=facts.config_version,
        )
        self._born_at = at
        self._connection.publish(wire.topic(self._gateway, "status"), wire.encode(status), retain=True)
        self._next_status = clock + (STATUS_S if self._answered else BIRTH_S)

    def _gone(self) -> bytes:
        return wire.encode(Status(self._gateway, self._epoch, self._boot, online=False, at=now()))

    def _say_gone(self) -> None:
        """Say what the last will would: brokers keep that back after a disconnect in order.

        A run that was told to leave says nothing: the topic's retained word is that of the run at work.
        """
        if self.told_to_leave.is_set():
            return
        with contextlib.suppress(LinkDownError):  # without a connection the will has said it
            self._connection.publish(wire.topic(self._gateway, "status"), self._gone(), retain=True)


def _clock_offset_ms(born: int, answered: int, now: int) -> int | None:
    """Return how far our clock is ahead of the head-end's; None where the answer took too long to tell.

    `answered` is the head-end's instant between our two; all in microseconds.
    """
    if not 0 <= now - born <= MAX_ROUND_TRIP_S * SECOND:
        return None
    return ((born + now) // 2 - answered) // 1000


def _wire_form(item: Record | Skipped, seq: int) -> tuple[bytes | Skipped, int]:
    """Return an item of the log as it goes up, and the seq after it."""
    if isinstance(item, Record):
        if len(item.payload) > MAX_RECORD_BYTES:
            return Skipped(item.seq, item.seq, "quarantined"), item.seq + 1
        return item.payload, item.seq + 1
    if item.from_seq < seq:
        item = msgspec.structs.replace(item, from_seq=seq)
    return item, item.to_seq + 1
