"""From gateways to stored and readable: true uplinks, Mosquitto, the head-end and InfluxDB, each a process.

What the gateways hold in their logs goes up as fast as all together take it. The bar is on CPU: how many readings a
second two cores carry in all, gateways' side, broker, head-end and InfluxDB added up; the wall time of the same run
stands in the note. Readable is counted: InfluxDB's own count of every reading, and whole devices by the API, value
for value.
"""

import asyncio
import itertools
import json
import time
from decimal import Decimal
from pathlib import Path

from bench.load import BATCH, Load, begin_now
from bench.row import Row
from bench.whole_centre import Centre, centre, sender, temporary
from metering import timing

BAR = 278_000  # readings/s: a billion an hour
CORES = 2
WITHIN_S = 120.0
CHECKED_DEVICES = 3
GATEWAYS = 16


def run() -> list[Row]:
    """Measure 8 meters with 25 values a batch, and 200 meters with one. Ends within a minute."""
    begin = begin_now()
    wide = Load("wide", GATEWAYS, 200, 25, begin, fill=750)
    single = Load("single", GATEWAYS, 200, 1, begin, fill=250)
    return [_measured("whole-way", wide), _measured("whole-way-single", single)]


def _measured(name: str, load: Load) -> Row:
    with temporary() as directory:
        return asyncio.run(_measure(name, load, directory))


async def _measure(name: str, load: Load, directory: Path) -> Row:
    async with centre(directory, [load]) as made, sender(made, load) as gateways:
        made.mark()
        begun = time.perf_counter()
        gateways.go()
        await made.stored(load.readings, WITHIN_S)
        wall, cpu = time.perf_counter() - begun, made.cpu()
        missing = await asyncio.to_thread(_missing, made, load)
    rate = CORES * load.readings / sum(cpu.values())
    parts = ", ".join(f"{kind} {used / load.readings * 1e6:.2f}" for kind, used in sorted(cpu.items()))
    note = (
        f"{BATCH // load.width} points of {load.width} values a batch; CPU us/reading: {parts}; "
        f"{load.readings} readings in {wall:.1f} s of wall time, {load.readings / wall:.4g}/s; "
        f"{missing or 'all read back'}"
    )
    holds = rate >= BAR and not missing
    return Row(name, rate, "readings/s on two cores", "the bar", BAR, rate / BAR, "ratio >= 1", holds, note)


def _missing(made: Centre, load: Load) -> str:
    """Return what of the one load that was sent is not stored or not read back; empty where all is."""
    points, readings = made.points()
    if (points, readings) != (load.readings // load.width, load.readings):
        return f"{readings} readings in {points} points are stored of {load.readings}"
    return wrong(made, load)


def wrong(made: Centre, load: Load) -> str:
    """Return which device the API does not give back as it was sent, of a few; empty where all are right."""
    for gateway in load.names()[:CHECKED_DEVICES]:
        device = load.devices(gateway)[-1]
        sent, found = _sent(load, gateway, device), _read(made, load, device)
        if found != sent:
            return f"{device}: the API gives {len(found)} readings of {len(sent)}, or others"
    return ""


def _sent(load: Load, gateway: str, device: str) -> list[tuple[str, Decimal]]:
    """Return (OBIS, value) of all readings of a device, sorted."""
    batches = itertools.islice(load.batches(gateway), load.fill + load.live)
    return sorted(
        (column.obis, Decimal(str(value)).scaleb(column.scale))
        for batch in batches
        for block in batch.blocks
        if block.device == device
        for column, value in zip(block.layout.columns, block.values, strict=True)
    )


def _read(made: Centre, load: Load, device: str) -> list[tuple[str, Decimal]]:
    """Return the same as the API gives it."""
    asked = f"/v1/devices/{device}/readings?kind=register&from={timing.to_rfc3339(load.begin)}"
    lines = made.ask(asked, "application/x-ndjson").splitlines()
    return sorted((row["obis"], Decimal(row["value"])) for row in map(json.loads, lines))
