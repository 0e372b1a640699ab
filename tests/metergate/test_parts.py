import asyncio
from pathlib import Path

from metergate.parts import build
from metergate.site import SiteFile
from metering.batch import Batch
from metering.model import Block, Column, Kind, Layout, Source
from metering.ports import ReadingsQuery
from storage.codec import pack

LAYOUT = Layout(Kind.REGISTER, Source.POLL, 900, (Column("1-0:1.8.0*255", "kWh", -2, "int"),))


async def run_until_stored(site: SiteFile) -> int:
    """Run the parts until the store has caught up; return how many readings of the meter it holds."""
    parts = build(site, with_api=False)
    try:
        running = asyncio.create_task(parts.run())
        while parts.projection.status().lag:  # noqa: ASYNC110 - it moves in its own thread
            await asyncio.sleep(0.01)
        parts.stop.set()
        await running
        return len(parts.store.readings(ReadingsQuery("m1", 0, 10)).readings)
    finally:
        parts.close()


async def test_a_store_that_was_deleted_is_filled_again_from_the_log(tmp_path: Path) -> None:
    site = SiteFile.model_validate({"gateway": {"id": "g", "data": str(tmp_path)}})
    parts = build(site, with_api=False)
    await parts.log.append(pack(Batch(1, [Block(LAYOUT, "m1", 5, 5, [100])])))
    parts.close()
    assert await run_until_stored(site) == 1
    for file in tmp_path.glob("readings.db*"):  # noqa: ASYNC240 - a test may touch files
        file.unlink()
    assert await run_until_stored(site) == 1
