"""The head-end's inbox: batches of 200 readings as they come from the broker, until the log has them. One core.

Decode, checks of devices and stamps, the append with its fdatasync, and the ledger; the broker is left out. Two kinds
of batches: 8 meters with 25 values each, and 200 meters with one value each. The bar is on CPU time, because the disk
of a noisy machine is not ours to measure; the wall time of the same run stands in the note.
"""

import random
import shutil
import tempfile
import time
from pathlib import Path

from bench.row import Row
from headend.inbox.port import Delivery
from headend.intake import FETCH, Intake
from headend.ledger_file import LedgerFile
from headend.state.held import HeldBack
from headend.state.store import State
from metering import wire
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.wire import Up
from storage.codec import pack
from storage.log import Log, LogLimits
from storage.quarantine import Quarantine

BAR = 500_000
READINGS = 200
GROUPS = 24
GATEWAYS = 64
RECORDS = 4  # in one message
BEGIN = 1_764_000_000 * SECOND


class _Given:
    """A delivery of the bench."""

    deliveries = 1
    leaf = "up"

    def __init__(self, gateway: str, payload: bytes) -> None:
        self.gateway = gateway
        self.payload = payload

    async def ack(self) -> None:
        """Nothing to tell."""

    async def nak(self, delay_s: float) -> None:
        """Nothing to tell."""


class _NoInbox:
    async def fetch(self, most: int) -> list[Delivery]:
        raise NotImplementedError(most)

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        raise NotImplementedError(topic, payload, retain)


def run() -> list[Row]:
    """Measure in a temporary folder of the working directory: /tmp is often memory."""
    directory = Path(tempfile.mkdtemp(prefix=".bench-inbox-", dir=Path.cwd()))
    try:
        return [_measure(directory / str(width), width) for width in (25, 1)]
    finally:
        shutil.rmtree(directory)


def _measure(directory: Path, width: int) -> Row:
    log = Log.open(directory / "log", LogLimits(min_free_bytes=0))
    devices = {f"g{g:02d}": {f"g{g:02d}-m{m:03d}" for m in range(READINGS // width)} for g in range(GATEWAYS)}
    ledger = LedgerFile(directory / "ledger", log)
    quarantine = Quarantine(directory / "bad")
    state = State.open(directory / "state.db")
    held = HeldBack(state)
    intake = Intake(_NoInbox(), log, ledger, quarantine, devices.__contains__, lambda g, d: d in devices[g], held)
    groups = _groups(width)
    cpu = wall = 0.0
    try:
        for number, group in enumerate(groups):
            cpu_begun, wall_begun = time.process_time(), time.perf_counter()
            intake.commit(group)
            if number:  # the first one warms up
                cpu += time.process_time() - cpu_begun
                wall += time.perf_counter() - wall_begun
    finally:
        log.close()
        state.close()
    readings = (len(groups) - 1) * FETCH * RECORDS * READINGS
    if intake.counts.readings != readings + FETCH * RECORDS * READINGS:
        raise RuntimeError(f"{intake.counts.readings} readings were stored")
    return Row(
        name="inbox" if width > 1 else "inbox-single",
        ours=readings / cpu,
        unit="readings/s of CPU",
        against="the bar",
        other=BAR,
        ratio=readings / cpu / BAR,
        bar="ratio >= 1",
        holds=readings / cpu >= BAR,
        note=f"{READINGS // width} blocks of {width} values a batch; {readings / wall:.4g} readings/s of wall time",
    )


def _groups(width: int) -> list[list[_Given]]:
    chance = random.Random(width)
    columns = tuple(Column(f"1-0:{21 + i}.7.0*255", "V", 0, "int") for i in range(width))
    layout = Layout(Kind.INSTANTANEOUS, Source.POLL, 0, columns)
    seqs = dict.fromkeys(range(GATEWAYS), 1)
    groups = []
    for number in range(GROUPS):
        group = []
        for place in range(FETCH):
            gateway = place % GATEWAYS
            at = BEGIN + number * SECOND
            records = [_record(f"g{gateway:02d}", layout, width, at, chance) for _ in range(RECORDS)]
            group.append(_Given(f"g{gateway:02d}", wire.encode(Up("epoch", seqs[gateway], records))))
            seqs[gateway] += RECORDS
        groups.append(group)
    return groups


def _record(gateway: str, layout: Layout, width: int, at: int, chance: random.Random) -> bytes:
    blocks = [
        Block(layout, f"{gateway}-m{meter:03d}", at, at, [chance.randrange(2300, 2400) for _ in range(width)])
        for meter in range(READINGS // width)
    ]
    return pack(Batch(at, blocks))
