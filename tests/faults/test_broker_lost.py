"""A real Mosquitto killed with -9 under a running site, and meters that publish what is no reading."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from metering import timing
from simulators.broker import MosquittoBroker, find_mosquitto, free_port
from simulators.fleet_file import Fleet
from simulators.mqtt_meters import MqttFault, MqttMeter, MqttMeters, make_meters
from tests.faults.site_process import Site, until

pytestmark = [pytest.mark.fault, pytest.mark.real]
FLEET = {"seed": 9, "mqtt": [{"id": "own", "kind": "metergate"}, {"id": "plug", "kind": "tasmota"}]}


@asynccontextmanager
async def publishing(broker: MosquittoBroker, meters: Sequence[MqttMeter]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    await broker.start()
    running = asyncio.create_task(MqttMeters(broker.host, broker.port, meters).run(stop))
    try:
        yield
    finally:
        stop.set()
        await running
        await broker.stop()


async def heard_since(site: Site, at: int, devices: set[str]) -> bool:
    """Tell whether the store has readings of all these devices, measured after `at`."""
    rows = (await site.get("/v1/readings/latest", limit=1000))["readings"]
    return devices <= {row["device"] for row in rows if timing.from_rfc3339(row["received_at"]) > at}


def inspect(site: Site) -> str:
    command = [sys.executable, "-m", "metergate", "log", "inspect", str(site.data), "--quarantine"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def test_meters_that_publish_come_back_after_a_killed_broker_and_what_is_no_reading_is_put_aside_with_its_reason(
    make_site: Callable[..., Site],
):
    assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
    broker = MosquittoBroker(free_port())
    meters = make_meters(Fleet.model_validate(FLEET), period_s=0.5)
    tables = {
        "schedule": {"registers": "1min", "instantaneous": "off"},
        "mqtt": {"host": broker.host, "port": broker.port},
        "meter": [
            {"id": each.id, "topic": each.topic, "profile": each.profile, "point": f"MP-{each.id}", "region": "js/nj"}
            for each in meters
        ],
    }
    site = make_site(tables)
    both = {"own", "plug"}
    async with publishing(broker, meters):
        await site.start()
        await until(lambda: heard_since(site, 0, both), "readings of both meters")
        for _ in range(2):
            await broker.kill()
            killed_at = timing.now()
            await broker.start()
            await until(lambda at=killed_at: heard_since(site, at, both), "readings of both meters again")

        meters[0].faults = [MqttFault("malformed")]
        await until(lambda: asyncio.to_thread(lambda: meters[0].topic in inspect(site)), "a payload put aside")
        spoiled_at = timing.now()
        await until(lambda: heard_since(site, spoiled_at, {"plug"}), "the other meter's readings meanwhile")
        meters[0].faults = []
        good_at = timing.now()
        await until(lambda: heard_since(site, good_at, both), "readings of both meters at the end")
    shown = [line for line in inspect(site).splitlines() if f"mqtt:{meters[0].topic}" in line]
    assert shown
    assert all("JSON" in line and "{" in line for line in shown), shown
    assert not any(meters[1].topic in line for line in shown)
    assert await site.end() == 0
