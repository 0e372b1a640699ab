"""A whole site on a disk that fills up and gets space again: it says so, goes on reading, and recovers by itself."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from metergate.world import World
from metering import timing
from metering.model import SECOND
from tests.faults.site_process import Site, buses_of, meters_of, until
from tests.faults.small_disk import fill

pytestmark = pytest.mark.fault
FLEET = {
    "seed": 8,
    "tcp": [{"id": "riser", "meter": [{"id": f"m{n}", "unit": n, "profile": "eastron_sdm120"} for n in (1, 2, 3)]}],
}
REGISTERS_S = 4  # time enough for a poll on a busy machine: one that was never made is missing without a full disk
SMALL_MEMORY = "import gateway.recorder; gateway.recorder.MAX_PENDING_READINGS = {}"


async def not_ready(site: Site) -> list[str]:
    """Return the reasons, once there are any."""
    status, answer = await site.ready()
    return answer["reasons"] if status == 503 else []


async def is_ready(site: Site) -> bool:
    return (await site.ready())[0] == 200


async def exchanges(site: Site) -> float:
    return await site.metric("exchanges_total", 'outcome="ok"')


def slots(answer: dict[str, Any]) -> list[int]:
    return [timing.from_rfc3339(row["slot"]) for row in answer["readings"]]


@pytest.mark.parametrize("memory", [100_000, 100], ids=["all fits in memory", "memory for 100 readings"])
async def test_a_full_disk_is_told_survived_and_forgotten_when_there_is_space_again(
    open_world: Callable[[dict[str, Any]], Awaitable[World]],
    make_site: Callable[..., Site],
    small_disk: Path,
    memory: int,
):
    began = timing.now()
    places = (await open_world(FLEET)).places()
    tables = {
        "schedule": {"registers": f"{REGISTERS_S}s", "instantaneous": "1s"},
        "bus": buses_of(places),
        "meter": meters_of(places),
    }
    site = make_site(tables, small_disk / "data", min_free="1 MiB")
    await site.start(SMALL_MEMORY.format(memory))
    await until(lambda: is_ready(site), "ready at the start")
    await until(lambda: stored(site), "readings in the store")

    filler = fill(small_disk)
    reasons = await until(lambda: not_ready(site), "a full disk makes the site not ready")
    reasons = await until(lambda: names_the_disk(site), f"a reason that names the disk; there were {reasons}")
    full_at = timing.now()
    before = {meter.id: slots(await site.registers(meter.id, since=began, until=full_at)) for meter in places.meters}
    asked = await exchanges(site)
    await until(lambda: more_exchanges(site, asked + 30), "meters are read while the disk is full")
    assert await site.metric("log_accepting") == 0
    if memory == 100:
        await until(lambda: site.metric("readings_dropped_total"), "readings are dropped and counted")
    assert (await site.ready())[0] == 503

    filler.unlink()
    await until(lambda: is_ready(site), "ready again without a restart")
    space_at = timing.now()
    await until(lambda: read_since(site, space_at), "new readings in the store")
    dropped = await site.metric("readings_dropped_total")
    assert (dropped > 0) == (memory == 100)
    await until(lambda: told_as(site, dropped), "what was dropped is told as events")
    end = timing.now()
    await until(lambda: settled(site, end), "the store has all")
    for meter in places.meters:
        answer = await site.registers(meter.id, since=began, until=end)
        found = answer["completeness"]
        assert set(before[meter.id]) <= set(slots(answer))
        assert len(set(slots(answer))) == len(slots(answer))
        assert found["expected"] == found["held"] + found["missing"]
        assert (found["missing"] > 0) == (dropped > 0), found
    assert await site.end() == 0


async def stored(site: Site) -> bool:
    return len((await site.get("/v1/readings/latest", kind="register"))["readings"]) > 0


async def names_the_disk(site: Site) -> list[str]:
    return [reason for reason in await not_ready(site) if "disk full" in reason]


async def more_exchanges(site: Site, count: float) -> bool:
    return await exchanges(site) > count


async def read_since(site: Site, at: int) -> bool:
    rows = (await site.get("/v1/readings/latest", kind="register"))["readings"]
    return all(timing.from_rfc3339(row["measured_at"]) > at for row in rows)


async def told_as(site: Site, dropped: float) -> bool:
    """Tell whether the events account for all that was dropped, and for no more."""
    told = await site.events("readings-dropped")
    return sum(int(each["detail"]["readings"]) for each in told) == dropped


async def settled(site: Site, end: int) -> bool:
    return timing.now() > end + 2 * REGISTERS_S * SECOND and not await site.metric("store_lag")
