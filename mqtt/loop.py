"""A connection to an MQTT broker on the running event loop (asyncio or uvloop). Knows no meter and no payload.

paho-mqtt (MQTT 3.1.1) speaks the protocol; this drives it by its socket hooks, because its own loop uses select(),
which fails beyond descriptor 1,023, and needs a thread for each client. What blocks (name resolution, connect, TLS
handshake) runs in a short-lived thread. Each connection is a new paho client with a clean session: nothing is queued
here or kept for us at the broker, where a value without a time of its own would come back hours later as a new one.

Memory stays flat however fast messages come: each is handled before the next is read, so a flood waits in the
broker's queue, which has its own bound.
"""

import asyncio
import random
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from metering.errors import LinkDownError
from mqtt.client import MqttSettings, Will, drop, make_client, reason_of, retry_delay

GREETING_S = 10.0  # for the broker's CONNACK
FAREWELL_S = 1.0  # for our DISCONNECT to leave at the end
MAX_DIALS = 16  # connections that a process opens at the same time: a fleet in one process comes back in turns
TICK_S = 1.0  # how often the keep-alive is looked at
STABLE_S = 10.0  # a connection that lived this long was a good one: the next retry comes quickly again
FILTERS_PER_SUBSCRIBE = 100
ASK_AGAIN_S = 5.0  # after a broker refused a subscription: it may not be all there yet
MAX_REFUSED_NAMED = 20  # refused subscriptions that the status names

SUBACK_FAILURE = 0x80  # MQTT 3.1.1, 3.9.3

_dials = threading.BoundedSemaphore(MAX_DIALS)


class ConnectionStatus(NamedTuple):
    """How the connection fares. `last_error` is plain words, empty as long as nothing failed."""

    connected: bool
    listening: bool  # connected, and the broker has answered every subscription
    connects: int
    failures: int
    last_error: str
    refused: tuple[str, ...]  # subscriptions that the broker refused


