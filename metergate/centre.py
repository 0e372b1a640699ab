"""Wires one head-end: inbox, intake, log, projection, store and the office behind the API."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from collector.mqtt_profile import MqttProfile
from gateway.lines import make_mqtt_settings
from headend.inbox.mqtt import MqttInbox
from headend.intake import Intake
from headend.ledger_file import LedgerFile
from headend.measures import Measure
from headend.registry import MemoryRegistry
from headend.service import Office
from headend.tokens import TokenBook
from metergate.headend_file import HeadendFile, assignments, devices_of, installations_of, points_of, profiles_of
from metergate.parts import CURSOR, QUARANTINE_BYTES, log_directory, open_store_of
from metering.ports import ReadingsStore
from mqtt.client import MqttSettings
from storage.codec import count
from storage.embedded import EmbeddedStore
from storage.log import Log, LogLimits
from storage.projection import Projection
from storage.quarantine import Quarantine

TRIM_S = 60.0
MAX_PACKET_BYTES = 80 << 20  # a larger one cuts the connection; up to it, what is too long is refused one by one


@dataclass
class Centre:
    """The running parts of one head-end."""

    file: HeadendFile
    log: Log
    store: ReadingsStore
    inbox: MqttInbox
    intake: Intake
    projection: Projection
    office: Office
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, serve: Callable[[asyncio.Event], Any]) -> None:
        """Run until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.projection.run(self.stop))
            group.create_task(self.intake.run(self.stop))
            group.create_task(self.inbox.run(self.stop))
            group.create_task(serve(self.stop))
            welcome = group.create_task(self._welcome())
            trim = group.create_task(self._trim())
            await self.stop.wait()
            welcome.cancel()
            trim.cancel()

    async def _welcome(self) -> None:
        """Publish all receipts anew at each connect: the broker may have lost what it retained."""
        while True:
            await self.inbox.connected.wait()
            self.inbox.connected.clear()
            self.intake.tell_all()

    async def _trim(self) -> None:
        while True:
            await asyncio.to_thread(self.log.trim)
            await asyncio.sleep(TRIM_S)

    def close(self) -> None:
        """Release files and connections."""
        self.store.close()
        self.log.close()


def build(file: HeadendFile) -> Centre:
    """Open everything that the head-end needs. Raises before anything runs."""
    data = file.headend.data
    data.mkdir(parents=True, exist_ok=True)
    settings = file.headend.log
    limits = LogLimits(
        max_bytes=settings.max_size,
        max_age_s=settings.max_age,
        keep_s=settings.keep,
        min_free_bytes=settings.min_free,
    )
    log = Log.open(log_directory(data), limits, count=count)
    store = open_store_of(file.store, data)
    quarantine = Quarantine(data / "quarantine", QUARANTINE_BYTES)
    projection = Projection(log, store, CURSOR, quarantine)
    if isinstance(store, EmbeddedStore) and store.is_empty:
        projection.rewind()
    inbox = MqttInbox(_broker(file))
    gateways = {each.id for each in file.gateway}
    assigned = assignments(file.meter)
    intake = Intake(
        inbox,
        log,
        LedgerFile(data / "ledger.msgpack", log),
        quarantine,
        gateways.__contains__,
        lambda gateway, device: gateway in assigned.get(device, ()),
    )
    profiles = profiles_of(file)
    office = Office(
        MemoryRegistry(points_of(file), devices_of(file, profiles), installations_of(file)),
        store,
        log,
        TokenBook(data / "state.db"),
        None,
        lambda: problems(inbox, intake, projection),
        moduli={
            meter.id: profile.moduli()
            for meter in file.meter
            if not isinstance(profile := profiles[meter.profile], MqttProfile)
        },
        measures=[lambda: measures(inbox, intake, projection)],
    )
    return Centre(file, log, store, inbox, intake, projection, office)


def _broker(file: HeadendFile) -> MqttSettings:
    made = make_mqtt_settings(file.broker, file.headend.id)
    return MqttSettings(**{**vars(made), "max_packet_bytes": MAX_PACKET_BYTES})


def problems(inbox: MqttInbox, intake: Intake, projection: Projection) -> list[str]:
    """Return what keeps the head-end from being ready, in plain words; nothing means ready."""
    found = []
    connection = inbox.status()
    if not connection.listening:
        found.append(f"broker: {connection.last_error or 'not connected yet'}")
    if intake.counts.last_error:
        found.append(intake.counts.last_error)
    if projection.status().last_error:
        found.append(f"projection: {projection.status().last_error}")
    return found


def measures(inbox: MqttInbox, intake: Intake, projection: Projection) -> Iterator[Measure]:
    """Yield the numbers of inbox, intake and projection, and how far each gateway is."""
    for name, value in asdict(intake.counts).items():
        if name != "last_error":
            yield Measure(f"intake_{name}", "counter", f"Intake since the start: {name.replace('_', ' ')}", value)
    yield Measure("inbox_let_go", "counter", "Messages let go for want of room; they come again", inbox.let_go)
    status = projection.status()
    yield Measure("store_lag", "gauge", "Records of the log that the store has not", status.lag)
    yield Measure("store_duplicates", "counter", "Readings that the store had already", status.duplicates)
    for gateway in list(intake.gateways):
        receipt = intake.receipt(gateway)
        if receipt is not None:
            label = {"gateway": gateway}
            yield Measure("gateway_contiguous", "gauge", "Highest seq without a gap below", receipt.contiguous, label)
            missing = intake.ledger.of(gateway, receipt.epoch).missing()
            total = sum(last - first + 1 for first, last in missing)
            yield Measure("gateway_missing", "gauge", "Seqs that are missing between others", total, label)


async def run_until_stopped(centre: Centre, serve: Callable[[asyncio.Event], Any]) -> None:
    """Run a head-end and close it."""
    with contextlib.closing(centre):
        await centre.run(serve)
