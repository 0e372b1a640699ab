"""One connection to a JetStream cluster and the pulls of the partitions that are ours. It knows no MQTT.

The client's own reconnects are off: a connection that ends is followed by a new one to the next server, after a pause
that grows, and everything on it is made anew. What was delivered and not acknowledged comes again after ACK_WAIT_S.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    SubjectTransform,
)
from nats.js.errors import NotFoundError

from headend.inbox.room import Room
from metering.wire import MAX_UP_BYTES, ROOT
from mqtt.client import retry_delay
from mqtt.loop import STABLE_S, ConnectionStatus

REPLICAS = 3
MAX_STREAM_BYTES = 8 << 30  # then the oldest go: what has no receipt comes again from its gateway
MAX_AGE_S = 86400.0
ACK_WAIT_S = 30.0
MAX_UNACKNOWLEDGED = 2000  # messages of a partition that were delivered and wait
CONNECT_S = 5.0
API_S = 10.0  # for an answer of JetStream's own interface
PING_S = 5.0  # two unanswered ones end the connection
PULL_MESSAGES = 256  # of one pull, and
PULL_BYTES = 4 << 20  # their bytes together
PULL_S = 10.0  # a pull that nothing came for ends
PULL_LATE_S = 3.0  # after that the pull was lost, with a leader for example, and the next is asked for
PULL_PAUSE_S = 0.5  # before the next pull, after one that was refused
MAX_REFUSED = 20  # pulls in a row; then the connection, with stream and consumers, is made anew
LOOK_S = 0.2  # how often to look which partitions are ours

_UP = f"{ROOT.replace('/', '.')}.*.up"
_HEARTBEAT, _NOTHING_THERE, _PULL_ENDED = "100", "404", "408"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StreamSettings:
    """Where the cluster is, the stream's name, and over how many partitions gateways are spread."""

    servers: tuple[str, ...]  # nats://host:port or tls://host:port
    stream: str
    partitions: int
    name: str  # of this client, in the server's lists
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None


class StreamDelivery:
    """One message of the stream."""

    leaf = "up"

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.gateway = message.subject.rpartition(".")[2]
        self.payload = message.data
        self.deliveries = message.metadata.num_delivered or 1

    async def ack(self) -> None:
        """Acknowledge it; where the connection is gone it comes again."""
        with contextlib.suppress(nats.errors.Error):
            await self._message.ack()

    async def nak(self, delay_s: float) -> None:
        """Ask for it again, to whoever then owns its partition."""
        with contextlib.suppress(nats.errors.Error):
            await self._message.nak(delay_s)


