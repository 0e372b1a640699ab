"""How long a live reading waits for the head-end's receipt at a billion readings an hour, InfluxDB kept up meanwhile.

From the commit in the gateway's log until the receipt that covers it is back at the gateway, for every batch.
"""

import asyncio
from pathlib import Path
from statistics import median

from bench.load import BATCH, Load, begin_now, percentile
from bench.row import Row
from bench.whole_centre import centre, sender, temporary
from bench.whole_way import BAR, GATEWAYS

LIVE_S = 20.0
WARM_UP_S = 4.0
BAR_S = 2.0
NEAR = 0.95  # of the load must have been offered, or it was another load
WITHIN_S = 120.0


def run() -> list[Row]:
    """Offer the load as gateways do, a commit each quarter of a second. Ends within a minute."""
    load = Load("live", GATEWAYS, 200, 25, begin_now(), rate=BAR / BATCH / GATEWAYS, live_s=LIVE_S)
    with temporary() as directory:
        return [asyncio.run(_measure(load, directory))]


async def _measure(load: Load, directory: Path) -> Row:
    async with centre(directory, [load]) as made, sender(made, load) as gateways:
        made.mark()
        gateways.go()
        seen = await gateways.seen()
        behind = made.measures().get("store_lag", 0.0)
        await made.stored(load.readings, WITHIN_S)
        _, readings = made.points()
    waited = [delay for when, delay in seen.delays if when >= WARM_UP_S]
    p99 = percentile(waited, 0.99)
    offered = load.readings / max(when for when, _ in seen.delays)
    whole = offered >= NEAR * BAR and readings == load.readings
    note = (
        f"median {median(waited):.2f} s, longest {max(waited):.2f} s; {offered:.4g} readings/s offered, "
        f"{seen.sent_again} of {seen.sent} messages sent again; at the end the store was {behind:.0f} records behind; "
        f"{readings} of {load.readings} readings stored"
    )
    holds = p99 <= BAR_S and whole
    return Row("receipt-delay", p99, "s at p99", "the bar", BAR_S, p99 / BAR_S, "ratio <= 1", holds, note)
