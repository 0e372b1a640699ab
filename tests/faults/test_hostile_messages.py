"""What a broken or hostile gateway may send over a real broker: it is refused and told, and harms nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zstandard

from headend.strikes import STRIKES
from metering import timing, wire
from metering.batch import COMPRESSED, VERSION, Batch
from metering.model import SECOND, Block
from metering.wire import Up
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from storage.codec import MAX_BATCH_BYTES, pack
from tests.faults.place import OTHER, Place
from tests.faults.site_process import until
from tests.faults.uplink_process import BEGIN, LAYOUT

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(300)]
DEEP = 10_000
HUGE = 64 << 20
MEMORY_KIB = 768 * 1024  # of the head-end at its highest: some messages of HUGE at a time, never what a bomb claims
HEAD = bytes((VERSION | COMPRESSED,))


def bomb(*, told: bool) -> bytes:
    """Return a record of a few kilobytes that unpacks to four times what is allowed, with or without saying so."""
    packer = zstandard.ZstdCompressor(write_content_size=told).compressobj(size=4 * MAX_BATCH_BYTES if told else -1)
    chunk = bytes(MAX_BATCH_BYTES // 16)
    return HEAD + b"".join(packer.compress(chunk) for _ in range(64)) + packer.flush()


def nested(deep: int = DEEP) -> bytes:
    """Return a version byte and an array in an array in an array."""
    return bytes((VERSION,)) + b"\x91" * deep + b"\x90"


@asynccontextmanager
async def hostile(port: int) -> AsyncIterator[MqttConnection]:
    connection, stop = MqttConnection(MqttSettings("127.0.0.1", "hostile", port), lambda _: None), asyncio.Event()
    running = asyncio.create_task(connection.run(stop))

    async def connected() -> bool:
        return connection.status().connected

    await until(connected, "the hostile connection")
    yield connection
    stop.set()
    await running


def highest_memory(pid: int) -> int:
    """Return the most memory that a process has had (KiB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


async def test_bombs_nests_and_huge_messages_are_put_aside_and_the_others_are_billed(tmp_path: Path):
    records = [bomb(told=True), bomb(told=False), nested(), b"\x07" + bytes(10)]
    messages = [nested(), bytes(HUGE)]
    async with Place(tmp_path) as place, hostile(place.broker.port) as connection:
        await place.start_headend()
        await place.start_gateway(pause_s=0.02)
        await place.receipted()
        for number, record in enumerate(records, 1):
            for _ in range(STRIKES):
                connection.publish(wire.topic(OTHER, "up"), wire.encode(Up("e", number, [record])))
        for message in messages:
            connection.publish(wire.topic(OTHER, "status"), message)
            for _ in range(STRIKES):
                connection.publish(wire.topic(OTHER, "up"), message)
                await asyncio.sleep(0)
        connection.publish(wire.topic(OTHER, "up"), b"\x07\x80")

        async def put_aside() -> bool:
            return await place.metric("intake_quarantined") == len(records) + len(messages)

        await until(put_aside, "the quarantine has each of them once")

        async def version_told() -> bool:
            return await place.metric("intake_refused_versions") == 1

        await until(version_told, "an unknown version is refused")
        await place.appended(20)
        await place.settled()
        await place.check()
        assert place.headend is not None
        assert place.headend.returncode is None
        assert highest_memory(place.headend.pid) < MEMORY_KIB
        assert await place.events("batch-quarantined")


async def test_anothers_readings_are_refused_with_an_alert_and_the_rest_is_kept_however_old(tmp_path: Path):
    now = timing.now()
    old, new = BEGIN - 3 * 365 * 86_400 * SECOND, timing.slot_at_or_before(now - 60 * SECOND, 1)
    blocks = [
        Block(LAYOUT, device, at, now, [value], slot=at)
        for device, at, value in (("other", old, 1), ("m0", new, 2), ("nobody", new, 3), ("other", new, 4))
    ]
    async with Place(tmp_path) as place, hostile(place.broker.port) as connection:
        await place.start_headend()
        await until(lambda: place.get("/readyz"), "the head-end")
        connection.publish(wire.topic(OTHER, "up"), wire.encode(Up("e", 1, [pack(Batch(now, blocks))])))
        connection.publish(wire.topic("unknown", "up"), wire.encode(Up("e", 1, [pack(Batch(now, blocks))])))

        async def billed() -> list[float]:
            span = {"from": timing.to_rfc3339(old - SECOND), "to": timing.to_rfc3339(now)}
            found = await place.get("/v1/meter-points/p-other/readings", limit=10, **span)
            return [float(row["value"]) for row in found["readings"]] if found is not None else []

        assert await until(billed, "its own readings") == [1, 4]
        alerts = await place.events("readings-refused")
        assert {each["detail"]["device"] for each in alerts} == {"m0", "nobody"}
        assert {each["device"] for each in alerts} == {f"gateway:{OTHER}"}
        assert await place.metric("intake_unknown_gateway") == 1
        hour = 3600 * SECOND
        span = {"from": timing.to_rfc3339(now - hour), "to": timing.to_rfc3339(now)}
        found = await place.get("/v1/meter-points/p0/readings", limit=10, **span)
        assert found is not None
        assert found["readings"] == []
