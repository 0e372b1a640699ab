"""The frame check sequence of HDLC: microseconds of CPU for a kB, beside dlms-cosem's on the same bytes."""

import time

from bench.peers_run import ask_peers
from bench.row import Row
from collector.protocols.dlms.hdlc import fcs

SIZE = 1_000  # bytes of one frame
FRAMES = 2_000
ROUNDS = 15
BAR_US = 5.0


def run() -> list[Row]:
    """Measure both; they must give the same check."""
    frame = bytes(index * 7 & 0xFF for index in range(SIZE))
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(FRAMES):
            check = fcs(frame)
        best = min(best, time.process_time() - begun)
    ours = best / FRAMES / SIZE * 1e9
    peer = ask_peers("hdlc_check.py", SIZE)
    if peer["check"] != check.hex():
        raise RuntimeError(f"two frame checks of the same bytes: {check.hex()} and {peer['check']}")
    other = float(peer["us_per_kb"])
    return [
        Row(
            name="hdlc-check",
            ours=ours,
            unit="us/kB of a core",
            against="dlms-cosem",
            other=other,
            ratio=other / ours,
            bar=f"{BAR_US:g} us/kB",
            holds=ours <= BAR_US,
        )
    ]
