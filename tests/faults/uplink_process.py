"""A gateway's log with its uplink in a process of its own: it appends readings and says which the log acknowledged.

Called with: data folder, gateway's id, broker's port, the number of its first reading.
"""

import asyncio
import sys
from pathlib import Path

from gateway.uplink import Uplink
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.timing import now
from mqtt.client import MqttSettings
from storage.codec import pack
from storage.log import Log

LAYOUT = Layout(Kind.INSTANTANEOUS, Source.POLL, 0, (Column("1-0:32.7.0*255", "V", 0, "int"),))
BEGIN = 1_764_000_000 * SECOND
METERS = 4


def batch(number: int) -> Batch:
    blocks = [Block(LAYOUT, f"m{meter}", BEGIN + number * SECOND, now(), [number]) for meter in range(METERS)]
    return Batch(now(), blocks)


async def main(data: Path, gateway: str, port: int, number: int) -> None:
    log = Log.open(data / "log")
    uplink = Uplink(log, data / "uplink.json", gateway, MqttSettings("127.0.0.1", f"gw-{gateway}", port))
    running = asyncio.create_task(uplink.run(asyncio.Event()))
    while not running.done():
        await log.append(pack(batch(number)))
        print(number, flush=True)  # noqa: T201 - what its caller reads
        number += 1
        await asyncio.sleep(0.002)
    await running


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
