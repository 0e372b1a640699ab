"""Wires the figures of collection and the gap ledger into a head-end, or into a site that is its own."""

from collections.abc import Awaitable, Callable, Iterator

from gateway.app import Gateway
from headend.inbox.port import Inbox
from headend.intake import Intake
from headend.kpi.collection import Collection
from headend.kpi.desk import CollectionDesk
from headend.state.gaps import SeqGap
from headend.state.store import State
from metering import wire
from metering.ports import ReadingsStore, Registry
from metering.wire import Control
from storage.log import Log

MAX_MISSING = 1_000  # ranges of seqs still to come that are told of


def collect_of_headend(
    state: State, store: ReadingsStore, registry: Registry, inbox: Inbox, intake: Intake, here: tuple[str, str]
) -> tuple[Collection, CollectionDesk]:
    """Return what keeps a head-end's figures, and what answers about them; `here` is its id and its log's epoch."""
    collection = Collection(state, store, registry, _by_control(inbox), here)

    def offsets() -> dict[str, float]:
        return {name: known.offset_s for name, known in list(intake.gateways.items()) if known.offset_s is not None}

    return collection, CollectionDesk(state, registry, lambda: _missing(intake), offsets)


def collect_of_site(
    state: State, store: ReadingsStore, registry: Registry, gateway: Gateway, log: Log, name: str
) -> tuple[Collection, CollectionDesk]:
    """Return what keeps the figures of a site, whose own gateway is asked, and what answers about them."""

    async def ask(_gateway: str, control: Control) -> None:
        gateway.orders.backfill(control)

    return Collection(state, store, registry, ask, (name, log.epoch)), CollectionDesk(state, registry)


def _by_control(inbox: Inbox) -> Callable[[str, Control], Awaitable[None]]:
    async def ask(gateway: str, control: Control) -> None:
        await inbox.publish(wire.topic(gateway, "control"), wire.encode(control), retain=False)

    return ask


def _missing(intake: Intake) -> Iterator[SeqGap]:
    """Yield the seqs that are missing between others, of each gateway's present epoch."""
    found = 0
    for gateway in list(intake.gateways):
        receipt = intake.receipt(gateway)
        if receipt is None:
            continue
        for first, last in intake.ledger.of(gateway, receipt.epoch).missing()[: MAX_MISSING - found]:
            found += 1
            yield SeqGap(gateway, receipt.epoch, first, last, "")
