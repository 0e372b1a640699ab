"""The gateways of a bench as one process: true logs and true uplinks; it reads no meter.

`python -m bench.load_gateways DIRECTORY PORT` takes a `Load` as JSON in the first line of its input. It says `ready`
when the logs are filled, begins at the next line, says what it saw (`Seen` as JSON) when the head-end has a receipt
for everything, and ends with its input. The delay of a live batch is the time from its commit in the gateway's log
until a receipt that covers it has come.
"""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import uvloop
from paho.mqtt import client as paho

from bench.load import Load
from gateway.uplink import Uplink
from metering import wire
from metering.ranges import Ranges
from metering.wire import Receipt
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from storage.codec import pack
from storage.log import Log, LogLimits

APPEND_S = 0.25  # a gateway commits what came in this time
FILL_AT_ONCE = 500  # batches
PREPARED = 40_000  # live batches of a process that are packed before the clock runs; where they are more, as they come
LINE_BYTES = 1 << 20


class Seen(msgspec.Struct):
    """What the gateways saw, in seconds since the beginning."""

    fill_s: float = 0.0  # until there were receipts for all that was there from before
    done_s: float = 0.0
    sent: int = 0
    sent_again: int = 0
    delays: list[tuple[float, float]] = []  # of live batches: when committed, and how long until the receipt


class _Gateway:
    """One gateway: a log, an uplink, and live batches whose receipts are waited for."""

    def __init__(self, load: Load, name: str, directory: Path, port: int) -> None:
        self.load = load
        self.log = Log.open(directory / name / "log", LogLimits(min_free_bytes=0))
        payloads = (pack(batch) for batch in load.batches(name))
        for at in range(0, load.fill, FILL_AT_ONCE):
            self.log.append_now(list(itertools.islice(payloads, min(FILL_AT_ONCE, load.fill - at))))
        early = load.live if load.live * load.gateways <= PREPARED else 0
        self.payloads = itertools.chain(list(itertools.islice(payloads, early)), payloads)
        self.uplink = Uplink(self.log, directory / name / "uplink.json", name, MqttSettings("127.0.0.1", name, port))
        self.waiting: list[tuple[int, float]] = []
        self.filled_at = 0.0

    async def live(self, begun: float, offset: float) -> None:
        """Commit the live batches as they are due."""
        loop = asyncio.get_running_loop()
        done = 0
        while done < self.load.live:
            due = min(self.load.live, int((loop.time() - begun) * self.load.rate))
            if due > done:
                some = list(itertools.islice(self.payloads, due - done))
                seqs = await asyncio.to_thread(self.log.append_now, some)
                self.waiting += [(seq, loop.time()) for seq in seqs]
                done = due
            ticks = (loop.time() - begun) // APPEND_S + 1
            await asyncio.sleep(begun + ticks * APPEND_S + offset - loop.time())

    def take(self, receipt: Receipt, at: float) -> list[tuple[float, float]]:
        """Return (committed, delay) of the live batches that a receipt covers, and wait for them no more."""
        held = Ranges([(1, receipt.contiguous + 1), *((first, last + 1) for first, last in receipt.held)])
        if receipt.contiguous >= self.load.fill and not self.filled_at:
            self.filled_at = at
        covered = [when for seq, when in self.waiting if seq in held]
        self.waiting = [(seq, when) for seq, when in self.waiting if seq not in held]
        return [(when, at - when) for when in covered]

    def behind(self) -> int:
        """Return how many seqs the head-end has not, as far as is known here."""
        return self.uplink.status().behind


class Gateways:
    """All gateways of a load on the running loop."""

    def __init__(self, load: Load, directory: Path, port: int) -> None:
        self._gateways = {name: _Gateway(load, name, directory, port) for name in load.names()}
        self._watch = MqttConnection(MqttSettings("127.0.0.1", f"{load.name}-watch", port), self._receipt)
        self._watch.subscribe([wire.topic(name, "receipt") for name in self._gateways])
        self._seen = Seen()
        self._begun = 0.0

    def _receipt(self, message: paho.MQTTMessage) -> None:
        name, _ = wire.gateway_of(message.topic)
        now = asyncio.get_running_loop().time()
        found = self._gateways[name].take(wire.decode(bytes(message.payload), Receipt), now)
        self._seen.delays += [(when - self._begun, delay) for when, delay in found]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the uplinks inside the block."""
        stop = asyncio.Event()
        self._begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(stop))
            for each in self._gateways.values():
                group.create_task(each.uplink.run(stop))
            try:
                yield
            finally:
                stop.set()
        for each in self._gateways.values():
            each.log.close()

    async def all_sent(self) -> Seen:
        """Bring in the live batches; return when there is a receipt for everything."""
        loop = asyncio.get_running_loop()
        count = len(self._gateways)
        async with asyncio.TaskGroup() as group:
            for number, each in enumerate(self._gateways.values()):
                group.create_task(each.live(self._begun, APPEND_S * number / count))
        while any(each.behind() for each in self._gateways.values()):  # noqa: ASYNC110 - the bench's caller has the limit
            await asyncio.sleep(APPEND_S)
        seen = self._seen
        seen.done_s = loop.time() - self._begun
        seen.fill_s = max(each.filled_at for each in self._gateways.values()) - self._begun
        states = [each.uplink.status() for each in self._gateways.values()]
        seen.sent, seen.sent_again = sum(each.sent for each in states), sum(each.sent_again for each in states)
        return seen


async def _main(arguments: Sequence[str]) -> None:
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    load = msgspec.json.decode(await reader.readline(), type=Load)
    gateways = Gateways(load, Path(arguments[0]), int(arguments[1]))
    print("ready", flush=True)
    await reader.readline()
    async with gateways.running():
        print(msgspec.json.encode(await gateways.all_sent()).decode(), flush=True)
        await reader.read()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1:]))
