"""The example site of these tests: two points, a meter swap, a hole, a gap; on the real store and the real log."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi.testclient import TestClient

from headend.audit.chain import Entry
from headend.fleet import Fleet
from headend.orders import ClockSet
from headend.registry import MemoryRegistry
from headend.service import Office
from headend.tokens import TokenBook
from metering.batch import Batch
from metering.errors import MeterError
from metering.model import (
    SECOND,
    Block,
    Column,
    Device,
    Event,
    Expectation,
    Installation,
    Kind,
    Layout,
    MeterPoint,
    Skipped,
    Source,
)
from metering.timing import from_rfc3339, to_rfc3339
from storage.embedded import EmbeddedStore
from storage.log import Log

START = from_rfc3339("2026-11-01T00:00:00Z")
SWAP = START + 90 * 60 * SECOND
QUARTER = 900 * SECOND
NOW = START + 24 * 3600 * SECOND
ENTRIES = (
    Entry(START, "token:ab", "command-requested", "c1", "js/nj/st1", {"action": "disconnect", "point": "p1"}),
    Entry(START + 1, "rule-set:cn-resident@1", "policy", "c1", "js/nj/st1", {"passed": True}),
    Entry(START + 2, "token:cd", "command-requested", "c2", "js/njx", {"action": "restore", "point": "p2"}),
    Entry(START + 3, "user:root", "held-decision", "gw1", "", {"action": "release"}),
)

ENERGY = Layout(Kind.REGISTER, Source.POLL, 900, (Column("1-0:1.8.0*255", "kWh", -2, "int"),))
VOLTAGE = Layout(Kind.INSTANTANEOUS, Source.POLL, 900, (Column("1-0:32.7.0*255", "V", 0, "float32"),))
PROFILE = Layout(Kind.INTERVAL, Source.PROFILE, 900, (Column("1-0:1.29.0*255", "kWh", -2, "int"),))


@dataclass
class Meters:
    """What answers on-demand reads in these tests."""

    error: MeterError | None = None
    asked: list[str] = field(default_factory=list)

    async def read(self, device: str) -> Sequence[Block]:
        self.asked.append(device)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        layout = Layout(Kind.REGISTER, Source.ON_DEMAND, 0, ENERGY.columns)
        return [Block(layout, device, NOW, NOW + SECOND, (4711,))]

    async def set_clock(self, device: str, by: str) -> ClockSet:
        assert by.startswith("token ")
        self.asked.append(device)
        if self.error is not None:
            raise self.error
        return ClockSet(device, -75.5, 0.1, to_rfc3339(NOW))


@dataclass
class Site:
    office: Office
    client: TestClient
    store: EmbeddedStore
    log: Log
    tokens: TokenBook
    meters: Meters
    reasons: list[str]
    fleet: Fleet

    def token(
        self, *scopes: str, regions: Sequence[str] = ("",), expires_at: int | None = None, person: str = ""
    ) -> dict[str, str]:
        plaintext = self.tokens.create("test", scopes or ("readings:read",), regions, expires_at, person)
        return {"Authorization": f"Bearer {plaintext}"}


def registry() -> MemoryRegistry:
    return MemoryRegistry(*registry_lists())


def registry_lists() -> tuple[list[MeterPoint], list[Device], list[Installation]]:
    return (
        [MeterPoint("p1", "js/nj/st1", "Asia/Shanghai", "Mill Lane 1"), MeterPoint("p2", "js/njx")],
        [
            Device("m1", "100", "abb_b23", "gw1", "ABB", "B23"),
            Device("m2", "200", "abb_b23", "gw1"),
            Device("m3", "300", "abb_b23", "gw1"),
            Device("spare", "900", "abb_b23"),
        ],
        [
            Installation(
                "p1", "m1", "100", START - 3600 * SECOND, SWAP, {}, {"1-0:1.8.0": "106.50"}, "40", "1", "secondary"
            ),
            Installation("p1", "m2", "200", SWAP, None, {"1-0:1.8.0": "5.00"}, {}, "80", "1", "secondary"),
            Installation("p2", "m3", "300", START - 3600 * SECOND),
        ],
    )


def batches() -> list[Batch]:
    """Two hours of quarter-hourly registers: m1 until the swap at 01:30, m2 after it, m3 all along without 00:45."""
    blocks = []
    for index in range(9):
        slot = START + index * QUARTER
        at = slot + 2 * SECOND
        device, value = ("m1", 10_000 + 100 * index) if slot < SWAP - QUARTER // 2 else ("m2", 600 + 100 * (index - 7))
        if slot != SWAP - 0 * QUARTER:
            blocks.append(Block(ENERGY, device, at, at + SECOND, (value,), slot))
        if index != 3:
            blocks.append(Block(ENERGY, "m3", at, at + SECOND, (500 + index,), slot))
    blocks.append(Block(VOLTAGE, "m1", START + QUARTER, START + QUARTER + SECOND, (230.199996948242,), START + QUARTER))
    blocks.append(Block(VOLTAGE, "m1", START + 2 * QUARTER, START + 2 * QUARTER, (None,), START + 2 * QUARTER, (2,)))
    blocks.append(Block(PROFILE, "m3", START + QUARTER, START + 2 * QUARTER, (25,)))
    promises = [
        Expectation("m1", Kind.REGISTER, Source.POLL, 900, ("1-0:1.8.0*255",), START, SWAP),
        Expectation("m2", Kind.REGISTER, Source.POLL, 900, ("1-0:1.8.0*255",), SWAP),
        Expectation("m3", Kind.REGISTER, Source.POLL, 900, ("1-0:1.8.0*255",), START),
    ]
    events = [
        Event("m1", START + SECOND, "3.26.0.85", "power-off", START + 2 * SECOND, {"phase": "L1"}),
        Event("m3", START + 5 * SECOND, "3.26.0.216", "power-on", START + 6 * SECOND),
        Event("gateway:gw1", START + 9 * SECOND, "3.36.0.24", "clock-stepped", START + 9 * SECOND),
    ]
    gaps = [Skipped(3, 4, "evicted", {"m1": 7, "m3": 2}, START, START + QUARTER)]
    return [Batch(START, blocks, events, promises), Batch(START, skipped=gaps)]
