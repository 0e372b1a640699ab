"""From the gateway's log to the head-end: a cursor that only receipts move, two lanes, and sending again. No meters.

What the broker acknowledges proves nothing, so nothing rests on it. A receipt says which seqs the head-end has
(`uplink_standing`); what it lacks is sent, and sent again (`uplink_flights`); what is said beside it is the gateway's
presence (`uplink_presence`). Here are the connection, what comes by it, and the order of it all.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import structlog
from paho.mqtt import client as paho

from gateway.uplink_flights import Flights
from gateway.uplink_presence import Facts, Presence
from gateway.uplink_standing import Standing
from metering import wire
from metering.errors import LinkDownError, StorageError
from metering.supply import CommandMessage
from metering.wire import ConfigOffer, Control, Receipt, Up, WireError
from mqtt.client import MqttSettings, Will
from mqtt.loop import ConnectionStatus, MqttConnection
from storage.log import Log

TICK_S = 0.5
LEAVES = ("receipt", "control", "config", "commands")  # of the topics that a head-end speaks on
MAX_RECEIPTS = 16  # that wait to be taken up; the newest count
MAX_CONTROLS = 100  # ids of controls that were done, to know them again

_log = structlog.get_logger(__name__)


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
        self._gateway = gateway
        self._on_control = dict(on_control or {})
        self._on_offer = on_offer
        self._on_command = on_command
        self._standing = Standing(log, state, on_receipt, on_put_back)
        self._flights = Flights(log, self._standing, self._publish)
        self._presence = Presence(log, gateway, self._standing, facts)
        self.told_to_leave = asyncio.Event()  # another gateway of this id is at work: end, and say so
        # A name of its own for each run: brokers cut off the first of two clients of one name, and would not tell.
        settings = replace(settings, client_id=f"{settings.client_id}-{self.boot[:8]}")
        will = Will(wire.topic(gateway, "status"), self._presence.gone())
        self._connection = MqttConnection(settings, self._message, on_up=self._up, on_down=self._down, will=will)
        self._connection.subscribe([wire.topic(gateway, leaf) for leaf in LEAVES])
        self._receipts: deque[Receipt] = deque(maxlen=MAX_RECEIPTS)
        self._done: deque[str] = deque(maxlen=MAX_CONTROLS)
        self._wake = asyncio.Event()

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
        return self._standing.boot

    def holds(self, seq: int) -> bool:
        """Tell whether the head-end has this record, as far as its receipts say."""
        return self._standing.have.count(seq, seq + 1) > 0

    def status(self) -> UplinkStatus:
        """Return how it fares."""
        return UplinkStatus(
            self._connection.status(),
            self._standing.epoch,
            self._standing.contiguous,
            self._standing.behind(),
            len(self._flights),
            self._flights.sent,
            self._flights.sent_again,
            self._standing.put_back,
        )

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _up(self) -> None:
        self._presence.say_soon()
        self._flights.connected()
        self._wake.set()

    def _down(self) -> None:
        self._flights.drop()
        self._standing.disconnected()

    def _message(self, message: paho.MQTTMessage) -> None:
        leaf = message.topic.rpartition("/")[2]
        try:
            if leaf == "receipt":
                receipt = wire.decode(bytes(message.payload), Receipt)
                if message.retain and self._standing.goes_back(receipt):
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
            self._flights.ask_again(control)
        elif control.kind in {"call", "leave"}:
            self._summon(control)
        elif (handler := self._on_control.get(control.kind)) is not None:
            handler(control)
        self._done.append(control.id)

    def _summon(self, control: Control) -> None:
        if control.boot != self.boot:
            return
        if control.kind == "leave":
            _log.error("another gateway of this id is at work; this one ends", gateway=self._gateway)
            self.told_to_leave.set()
        else:
            self._presence.say_soon()

    def _take(self, receipt: Receipt) -> None:
        """Take up what the head-end has. Blocking: it reads the log and moves the cursor."""
        standing = self._standing
        if not standing.counts(receipt):
            return
        if not standing.fits(receipt):
            standing.begin_anew()
            self._flights.drop()
            self._presence.say_soon()
            return
        self._flights.heard(more=standing.take(receipt))
        standing.settle()
        if not standing.answered:
            standing.answered = True
            self._presence.answered(receipt.at)
            self._flights.begin()

    # --- what goes ----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Wake the pump when the log grows."""
        while True:
            await self._log.wait_for(max(self._flights.live_at, self._log.next_seq))
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
                    if self._standing.answered:
                        await self._flights.send()
            except (StorageError, LinkDownError, OSError) as error:
                _log.warning("the uplink waits", reason=str(error))
                await asyncio.sleep(TICK_S)
            try:
                await asyncio.wait_for(self._wake.wait(), TICK_S)
            except TimeoutError:
                continue

    def _publish(self, up: Up) -> None:
        self._connection.publish(wire.topic(self._gateway, "up"), wire.encode(up))

    def _say_status(self) -> None:
        status = self._presence.due()
        if status is not None:
            self._connection.publish(wire.topic(self._gateway, "status"), status, retain=True)
            self._presence.said()

    def _say_gone(self) -> None:
        """Say what the last will would: brokers keep that back after a disconnect in order.

        A run that was told to leave says nothing: the topic's retained word is that of the run at work.
        """
        if self.told_to_leave.is_set():
            return
        with contextlib.suppress(LinkDownError):  # without a connection the will has said it
            self._connection.publish(wire.topic(self._gateway, "status"), self._presence.gone(), retain=True)
