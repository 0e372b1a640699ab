"""A head-end's configuration at a gateway: applied beside buses that go on, refused with its line, or given back.

Real parts: gateway with its log and uplink, Mosquitto, head-end with its log, store and state, simulated Modbus meters.
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.changes import Changes
from gateway.settings import GatewayFile
from headend.configurations import VersionView
from headend.readings import BadRequestError
from headend.state.gateways import Gateways
from headend.tokens import Grant
from metergate.centre import Centre, build
from metergate.commands.registry import take_in
from metergate.edge import EdgeParts
from metergate.headend_file import load_headend
from metergate.site import load_site
from metergate.world import World
from metering.model import SECOND, Kind
from simulators.broker import MosquittoBroker, find_mosquitto
from storage.codec import unpack
from storage.log import Log, Record
from tests.faults.site_process import MAIN, WAIT_S, buses_of, until

pytestmark = [pytest.mark.fault, pytest.mark.real]
ADMIN = Grant("t", "test", frozenset({"admin"}), ("",))
PROFILE = "eastron_sdm120"
FLEET = {
    "seed": 4,
    "tcp": [
        {"id": "one", "meter": [{"id": "m1", "unit": 1, "profile": PROFILE}]},
        {
            "id": "two",
            "meter": [{"id": "m2", "unit": 1, "profile": PROFILE}, {"id": "m3", "unit": 2, "profile": PROFILE}],
        },
    ],
}


def toml(table: str, rows: Sequence[dict[str, Any]]) -> str:
    return "".join(
        f"[[{table}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in row.items()) for row in rows
    )


def meter(name: str, bus: str, unit: int) -> dict[str, Any]:
    only = ["active_energy_import"]
    return {"id": name, "bus": bus, "unit": unit, "profile": PROFILE, "point": f"p-{name}", "region": "r", "only": only}


M1, M2, M3 = meter("m1", "one", 1), meter("m2", "two", 1), meter("m3", "two", 2)
SCHEDULE = '[schedule]\nregisters = "1s"\ninstantaneous = "off"\n'


class Place:
    """One head-end and one gateway that run."""

    def __init__(self, folder: Path, broker: MosquittoBroker, buses: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.broker = broker
        self.buses = buses
        (folder / "headend.toml").write_text(
            f'[headend]\ndata = "{folder / "centre"}"\n[broker]\nhost = "127.0.0.1"\nport = {broker.port}\n'
        )
        (folder / "fleet.toml").write_text(
            '[[gateway]]\nid = "gw1"\n'
            + toml("meter", [
                {"id": each["id"], "gateway": "gw1", "profile": PROFILE, "point": each["point"], "region": "r"}
                for each in (M1, M2, M3)
            ])
        )  # fmt: skip
        take_in(folder / "headend.toml", folder / "fleet.toml")
        (folder / "site.toml").write_text(
            f'[gateway]\nid = "gw1"\ndata = "{folder / "edge"}"\njitter = "10ms"\ntrial = "4s"\n'
            '[gateway.log]\ncommit_every = "100ms"\n'
            f'[uplink]\nhost = "127.0.0.1"\nport = {broker.port}\n' + self.text(M1, M2)
        )
        self.centre: Centre = build(load_headend(folder / "headend.toml"))
        self.edge: EdgeParts

    def text(self, *meters: dict[str, Any], schedule: str = SCHEDULE, buses: list[dict[str, Any]] | None = None) -> str:
        return schedule + toml("bus", buses or self.buses) + toml("meter", meters)

    @asynccontextmanager
    async def head_end(self) -> AsyncIterator[None]:
        async def no_api(_stop: asyncio.Event) -> None:
            await asyncio.sleep(0)

        running = asyncio.create_task(self.centre.run(no_api))
        yield
        self.centre.stop.set()
        await running

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[None]:
        self.edge = EdgeParts(load_site(self.folder / "site.toml"))
        stop, late = asyncio.Event(), asyncio.Event()
        uplink = asyncio.create_task(self.edge.uplink.run(late))
        configuring = asyncio.create_task(self.edge.configurer.run(stop))
        reading = asyncio.create_task(self.edge.gateway.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(reading, configuring)
            late.set()
            await uplink
            self.edge.log.close()

    async def killed(self, kind: str, method: str) -> None:
        """Run the gateway as a process that reads, is given a version, and is killed at this method of a class."""
        module = kind.rpartition(".")[0]
        kill = "lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
        dying = f"import os, signal, {module}\n{kind}.{method} = {kill}\n{MAIN}"
        with (self.folder / "killed.err").open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", dying, "gateway", str(self.folder / "site.toml"), stdout=said, stderr=said
            )
        await until(lambda: later(self.centre.intake.counts.readings > 0), "a reading at the head-end")
        await self.put(self.text(M1, M3))
        code = await asyncio.wait_for(process.wait(), WAIT_S)
        assert code == -signal.SIGKILL, (self.folder / "killed.err").read_text()

    async def put(self, text: str) -> None:
        office = self.centre.office.configurations
        assert office is not None
        await asyncio.to_thread(office.put, ADMIN, "gw1", text.encode())

    async def offered(self) -> bool:
        office = self.centre.office.configurations
        assert office is not None
        return (await asyncio.to_thread(office.view, ADMIN, "gw1")).versions[0].sent > 0

    async def became(self, state: str) -> VersionView:
        office = self.centre.office.configurations
        assert office is not None
        found: list[VersionView] = []

        async def there() -> bool:
            found[:] = (await asyncio.to_thread(office.view, ADMIN, "gw1")).versions
            return bool(found) and found[0].state == state

        await until(there, f"a version that is {state}")
        return found[0]

    async def reads(self, name: str) -> None:
        """Wait until a meter is read by schedule."""
        before = len(slots(self.edge.log, name))
        await until(lambda: later(len(slots(self.edge.log, name)) > before), f"a reading of {name}")

    def connects(self, bus: str) -> int:
        return sum(link.connects for link in self.edge.gateway.status().buses[bus].links)


async def later(value: bool) -> bool:  # noqa: FBT001 - the answer itself
    return value


def records(log: Log) -> list[tuple[int, bytes]]:
    return [(item.seq, item.payload) for item in log.read(1, 100_000, 1 << 30) if isinstance(item, Record)]


def slots(log: Log, device: str) -> list[int]:
    return [
        block.slot
        for item in log.read(1, 100_000, 1 << 30)
        if isinstance(item, Record)
        for block in unpack(item.payload).blocks
        if block.device == device and block.layout.kind is Kind.REGISTER and block.slot is not None
    ]


@pytest.fixture
async def place(open_world: Callable[[dict[str, Any]], Awaitable[World]], tmp_path: Path) -> AsyncIterator[Place]:
    assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
    broker = MosquittoBroker()
    await broker.start()
    made = await asyncio.to_thread(Place, tmp_path, broker, buses_of((await open_world(FLEET)).places()))
    yield made
    made.centre.close()
    await broker.stop()


@pytest.mark.alone
async def test_a_bus_that_did_not_change_keeps_its_connection_and_misses_no_boundary(place: Place) -> None:
    async with place.head_end(), place.gateway():
        await place.reads("m1")
        await place.reads("m2")
        await place.put(place.text(M1, M3))
        await place.became("applied")
        await place.reads("m3")
        await place.reads("m1")
        assert place.connects("one") == 1
        assert place.edge.gateway.status().refused == {}
        found = slots(place.edge.log, "m1")
        assert found == list(range(found[0], found[-1] + SECOND, SECOND))
        assert place.edge.uplink.status().put_back == 0
        await until(lambda: later(place.edge.uplink.holds(place.edge.log.next_seq - 1)), "all at the head-end")
        assert place.edge.versions.standing.applied == 1
    remembered = Gateways(place.centre.state).get("gw1")
    assert remembered is not None
    assert (remembered.boot, remembered.last_seen is not None) == (place.edge.uplink.boot, True)


async def test_a_wrong_configuration_is_refused_with_line_and_key_at_the_put_and_at_the_gateway(place: Place) -> None:
    async with place.head_end(), place.gateway():
        with pytest.raises(
            BadRequestError, match=r"configuration\.toml:2: schedule\.regsters: unknown key; did you mean"
        ):
            await place.put('[schedule]\nregsters = "1s"\n')
        office = place.centre.office.configurations
        assert office is not None
        office._check = lambda _text: None
        await place.put(place.text(M1, M2, schedule='[schedule]\nregisters = "7s"\n'))
        version = await place.became("refused")
        assert version.reason.startswith("1.toml:2: schedule.registers") or "1.toml" in version.reason
        await place.reads("m1")
        assert place.edge.versions.standing.applied == 0


async def test_a_bus_whose_meters_fall_silent_is_given_back(place: Place) -> None:
    async with place.head_end(), place.gateway():
        await place.reads("m2")
        dead = [place.buses[0], {**place.buses[1], "port": 1}]
        await place.put(place.text(M1, M2, buses=dead))
        version = await place.became("rolled-back")
        assert "on two" in version.reason
        await place.reads("m2")
        await place.reads("m1")
        assert place.connects("one") == 1


@pytest.mark.parametrize(
    ("kind", "method"),
    [("gateway.app.Gateway", "_forget"), ("gateway.remote.trial.Configurer", "_failing")],
    ids=["in-mid-application", "on-trial"],
)
async def test_a_gateway_that_is_killed_comes_back_with_the_version_before_and_all_its_readings(
    place: Place, kind: str, method: str
) -> None:
    async with place.head_end():
        await place.killed(kind, method)
        kept = Log.open(place.folder / "edge" / "log")
        before, epoch, new_ones = records(kept), kept.epoch, slots(kept, "m3")
        assert slots(kept, "m1")
        kept.close()
        async with place.gateway():
            version = await place.became("rolled-back")
            assert "ended while this version was on trial" in version.reason
            await place.reads("m2")
            log = place.edge.log
            assert slots(log, "m3") == new_ones
            assert place.edge.versions.standing.applied == 0
            after = records(log)
            assert (log.epoch, after[: len(before)]) == (epoch, before)
            assert [seq for seq, _ in after] == list(range(1, len(after) + 1))
            await until(lambda: later(place.edge.uplink.status().contiguous >= len(after)), "all at the head-end")
            assert place.edge.uplink.status().put_back == 0


async def test_a_version_that_was_put_while_the_gateway_was_away_is_offered_when_it_is_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headend.configurations.FIRST_WAIT_S", 600.0)
    async with place.head_end():
        async with place.gateway():
            await place.reads("m1")
        await place.put(place.text(M1, M3))
        await until(place.offered, "an offer that nobody hears")
        async with place.gateway():
            assert (await place.became("applied")).sent == 2  # once for nobody, once as it said that it is there
            await place.reads("m3")


async def test_a_version_after_which_the_head_end_is_out_of_reach_is_given_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.head_end(), place.gateway():
        await place.reads("m1")
        change = place.edge.gateway.change

        async def change_and_lose_the_broker(file: GatewayFile) -> Changes:
            monkeypatch.setattr(place.edge.gateway, "change", change)
            found = await change(file)
            await place.broker.stop()
            return found

        monkeypatch.setattr(place.edge.gateway, "change", change_and_lose_the_broker)
        await place.put(place.text(M1, M3))
        await until(lambda: later(place.edge.versions.standing.verdict.version == 1), "the verdict")
        assert place.edge.versions.standing.applied == 0
        await place.reads("m2")
        again = MosquittoBroker(place.broker.port)
        await again.start()
        version = await place.became("rolled-back")
        assert version.reason.startswith("the head-end was not reached within")
    await again.stop()
