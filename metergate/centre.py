"""Wires one head-end: inbox, intake, log, projection, store and the office behind the API."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headend.audit.chain import Trail
from headend.audit.desk import AuditDesk
from headend.audit.heads import HeadsFile
from headend.audit.keeper import AuditKeeper
from headend.audit.spool import Spool
from headend.enrolling import Enrolling
from headend.fleet import Fleet
from headend.held import Releaser
from headend.inbox.jetstream import JetStreamInbox
from headend.inbox.mqtt import MqttInbox
from headend.inbox.port import Inbox
from headend.intake import Intake
from headend.kpi.collection import Collection
from headend.kpi.desk import CollectionDesk
from headend.service import Office
from headend.sightings import Sightings
from headend.state.gateways import Gateways
from headend.state.held import HeldBack
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from headend.tokens import TokenBook
from headend.webhook_sender import WebhookSender
from headend.webhooks import Outbox
from metergate.centre_fleet import build_enrolling, build_fleet, keep_fresh
from metergate.centre_sent import Sent, build_sent
from metergate.centre_told import measures, problems, runs_of
from metergate.collecting import collect_of_headend
from metergate.headend_file import HEADS_FILE, SPOOL_FILE, HeadendFile, open_state
from metergate.inboxes import Entrance, open_entrance
from metergate.parts import CURSOR, QUARANTINE_BYTES, log_directory, open_store_of
from metergate.policy import build_registers
from metergate.turnovers import Turnovers
from metering.ports import ReadingsStore
from storage.codec import count
from storage.embedded import EmbeddedStore
from storage.log import Log, LogLimits
from storage.projection import Projection
from storage.quarantine import Quarantine
from storage.trimming import trim_until


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
    sent: Sent
    fleet: Fleet
    enrolling: Enrolling | None
    audit: AuditKeeper
    sender: WebhookSender
    sightings: Sightings
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, serve: Callable[[asyncio.Event], Any]) -> None:
        """Run until `stop`."""
        late_stop = asyncio.Event()  # the audit's last head still goes out
        async with asyncio.TaskGroup() as group:
            group.create_task(self.entrance.inbox.run(late_stop))
            audit = group.create_task(self.audit.run(self.stop))
            for part in (self.projection, self.intake, self.collection, self.releaser, self.sender, self.sightings):
                group.create_task(part.run(self.stop))
            for each in self.sent.running():
                group.create_task(each.run(self.stop))
            if self.entrance.tenure is not None:
                group.create_task(self.entrance.tenure.run(self.stop))
            group.create_task(trim_until(self.stop, self.log))
            group.create_task(serve(self.stop))
            endless = (keep_fresh(self.registry, self.enrolling), self._welcome())
            background = [group.create_task(each) for each in endless]
            await self.stop.wait()
            for task in background:
                task.cancel()
            await audit
            late_stop.set()

    async def _welcome(self) -> None:
        """Publish all receipts anew at each connect: the broker may have lost what it retained."""
        while True:
            await self.entrance.inbox.connected.wait()
            self.entrance.inbox.connected.clear()
            self.intake.tell_all()

    def close(self) -> None:
        """Release files and connections."""
        self.store.close()
        self.log.close()
        self.state.close()


class _Kept(NamedTuple):
    """What lies on the disk or in a database, opened."""

    log: Log
    store: ReadingsStore
    quarantine: Quarantine
    projection: Projection
    state: State
    registry: DatabaseRegistry


def build(file: HeadendFile) -> Centre:
    """Open everything that the head-end needs. Raises before anything runs."""
    kept = _open(file)
    log, state, registry = kept.log, kept.state, kept.registry
    entrance = open_entrance(file, state, log)
    inbox, held = entrance.inbox, HeldBack(state)
    intake = Intake(inbox, log, entrance.books, kept.quarantine, registry.admits, registry.was_assigned, held)
    collection, desk = collect_of_headend(state, kept.store, registry, inbox, intake, (file.headend.id, log.epoch))
    kept.projection.on_stored = collection.stored
    releaser = Releaser(held, log)
    if entrance.tenure is not None:
        entrance.tenure.on_taken = intake.tell_all
        collection.leads = releaser.leads = entrance.tenure.leads
    sent = build_sent(file, state, registry, inbox, intake, log)
    sender = WebhookSender(Outbox(state), [hook.open() for hook in file.webhook])
    enrolling = build_enrolling(file, state)
    return Centre(
        file,
        log,
        kept.store,
        state,
        registry,
        entrance,
        intake,
        kept.projection,
        releaser,
        _office(file, kept, inbox, intake, sent, desk, sender),
        collection,
        sent,
        build_fleet(file, state, registry, intake, enrolling),
        enrolling,
        _audit_keeper(file, state, inbox, intake),
        sender,
        Sightings(intake.gateways, intake.answers, Gateways(state)),
    )


def _open(file: HeadendFile) -> _Kept:
    data = file.headend.data
    data.mkdir(parents=True, exist_ok=True)
    log = _open_log(file)
    store = open_store_of(file.store, data)
    quarantine = Quarantine(data / "quarantine", QUARANTINE_BYTES)
    projection = Projection(log, store, CURSOR, quarantine)
    if isinstance(store, EmbeddedStore) and store.is_empty:
        projection.rewind()
    state = open_state(file)
    return _Kept(log, store, quarantine, projection, state, DatabaseRegistry(state))


def _office(
    file: HeadendFile,
    kept: _Kept,
    inbox: MqttInbox | JetStreamInbox,
    intake: Intake,
    sent: Sent,
    desk: CollectionDesk,
    sender: WebhookSender,
) -> Office:
    """Return what the API asks."""
    return Office(
        kept.registry,
        kept.store,
        kept.log,
        TokenBook(kept.state),
        None,
        lambda: problems(inbox, intake, kept.projection),
        moduli=Turnovers(kept.registry, file.headend.profiles),
        measures=[
            lambda: measures(inbox, intake, kept.projection),
            desk.measures,
            sender.measures,
            *([sent.supply.measures] if sent.supply is not None else []),
        ],
        collection=desk,
        keys=sent.keys,
        configurations=sent.configurations,
        audit=AuditDesk(Trail(kept.state)),
        supply=sent.supply,
        registers=build_registers(kept.state, kept.registry),
    )


def _open_log(file: HeadendFile) -> Log:
    settings = file.headend.log
    limits = LogLimits(
        max_bytes=settings.max_size, max_age_s=settings.max_age, keep_s=settings.keep, min_free_bytes=settings.min_free
    )
    return Log.open(log_directory(file.headend.data), limits, count=count)


def _audit_keeper(file: HeadendFile, state: State, inbox: Inbox, intake: Intake) -> AuditKeeper:
    data = file.headend.data
    key = file.audit.load() if file.audit is not None else None
    spool, heads = Spool(data / SPOOL_FILE), HeadsFile(data / HEADS_FILE)
    return AuditKeeper(Trail(state), spool, heads, key, inbox.publish, lambda: runs_of(intake))


async def run_until_stopped(centre: Centre, serve: Callable[[asyncio.Event], Any]) -> None:
    """Run a head-end and close it."""
    with contextlib.closing(centre):
        await centre.run(serve)
