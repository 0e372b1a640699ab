"""A poll that was missed, and rows that the gateway lost after it had them: the head-end asks, and the meter has them.

Real parts: gateway with its log and uplink, Mosquitto, head-end with its log, store and state, a simulated DL/T 645
meter with its own memory. Only the pauses are shorter than usual.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.dlt645_profile import load_dlt645_profile
from gateway.accounts import Accounts
from gateway.grid import Grid
from gateway.ledger import Account
from headend.kpi.desk import CollectionRow, ReportQuery
from headend.kpi.figures import DAY
from headend.state.gaps import GapsQuery
from headend.tokens import Grant
from metergate.centre import Centre, build
from metergate.commands.registry import take_in
from metergate.edge import run_edge
from metergate.headend_file import load_headend
from metergate.site import load_site
from metering import timing
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Expectation, Kind, Layout, Source
from metering.timing import to_rfc3339
from simulators.broker import MosquittoBroker
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.meter import Meter, MeterSettings
from storage.codec import pack
from storage.log import Log
from tests.faults.site_process import until

pytestmark = [pytest.mark.fault, pytest.mark.real]
ADDRESS = "000000000161"
OBIS = "1-0:1.8.0*255"
PROFILE = "load_record_4"
STEP = 900 * SECOND
MISSED = 40  # the quarter hour whose poll did not come
POLLS = Layout(Kind.REGISTER, Source.POLL, 900, (Column(OBIS, "kWh", -2, "int"),))
EVERYTHING = Grant("t", "test", frozenset({"readings:read"}), ("",))


@pytest.fixture
async def meter() -> AsyncIterator[tuple[str, int]]:
    made = Dlt645Made(ADDRESS)
    simulated = Dlt645Meter(Meter(MeterSettings(serial=ADDRESS, phases=1)), load_dlt645_profile("dlt645_2007"), made)
    server = Dlt645TcpServer({ADDRESS: simulated})
    yield await server.start()
    await server.close()


def gateway_of_yesterday(folder: Path, start: int) -> None:
    """Leave what a gateway left: polls of a day but for one, and an account of rows that its log has no more."""
    slots = [start + number * STEP for number in range(96) if number != MISSED]
    polls = [Block(POLLS, "t", slot + SECOND, slot + SECOND, (number,), slot) for number, slot in enumerate(slots)]
    promise = Expectation("t", Kind.REGISTER, Source.POLL, 900, (OBIS,), start, start + DAY)
    log = Log.open(folder / "log")
    log.append_now([pack(Batch(start + DAY, polls, expectations=[promise]))])
    log.close()
    accounts = Accounts(folder / "accounts")
    grid = Grid(900, "Asia/Shanghai")
    first, newest = grid.at_or_before(start) + 1, grid.at_or_before(timing.now())
    rows = accounts.regular("t", PROFILE, grid, lambda: Account(grid, first, first))
    assert isinstance(rows, Account)
    rows.hold(range(first, newest + 1))
    accounts.write(accounts.snapshot())


def site_file(folder: Path, port: int, meter: tuple[str, int], installed: int) -> Path:
    file = folder / "site.toml"
    file.write_text(
        f'[gateway]\nid = "gw1"\ndata = "{folder / "edge"}"\njitter = "100ms"\n'
        '[gateway.log]\ncommit_every = "200ms"\n'
        '[schedule]\nregisters = "off"\ninstantaneous = "off"\n'
        f'[uplink]\nhost = "127.0.0.1"\nport = {port}\n'
        f'[[bus]]\nid = "b"\nkind = "dlt645-tcp"\nhost = "{meter[0]}"\nport = {meter[1]}\n'
        f'[[meter]]\nid = "t"\nbus = "b"\naddress = "{ADDRESS}"\nprofile = "dlt645_2007"\nzone = "Asia/Shanghai"\n'
        f'point = "P"\nregion = "js/nj"\ninstalled = "{to_rfc3339(installed)}"\n'
    )
    return file


def headend_file(folder: Path, port: int) -> Path:
    file = folder / "headend.toml"
    file.write_text(f'[headend]\ndata = "{folder / "centre"}"\n[broker]\nhost = "127.0.0.1"\nport = {port}\n')
    fleet = folder / "fleet.toml"
    fleet.write_text(
        '[[gateway]]\nid = "gw1"\n'
        '[[meter]]\nid = "t"\ngateway = "gw1"\nprofile = "dlt645_2007"\npoint = "P"\nregion = "js/nj"\n'
    )
    take_in(file, fleet)
    return file


def figures(centre: Centre, day: int) -> CollectionRow | None:
    desk = centre.office.collection
    assert desk is not None
    rows, _ = desk.figures(EVERYTHING, ReportQuery("gateway", day, day + 1, 9), 3600, "")
    return rows[0] if rows else None


@pytest.mark.timeout(180)
async def test_a_poll_that_was_missed_is_asked_for_and_counts_as_collected_but_not_at_the_first_try(
    broker: MosquittoBroker, meter: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.backfill.FIRST_S", 0.1)
    monkeypatch.setattr("headend.kpi.collection.TICK_S", 0.1)
    monkeypatch.setattr("headend.kpi.collection.SETTLE_S", 0.1)
    day = timing.now() // DAY - 2
    gateway_of_yesterday(tmp_path / "edge", day * DAY)
    centre = build(load_headend(headend_file(tmp_path, broker.port)))
    site = load_site(site_file(tmp_path, broker.port, meter, day * DAY))
    stop = asyncio.Event()

    async def no_api(_stop: asyncio.Event) -> None:
        await asyncio.sleep(0)

    running = asyncio.gather(centre.run(no_api), run_edge(site, stop))
    try:

        async def collected() -> bool:
            found = await asyncio.to_thread(figures, centre, day)
            return found is not None and found.recovered == 1 and found.missing == 0

        await until(collected, "the row of the missed poll")
        found = figures(centre, day)
        assert found is not None
        assert found.success_rate == 1.0
        assert found.first_try_rate is not None
        assert found.first_try_rate < found.success_rate
        gaps = centre.collection.gaps.find(GapsQuery(day * DAY, (day + 1) * DAY, 1000, devices=("t",)))
        poll = [gap for gap in gaps if gap.profile == "poll/register/900"]
        assert [(gap.state, gap.start, gap.answer) for gap in poll] == [
            ("recovered", (day * 96 + MISSED - 1) * STEP, "taken")
        ]
        assert poll[0].tries >= 1
    finally:
        stop.set()
        centre.stop.set()
        await running
        centre.close()
