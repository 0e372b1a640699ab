"""Wires one site: log, store, gateway, projection and, where wanted, the head-end's office and the API."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from gateway.app import Gateway
from metergate import health
from metergate.site import EmbeddedSettings, SiteFile, StoreSettings, devices_of, installations_of, moduli_of, points_of
from metering.model import SECOND
from metering.ports import ReadingsStore
from metering.secret import resolve_secret
from metering.timing import to_rfc3339
from storage.codec import count
from storage.embedded import EmbeddedStore
from storage.log import Log, LogLimits
from storage.projection import Projection
from storage.quarantine import Quarantine

if TYPE_CHECKING:  # a gateway without the API never loads FastAPI
    from headend.kpi.collection import Collection
    from headend.service import Office
    from headend.state.store import State
    from metergate.site_supply import SiteDesk

logger = structlog.get_logger(__name__)

DRAIN_S = 10.0  # at the end: how long the store may take to catch up with the log; the rest goes on at the next start
DRAIN_LOOK_S = 0.05
CURSOR = "store"
QUARANTINE_BYTES = 64 << 20


@dataclass
class Parts:
    """The running parts of one site."""

    site: SiteFile
    log: Log
    store: ReadingsStore
    quarantine: Quarantine
    gateway: Gateway
    projection: Projection
    office: "Office | None" = None
    state: "State | None" = None
    collection: "Collection | None" = None
    supply: "SiteDesk | None" = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, serve: Callable[[asyncio.Event], Any] | None = None) -> None:
        """Run until `stop`, then end in order: the meters first, the store last, so that what was read is stored."""
        late_stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            views = [group.create_task(self.projection.run(late_stop))]
            if serve is not None:
                views.append(group.create_task(serve(late_stop)))
            if self.collection is not None:
                views.append(group.create_task(self.collection.run(late_stop)))
            if self.supply is not None:
                views.append(group.create_task(self.supply.run(self.stop)))
            await self.gateway.run(self.stop)
            await self._drain()
            late_stop.set()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                while self.projection.status().lag:  # noqa: ASYNC110 - a few looks at the end, with a limit
                    await asyncio.sleep(DRAIN_LOOK_S)
        except TimeoutError:
            logger.warning("the store has not caught up; it goes on from the log at the next start")

    def close(self) -> None:
        """Release files and connections."""
        self.store.close()
        self.log.close()
        if self.state is not None:
            self.state.close()


def open_log(site: SiteFile) -> Log:
    """Open the site's log, or make it."""
    settings = site.gateway.log
    limits = LogLimits(
        max_bytes=settings.max_size,
        max_age_s=settings.max_age,
        keep_s=settings.keep,
        min_free_bytes=settings.min_free,
    )
    return Log.open(log_directory(site.gateway.data), limits, count=count)


def log_directory(data: Path) -> Path:
    """Return where the log lives inside a gateway's data folder."""
    return data / "log"


def open_store(site: SiteFile) -> ReadingsStore:
    """Open the store that the file names."""
    return open_store_of(site.store, site.gateway.data)


def open_store_of(table: StoreSettings, data: Path) -> ReadingsStore:
    """Open the store of a table; an embedded one lives in the folder `data`."""
    if isinstance(table, EmbeddedSettings):
        return EmbeddedStore(data / "readings.db")
    from storage.influxdb import InfluxSettings, InfluxStore  # noqa: PLC0415 - an extra that a small box need not have

    return InfluxStore(
        InfluxSettings(
            url=table.url,
            token=resolve_secret(table.token),
            org=table.org,
            bucket=table.bucket,
            timeout_s=table.timeout_s,
        )
    )


def build(site: SiteFile, *, with_api: bool) -> Parts:
    """Open everything that the site needs. Raises before anything runs."""
    site.gateway.data.mkdir(parents=True, exist_ok=True)
    log = open_log(site)
    store = open_store(site)
    quarantine = Quarantine(site.gateway.data / "quarantine", QUARANTINE_BYTES)
    gateway = Gateway(site, log, quarantine)
    projection = Projection(log, store, CURSOR, quarantine)
    if isinstance(store, EmbeddedStore) and store.is_empty:
        projection.rewind()  # a store that was deleted or set aside is filled again from what the log still has
    parts = Parts(site, log, store, quarantine, gateway, projection)
    if with_api:
        parts.office = build_office(parts)
    return parts


def build_office(parts: Parts) -> "Office":
    """Return the head-end's office over these parts."""
    from headend.orders import ClockSet  # noqa: PLC0415 - only where the API runs
    from headend.registry import MemoryRegistry  # noqa: PLC0415 - only where the API runs
    from headend.service import Office  # noqa: PLC0415 - as above
    from headend.state.store import State  # noqa: PLC0415 - as above
    from headend.tokens import TokenBook  # noqa: PLC0415 - as above
    from metergate.collecting import collect_of_site  # noqa: PLC0415 - as above
    from metergate.site_supply import SiteDesk  # noqa: PLC0415 - as above

    site = parts.site

    async def set_clock(device: str, by: str) -> ClockSet:
        before, after = await parts.gateway.set_clock(device, by)
        return ClockSet(device, before.offset / SECOND, after.offset / SECOND, to_rfc3339(after.at))

    registry = MemoryRegistry(points_of(site), devices_of(site), installations_of(site))
    state = parts.state = State.open(site.gateway.data / "state.db")
    collection, desk = collect_of_site(state, parts.store, registry, parts.gateway, parts.log, site.gateway.id)
    parts.collection = collection
    parts.projection.on_stored = collection.stored
    supply = parts.supply = SiteDesk(site, state, registry, parts.gateway, parts.log)
    return Office(
        registry,
        parts.store,
        parts.log,
        TokenBook(state),
        parts.gateway.read_now,
        lambda: health.problems(parts),
        moduli=moduli_of(site),
        measures=[lambda: health.measures(parts), desk.measures, supply.desk.measures],
        set_clock=set_clock,
        collection=desk,
        audit=supply.audit,
        supply=supply.desk,
        registers=supply.registers,
    )
