"""A site killed while it fills holes from a meter's own memory: it goes on, and nothing is held that the log lacks."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from collector.dlt645_profile import load_dlt645_profile
from gateway.accounts import Accounts
from gateway.grid import Grid
from gateway.ledger import Account
from metering import timing
from metering.model import SECOND, Source
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.meter import Meter, MeterSettings
from storage.codec import unpack
from storage.log import Log, Record
from tests.faults.site_process import Site, until

pytestmark = pytest.mark.fault
ADDRESS = "000000000161"
SEED = 5
KILLS = 4
DAY = 86_400 * SECOND
# The accounts are written far more often than usual, so that a kill meets a file that says much.
HASTE = "import gateway.backfill, gateway.memories; gateway.backfill.FIRST_S = 0.1; gateway.memories.KEEP_S = 0.2"


@pytest.fixture
async def endpoint() -> AsyncIterator[tuple[str, int]]:
    profile = load_dlt645_profile("dlt645_2007")
    meter = Dlt645Meter(Meter(MeterSettings(serial=ADDRESS, phases=1)), profile, Dlt645Made(ADDRESS))
    server = Dlt645TcpServer({ADDRESS: meter})
    yield await server.start()
    await server.close()


def held_by_the_log(folder: Path) -> Counter[int]:
    """Return the slots of register rows of the load profile, and how often the log has each."""
    log = Log.open(folder)
    items = log.read(log.first_seq, 1_000_000, 1 << 30)
    log.close()
    return Counter(
        block.slot
        for item in items
        if isinstance(item, Record)
        for block in unpack(item.payload).blocks
        if block.slot is not None
        and (block.layout.source, block.layout.interval) == (Source.PROFILE, 900)
        and block.layout.columns[0].obis == "1-0:1.8.0*255"
    )


def held_by_the_account(folder: Path) -> set[int]:
    def fresh() -> Account:
        raise AssertionError("there is no account")

    rows = Accounts(folder / "accounts").regular("t", "load_record_4", Grid(900, "Asia/Shanghai"), fresh)
    return {rows.grid.slot(number) for low, high in rows.held for number in range(low, high)}


@pytest.mark.timeout(300)
async def test_a_site_that_is_killed_while_it_catches_up_goes_on_where_its_log_ends(
    endpoint: tuple[str, int], make_site: Callable[..., Site], tmp_path: Path
) -> None:
    host, port = endpoint
    meter = {"id": "t", "bus": "b", "address": ADDRESS, "profile": "dlt645_2007", "zone": "Asia/Shanghai"}
    site = make_site(
        {
            "bus": [{"id": "b", "kind": "dlt645-tcp", "host": host, "port": port}],
            "meter": [{**meter, "point": "P", "region": "r"}],
            "schedule": {"registers": "off", "instantaneous": "off"},
        }
    )
    chance = random.Random(SEED)
    for _ in range(KILLS):
        await site.start(HASTE)
        await until(lambda: site.metric("profile_recovered_total"), "rows of the meter's own")
        await asyncio.sleep(chance.uniform(0.2, 0.8))
        assert await site.end(signal.SIGKILL) == -signal.SIGKILL
        assert held_by_the_account(tmp_path / "data") <= set(held_by_the_log(tmp_path / "data" / "log"))

    await site.start(HASTE)

    async def done() -> bool:
        # A boundary may pass meanwhile: its row is read within the hour, and not expected by the API before.
        return await site.metric("profile_missing") <= 1

    await until(done, "all that the meter has")
    now = timing.now()
    span = {"from": timing.to_rfc3339(now - 40 * DAY), "to": timing.to_rfc3339(now)}
    wanted = {"source": "profile", "kind": "register", "obis": "1-0:1.8.0*255", "limit": 1, **span}

    async def stored() -> bool:
        return (await site.get("/v1/devices/t/readings", **wanted))["completeness"]["missing"] == 0

    await until(stored, "all of it in the store")
    found = (await site.get("/v1/devices/t/readings", **wanted))["completeness"]
    # 40 days of quarter hours less those that are not due yet, and 40 days.
    assert found["held"] == found["expected"] > 40 * 96
    assert await site.end() == 0
    rows = held_by_the_log(tmp_path / "data" / "log")
    assert len(rows) >= 60 * 96 - 8
    assert held_by_the_account(tmp_path / "data") == set(rows)
    again = sum(rows.values()) - len(rows)
    assert again < len(rows)  # what a file of a moment ago did not know came once more, not everything each time
