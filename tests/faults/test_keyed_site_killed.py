"""A site of DLMS and DL/T 645 meters killed within backfill and ciphered conversations: counters, rows, secrets."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from metering import timing
from simulators.dlms_security import GMAC_CLIENT
from simulators.fleet import Simulation
from tests.faults.keyed_site import (
    ASKED,
    HOUR,
    QUARTER,
    SECRETS,
    SHORTEST,
    check_rows,
    fill_keys,
    fleet_of,
    leaks,
    rows_of_store,
    said_to_the_system,
    seen,
    since,
    tables_of,
    written,
)
from tests.faults.site_process import Site, until

__all__ = ["seen"]
pytestmark = pytest.mark.fault
SEED = 23
# Holes are filled from the beginning on, and the accounts kept so often that most lives go on where the last one ended.
# A line that is down once on a busy machine does not take the whole of what is waited for.
EARLY = (
    "import gateway.backfill, gateway.memories;"
    "gateway.backfill.FIRST_S = 0.05; gateway.backfill.LINK_S = 1.0; gateway.memories.KEEP_S = 0.3"
)
KILLS = [
    pytest.param(3, marks=pytest.mark.timeout(300)),
    pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(0)]),
]
READ = set(ASKED) - {"wrong"} | {"pair"}


@pytest.fixture
async def simulation(tmp_path: Path, seen: dict[str, list[int]]) -> AsyncIterator[Simulation]:
    del seen  # the meters are listened to before they are made
    world = Simulation(fleet_of(since()), directory=tmp_path)
    await world.start()
    yield world
    await world.close()


def check_counters(seen: dict[str, list[int]]) -> None:
    assert seen
    for name, counters in seen.items():
        assert len(set(counters)) == len(counters), name


async def caught_up(site: Site) -> bool:
    if await site.metric("profile_missing") or await site.metric("store_lag"):
        return False
    return all([await site.metric("profile_missing", f'meter="{name}"') == 0 for name in READ])


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_found_in_each_form(secret: bytes) -> None:
    for form in (secret, secret.hex().upper().encode(), secret.hex(" ").encode()):
        assert len(form) < SHORTEST or leaks({"file": b"before " + form + b" after"}) == ["file"]


@pytest.mark.parametrize("kills", KILLS)
async def test_killed_within_backfill_no_counter_comes_twice_no_row_is_lost_and_no_secret_shows(
    simulation: Simulation, make_site: Callable[..., Site], seen: dict[str, list[int]], tmp_path: Path, kills: int
) -> None:
    begin = since()
    site = make_site(tables_of(simulation, tmp_path, begin), commit_every="100ms")
    fill_keys(tmp_path, site.data)
    chance = random.Random(SEED)
    system: dict[str, bytes] = {}
    for number in range(kills):
        await site.start(EARLY)
        assert site.process is not None
        system |= said_to_the_system(site.process.pid)
        if not number:
            await until(lambda: site.events("key-refused", "wrong"), "the meter with the wrong key says so")
        await asyncio.sleep(chance.uniform(0.1, 0.7))
        assert await site.end(signal.SIGKILL) == -signal.SIGKILL
        check_counters(seen)
    assert not leaks(written(site.data, site.file, site.said) | system)
    within = len(rows_of_store(site.data, READ))
    await site.start(EARLY)
    await until(lambda: caught_up(site), "all holes are filled")
    assert len(await site.events("key-refused", "wrong")) == 1
    assert await site.end() == 0
    rows = rows_of_store(site.data, READ)
    assert len(rows) > within > 0, "it was killed before or after the work"
    assert check_rows(rows, begin, timing.now() - 2 * HOUR - QUARTER) == READ
    check_counters(seen)
    for name in ("glo", "general", "line"):
        security = simulation.dlms.meters[name].security
        assert security.attempts == {}
        assert security.refusals == 0
        assert len(seen[f"{security.title.hex()} {GMAC_CLIENT}"]) > 10 * kills
    assert simulation.dlms.meters["wrong"].security.attempts == {GMAC_CLIENT: 1}
    assert not leaks(written(site.data, site.file, site.said) | system)
