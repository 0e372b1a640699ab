"""What is on its way to the head-end, in two lanes, and what is sent again. It hears no receipts itself.

What the head-end lacks is sent: the newest by the live lane as it comes, older gaps by the backlog lane, oldest first,
each with a window of its own, so that catching up never delays the present. What got no receipt in time is a gap again
and is sent again after a pause that grows. What the log cannot deliver any more goes up as `Skipped`, counted.
"""

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway.uplink_standing import Standing
from metering import wire
from metering.model import Skipped
from metering.ranges import Ranges
from metering.wire import Control, Up
from storage.log import Log, Record

LIVE_WINDOW = 8  # messages of a lane that wait for their receipt
BACKLOG_WINDOW = 8
MESSAGE_RECORDS = 64
MESSAGE_BYTES = 128 * 1024  # a message ends after the record that reaches it
MAX_RECORD_BYTES = wire.MAX_UP_BYTES - 4096  # a longer record fits no message and is told as unreadable
LIVE_RECORDS = 64  # a log that is behind by no more is live altogether
RECEIPT_WAIT_S = 10.0  # for a receipt; then it is sent again
LONGEST_WAIT_S = 300.0
SPREAD = 0.5  # a pause is shortened by up to this part, by chance


class Flight(NamedTuple):
    """A message on its way: seqs `first` to `end` (exclusive)."""

    first: int
    end: int
    sent: float
    due: float
    live: bool


class Flights:
    """Sends what the head-end lacks of a log. `publish` sends one message and may raise `LinkDownError`."""

    def __init__(self, log: Log, standing: Standing, publish: Callable[[Up], None]) -> None:
        self._log = log
        self._standing = standing
        self._publish = publish
        self._flights: list[Flight] = []
        self._again = Ranges()
        self._failed = 0
        self._hold_until = 0.0
        self._told_nothing = False  # the last receipt had nothing new
        self._highest = 0
        self.live_at = 0  # the next seq of the live lane
        self.sent = self.sent_again = 0

    def __len__(self) -> int:
        """Return how many messages are on their way."""
        return len(self._flights)

    def connected(self) -> None:
        """Send at once, however long the pause was to be."""
        self._hold_until = 0.0

    def drop(self) -> None:
        """Take what was on its way for lost: gaps again, once connected."""
        self._flights = []

    def heard(self, *, more: bool) -> None:
        """Know that the head-end speaks, and what it has now; `more` than before."""
        self._hold_until = 0.0
        if more:
            self._failed = 0
        else:
            self._told_nothing = True
        have = self._standing.have
        self._flights = [each for each in self._flights if have.count(each.first, each.end) < each.end - each.first]

    def begin(self) -> None:
        """Set where the live lane begins: the head-end has answered this start."""
        contiguous, following = self._standing.contiguous, self._log.next_seq
        self.live_at = contiguous + 1 if following - contiguous - 1 <= LIVE_RECORDS else following

    def ask_again(self, control: Control) -> None:
        """Send a range once more, as a head-end asks, or all that there is."""
        if control.epoch != self._standing.epoch:
            return
        first, last = max(1, control.first), min(control.last, self._log.next_seq - 1)
        if control.kind == "afresh":
            first, last = 1, self._log.next_seq - 1
        self._again.add(first, last + 1)

    async def send(self) -> None:
        """Send what is due. Raises `LinkDownError`, `StorageError`, `OSError`."""
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
        while self._room(live=True) and self.live_at < self._log.next_seq:
            if not await self._fly(self.live_at, self._log.next_seq, live=True):
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
        taken.update(self._standing.have)
        return next(taken.gaps(1, min(self.live_at, self._log.next_seq)), None)

    async def _fly(self, first: int, end: int, *, live: bool) -> bool:
        """Send one message of seqs from `first`, below `end`; False where the log gives none."""
        up, after = await asyncio.to_thread(self._message_of, first, end)
        if up is None:
            return False
        self._publish(up)
        wait = min(LONGEST_WAIT_S, RECEIPT_WAIT_S * 2.0 ** min(self._failed, 10))
        clock = asyncio.get_running_loop().time()
        self._flights.append(Flight(first, after, clock, clock + wait, live))
        self.sent += 1
        self.sent_again += after <= self._highest
        self._highest = max(self._highest, after)
        self._again.remove(first, after)
        if live:
            self.live_at = after
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
        return (Up(self._standing.epoch, first, records, self._standing.boot), seq) if records else (None, first)


def _wire_form(item: Record | Skipped, seq: int) -> tuple[bytes | Skipped, int]:
    """Return an item of the log as it goes up, and the seq after it."""
    if isinstance(item, Record):
        if len(item.payload) > MAX_RECORD_BYTES:
            return Skipped(item.seq, item.seq, "quarantined"), item.seq + 1
        return item.payload, item.seq + 1
    if item.from_seq < seq:
        item = msgspec.structs.replace(item, from_seq=seq)
    return item, item.to_seq + 1
