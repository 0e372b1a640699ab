"""Full disks between gateway and billing: at the gateway, the broker and the head-end. What was acknowledged stays."""

import asyncio
import signal
from pathlib import Path

import pytest

from storage.log import Log
from storage.retention import MIN_LOG_BYTES
from tests.faults.place import Place
from tests.faults.site_process import until
from tests.faults.small_disk import fill
from tests.faults.uplink_process import METERS

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(300)]
FREE = {"min_free_bytes": 1 << 20}
FULL_S = 2.0
MIN_FREE = '[headend.log]\nmin_free = "1 MiB"\n'


async def test_a_gateway_with_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_space(
    small_disk: Path, tmp_path: Path
):
    async with Place(tmp_path, edge=small_disk / "gateway") as place:
        await place.start_headend()
        await place.start_gateway(limits=FREE)
        await place.receipted()
        filler = fill(small_disk)

        async def stands() -> bool:
            before = len(place.acknowledged())
            await asyncio.sleep(FULL_S)
            return len(place.acknowledged()) == before

        await until(stands, "the log takes nothing more")
        filler.unlink()
        await place.appended(20)
        await place.settled()
        await place.check()


async def test_what_a_gateways_log_must_evict_is_counted_and_nothing_else_is_lost(tmp_path: Path):
    async with Place(tmp_path) as place:
        await place.start_gateway(limits={"max_bytes": MIN_LOG_BYTES}, pause_s=0.0, batches=1500)
        await place.appended(1500)  # nobody fetches: the log's bound is reached
        await place.start_headend()
        status = await place.settled()
        assert 0 < status.evicted_readings < 1500 * METERS
        await place.check(evicted=status.evicted_readings // METERS)
        told = await place.gaps()
        assert sum(sum(each["readings"].values()) for each in told) == status.evicted_readings
        assert {each["reason"] for each in told} == {"evicted"}


async def test_a_broker_whose_disk_is_full_loses_what_it_kept_and_billing_loses_nothing(
    small_disk: Path, tmp_path: Path
):
    kept = f"persistence true\npersistence_location {small_disk}/\nautosave_interval 1"
    async with Place(tmp_path, broker=kept) as place:
        await place.start_headend()
        fill(small_disk)
        await place.start_gateway()
        await place.receipted()
        await place.appended(100)
        await place.broker.kill()
        await place.broker.start()
        await place.appended(20)
        await place.settled()
        await place.check()


async def test_a_headend_with_a_full_disk_gives_no_receipt_and_takes_all_when_there_is_space(
    small_disk: Path, tmp_path: Path
):
    async with Place(tmp_path, centre=small_disk / "headend", tables=MIN_FREE) as place:
        await place.start_headend()
        await place.start_gateway()
        await place.receipted()

        async def taken() -> bool:
            return place.receipts[-1].contiguous > 0

        await until(taken, "a receipt for a record: the first one tells a new gateway that nothing is held")
        filler = fill(small_disk)

        async def refuses() -> bool:
            before = place.receipts[-1].contiguous
            await asyncio.sleep(FULL_S)
            return place.receipts[-1].contiguous == before

        await until(refuses, "no receipt for anything new")
        told = place.receipts[-1]
        await place.end("headend", signal.SIGKILL)
        log = Log.open(place.data / "log")
        assert log.next_seq > 1, told
        log.close()
        filler.unlink()
        await place.start_headend()
        await place.settled()
        assert place.receipts[-1].contiguous > told.contiguous
        await place.check()