class MqttConnection:
    """Keeps one connection to the broker, with its subscriptions, until told to stop.

    `on_message` is called on the loop for each message; with `manual_ack` the caller answers each by `ack`.
    `on_up` is called after each connect, `on_published(mid)` when the broker has acknowledged a publish (QoS 1), and
    `on_down` when the connection is gone: unacknowledged publishes are then the caller's to repeat.
    """

    def __init__(
        self,
        settings: MqttSettings,
        on_message: Callable[[paho.MQTTMessage], None],
        *,
        on_up: Callable[[], None] | None = None,
        on_down: Callable[[], None] | None = None,
        on_published: Callable[[int], None] | None = None,
        will: Will | None = None,
        manual_ack: bool = False,
    ) -> None:
        self._settings = settings
        self._tls = settings.tls_context()
        self._on_message = on_message
        self._on_up = on_up
        self._on_down = on_down
        self._on_published = on_published
        self._will = will
        self._manual_ack = manual_ack
        self._filters: dict[str, None] = {}
        self._asked: dict[int, list[str]] = {}
        self._client: paho.Client | None = None
        self._up = False
        self._ended = asyncio.Event()
        self._greeted = asyncio.Event()
        self._fault: BaseException | None = None
        self._place = random.randrange(len(settings.places))  # noqa: S311 - spreads a fleet over the nodes
        self._connects = 0
        self._failures = 0
        self._last_error = ""
        self._refused: dict[str, float] = {}  # and when it was

    # -- for the caller

    def subscribe(self, filters: Iterable[str]) -> None:
        """Subscribe at QoS 1, now and after each connect."""
        new = [text for text in dict.fromkeys(filters) if text not in self._filters]
        self._filters.update(dict.fromkeys(new))
        if self._up:
            self._ask(new)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Send a message at QoS 1 and return its id, by which `on_published` tells that the broker has it.

        Raises:
            LinkDownError: not connected, or 1,000 messages wait for the broker's acknowledgement.

        """
        client = self._client
        if client is None or not self._up:
            raise LinkDownError("not connected to the broker")
        info = client.publish(topic, payload, 1, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkDownError(f"not sent: {paho.error_string(info.rc)}")
        return info.mid

    def ack(self, message: paho.MQTTMessage) -> None:
        """Acknowledge a message (with `manual_ack`); without a connection the broker will send it again."""
        if self._client is not None and self._up:
            self._client.ack(message.mid, message.qos)

    def status(self) -> ConnectionStatus:
        """Return how the connection fares."""
        return ConnectionStatus(
            self._up,
            self._up and not self._asked,
            self._connects,
            self._failures,
            self._last_error,
            tuple(self._refused)[:MAX_REFUSED_NAMED],
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, serve, and connect again after each failure, until `stop`.

        Raises:
            Exception: what a callback raised; the connection is closed before.

        """
        loop = asyncio.get_running_loop()
        failed = 0
        while not stop.is_set():
            started = loop.time()
            await self._connect_and_serve(stop)
            if self._fault is not None:
                raise self._fault
            if stop.is_set():
                return
            self._place = (self._place + 1) % len(self._settings.places)
            failed = 1 if loop.time() - started >= STABLE_S else failed + 1
            await _either(stop, asyncio.Event(), timeout=retry_delay(failed))

    # -- one connection

    async def _connect_and_serve(self, stop: asyncio.Event) -> None:
        self._ended.clear()
        self._greeted.clear()
        client = make_client(self._settings, self._tls, self._will, manual_ack=self._manual_ack)
        self._listen(client)
        try:
            if not await self._dial(client, stop):
                return
            self._attach(client)
            await _either(stop, self._ended, self._greeted, timeout=GREETING_S)
            if not stop.is_set() and not self._ended.is_set() and not self._greeted.is_set():
                self._fail("the broker accepted the connection and did not answer")
                return
            while not stop.is_set() and not self._ended.is_set():
                self._guard(client.loop_misc)
                self._ask_again()
                await _either(stop, self._ended, timeout=TICK_S)
            if stop.is_set() and not self._ended.is_set():
                client.disconnect()
                await _either(self._ended, timeout=FAREWELL_S)
        finally:
            self._close(client)

    def _listen(self, client: paho.Client) -> None:
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = lambda _client, _data, message: self._on_message(message)
        if self._on_published is not None:
            published = self._on_published
            client.on_publish = lambda _client, _data, mid, _reason, _properties: published(mid)

    async def _dial(self, client: paho.Client, stop: asyncio.Event) -> bool:
        """Open the connection in a thread of its own, and tell whether it stands; let go of it on `stop`."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        errors: list[BaseException] = []
        abandoned = threading.Event()
        host, port = self._settings.places[self._place]

        def dial() -> None:
            try:
                with _dials:
                    if not abandoned.is_set():
                        client.connect(host, port, self._settings.keepalive_s)
            except (OSError, ValueError) as error:  # ValueError: a host name that cannot be encoded
                errors.append(error)
            if abandoned.is_set():
                drop(client)
                return
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:  # the loop is closed: nobody waits any more
                drop(client)

        threading.Thread(target=dial, name="mqtt-connect", daemon=True).start()
        try:
            await _either(stop, done)
        finally:
            if not done.is_set():
                abandoned.set()
        if errors:
            self._fail(f"no connection to {host}:{port}: {reason_of(errors[0])}")
        return done.is_set() and not errors and not stop.is_set()

    def _attach(self, client: paho.Client) -> None:
        loop = asyncio.get_running_loop()
        self._client = client
        sock: Any = client.socket()
        if sock is None:
            self._fail("the broker closed the connection at once")
            self._ended.set()
            return

        def readable() -> None:
            self._guard(client.loop_read)
            # TLS may hold decrypted bytes while the socket itself has nothing more to read.
            if client.socket() is sock and isinstance(sock, ssl.SSLSocket) and sock.pending():
                loop.call_soon(readable)

        def writable() -> None:
            self._guard(client.loop_write)

        def wants_to_write(_client: paho.Client, _data: object, taken: Any) -> None:  # noqa: ANN401 - paho's sockets
            try:
                loop.add_writer(taken.fileno(), writable)
            except (OSError, RuntimeError, ValueError) as broken:  # it broke in this very moment; uvloop let it go
                self._fail(f"the connection broke: {broken}")
                self._ended.set()

        client.on_socket_register_write = wants_to_write
        client.on_socket_unregister_write = lambda _client, _data, taken: _quietly(loop.remove_writer, taken)
        client.on_socket_close = lambda _client, _data, taken: _quietly(loop.remove_reader, taken)
        loop.add_reader(sock.fileno(), readable)
        if client.want_write():
            loop.add_writer(sock.fileno(), writable)
        loop.call_soon(readable)

    def _guard(self, step: Callable[[], MQTTErrorCode]) -> None:
        """Do one step of paho; a callback's error ends the connection and comes out of `run`, not into a log."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the one supervisor here: run() raises it again
            self._fault = error
            self._ended.set()

    def _close(self, client: paho.Client) -> None:
        was_up, self._up = self._up, False
        self._client = None
        self._asked.clear()
        drop(client)
        if was_up and self._on_down is not None:
            self._on_down()

    # -- what paho tells

    def _connected(
        self, _client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._fail(f"the broker refused the connection: {reason}")
            self._ended.set()
            return
        self._up = True
        self._connects += 1
        self._refused.clear()
        self._greeted.set()
        self._ask(list(self._filters))
        if self._on_up is not None:
            self._on_up()

    def _disconnected(
        self, _client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure and not self._ended.is_set():
            self._fail(f"the connection to the broker was lost: {reason}")
        self._ended.set()

    def _subscribed(
        self, _client: paho.Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        asked = self._asked.pop(mid, [])
        refused = [text for text, reason in zip(asked, reasons, strict=False) if reason.value >= SUBACK_FAILURE]
        for text in asked:
            self._refused.pop(text, None)
        if refused:
            self._refused.update(dict.fromkeys(refused, asyncio.get_running_loop().time()))
            self._last_error = f"the broker refused {len(refused)} subscriptions, among them {refused[0]!r}"

    def _ask(self, filters: list[str]) -> None:
        client = self._client
        if client is None:
            return
        for first in range(0, len(filters), FILTERS_PER_SUBSCRIBE):
            chunk = filters[first : first + FILTERS_PER_SUBSCRIBE]
            _, mid = client.subscribe([(text, 1) for text in chunk])
            if mid is not None:
                self._asked[mid] = chunk

    def _ask_again(self) -> None:
        """Ask once more for what was refused some time ago: brokers that have just come up refuse what they allow."""
        now = asyncio.get_running_loop().time()
        due = [text for text, at in self._refused.items() if now - at >= ASK_AGAIN_S]
        if due:
            self._refused.update(dict.fromkeys(due, now))
            self._ask(due)

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._last_error = reason


async def _either(*events: asyncio.Event, timeout: float | None = None) -> None:  # noqa: ASYNC109 - a bound on the wait, not on the work
    """Wait until one of the events is set, at most `timeout` seconds."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _quietly(remove: Callable[[int], object], sock: Any) -> None:  # noqa: ANN401 - paho's sockets have no common type
    if sock.fileno() >= 0:
        remove(sock.fileno())
