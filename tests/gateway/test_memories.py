"""The whole gateway at simulated meters: their own memories are read, holes filled, clocks measured and set."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from collector.dlt645_profile import load_dlt645_profile
from gateway import backfill
from gateway.app import Gateway
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from metergate.site import load_site
from metering import timing
from metering.batch import Batch
from metering.model import SECOND, Block, Source
from metering.quality import Quality
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_security import GMAC_CLIENT
from simulators.dlms_security import test_keys as keys_of_simulators
from simulators.dlms_tcp import DlmsTcpServer
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.meter import Meter, MeterSettings
from storage.codec import unpack
from storage.log import Log, Record
from storage.quarantine import Quarantine

ADDRESS = "000000000161"
STEP = 900 * SECOND
DAY = 86_400 * SECOND
HOUR = 3600 * SECOND
WAIT_S = 90.0


class House:
    """Two simulated meters and the file of their gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        now = timing.now()
        # Without power for 2 h 10 min, begun 5 minutes after a boundary: eight whole intervals, and one that was cut.
        self.dark_from = (now - 30 * HOUR) // STEP * STEP + 300 * SECOND
        self.dark_until = self.dark_from + 130 * 60 * SECOND
        failures = ((self.dark_from, self.dark_until),)
        self.dlms = DlmsMeter(
            Meter(MeterSettings(serial="70000123", offset_s=40.0)), DlmsSettings(history=False, failures=failures)
        )
        profile = load_dlt645_profile("dlt645_2007")
        self.dlt645 = Dlt645Meter(Meter(MeterSettings(serial=ADDRESS, phases=1)), profile, Dlt645Made(ADDRESS))
        self.servers = (DlmsTcpServer({1: self.dlms}), Dlt645TcpServer({ADDRESS: self.dlt645}))

    async def start(self) -> None:
        (host, port), (other_host, other_port) = [await server.start() for server in self.servers]
        master = self.folder / "master.key"
        master.write_text(make_master())
        secrets = keys_of_simulators()
        store = KeyStore(self.folder / "data" / "keys", f"file:{master}")
        store.put("d", {"encryption": secrets.encryption, "authentication": secrets.authentication})
        store.close()
        (self.folder / "site.toml").write_text(f"""
[gateway]
id = "g"
data = "{self.folder / "data"}"

[gateway.log]
commit_every = "50ms"

[keys]
master = "file:{master}"

[schedule]
registers = "off"
instantaneous = "off"

[[bus]]
id = "wan"
kind = "wrapper"
host = "{host}"
port = {port}

[[bus]]
id = "server"
kind = "dlt645-tcp"
host = "{other_host}"
port = {other_port}

[[meter]]
id = "d"
bus = "wan"
profile = "dlms_idis"
serial = "70000123"
point = "P1"
region = "r"
dlms = {{client = {GMAC_CLIENT}, authentication = "high-gmac", security = "authenticated-encrypted"}}

[[meter]]
id = "t"
bus = "server"
profile = "dlt645_2007"
address = "{ADDRESS}"
point = "P2"
region = "r"
zone = "Asia/Shanghai"
""")

    async def close(self) -> None:
        for server in self.servers:
            await server.close()

    async def run(self, until: Callable[[Gateway], object]) -> list[Batch]:
        """Run the gateway until something is so; return all that its log then holds."""
        log = Log.open(self.folder / "data" / "log")
        gateway = Gateway(load_site(self.folder / "site.toml"), log, Quarantine(self.folder / "quarantine"))
        stop = asyncio.Event()
        running = asyncio.create_task(gateway.run(stop))
        try:
            async with asyncio.timeout(WAIT_S):
                while not until(gateway):
                    assert not running.done()
                    await asyncio.sleep(0.05)
        finally:
            stop.set()
            await running
            items = log.read(log.first_seq, 1_000_000, 1 << 30)
            log.close()
        return [unpack(item.payload) for item in items if isinstance(item, Record)]


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(backfill, "FIRST_S", 0.2)
    made = House(tmp_path)
    await made.start()
    yield made
    await made.close()


def rows(batches: list[Batch], device: str, interval: int) -> list[Block]:
    return [
        block
        for batch in batches
        for block in batch.blocks
        if block.device == device and block.layout.source is Source.PROFILE and block.layout.interval == interval
    ]


def in_days(begin: int, count: int) -> list[int]:
    """Return how many of these slots are of each day: what is missing is told by days of UTC."""
    days = [(begin + number * STEP) // DAY for number in range(count)]
    return [days.count(day) for day in sorted(set(days))]


def missing(gateway: Gateway, device: str) -> int:
    found = gateway.status().memories[device].profiles
    return found.missing if found is not None else -1


def read_through(gateway: Gateway) -> bool:
    """Tell whether all was asked for once: the DLMS meter lacks the row at the outage, and two days of long ago."""
    return missing(gateway, "t") == 0 and missing(gateway, "d") <= 3


async def test_two_months_are_read_from_each_meters_own_memory_and_only_once(house: House) -> None:
    first = await house.run(read_through)
    for device in ("d", "t"):
        slots = [(block.layout.columns, block.slot) for block in rows(first, device, 900)]
        assert len(slots) == len(set(slots)) > 59 * 96
        assert len(rows(first, device, 86_400)) >= 59
        assert rows(first, device, 0)  # settlements, billing
    names = [event.name for batch in first for event in batch.events if event.device == "d"]
    assert names.count("power-down") == names.count("power-up") == 1
    told = [event for batch in first for event in batch.events if event.name == "no-supply"]
    dark = [event.detail for event in sorted(told, key=lambda event: event.time)]
    assert [int(each["count"]) for each in dark] == in_days(house.dark_from - 300 * SECOND + STEP, 9)
    assert timing.from_rfc3339(dark[0]["from"]) == house.dark_from - 300 * SECOND + STEP

    again = await house.run(lambda gateway: missing(gateway, "d") == 0)
    new = again[len(first) :]
    assert len(rows(new, "d", 900)) + len(rows(new, "t", 900)) < 20  # what came meanwhile, and what was in doubt
    lost = [event.time for batch in new for event in batch.events if event.name == "intervals-lost"]
    assert not [at for at in lost if at > house.dark_from - STEP]  # the oldest rows leave the meter meanwhile


async def test_a_clock_is_measured_and_set_and_the_intervals_that_this_touches_are_marked(house: House) -> None:
    done: list[tuple[float, float]] = []

    async def set_clock(gateway: Gateway) -> None:
        before, after = await gateway.set_clock("d", "a person")
        done.append((before.offset / SECOND, after.offset / SECOND))

    orders: list[asyncio.Task[None]] = []

    def until(gateway: Gateway) -> bool:
        if not read_through(gateway):
            return False
        if not orders:
            orders.append(asyncio.create_task(set_clock(gateway)))
        return orders[0].done()

    batches = await house.run(until)
    assert done[0][0] == pytest.approx(40, abs=1)
    assert done[0][1] == pytest.approx(0, abs=1)
    events = {event.name: event for batch in batches for event in batch.events}
    assert events["meter-clock-corrected"].detail["how"] == "set by a person"
    assert not any(block.quality_of(0) & Quality.CLOCK_ADJUSTED for block in rows(batches, "d", 900))
    offsets = [b for batch in batches for b in batch.blocks if b.layout.columns[0].obis == "0-0:1.0.0*255"]
    assert {block.device for block in offsets} >= {"d"}
