"""A gateway back after seven days: how fast its log goes up, and whether anybody's live readings wait for it.

Sixteen gateways send live all the time. One with seven days of quarter-hourly readings in its log joins them, and has
live readings of its own. Their receipt delays are compared without and with the backlog on its way.
"""

import asyncio
from pathlib import Path

from bench.load import BATCH, Load, begin_now, percentile
from bench.row import Row
from bench.whole_centre import centre, sender, temporary

DAYS = 7
DAY_S = 86_400
INTERVAL_S = 900
METERS = 200
WIDTH = 25
LIVE_GATEWAYS = 16
LIVE_RATE = 5.0  # batches a second at each: 16,000 readings/s in all
BACK_RATE = 4.0
BACK_LIVE_S = 8.0
BEFORE_S = 12.0
WARM_UP_S = 3.0
LIVE_S = 30.0
TIMES_BAR = 20.0
DELAY_BAR_S = 2.0
LATER_BAR_S = 0.5  # that a live reading may wait longer at p99 while another's backlog drains
WITHIN_S = 120.0


def run() -> list[Row]:
    """Measure both. Ends within a minute."""
    fill = DAYS * DAY_S // INTERVAL_S * METERS * WIDTH // BATCH
    begin = begin_now() - DAYS * DAY_S * 1_000_000
    back = Load("back", 1, METERS, WIDTH, begin, INTERVAL_S, fill, BACK_RATE, BACK_LIVE_S)
    live = Load("live", LIVE_GATEWAYS, METERS, WIDTH, begin_now(), rate=LIVE_RATE, live_s=LIVE_S)
    with temporary() as directory:
        return asyncio.run(_measure(live, back, directory))


async def _measure(live: Load, back: Load, directory: Path) -> list[Row]:
    async with (
        centre(directory, [live, back]) as made,
        sender(made, live) as others,
        sender(made, back) as returned,
    ):
        others.go()
        await asyncio.sleep(BEFORE_S)
        returned.go()
        drained = await returned.seen()
        seen = await others.seen()
        await made.stored(live.readings + back.readings, WITHIN_S)
        _, readings = made.points()
    until = BEFORE_S + drained.fill_s
    before = [delay for when, delay in seen.delays if WARM_UP_S <= when < BEFORE_S - DELAY_BAR_S]
    during = [delay for when, delay in seen.delays if BEFORE_S <= when < until]
    own = [delay for when, delay in drained.delays if when < drained.fill_s]
    return _rows(
        back, drained.fill_s, before, during, own, f"{readings} of {live.readings + back.readings} readings stored"
    )


def _rows(
    back: Load, drain_s: float, before: list[float], during: list[float], own: list[float], stored: str
) -> list[Row]:
    times = DAYS * DAY_S / drain_s
    rate = back.fill * BATCH / drain_s
    note = (
        f"{back.fill * BATCH} readings in {drain_s:.1f} s, {rate:.4g}/s: a gateway that reads up to "
        f"{rate / TIMES_BAR:.3g} a second drains so; {stored}"
    )
    quiet, busy, mine = (percentile(some, 0.99) for some in (before, during, own))
    later = max(busy, mine) - quiet
    delays = (
        f"p99 of {len(during)} batches of others {busy:.2f} s, of {len(own)} of its own {mine:.2f} s; "
        f"without the backlog {quiet:.2f} s"
    )
    holds = later <= LATER_BAR_S and max(busy, mine) <= DELAY_BAR_S
    ratio = times / TIMES_BAR
    return [
        Row("drain", times, "times real time", "the bar", TIMES_BAR, ratio, "ratio >= 1", ratio >= 1, note),
        Row(
            "drain-live",
            max(busy, mine),
            "s of receipt delay at p99",
            "without the backlog",
            quiet,
            max(busy, mine) / quiet,
            f"<= {DELAY_BAR_S:.0f} s and <= {LATER_BAR_S} s more",
            holds,
            delays,
        ),
    ]
