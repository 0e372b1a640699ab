"""The gateway's own clock jumps an hour ahead and back while it reads: readings are marked, and reading goes on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.settings import GatewayFile
from metergate.world import World
from metering import timing
from metering.model import SECOND, Block, Event, Kind
from metering.quality import Quality, is_valid
from storage.codec import unpack
from storage.log import Log, Record
from storage.quarantine import Quarantine
from tests.faults.site_process import ENERGY, buses_of, meters_of, until

pytestmark = pytest.mark.fault
HOUR = 3600 * SECOND
FLEET = {"seed": 12, "tcp": [{"id": "riser", "meter": [{"id": "m1", "unit": 1, "profile": "eastron_sdm120"}]}]}


class Wall:
    """The wall clock, which somebody sets wrong by `off` microseconds."""

    def __init__(self) -> None:
        self.off = 0

    def __call__(self) -> int:
        return timing.now() + self.off


def snapshots(log: Log, first: int = 1) -> Iterator[Block]:
    for item in log.read(first, 100_000, 1 << 30):
        if isinstance(item, Record):
            yield from (block for block in unpack(item.payload).blocks if block.layout.kind is Kind.REGISTER)


def events(log: Log, name: str) -> list[Event]:
    records = [item for item in log.read(1, 100_000, 1 << 30) if isinstance(item, Record)]
    return [event for item in records for event in unpack(item.payload).events if event.name == name]


async def test_readings_after_a_step_of_the_clock_are_marked_and_the_schedule_goes_on(
    open_world: Callable[[dict[str, Any]], Awaitable[World]], tmp_path: Path
):
    places = (await open_world(FLEET)).places()
    table = {
        "gateway": {"id": "gw", "data": str(tmp_path / "data"), "jitter": "100ms", "log": {"commit_every": "100ms"}},
        "schedule": {"registers": "1s", "instantaneous": "off"},
        "bus": buses_of(places),
        "meter": meters_of(places, {"eastron_sdm120": ["active_energy_import"]}),
    }
    (tmp_path / "data").mkdir()
    log = Log.open(tmp_path / "data" / "log")
    gateway = Gateway(GatewayFile.model_validate(table), log, Quarantine(tmp_path / "quarantine"))
    gateway.clock._wall = wall = Wall()
    stop = asyncio.Event()
    running = asyncio.create_task(gateway.run(stop))

    async def some(count: int, first: int) -> bool:
        return len(list(snapshots(log, first))) >= count

    await until(lambda: some(2, 1), "snapshots before the step")
    assert all(is_valid(block.quality_of(0)) for block in snapshots(log))
    for number, step in enumerate((HOUR, -HOUR), 1):
        wall.off += step

        async def noticed(number: int = number) -> bool:
            return len(events(log, "gateway-clock-stepped")) == number

        await until(noticed, "the step told as an event")
        assert gateway.status().clock_suspect
        first = log.next_seq
        await until(lambda first=first: some(3, first), "snapshots after the step")
        for block in snapshots(log, first):
            assert block.quality_of(0) & Quality.CLOCK_SUSPECT
            assert not is_valid(block.quality_of(0))
            assert block.layout.columns[0].obis == ENERGY
            assert abs(block.measured_at - wall()) < HOUR // 2
            assert block.slot is not None
            assert abs(block.measured_at - block.slot) < 60 * SECOND
    stop.set()
    await running
    steps = [float(event.detail["seconds"]) for event in events(log, "gateway-clock-stepped")]
    assert [round(step / 60) for step in steps] == [60, -60]
    log.close()
