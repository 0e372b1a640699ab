"""The head-end's memory under a steady load: half an hour of it in the soak test, less than a minute here."""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

from bench.load import BATCH, Load, begin_now
from bench.processes import resident
from bench.row import Row
from bench.whole_centre import centre, sender, temporary

GATEWAYS = 16
READINGS_PER_S = 20_000
RUN_S = 30.0
WARM_UP = 0.4  # of a run: caches fill, and the allocator finds its size
LOOK_S = 0.5
BAR_MB = 8.0
MB = 1e6
WITHIN_S = 120.0


class Watched(NamedTuple):
    """A run: (seconds, bytes resident) as it went on, and how many of the readings were stored in the end."""

    samples: list[tuple[float, int]]
    sent: int
    stored: int

    def growth(self) -> float:
        """Return by how many bytes it grew after the warm-up: the slope of a line through it, times the time."""
        begin = self.samples[-1][0] * WARM_UP
        later = [(at, size) for at, size in self.samples if at >= begin]
        times, sizes = [at for at, _ in later], [size for _, size in later]
        middle, mean = sum(times) / len(times), sum(sizes) / len(sizes)
        spread = sum((at - middle) ** 2 for at in times)
        slope = sum((at - middle) * (size - mean) for at, size in later) / spread
        return slope * (times[-1] - times[0])


async def watch(directory: Path, seconds: float) -> Watched:
    """Run a head-end with its store under a steady load for so long, and look at its memory."""
    load = Load("soak", GATEWAYS, 200, 25, begin_now(), rate=READINGS_PER_S / BATCH / GATEWAYS, live_s=seconds)
    samples = []
    async with centre(directory, [load]) as made, sender(made, load) as gateways:
        gateways.go()
        begun = time.monotonic()
        while (at := time.monotonic() - begun) < seconds:
            samples.append((at, resident(made.pid)))
            await asyncio.sleep(LOOK_S)
        await gateways.seen()
        await made.stored(load.readings, WITHIN_S)
        _, stored = made.points()
    return Watched(samples, load.readings, stored)


def run() -> list[Row]:
    """Watch it for RUN_S. Ends within a minute."""
    with temporary() as directory:
        seen = asyncio.run(watch(directory, RUN_S))
    growth = seen.growth() / MB
    last = seen.samples[-1][1] / MB
    note = (
        f"{READINGS_PER_S} readings/s for {RUN_S:.0f} s, the first {WARM_UP:.0%} left out; {last:.0f} MB resident; "
        f"{seen.stored} of {seen.sent} readings stored; the half hour is `make soak`"
    )
    holds = growth <= BAR_MB and seen.stored == seen.sent
    return [Row("headend-memory", growth, "MB grown", "the bar", BAR_MB, growth / BAR_MB, "ratio <= 1", holds, note)]
