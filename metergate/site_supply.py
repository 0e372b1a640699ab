"""Wires supply control of a site whose API is its own head-end: the same desk and guard, with no broker between."""

import asyncio

import structlog

from gateway.app import Gateway
from gateway.supply import trust_file
from headend.audit.chain import Trail
from headend.audit.desk import AuditDesk
from headend.audit.heads import HeadsFile
from headend.audit.keeper import AuditKeeper
from headend.audit.spool import Spool
from headend.journal import JournalReader
from headend.policy.office import RegisterOffice
from headend.state.store import State
from headend.supply.book import Book
from headend.supply.desk import SupplyDesk
from headend.supply.dispatch import Dispatch
from headend.supply.thresholds import Limits
from headend.webhook_sender import WebhookSender
from headend.webhooks import Outbox
from metergate.centre_supply import TrustCopies
from metergate.headend_file import HEADS_FILE, SPOOL_FILE
from metergate.policy import build_policy, build_registers
from metergate.site import SiteFile
from metering import wire
from metering.ports import Registry
from metering.supply import CommandMessage
from metering.wire import Control
from storage.log import Log
from trust.keys import SigningKey

_log = structlog.get_logger(__name__)


class SiteDesk:
    """What a site needs to control its own supplies. It withholds nothing before a trust document is installed.

    Raises `ConfigError`: a rule set, a key or a secret is not right.
    """

    def __init__(self, site: SiteFile, state: State, registry: Registry, gateway: Gateway, log: Log) -> None:
        self._gateway = gateway
        document = site.gateway.data / trust_file.FOLDER / trust_file.DOCUMENT
        key = site.supply.service_key
        self.desk = SupplyDesk(
            Book(state),
            registry,
            TrustCopies(lambda _: document),
            build_policy(site.policy, state, registry),
            Limits(),
            SigningKey.load(key) if key is not None else None,
        )
        self.audit = AuditDesk(trail := Trail(state))
        self._keeper = AuditKeeper(
            trail,
            Spool(site.gateway.data / SPOOL_FILE),
            HeadsFile(site.gateway.data / HEADS_FILE),
            site.audit.load() if site.audit is not None else None,
            self._deliver,
            lambda: [site.gateway.id],
        )
        self.registers: RegisterOffice = build_registers(state, registry)
        self._dispatch = Dispatch(self.desk, self._deliver)
        self._journal = JournalReader(log, self._dispatch.handlers(), site.gateway.id)
        self._sender = WebhookSender(Outbox(state), [])  # nobody is told here; it keeps the outbox small

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is due and take up what the gateway tells, until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._dispatch.run(stop))
            group.create_task(self._journal.run(stop))
            group.create_task(self._sender.run(stop))
            group.create_task(self._keeper.run(stop))

    async def _deliver(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Hand on what a broker would carry, in the form in which it would."""
        assert not retain  # noqa: S101 - neither commands nor controls are
        match topic.rpartition("/")[2]:
            case "commands":
                self._gateway.orders.command(wire.decode(payload, CommandMessage))
            case "control":
                control = wire.decode(payload, Control)
                self._gateway.orders.controls()[control.kind](control)
            case leaf:
                _log.error("nothing takes this at a site", leaf=leaf)
