"""A head-end's intake and gateways' uplinks in the test's own process, over a broker, and what the head-end holds."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.uplink import Uplink
from headend.inbox.mqtt import MqttInbox
from headend.intake import Intake
from headend.ledger_file import LedgerFile
from headend.state.held import HeldBack
from headend.state.store import State
from metering.batch import Batch
from mqtt.client import MqttSettings
from storage.codec import origin_of, pack, unpack
from storage.log import Log, Record
from storage.quarantine import Quarantine
from tests.faults.site_process import until


@asynccontextmanager
async def receiving(folder: Path, settings: MqttSettings, gateways: Collection[str] = ("g1",)) -> AsyncIterator[Intake]:
    """Run an intake for gateways that may send of any device."""
    log = Log.open(folder / "centre")
    inbox = MqttInbox(settings)
    ledger = LedgerFile(folder / "ledger", log)
    state = State.open(folder / "state.db")
    bad = Quarantine(folder / "bad")
    intake = Intake(inbox, log, ledger, bad, gateways.__contains__, lambda _g, _d: True, HeldBack(state))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(inbox.run(stop))
        group.create_task(intake.run(stop))

        async def listening() -> bool:
            return inbox.status().listening

        await until(listening, "the head-end at the broker")
        yield intake
        stop.set()
    log.close()
    state.close()


@asynccontextmanager
async def sending(folder: Path, settings: MqttSettings, gateway: str = "g1") -> AsyncIterator[tuple[Log, Uplink]]:
    """Run the uplink of a log in this folder."""
    log = Log.open(folder / "log")
    uplink = Uplink(log, folder / "uplink.json", gateway, settings)
    stop = asyncio.Event()
    task = asyncio.create_task(uplink.run(stop))
    try:
        yield log, uplink
    finally:
        stop.set()
        await task
        log.close()


async def append(log: Log, *numbers: int) -> None:
    """Put batches into a log that are known by their `created_at`."""
    await asyncio.to_thread(log.append_now, [pack(Batch(number)) for number in numbers])


async def delivered(log: Log, uplink: Uplink) -> None:
    """Wait until the uplink knows that the head-end has the whole log."""

    async def all_told() -> bool:
        return uplink.status().contiguous == log.next_seq - 1

    await until(all_told, "the receipt for all")


def held(intake: Intake) -> list[int]:
    """Return the numbers of the batches that the head-end has from gateways."""
    found = intake._log.read(1, 100_000, 1 << 30)
    return [unpack(item.payload).created_at for item in found if isinstance(item, Record) and origin_of(item.payload)]
