"""Work on a meter: the right meter, its turn, and a meter that refuses its secrets is left alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from collector.bus import Bus, Lane
from collector.capabilities import Talk
from gateway.lines import make_bus_meters, make_buses
from gateway.meters import BusMeter
from gateway.settings import GatewayFile
from gateway.work import LockedError, MeterWork
from metering.errors import AuthError, HaltedError, MeterError
from metering.events import EventType
from simulators.modbus_tcp import ModbusTcpServer
from simulators.unit import FixedRegisters, Unit

SERIAL = {64512: b"\x00\xcf", 64513: b"\x33\xee"}  # 13579246


class Store:
    """Remembers one refusal until its meter's key changes."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.holds: dict[str, str] = {}

    def refuse(self, meter: str, reason: str) -> None:
        self.reasons[meter] = reason

    def refused(self, meter: str) -> str:
        return self.reasons.get(meter, "")

    def held(self, meter: str) -> str:
        return self.holds.get(meter, "")


class Site:
    """One meter and what happened at it."""

    def __init__(self, file: GatewayFile, refusals: Store | None = None) -> None:
        self.raised: list[str] = []
        self.buses: dict[str, Bus] = make_buses(file, lambda: 0, lambda *_: None)
        self.meter: BusMeter = make_bus_meters(file, lambda *_: None)["m"]
        self.work = MeterWork(self.buses, self._raise, refusals)
        self.asked = 0

    def _raise(self, kind: EventType, device: str = "", **detail: str) -> None:
        self.raised.append(f"{kind.name} {device} {' '.join(detail.values())}")

    def install(self, serial: str) -> None:
        self.meter.settings = self.meter.settings.model_copy(update={"serial": serial})

    async def ask(self) -> str | None:
        async def job(talk: Talk) -> str | None:
            self.asked += 1
            return await self.meter.driver.identify(talk)

        return await self.work.work_on(self.meter, Lane.ON_DEMAND, job)

    async def refuse(self) -> None:
        async def job(_: Talk) -> None:
            self.asked += 1
            raise AuthError("wrong password", meter=self.meter.id)

        await self.work.work_on(self.meter, Lane.ON_DEMAND, job)


@pytest.fixture
async def file() -> AsyncIterator[GatewayFile]:
    image = bytearray(65600 * 2)
    for address, data in SERIAL.items():
        image[2 * address : 2 * address + 2] = data
    server = ModbusTcpServer({1: Unit(1, FixedRegisters({3: bytes(image), 4: bytes(image)}))})
    host, port = await server.start()
    yield GatewayFile.model_validate(
        {
            "gateway": {"id": "g", "data": "unused"},
            "bus": [{"id": "b", "kind": "tcp", "host": host, "port": port}],
            "meter": [
                {"id": "m", "profile": "eastron_sdm120", "point": "p", "region": "r", "bus": "b", "unit": 1,
                 "serial": "0013579246"}
            ],
        }
    )  # fmt: skip
    await server.close()


@pytest.fixture
async def site(file: GatewayFile) -> AsyncIterator[Site]:
    site = Site(file)
    yield site
    await site.buses["b"].close()


async def test_the_installed_meter_is_worked_on(site: Site):
    assert await site.ask() == "13579246"
    assert site.meter.identified
    assert site.work.refused == {}


async def test_another_meter_is_never_worked_on_and_told_once(site: Site):
    site.install("4711")
    for _ in range(2):
        with pytest.raises(MeterError, match="unit 1 shows serial number 13579246, installed is 4711"):
            await site.ask()
    assert site.asked == 0
    assert site.raised == ["serial-mismatch m 13579246 4711"]
    assert set(site.work.refused) == {"m"}
    site.install("13579246")
    await site.ask()
    assert site.work.refused == {}


async def test_a_meter_whose_keys_are_held_is_not_asked_and_that_is_told_once(file: GatewayFile):
    store = Store()
    site = Site(file, store)
    site.meter.keyed = True
    store.holds["m"] = "its counter is halted"
    for _ in range(2):
        with pytest.raises(HaltedError, match="its counter is halted"):
            await site.ask()
    assert site.asked == 0
    assert site.work.refused == {"m": "its counter is halted"}
    store.holds.clear()
    assert await site.ask() == "13579246"
    assert site.work.refused == {}
    assert site.raised == ["keys-halted m its counter is halted", "keys-in-use m "]
    await site.buses["b"].close()


async def test_two_jobs_that_wait_together_show_a_wrong_key_once(file: GatewayFile):
    site = Site(file, Store())
    site.meter.keyed = True
    found = await asyncio.gather(site.refuse(), site.refuse(), return_exceptions=True)
    assert [type(each) for each in found] == [AuthError, LockedError]
    assert site.asked == 1
    assert site.raised == ["key-refused m wrong password"]
    await site.buses["b"].close()


@pytest.mark.parametrize("store", [None, Store()], ids=["in memory", "in a store"])
async def test_a_meter_that_refused_its_key_is_not_asked_until_the_key_changes(file: GatewayFile, store: Store | None):
    site = Site(file, store)
    site.meter.keyed = True
    for _ in range(3):
        with pytest.raises(AuthError, match="wrong password"):
            await site.refuse()
    assert site.asked == 1
    assert site.raised == ["key-refused m wrong password"]
    assert site.work.refused == {"m": "wrong password"}
    if store is not None:
        store.reasons.clear()
        await site.ask()
        assert site.work.refused == {}
    await site.buses["b"].close()
