"""A simulated DLMS meter on a real connection of the loopback, and drivers that talk to it over a bus."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar
from zoneinfo import ZoneInfo

import pytest

from collector.bus import Bus, Lane
from collector.dlms_profile import DlmsProfile, load_dlms_profile
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_access import access_of
from collector.drivers.dlms_carrier import DlmsLine
from collector.drivers.dlms_talk import DlmsTalk
from collector.exchange import Transact
from collector.keys import InvocationCounter, MeterKeys
from collector.links.stream import TcpStreamLink
from metering.errors import AuthError
from metering.model import SECOND
from simulators.dlms_faults import DlmsFaults
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_security import GMAC_CLIENT, test_keys
from simulators.dlms_tcp import DlmsTcpServer, Framing
from simulators.meter import Meter, MeterSettings

T = TypeVar("T")
TITLE = b"MGC\0\0\0\0\1"
NOW = 1_795_000_000 * SECOND  # 2026-11-18T11:06:40Z


class Counter:
    """An invocation counter in memory."""

    def __init__(self, start: int = 1, *, known: bool = True, most: int = 10_000) -> None:
        self.value = start
        self.known = known
        self._most = most

    def next(self) -> int:
        if not self.known:
            raise AuthError("the meter's counter has to be read first")
        self.value += 1
        return self.value - 1

    def skip(self) -> bool:
        return False

    def raise_to(self, expected: int) -> None:
        if self.known and expected > self.value + self._most:
            raise AuthError("too far ahead to be believed")
        self.value = max(self.value, expected)
        self.known = True


class Site:
    """One meter behind one endpoint, and the bus to it."""

    def __init__(self, meter: DlmsMeter, server: DlmsTcpServer, bus: Bus) -> None:
        self.meter = meter
        self.server = server
        self.bus = bus

    def driver(
        self,
        profile: str | DlmsProfile = "dlms_generic",
        *,
        keys: MeterKeys | None = None,
        counter: InvocationCounter | None = None,
        zone: str = "UTC",
        **said: object,
    ) -> DlmsDriver:
        model = load_dlms_profile(profile) if isinstance(profile, str) else profile
        said.setdefault("client", GMAC_CLIENT)
        said.setdefault("authentication", "high-gmac")
        said.setdefault("security", "authenticated-encrypted")
        said.setdefault("client_title", TITLE)
        transport = self.server.framing
        if transport == "hdlc":
            said.setdefault("physical", 17)
        return DlmsDriver(
            "m1",
            model,
            DlmsLine(transport),
            access_of(model, **said),
            test_keys() if keys is None else keys,
            counter or Counter(),
            zone=ZoneInfo(zone),
        )

    async def work(self, driver: DlmsDriver, work: Callable[[DlmsTalk], Awaitable[T]]) -> T:
        async def job(transact: Transact) -> T:
            async with driver.talk(transact) as talk:
                return await work(talk)

        return await self.bus.submit(Lane.SCHEDULE, "m1", job, whole=True)


Open = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def open_site() -> Open:
    """Return what opens a site: its meter, the framing, faults."""

    @asynccontextmanager
    async def opened(
        settings: DlmsSettings | None = None,
        *,
        framing: Framing = "wrapper",
        faults: DlmsFaults | None = None,
        now: Callable[[], int] = lambda: NOW,
        physical: MeterSettings | None = None,
    ) -> AsyncIterator[Site]:
        meter = DlmsMeter(Meter(physical or MeterSettings(serial="70000123")), settings, faults=faults, now=now)
        server = DlmsTcpServer({1: meter}, framing=framing)
        host, port = await server.start()
        bus = Bus(TcpStreamLink(host, port), clock=now)
        try:
            yield Site(meter, server, bus)
        finally:
            await bus.close()
            await server.close()

    return opened


@pytest.fixture
def make_counter() -> type[Counter]:
    """Return what makes invocation counters."""
    return Counter