class StreamLink:
    """Keeps the connection and puts what comes of the held partitions into a room."""

    def __init__(self, settings: StreamSettings, room: Room, held: Callable[[], Collection[int]]) -> None:
        self._settings = settings
        self._room = room
        self._held = held
        self._connected = self._ready = False
        self._connects = self._failures = 0
        self._last_error = self._told = ""

    def status(self) -> ConnectionStatus:
        """Return how the connection fares; it listens once the stream is there as it should be."""
        return ConnectionStatus(self._connected, self._ready, self._connects, self._failures, self._last_error, ())

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, pull, and connect again to the next server after each failure, until `stop`."""
        loop = asyncio.get_running_loop()
        failed = number = 0
        while not stop.is_set():
            started = loop.time()
            server = self._settings.servers[number % len(self._settings.servers)]
            self._told = ""
            try:
                await self._connect_and_pull(server, stop)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                self._failures += 1
                self._last_error = f"{_host(server)}: {self._told or str(error) or type(error).__name__}"
                _log.warning("no messages from the cluster", reason=self._last_error)
            finally:
                self._connected = self._ready = False
            number += 1
            failed = 1 if loop.time() - started >= STABLE_S else failed + 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), retry_delay(failed))

    async def _connect_and_pull(self, server: str, stop: asyncio.Event) -> None:
        ended = asyncio.Event()
        client = Client()
        pulls: dict[int, asyncio.Task[None]] = {}
        try:
            await asyncio.wait_for(self._connect(client, server, ended), 2 * CONNECT_S)
            self._connected = True
            self._connects += 1
            stream = client.jetstream(timeout=API_S)
            await self._prepare(stream)
            self._ready = True
            while not stop.is_set() and not ended.is_set():
                self._follow(pulls, client, stream)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), LOOK_S)
            if ended.is_set():
                raise nats.errors.ConnectionClosedError
        finally:
            for task in pulls.values():
                task.cancel()
            await asyncio.gather(*pulls.values(), return_exceptions=True)
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                await asyncio.wait_for(client.close(), CONNECT_S)

    async def _connect(self, client: Client, server: str, ended: asyncio.Event) -> None:
        async def closed() -> None:
            ended.set()

        async def told(error: Exception) -> None:
            self._told = str(error) or type(error).__name__

        await client.connect(
            server,
            name=self._settings.name,
            user=self._settings.username,
            password=self._settings.password,
            tls=self._settings.tls,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # without it the client tries this server for ever
            reconnect_time_wait=0,
            connect_timeout=int(CONNECT_S),
            ping_interval=int(PING_S),
            max_outstanding_pings=2,
            closed_cb=closed,
            error_cb=told,
        )

    async def _prepare(self, stream: JetStreamContext) -> None:
        """Make the stream where there is none. Raises where it is another than the settings say."""
        wanted = _stream_config(self._settings)
        try:
            found = (await stream.stream_info(self._settings.stream)).config
        except NotFoundError:
            await stream.add_stream(wanted)
            return
        if found.subject_transform != wanted.subject_transform:
            raise nats.errors.Error(
                f"the stream {self._settings.stream} is spread otherwise than over {self._settings.partitions} "
                "partitions: set partitions as it is, or remove the stream while no head-end runs"
            )

    def _follow(self, pulls: dict[int, asyncio.Task[None]], client: Client, stream: JetStreamContext) -> None:
        """Pull of the partitions that are ours, and of no other. Raises what a pull ended with."""
        held = set(self._held())
        for number in held - pulls.keys():
            pulls[number] = asyncio.create_task(self._pull(number, client, stream))
            pulls[number].add_done_callback(_note_end)
        for number in pulls.keys() - held:
            pulls.pop(number).cancel()
        for task in pulls.values():
            if task.done():
                task.result()

    async def _pull(self, number: int, client: Client, stream: JetStreamContext) -> None:
        consumer = f"p{number}"
        await stream.add_consumer(
            self._settings.stream,
            ConsumerConfig(
                durable_name=consumer,
                filter_subject=f"{self._settings.stream}.{number}.*",
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_ack_pending=MAX_UNACKNOWLEDGED,
                max_deliver=-1,  # the intake counts deliveries and puts aside what cannot be decoded
            ),
        )
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._settings.stream}.{consumer}"
        request = {"batch": PULL_MESSAGES, "max_bytes": PULL_BYTES, "expires": int(PULL_S * 1e9)}
        inbox = client.new_inbox()
        answers = await client.subscribe(f"{inbox}.*")
        asked = refused = 0
        try:
            while True:
                await self._room.wait_for_room(PULL_BYTES)
                asked += 1
                reply = f"{inbox}.{asked}"
                await client.publish(subject, json.dumps(request).encode(), reply)
                refused = refused + 1 if await self._is_refused(answers, reply) else 0
                if refused:
                    await asyncio.sleep(PULL_PAUSE_S)
                if refused == MAX_REFUSED:
                    raise nats.errors.NoRespondersError
        finally:
            with contextlib.suppress(nats.errors.Error):
                await answers.unsubscribe()

    async def _is_refused(self, answers: Subscription, reply: str) -> bool:
        """Put what one pull gives into the room, until it ends; tell whether it gave nothing for want of a leader."""
        for taken in range(PULL_MESSAGES):
            try:
                message = await answers.next_msg(timeout=PULL_S + PULL_LATE_S)
            except nats.errors.TimeoutError:
                return False
            status = (message.headers or {}).get("Status")
            if status is None:
                self._room.put(StreamDelivery(message))
            elif message.subject == reply and status != _HEARTBEAT:
                return taken == 0 and status not in {_NOTHING_THERE, _PULL_ENDED}
        return False


def _note_end(pull: asyncio.Task[None]) -> None:
    """Take note of how a pull ended: one that is called off as its connection closes ends with an error of its own."""
    if not pull.cancelled():
        pull.exception()


def _stream_config(settings: StreamSettings) -> StreamConfig:
    spread = f"{settings.stream}.{{{{partition({settings.partitions},1)}}}}.{{{{wildcard(1)}}}}"
    return StreamConfig(
        name=settings.stream,
        subjects=[_UP],
        subject_transform=SubjectTransform(_UP, spread),
        storage=StorageType.FILE,
        num_replicas=REPLICAS,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_age=MAX_AGE_S,
        max_bytes=MAX_STREAM_BYTES,
        max_msg_size=MAX_UP_BYTES,
    )


def _host(server: str) -> str:
    return server.rpartition("/")[2].rpartition("@")[2]
