"""What gateways say of themselves, and which run of each is at work: statuses in, calls and refusals out."""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from msgspec import structs

from headend.admission import alert
from headend.births import Births, Order
from headend.inbox.port import Delivery, Inbox
from metering import events, wire
from metering.errors import LinkDownError
from metering.model import SECOND, Event
from metering.wire import Control, Status, Up, WireError

LOOK_S = 1.0  # how often overdue answers are looked for
MAX_ORDERS = 1000  # controls that wait for the broker; the oldest is let go: births repeat them
MAX_ALERTS = 1000

_log = structlog.get_logger(__name__)


@dataclass
class Known:
    """What is known of one gateway beside its seqs. `offset_s` is how far its clock is ahead; `seen` is our instant.

    `status` is the last one of the run at work; `refused` says why another run was told to leave.
    """

    epoch: str = ""
    status: Status | None = None
    offset_s: float | None = None
    seen: int | None = None
    refused: str = ""


class Statuses:
    """Takes statuses for the gateways that `gateways` names; `tell` is called where a receipt is due.

    `on_here` is called, on the loop, with each gateway that says it is there: what waits for it may be sent.

    Every head-end hears every status; only the one that `answers` a gateway orders it.
    """

    def __init__(
        self,
        inbox: Inbox,
        gateways: Callable[[str], bool],
        answers: Callable[[str], bool],
        clock: Callable[[], int],
        tell: Callable[[str], None],
    ) -> None:
        self._inbox = inbox
        self._is_known = gateways
        self._answers = answers
        self._clock = clock
        self._tell = tell
        self._births = Births()
        self._waiting: dict[str, dict[str, Status]] = {}  # the last status of each run that is not at work yet
        self._orders: deque[Order] = deque(maxlen=MAX_ORDERS)
        self._some = asyncio.Event()
        self._alerts: deque[Event] = deque(maxlen=MAX_ALERTS)  # until the log has them
        self.known: dict[str, Known] = {}
        self.on_here: Callable[[str], None] = lambda _gateway: None

    async def run(self) -> None:
        """Send what is to be said to gateways, and give up waiting for runs that do not answer, for ever."""
        while True:
            self._do(list(self._births.overdue(asyncio.get_running_loop().time())))
            while self._orders:
                order = self._orders.popleft()
                control = Control(secrets.token_hex(8), "call" if order.kind == "call" else "leave", boot=order.boot)
                try:
                    await self._inbox.publish(wire.topic(order.gateway, "control"), wire.encode(control), retain=False)
                except LinkDownError:
                    self._orders.clear()  # births come again with the connection
            self._some.clear()
            try:
                await asyncio.wait_for(self._some.wait(), LOOK_S)
            except TimeoutError:
                continue

    def take(self, delivery: Delivery) -> bool:
        """Take a status; False where its gateway is not known."""
        if not self._is_known(delivery.gateway):
            return False
        try:
            status = wire.decode(delivery.payload, Status)
        except WireError as error:
            _log.warning("a status that cannot be read", gateway=delivery.gateway, reason=str(error))
            return True
        if status.gateway != delivery.gateway:
            _log.warning("a status under another's name", gateway=delivery.gateway, named=status.gateway)
            return True
        known = self.known.setdefault(status.gateway, Known())
        last = known.status
        if not status.online and (last is None or last.boot == status.boot):
            known.status = structs.replace(last or status, online=False)
        orders = self._births.heard(status, asyncio.get_running_loop().time())
        runs = self._births.runs(status.gateway)
        waiting = {boot: each for boot, each in self._waiting.get(status.gateway, {}).items() if boot in runs}
        if status.online and status.boot in runs:
            waiting[status.boot] = status
        self._waiting[status.gateway] = waiting
        self._do(orders)
        return True

    def refuses(self, gateway: str, boot: str) -> bool:
        """Tell whether this run was told to leave, so that its records are refused."""
        return self._births.refused(gateway, boot)

    def sent(self, gateway: str, up: Up) -> None:
        """Note that records of a run came."""
        known = self.known.setdefault(gateway, Known())
        known.epoch, known.seen = up.epoch, self._clock()
        self._births.sent(gateway, up.boot)

    def boot(self, gateway: str) -> str:
        """Return the run at work, whose births receipts answer; empty where none is known."""
        return self._births.holder(gateway)

    def refusal(self, gateway: str) -> Event:
        """Return the alert that a second gateway of this id is there."""
        return alert(gateway, events.SECOND_GATEWAY, self._clock())

    def alerts(self) -> list[Event]:
        """Return the alerts that the log has not yet."""
        return list(self._alerts)

    def stored(self, alerts: Sequence[Event]) -> None:
        """Note that the log has these alerts."""
        for each in alerts:
            with contextlib.suppress(ValueError):  # too many came meanwhile: the oldest was let go
                self._alerts.remove(each)

    def _do(self, orders: list[Order]) -> None:
        for order in orders:
            if order.kind == "welcome":
                self._welcome(order)
                continue
            if not self._answers(order.gateway):
                continue
            if order.kind == "leave":
                self._alerts.append(self.refusal(order.gateway))
                known = self.known.setdefault(order.gateway, Known())
                known.refused = f"the run {order.boot} was told to leave: another gateway of this id is at work"
                _log.error("a second gateway of the same id is told to leave", gateway=order.gateway, boot=order.boot)
            self._orders.append(order)
            self._some.set()

    def _welcome(self, order: Order) -> None:
        waiting = self._waiting.get(order.gateway, {})
        status = waiting.get(order.boot)
        if status is None:
            return
        self._waiting[order.gateway] = {order.boot: status}
        known = self.known.setdefault(order.gateway, Known())
        now = self._clock()
        known.status, known.epoch, known.seen = status, status.epoch, now
        if status.clock_offset_ms is not None:
            known.offset_s = status.clock_offset_ms / 1000
        else:
            known.offset_s = (status.at - now) / SECOND
        self._tell(order.gateway)
        self.on_here(order.gateway)
