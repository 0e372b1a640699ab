"""A gateway's log with its uplink in a process of its own: it appends readings and says which the log acknowledged.

Called with one JSON object, see `Orders`. A number is a slot of one second after `begin` and the value of its readings.
The file ENOUGH ends the appending; what is in the log still goes up.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from gateway.uplink import Uplink
from metering.batch import Batch
from metering.errors import StorageError
from metering.model import SECOND, Block, Column, Expectation, Kind, Layout, Source
from metering.timing import now
from mqtt.client import MqttSettings
from storage.codec import count, pack
from storage.log import Log, LogLimits

OBIS = "1-0:32.7.0*255"
LAYOUT = Layout(Kind.INSTANTANEOUS, Source.POLL, 1, (Column(OBIS, "V", 0, "int"),))
BEGIN = 1_764_000_000 * SECOND
METERS = 4
ENOUGH = "enough"  # the file that asks for the end of the appending,
FOLLOWING = "following"  # and the one that says the log's next seq, once no more is appended
PROMISE_EVERY = 100
REFUSED_PAUSE_S = 0.2  # before a batch is tried again that the log did not take


class Orders(msgspec.Struct):
    """What this gateway is and does. `limits` are those of its log; `ahead` is how far its stamps are (us)."""

    data: str
    gateway: str
    port: int
    number: int = 0  # of its first reading
    host: str = "127.0.0.1"
    pause_s: float = 0.01  # between two batches
    batches: int | None = None  # how many; None: until it is told
    limits: dict[str, float] = {}
    begin: int = BEGIN  # the slot of number 0
    ahead: int = 0
    keepalive_s: int = 30


def batch(number: int, begin: int) -> Batch:
    at = begin + number * SECOND
    blocks = [Block(LAYOUT, f"m{meter}", at, now(), [number], slot=at) for meter in range(METERS)]
    return Batch(now(), blocks)


def promises(begin: int) -> Batch:
    """Return what completeness rests on: these meters are read each second from then on."""
    made = [
        Expectation(f"m{meter}", LAYOUT.kind, LAYOUT.source, LAYOUT.interval, (OBIS,), begin) for meter in range(METERS)
    ]
    return Batch(now(), expectations=made)


async def _append(log: Log, payload: bytes) -> None:
    """Append until the log takes it: a full disk delays a reading, it loses none that is still in memory."""
    while True:
        try:
            await log.append(payload)
        except StorageError:
            await asyncio.sleep(REFUSED_PAUSE_S)
        else:
            return


async def main(orders: Orders) -> None:
    data = Path(orders.data)
    log = Log.open(data / "log", LogLimits(**orders.limits), count=count)  # type: ignore[arg-type]  # names by its test
    settings = MqttSettings(orders.host, f"gw-{orders.gateway}", orders.port, keepalive_s=orders.keepalive_s)
    uplink = Uplink(log, data / "uplink.json", orders.gateway, settings)
    running = asyncio.create_task(uplink.run(asyncio.Event()))
    await _append(log, pack(promises(orders.begin)))
    number = orders.number
    while not running.done() and not (data / ENOUGH).exists() and number - orders.number != orders.batches:
        await _append(log, pack(batch(number, orders.begin + orders.ahead)))
        if number % PROMISE_EVERY == 0:
            await _append(log, pack(promises(orders.begin)))  # as a gateway does each day: an eviction may take them
        print(number, flush=True)  # noqa: T201 - what its caller reads
        number += 1
        await asyncio.sleep(orders.pause_s)
    (data / FOLLOWING).write_text(str(log.next_seq))
    await running


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Orders)))
