"""The head-end's InfluxDB down, busy, slow and killed in mid-write, its PostgreSQL restarted: nothing is lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.influxdb_server import InfluxServer
from bench.postgres_server import PostgresServer
from headend.state.held import HeldBack
from headend.state.store import State
from metering import timing
from metering.model import SECOND
from tests.faults.place import Place
from tests.faults.proxy import Proxy
from tests.faults.site_process import until
from tests.faults.uplink_process import METERS

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(300)]
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SLOW = 4_000.0  # bytes a second
PATIENT = "import storage.projection; storage.projection.LONGEST_PAUSE_S = 1.0"
AHEAD = 30 * 86_400 * SECOND


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[InfluxServer]:
    with InfluxServer(tmp_path / "influxdb") as server:
        server.create_database("meters")
        yield server


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


async def test_a_headends_influxdb_may_be_down_busy_slow_and_killed_and_lacks_nothing_in_the_end(
    influx: InfluxServer, tmp_path: Path
):
    (tmp_path / "token").write_text(influx.token)
    async with Proxy(influx.proxy_port) as proxy:
        store = f'kind = "influxdb"\nurl = "http://127.0.0.1:{proxy.port}"\ntoken = "file:{tmp_path / "token"}"\n'
        async with Place(tmp_path, tables=f'[store]\n{store}bucket = "meters/autogen"\ntimeout_s = 2\n') as place:
            await place.start_headend(PATIENT)
            await place.start_gateway(pause_s=0.02)
            await until(lambda: stores(place), "readings in the store")

            proxy.down()
            await goes_on_without(place)
            proxy.flow()
            await until(lambda: stores(place), "the store has caught up")

            proxy.answer = BUSY
            proxy.cut()
            await goes_on_without(place)
            proxy.answer = b""
            await until(lambda: stores(place), "the store has caught up")

            proxy.rate = SLOW
            await place.appended(50)
            await asyncio.to_thread(influx.kill)
            await goes_on_without(place)
            proxy.rate = None
            await asyncio.to_thread(influx.start_influxd)
            await place.settled()
            await place.check()


async def goes_on_without(place: Place) -> None:
    """Wait until the store lags, and see that receipts come all the same."""

    async def lags() -> bool:
        return bool(await place.metric("store_lag"))

    await until(lags, "the store lags")
    before = place.receipts[-1].contiguous

    async def told() -> bool:
        return place.receipts[-1].contiguous >= before + 20

    await until(told, "receipts while the store is away")
    assert await place.metric("store_lag")


async def stores(place: Place) -> bool:
    lag = await place.metric("store_lag")
    return lag is not None and lag < 20 and len(place.receipts) > 0


@pytest.mark.parametrize("mode", ["immediate", pytest.param("fast", marks=pytest.mark.soak)])
async def test_a_postgresql_that_is_restarted_under_the_headend_delays_receipts_and_loses_nothing(
    postgres: PostgresServer, tmp_path: Path, mode: str
):
    url = postgres.fresh()
    async with Place(tmp_path, tables=f'[state]\nurl = "{url}"\n') as place:
        place.begin = timing.slot_at_or_before(timing.now(), 1)
        await place.start_headend()
        await place.start_gateway(ahead=AHEAD, pause_s=0.03)  # each reading is held back: each needs the state
        await place.receipted()
        await asyncio.to_thread(postgres.stop, mode)
        await place.appended(10)
        await asyncio.to_thread(postgres.start)
        await place.appended(10)
        await place.settled()
        acknowledged = place.acknowledged()
        state = State.open(url)
        try:
            heaps = HeldBack(state).heaps()
        finally:
            state.close()
        assert len(heaps) == METERS
        assert all(heap.readings >= len(acknowledged) for heap in heaps)
        assert all(heap.readings <= (heap.last - heap.first) // SECOND + 1 for heap in heaps)  # none twice
