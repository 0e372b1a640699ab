"""A site killed again and again: what its log acknowledged is stored once, and what is missing is told."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from metergate.world import World
from metering import timing
from metering.model import SECOND, Block, Expectation, Kind
from metering.ports import Reading, ReadingsQuery
from metering.quality import Quality
from storage.codec import unpack
from storage.embedded import EmbeddedStore
from storage.log import Log, Record
from tests.faults.site_process import ENERGY, Site, buses_of, meters_of, until

pytestmark = pytest.mark.fault
# 11 starts, each as long as the machine takes; the long storm is for `make soak`
KILLS = [
    pytest.param(10, marks=pytest.mark.timeout(400)),
    pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(0)]),
]
SEED = 20  # which moments: the same at each run
FLEET = {
    "seed": 7,
    "tcp": [
        {
            "id": name,
            "meter": [
                {"id": f"{name}-1", "unit": 1, "profile": "eastron_sdm630"},
                {"id": f"{name}-2", "unit": 2, "profile": "eastron_sdm120"},
            ],
        }
        for name in ("north", "south")
    ],
}


class Life(NamedTuple):
    """One run of the process: it read from `ready` on at the latest, and no more after `dead`."""

    ready: int
    dead: int
    acknowledged: int  # records that its log told to have, shortly before the end


async def live(site: Site, seconds: float) -> Life:
    await site.start()
    ready = timing.now()
    await asyncio.sleep(seconds)
    acknowledged = int(await site.metric("log_records"))
    assert await site.end(signal.SIGKILL) == -signal.SIGKILL
    return Life(ready, timing.now(), acknowledged)


async def caught_up(site: Site, end: int) -> bool:
    """Tell whether the slots before `end` can be judged: they are old enough, and the store has what the log has."""
    return timing.now() > end + 2 * SECOND and not await site.metric("store_lag")


def open_promises(site: Site) -> set[bytes]:
    raw = msgspec.json.decode((site.data / "promises.json").read_bytes(), type=list[Expectation])
    return {msgspec.json.encode(promise) for promise in raw}


def blocks_of_log(site: Site) -> Iterator[Block]:
    log = Log.open(site.data / "log")
    try:
        items = log.read(1, 1_000_000, 1 << 30)
        assert [item.seq for item in items if isinstance(item, Record)] == list(range(1, log.next_seq))
        for item in items:
            if isinstance(item, Record):
                yield from unpack(item.payload).blocks
    finally:
        log.close()


def stored(store: EmbeddedStore, device: str) -> list[Reading]:
    found: list[Reading] = []
    query = ReadingsQuery(device, 0, 1 << 60, versions=True, limit=10_000)
    while True:
        page = store.readings(query)
        found += page.readings
        if not page.cursor:
            return found
        query = msgspec.structs.replace(query, after=page.cursor)


def check_every_reading_is_stored_once(site: Site, devices: list[str]) -> set[tuple[str, int]]:
    """Compare log and store, reading by reading; return (device, slot) of all snapshots that are held."""
    logged: Counter[tuple[object, ...]] = Counter()
    slots: Counter[tuple[str, int]] = Counter()
    for block in blocks_of_log(site):
        layout = block.layout
        for column, value in zip(layout.columns, block.values, strict=True):
            logged[block.device, layout.kind, layout.source, layout.interval, column, block.measured_at, value] += 1
            if layout.kind is Kind.REGISTER and column.obis == ENERGY:
                slots[block.device, block.slot or 0] += 1
        assert not any(flags & Quality.CLOCK_SUSPECT for flags in block.quality)
    store = EmbeddedStore(site.data / "readings.db")
    held: Counter[tuple[object, ...]] = Counter()
    for device in devices:
        for each in stored(store, device):
            at = each.channel
            held[device, at.kind, at.source, at.interval, at.column, each.measured_at, each.value] += 1
    store.close()
    assert held == logged
    assert set(held.values()) == {1}
    assert set(slots.values()) == {1}
    return set(slots)


def missing_slots(completeness: dict[str, Any]) -> set[int]:
    found: set[int] = set()
    for gap in completeness["missing_ranges"]:
        first, last = timing.from_rfc3339(gap["first"]), timing.from_rfc3339(gap["last"])
        found.update(range(first, last + 1, SECOND))
    return found


def check_what_is_missing(answer: dict[str, Any], held: set[int], lives: list[Life]) -> None:
    found = answer["completeness"]
    missing = missing_slots(found)
    in_answer = [timing.from_rfc3339(row["slot"]) for row in answer["readings"]]
    assert not found["more"]
    assert found["expected"] == found["held"] + found["missing"]
    assert found["missing"] == len(missing) > 0
    assert found["held"] == len(held)
    assert sorted(in_answer) == sorted(held)
    assert not missing & held
    for slot in missing:
        for life in lives:
            if life.ready <= slot <= life.dead:  # the process was there: then it was dying, and nothing followed
                assert not [later for later in held if slot < later <= life.dead], timing.to_rfc3339(slot)


@pytest.mark.parametrize("kills", KILLS)
async def test_a_site_killed_again_and_again_keeps_what_its_log_acknowledged_once_and_tells_what_is_missing(
    open_world: Callable[[dict[str, Any]], Awaitable[World]], make_site: Callable[..., Site], kills: int
):
    places = (await open_world(FLEET)).places()
    tables = {
        "schedule": {"registers": "1s", "instantaneous": "1s"},
        "bus": buses_of(places),
        "meter": meters_of(places),
    }
    site = make_site(tables, commit_every="100ms")
    devices = [meter.id for meter in places.meters]
    chance = random.Random(SEED)
    lives = [await live(site, 1.5)]
    promised = open_promises(site)
    assert promised
    for _ in range(kills - 1):
        lives.append(await live(site, chance.uniform(0.3, 1.5)))
        assert open_promises(site) == promised
        assert lives[-1].acknowledged >= lives[-2].acknowledged

    await site.start()
    end = lives[-1].dead
    await until(lambda: caught_up(site, end), "the store has all that the log had")
    answers = {device: await site.registers(device, since=0, until=end) for device in devices}
    assert await site.metric("clock_suspect") == 0
    assert not await site.events("gateway-clock-stepped")
    assert len(await site.events("gateway-started")) == kills + 1
    assert await site.end() == 0
    snapshots = check_every_reading_is_stored_once(site, devices)
    for device in devices:
        held = {slot for of, slot in snapshots if of == device and slot < end}
        assert held
        check_what_is_missing(answers[device], held, lives)
