"""Wires one head-end: inbox, intake, log, projection, store and the office behind the API."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headend.audit.chain import Trail
from headend.audit.desk import AuditDesk
from headend.audit.heads import HeadsFile
from headend.audit.keeper import AuditKeeper
from headend.audit.spool import Spool
from headend.configurations import ConfigurationOffice
from headend.enrolling import Enrolling
from headend.fleet import Fleet
from headend.held import Releaser
from headend.intake import Intake
from headend.journal import JournalReader
from headend.key_floors import FloorTeller
from headend.key_office import KeyOffice
from headend.kpi.collection import Collection
from headend.service import Office
from headend.sightings import Sightings
from headend.state.configs import Configs
from headend.state.gateways import Gateways
from headend.state.held import HeldBack
from headend.state.keys import KeyBook
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from headend.supply.dispatch import Dispatch
from headend.tokens import TokenBook
from headend.webhook_sender import WebhookSender
from headend.webhooks import Outbox
from metergate.centre_fleet import build_enrolling, build_fleet, keep_fresh
from metergate.centre_supply import build_desk
from metergate.centre_told import measures, problems, runs_of
from metergate.collecting import collect_of_headend
from metergate.headend_file import HEADS_FILE, SPOOL_FILE, HeadendFile, open_state
from metergate.inboxes import Entrance, open_entrance
from metergate.parts import CURSOR, QUARANTINE_BYTES, log_directory, open_store_of
from metergate.policy import build_registers
from metergate.remote import check_remote
from metergate.turnovers import Turnovers
from metering.ports import ReadingsStore
from storage.codec import count
from storage.embedded import EmbeddedStore
from storage.log import Log, LogLimits
from storage.projection import Projection
from storage.quarantine import Quarantine

TRIM_S = 60.0


@dataclass
class Centre:
    """The running parts of one head-end."""

    file: HeadendFile
    log: Log
    store: ReadingsStore
    state: State
    registry: DatabaseRegistry
    entrance: Entrance
    intake: Intake
    projection: Projection
    releaser: Releaser
    office: Office
    collection: Collection
    journal: JournalReader
    keys: KeyOffice
    configurations: ConfigurationOffice
    fleet: Fleet
    enrolling: Enrolling | None
    audit: AuditKeeper
    sender: WebhookSender
    dispatch: Dispatch | None
    sightings: Sightings
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, serve: Callable[[asyncio.Event], Any]) -> None:
        """Run until `stop`."""
        late_stop = asyncio.Event()  # the audit's last head still goes out
        async with asyncio.TaskGroup() as group:
            group.create_task(self.projection.run(self.stop))
            group.create_task(self.intake.run(self.stop))
            group.create_task(self.entrance.inbox.run(late_stop))
            if self.entrance.tenure is not None:
                group.create_task(self.entrance.tenure.run(self.stop))
            group.create_task(self.collection.run(self.stop))
            group.create_task(self.releaser.run(self.stop))
            group.create_task(self.journal.run(self.stop))
            group.create_task(self.keys.run(self.stop))
            group.create_task(self.configurations.run(self.stop))
            audit = group.create_task(self.audit.run(self.stop))
            group.create_task(self.sender.run(self.stop))
            if self.dispatch is not None:
                group.create_task(self.dispatch.run(self.stop))
            group.create_task(self.sightings.run(self.stop))
            group.create_task(serve(self.stop))
            refresh = group.create_task(keep_fresh(self.registry, self.enrolling))
            welcome = group.create_task(self._welcome())
            trim = group.create_task(self._trim())
            await self.stop.wait()
            welcome.cancel()
            trim.cancel()
            refresh.cancel()
            await audit
            late_stop.set()

    async def _welcome(self) -> None:
        """Publish all receipts anew at each connect: the broker may have lost what it retained."""
        while True:
            await self.entrance.inbox.connected.wait()
            self.entrance.inbox.connected.clear()
            self.intake.tell_all()

    async def _trim(self) -> None:
        while True:
            await asyncio.to_thread(self.log.trim)
            await asyncio.sleep(TRIM_S)

    def close(self) -> None:
        """Release files and connections."""
        self.store.close()
        self.log.close()
        self.state.close()


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
    state = open_state(file)
    entrance = open_entrance(file, state, log)
    inbox = entrance.inbox
    registry = DatabaseRegistry(state)
    held = HeldBack(state)
    enrolling = build_enrolling(file, state)
    intake = Intake(
        inbox,
        log,
        entrance.books,
        quarantine,
        registry.admits,
        registry.was_assigned,
        held,
    )
    collection, desk = collect_of_headend(state, store, registry, inbox, intake, (file.headend.id, log.epoch))
    releaser = Releaser(held, log)
    if entrance.tenure is not None:
        entrance.tenure.on_taken = intake.tell_all
        collection.leads = releaser.leads = entrance.tenure.leads
    projection.on_stored = collection.stored
    keys = KeyOffice(
        book := KeyBook(state),
        inbox.publish,
        FloorTeller(book, inbox.publish, lambda: runs_of(intake), lambda: (journal.position, log.next_seq)),
    )
    intake.reserved = keys.reserved
    configurations = ConfigurationOffice(
        Configs(state), Gateways(state), inbox.publish, lambda text: check_remote(text, file.headend.profiles)
    )
    sender = WebhookSender(Outbox(state), [hook.open() for hook in file.webhook])
    supply = build_desk(file, state, registry)
    dispatch = Dispatch(supply, inbox.publish) if supply is not None else None
    handlers = dispatch.handlers() if dispatch is not None else {}
    journal = JournalReader(log, {**keys.handlers(), **configurations.handlers(), **handlers})
    office = Office(
        registry,
        store,
        log,
        TokenBook(state),
        None,
        lambda: problems(inbox, intake, projection),
        moduli=Turnovers(registry, file.headend.profiles),
        measures=[lambda: measures(inbox, intake, projection), desk.measures, sender.measures],
        collection=desk,
        keys=keys,
        configurations=configurations,
        audit=AuditDesk(trail := Trail(state)),
        supply=supply,
        registers=build_registers(state, registry),
    )
    return Centre(
        file,
        log,
        store,
        state,
        registry,
        entrance,
        intake,
        projection,
        releaser,
        office,
        collection,
        journal,
        keys,
        configurations,
        build_fleet(file, state, registry, intake, enrolling),
        enrolling,
        AuditKeeper(
            trail,
            Spool(data / SPOOL_FILE),
            HeadsFile(data / HEADS_FILE),
            file.audit.load() if file.audit is not None else None,
            inbox.publish,
            lambda: runs_of(intake),
        ),
        sender,
        dispatch,
        Sightings(intake.gateways, intake.answers, Gateways(state)),
    )


async def run_until_stopped(centre: Centre, serve: Callable[[asyncio.Event], Any]) -> None:
    """Run a head-end and close it."""
    with contextlib.closing(centre):
        await centre.run(serve)
