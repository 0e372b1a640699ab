"""The log against the disk itself: 1,000 readings a commit, packed and appended durably, beside a bare write of them.

Both sides write the same compressed bytes to the same filesystem in the same run, turn and turn about, one write and
one fdatasync for each batch. Ours packs the next batch while the last one commits; the bare side gets them packed.
"""

import asyncio
import os
import random
import shutil
import statistics
import struct
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import uvloop

from bench.row import Row
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from storage.codec import pack
from storage.log import Log, LogLimits

BAR = 0.75
METERS = 40
COLUMNS = 25
BATCHES = 60  # in one turn of one side
ROUNDS = 31
DISTINCT = 20  # different batches, so that no side writes one block of bytes again and again
BEGIN = 1_764_000_000 * SECOND


def run() -> list[Row]:
    """Measure in a temporary folder of the working directory: /tmp is often memory."""
    directory = Path(tempfile.mkdtemp(prefix=".bench-log-", dir=Path.cwd()))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return [runner.run(_measure(directory))]
    finally:
        shutil.rmtree(directory)


async def _measure(directory: Path) -> Row:
    batches = [_batch(number) for number in range(DISTINCT)]
    packed = [pack(batch) for batch in batches]
    log = Log.open(directory / "log", LogLimits(min_free_bytes=0))
    ours: list[float] = []
    bare: list[float] = []
    try:
        with (directory / "bare").open("wb", buffering=0) as plain:
            for _ in range(ROUNDS + 1):  # the first one warms up
                bare.append(_bare(plain.fileno(), packed))
                ours.append(await _ours(log, batches))
        status = log.status()
    finally:
        log.close()
    readings = BATCHES * METERS * COLUMNS
    ratio = statistics.median(theirs / mine for mine, theirs in list(zip(ours, bare, strict=True))[1:])
    stored = status.bytes_written / (readings * (ROUNDS + 1))
    merged = BATCHES * (ROUNDS + 1) - status.commits
    pages = statistics.mean(_pages(packed)) * 4096 / (METERS * COLUMNS)
    return Row(
        name="log-append",
        ours=readings / statistics.median(ours[1:]),
        unit="readings/s",
        against="bare write and fdatasync of the same bytes",
        other=readings / statistics.median(bare[1:]),
        ratio=ratio,
        bar=f"ratio >= {BAR}",
        holds=ratio >= BAR,
        note=f"{stored:.2f} B a reading in the file, {pages:.2f} B in pages of 4 KiB, without the journal's; {merged} "
        f"of {BATCHES * (ROUNDS + 1)} batches shared a commit and were not counted",
    )


def _bare(fd: int, packed: list[bytes]) -> float:
    begun = time.perf_counter()
    for number in range(BATCHES):
        os.write(fd, packed[number % DISTINCT])
        os.fdatasync(fd)
    return time.perf_counter() - begun


async def _ours(log: Log, batches: list[Batch]) -> float:
    """Return the seconds for BATCHES commits: one batch is on its way to the disk, and one is packed behind it.

    Where two batches met in one commit after all (at the start of a turn), only the commit counts, not both.
    """
    commits, begun = log.status().commits, time.perf_counter()
    before: asyncio.Task[int] | None = None
    for number in range(BATCHES):
        committing = asyncio.ensure_future(log.append(pack(batches[number % DISTINCT])))
        await asyncio.sleep(0)  # let it be queued
        if before is not None:
            await before
        before = committing
    if before is not None:
        await before
    return (time.perf_counter() - begun) * BATCHES / (log.status().commits - commits)


def _pages(packed: list[bytes]) -> list[int]:
    """Return how many pages of 4 KiB each append touches: a page that two share is written twice."""
    ends = [0]
    for payload in packed * 4:
        ends.append(ends[-1] + 36 + len(payload))
    return [(end - 1) // 4096 - start // 4096 + 1 for start, end in pairwise(ends)]


def _batch(number: int) -> Batch:
    """Return the readings of 40 meters with 25 float32 values each, as a poll of one second gives them."""
    chance = random.Random(number)
    columns = tuple(Column(f"1-0:{21 + i}.7.0*255", "V", 0, "float32") for i in range(COLUMNS))
    layout = Layout(Kind.INSTANTANEOUS, Source.POLL, 0, columns)
    at = BEGIN + number * SECOND
    blocks = []
    for meter in range(METERS):
        values = struct.unpack(f"{COLUMNS}f", struct.pack(f"{COLUMNS}f", *(chance.uniform(0, 240) for _ in columns)))
        measured = at + chance.randrange(SECOND)
        blocks.append(Block(layout, f"meter-{meter:04d}", measured, measured + chance.randrange(9000), values))
    return Batch(at, blocks)
