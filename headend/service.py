"""The office: everything that the API may ask of the head-end, each question inside the asker's regions.

Blocking, but for `read_now` and `wait_for_changes`: callers on an event loop use a thread.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from headend.audit.desk import AuditDesk
from headend.changes import Feed, Position, Unpack, cursor_text, readings_of
from headend.completeness import Completeness
from headend.configurations import ConfigurationOffice
from headend.derive import Moduli
from headend.key_office import KeyOffice
from headend.kpi.desk import CollectionDesk
from headend.latest import latest_page
from headend.log_measures import log_measures
from headend.measures import Measure, Measures
from headend.ondemand import OnDemand, ReadDevice
from headend.orders import ClockSet, Orders, SetClock
from headend.policy.office import RegisterOffice
from headend.readings import (
    BadRequestError,
    NotFoundError,
    Question,
    ReadingsDesk,
    cursor_or_storage,
    pack_cursor,
    unpack_cursor,
)
from headend.registry import EVERYWHERE, covers, installation_on
from headend.rows import Row
from headend.sight import ChangeRow, Sight
from headend.spans import sight_of
from headend.supply.desk import SupplyDesk
from headend.tokens import Grant, TokenBook
from metering import timing
from metering.errors import StorageError
from metering.model import Device, Event, Installation, Kind, MeterPoint
from metering.ports import ReadingsStore, Registry
from storage import codec
from storage.log import Log

EVENT_PAGES = 50  # pages looked through for one answer, however few events on them are for the asker

__all__ = ["BadRequestError", "NotFoundError", "Office", "Question"]


class Found(NamedTuple):
    """A point or a device with those of its installations that the asker may see."""

    item: MeterPoint | Device
    installations: Sequence[Installation]


class Office:
    """The head-end's façade.

    `log` None: no change feed here. `read_device` None: nobody here reads meters; `set_clock` likewise. `health`
    returns what keeps the gateway from being ready, in plain words; nothing means ready. `moduli` gives, for a device
    and a register's OBIS, the stored value at which it turns over to zero. `measures` are asked at every scrape.
    """

    def __init__(
        self,
        registry: Registry,
        store: ReadingsStore,
        log: Log | None,
        tokens: TokenBook,
        read_device: ReadDevice | None = None,
        health: Callable[[], Sequence[str]] | None = None,
        clock: Callable[[], int] = timing.now,
        *,
        moduli: Moduli | None = None,
        measures: Sequence[Measures] = (),
        set_clock: SetClock | None = None,
        unpack: Unpack = codec.unpack,
        collection: CollectionDesk | None = None,
        keys: KeyOffice | None = None,
        configurations: ConfigurationOffice | None = None,
        audit: AuditDesk | None = None,
        supply: SupplyDesk | None = None,
        registers: RegisterOffice | None = None,
    ) -> None:
        self.tokens = tokens
        self.collection = collection
        self.keys = keys
        self.configurations = configurations
        self.audit = audit
        self.supply = supply
        self.registers = registers
        self.clock = clock
        self.desk = ReadingsDesk(registry, store, moduli or {}, clock)
        self._registry = registry
        self._store = store
        self._log = log
        self._feed = Feed(log, unpack) if log is not None else None
        self._on_demand = OnDemand(read_device) if read_device is not None else None
        self._orders = Orders(set_clock) if set_clock is not None else None
        self._health = health
        self._measures = measures

    def problems(self) -> list[str]:
        """Return what keeps this site from being ready, in plain words; nothing means ready."""
        found = []
        try:
            self._store.ping()
        except StorageError as error:
            found.append(f"store: {error}")
        if self._log is not None:
            status = self._log.status()
            if not status.accepting:
                found.append(f"log: {status.why_not}")
        return found + list(self._health() if self._health is not None else ())

    def measures(self) -> Iterator[Measure]:
        """Yield the numbers of the log and of all parts that were given."""
        if self._log is not None:
            yield from log_measures(self._log)
        for each in self._measures:
            yield from each()

    def points(self, grant: Grant, region: str, limit: int, cursor: str) -> tuple[list[Found], str]:
        """Return meter points inside a region prefix in the order of their ids, and the next page's cursor."""
        found = [point for point in self._registry.points(grant.regions) if covers((region,), point.region)]
        page, after = _page(found, ("points", region), limit, cursor)
        return [Found(point, self._registry.installations_at(point.id)) for point in page], after

    def point(self, grant: Grant, point_id: str) -> Found:
        """Return a meter point; `NotFoundError` where there is none in the asker's regions."""
        point = self._registry.point(point_id)
        if point is None or not covers(grant.regions, point.region):
            raise NotFoundError(f"there is no meter point {point_id}")
        return Found(point, self._registry.installations_at(point_id))

    def devices(self, grant: Grant, region: str, limit: int, cursor: str) -> tuple[list[Found], str]:
        """Return devices that are or were inside a region prefix in the order of their ids, and the next cursor."""
        found = list(self._registry.devices(grant.regions))
        if region:
            inside = {device.id for device in self._registry.devices((region,))}
            found = [device for device in found if device.id in inside]
        page, after = _page(found, ("devices", region), limit, cursor)
        return [Found(device, self._sight(grant).installations(device.id)) for device in page], after

    def device(self, grant: Grant, device_id: str) -> Found:
        """Return a device; `NotFoundError` where there is none that is or was in the asker's regions."""
        device = self._registry.device(device_id)
        seen = self._sight(grant).installations(device_id)
        if device is None or not (seen or covers(grant.regions, EVERYWHERE)):
            raise NotFoundError(f"there is no device {device_id}")
        return Found(device, seen)

    def check(self, grant: Grant, question: Question) -> None:
        """Raise `NotFoundError` or `BadRequestError` where a question cannot be answered."""
        if question.point:
            self.point(grant, question.point)
        else:
            self.device(grant, question.device)
        question.check()

    def readings(self, grant: Grant, question: Question, limit: int, cursor: str = "") -> tuple[list[Row], str]:
        """Return a page of readings and the next page's cursor."""
        return self.desk.page(question, grant.regions, limit, cursor)

    def completeness(self, grant: Grant, question: Question, *, again: bool = False) -> Completeness:
        """Return how complete the whole range of a question is."""
        return self.desk.completeness(question, grant.regions, again=again)

    def latest(
        self, grant: Grant, devices: Sequence[str], kinds: Sequence[Kind], limit: int, cursor: str
    ) -> tuple[list[Row], str]:
        """Return the latest current value of each channel, by device and channel, and the next page's cursor."""
        return latest_page(self._store, self._sight(grant), devices, kinds, limit, cursor)

    def choose_devices(self, grant: Grant, point: str, device: str, region: str) -> list[str]:
        """Return the devices that a point, a device or a region prefix names now; all in sight where none is given."""
        if device:
            return [self.device(grant, device).item.id]
        if point:
            here = installation_on(self.point(grant, point).installations, self.clock())
            return [here.device] if here is not None else []
        everything = covers(grant.regions, EVERYWHERE) and not region
        inside = sight_of(self._registry, (region,))
        return [
            each.id
            for each in self._registry.devices(grant.regions)
            if everything or ((here := self._here(each.id)) is not None and inside(here))
        ]

    def events(
        self, grant: Grant, devices: Sequence[str] | None, start: int, end: int, limit: int, cursor: str
    ) -> tuple[list[Event], str]:
        """Return events in the order of (time, id) and the next page's cursor. `devices` None: all in sight.

        A gateway's own events are for those who see everything.
        """
        if end < start:
            raise BadRequestError("to", "lies before from")
        about = ("events", start, end)
        after = str(unpack_cursor(cursor, about, (int, int, str))[2]) if cursor else ""
        if devices is None:
            known = list(self._registry.devices(grant.regions))
            devices = [device.id for device in known]
            if covers(grant.regions, EVERYWHERE):
                devices += sorted({f"gateway:{device.gateway}" for device in known if device.gateway})
        found: list[Event] = []
        sight = self._sight(grant)
        for _ in range(EVENT_PAGES):
            try:
                page, after = self._store.events(devices, start, end, limit - len(found), after)
            except StorageError as error:
                raise cursor_or_storage(error, after) from error
            found.extend(event for event in page if sight.sees(event.device, event.time))
            if not after or len(found) >= limit:
                break
        return found, pack_cursor(about, start, end, after) if after else ""

    def changes(self, grant: Grant, after: str, limit: int) -> tuple[list[ChangeRow], str, bool]:
        """Return changes, the cursor to go on from (always there), and whether there may be more right now.

        Raises:
            NotFoundError: there is no change feed here.
            BadRequestError: `after` is no cursor.
            TooOldError: it is older than what is kept.

        """
        if self._feed is None or self._log is None:
            raise NotFoundError("this site keeps no change feed")
        try:
            position = self._feed.start(after)
        except ValueError as error:
            raise BadRequestError("after", str(error)) from error
        rows: list[ChangeRow] = []
        sight = self._sight(grant)
        for found in self._feed.changes(position):
            if isinstance(found, Position):
                position = found
                continue
            row = sight.change(found)
            if row is not None:
                rows.append(row)
            position = found.after
            if len(rows) == limit:
                break
        more = position.seq < self._log.next_seq
        return rows, cursor_text(self._log.epoch, position), more

    async def wait_for_changes(self, seconds: float) -> None:
        """Return when the log gets a new record, or after so many seconds."""
        if self._log is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._log.wait_for(self._log.next_seq)
        except TimeoutError:
            return

    async def read_now(self, grant: Grant, device_id: str) -> list[Row]:
        """Read a meter now. Raises `NotFoundError`, `TooManyReadsError`, or the `MeterError` that kept it from it."""
        self.device(grant, device_id)
        sight = self._sight(grant)
        if not sight.sees(device_id, self.clock()):
            raise NotFoundError(f"there is no device {device_id}")
        if self._on_demand is None:
            raise NotFoundError("nobody at this site reads meters on demand")
        blocks = await self._on_demand.read(device_id, grant.token)
        return [
            sight.row(msgspec.structs.replace(reading, current=True))
            for block in blocks
            for reading in readings_of(block)
        ]

    async def set_clock(self, grant: Grant, device_id: str) -> ClockSet:
        """Set a meter's clock. Raises `NotFoundError`, or the `MeterError` that kept it from being set."""
        self.device(grant, device_id)
        if not self._sight(grant).sees(device_id, self.clock()):
            raise NotFoundError(f"there is no device {device_id}")
        if self._orders is None:
            raise NotFoundError("nobody at this site sets meters' clocks")
        return await self._orders.set_clock(device_id, f"token {grant.token}")

    def _here(self, device: str) -> Installation | None:
        return installation_on(self._registry.installations_of(device), self.clock())

    def _sight(self, grant: Grant) -> Sight:
        return Sight(self._registry, grant.regions, self.clock())


def _page(
    found: Sequence[MeterPoint | Device], about: object, limit: int, cursor: str
) -> tuple[list[MeterPoint | Device], str]:
    after = str(unpack_cursor(cursor, about, (str,))[0]) if cursor else ""
    rest = [item for item in found if item.id > after]
    page = rest[:limit]
    return page, pack_cursor(about, page[-1].id) if len(rest) > limit else ""
