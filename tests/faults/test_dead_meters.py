"""Dead, slow, babbling and noisy meters beside good ones, a swapped meter, and registers that show nonsense."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from metergate.world import World
from metering import timing
from metering.model import SECOND
from simulators.faults import Fault
from tests.faults.site_process import Site, buses_of, meters_of, until

pytestmark = [pytest.mark.fault, pytest.mark.alone]
BAUD = 19200
ONLY = {profile: ["active_energy_import"] for profile in ("eastron_sdm120", "abb_b23_b24", "acrel_adl400")}
# Failing meters may waste more of the bus than on a real site: so they are probed after seconds instead of minutes.
PROBE_SOON = "import collector.circuit; collector.circuit.WASTE_SHARE = 0.25"
FAULTS = {
    "line-dead": Fault("no_answer"),
    "line-babbling": Fault("babble", seconds=0.3),
    "line-noisy": Fault("noise_before", every=4),
    "tcp-dead": Fault("no_answer"),
    "tcp-slow": Fault("late", seconds=0.4),
    "tcp-noisy": Fault("noise_before", every=4),
}

OpenWorld = Callable[[dict[str, Any]], Awaitable[World]]


def table(bus: str, *names: str, profile: str = "eastron_sdm120") -> dict[str, Any]:
    return {
        "id": bus,
        "meter": [{"id": f"{bus}-{name}", "unit": n, "profile": profile} for n, name in enumerate(names, 1)],
    }


def tables_of(world: World, registers: str) -> dict[str, Any]:
    places = world.places()
    return {
        "schedule": {"registers": registers, "instantaneous": "off"},
        "bus": buses_of(places, BAUD),
        "meter": meters_of(places, ONLY),
    }


async def all_read(site: Site, devices: set[str], since: int = 0) -> bool:
    rows = (await site.get("/v1/readings/latest", limit=1000))["readings"]
    return devices <= {row["device"] for row in rows if timing.from_rfc3339(row["measured_at"]) > since}


async def told(site: Site, event: str, devices: set[str]) -> bool:
    return devices <= {each["device"] for each in await site.events(event)}


async def settled(site: Site, end: int, interval_s: int) -> bool:
    return timing.now() > end + (interval_s + 1) * SECOND and not await site.metric("store_lag")


async def test_good_meters_keep_every_boundary_beside_dead_slow_babbling_and_noisy_ones(
    open_world: OpenWorld, make_site: Callable[..., Site]
):
    line = {**table("line", "good", "dead", "babbling", "noisy"), "baud": BAUD}
    world = await open_world({"seed": 10, "rtu": [line], "tcp": [table("tcp", "good", "dead", "slow", "noisy")]})
    site = make_site(tables_of(world, "5s"))
    everybody = {meter.id for meter in world.places().meters}
    dead = {"line-dead", "tcp-dead"}
    began = timing.now()
    await site.start(PROBE_SOON)
    await until(lambda: all_read(site, everybody), "all meters read while all are well")
    assert not await site.events("meter-silent")

    simulation = world._simulation
    for name, fault in FAULTS.items():
        simulation.set_faults(name, [fault])
    await until(lambda: told(site, "meter-silent", dead), "the dead meters told as silent")
    for bus in ("line", "tcp"):
        assert await site.metric("meters_silent", f'bus="{bus}"') >= 1
        assert await site.metric("exchanges_total", f'bus="{bus}"', 'outcome="no_answer"') >= 3

    swapped_at = timing.now()
    for name in FAULTS:
        simulation.set_faults(name)
    simulation.set_faults("tcp-dead", script=[Fault("swap")])  # somebody put another meter in its place
    await until(lambda: told(site, "meter-back", dead), "the dead meters told as back")
    await until(lambda: told(site, "serial-mismatch", {"tcp-dead"}), "the swapped meter told")
    back_at = timing.now()
    await until(lambda: all_read(site, everybody - {"tcp-dead"}, back_at), "all but the swapped meter read again")

    end = timing.now()
    await until(lambda: settled(site, end, 5), "the store has all")
    for name in ("line-good", "tcp-good", "tcp-slow"):
        found = (await site.registers(name, since=began, until=end))["completeness"]
        assert found["missing"] == 0, found
        assert found["expected"] == found["held"] >= 2
    for name in dead:
        found = (await site.registers(name, since=began, until=end))["completeness"]
        assert found["missing"] > 0
        assert found["expected"] == found["held"] + found["missing"]
    assert not (await site.registers("tcp-dead", since=swapped_at, until=end))["readings"]
    (mismatch,) = await site.events("serial-mismatch")
    assert mismatch["detail"]["shown"] == simulation.meters["tcp-dead"].serial
    assert mismatch["detail"]["installed"] != mismatch["detail"]["shown"]
    assert await site.end() == 0


def codes(row: dict[str, Any]) -> list[str]:
    return [code["name"] for code in row["quality"]["codes"]]


async def test_nonsense_in_registers_is_kept_with_its_quality_and_never_valid(
    open_world: OpenWorld, make_site: Callable[..., Site]
):
    meters = [
        {"id": "nan", "unit": 1, "profile": "eastron_sdm120"},
        {"id": "infinity", "unit": 2, "profile": "eastron_sdm120"},
        {"id": "backwards", "unit": 3, "profile": "abb_b23_b24", "start_kwh": 81234.5},
        {"id": "rollover", "unit": 4, "profile": "acrel_adl400", "load": "shop", "size": 1000.0},
    ]
    world = await open_world({"seed": 11, "tcp": [{"id": "values", "meter": meters}]})
    site = make_site(tables_of(world, "1s"))
    began = timing.now()
    await site.start()
    await until(lambda: all_read(site, {meter["id"] for meter in meters}), "all meters read")
    simulation = world._simulation
    simulation.set_faults("nan", script=[Fault("nan")] * 3)
    simulation.set_faults("infinity", script=[Fault("infinity")] * 2)
    simulation.set_faults("backwards", script=[Fault("backwards", count=5000)])
    simulation.set_faults("rollover", script=[Fault("rollover", count=10)])
    wanted = {"nan": ("not-a-number", 3), "infinity": ("not-a-number", 2), "backwards": ("backwards", 1)}
    wanted["rollover"] = ("rollover", 1)

    async def marked() -> dict[str, list[dict[str, Any]]] | None:
        found = {}
        for name, (code, count) in wanted.items():
            rows = (await site.registers(name, since=began, until=timing.now()))["readings"]
            found[name] = [row for row in rows if code in codes(row)]
            if len(found[name]) < count:
                return None
        return found

    found = await until(marked, "each kind of nonsense with its code")
    end = timing.now()
    for name, (code, count) in wanted.items():
        assert len(found[name]) == count
        for row in found[name]:
            assert codes(row) == [code]
            assert row["quality"]["valid"] is (code == "rollover")  # a known rollover is consumption, not nonsense
            assert (row["value"] is None) is (code == "not-a-number")
        everything = (await site.registers(name, since=began, until=end))["readings"]
        assert all(row["quality"]["valid"] for row in everything if codes(row) == ["valid"])
        assert {code for row in everything for code in codes(row)} == {"valid", wanted[name][0]}
    assert await site.end() == 0
