"""Clocks of gateway and head-end a month off, and jumping: every acknowledged reading is billed once or held back."""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from headend.state.held import HeldBack
from headend.state.store import State
from metergate.commands.quarantine import decide
from metering import timing
from metering.model import SECOND
from tests.faults.place import GATEWAY, Place
from tests.faults.site_process import MAIN, until
from tests.faults.uplink_process import METERS, OBIS

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(300)]
MONTH_S = 30 * 86_400
MONTH = MONTH_S * SECOND
READINGS = 80  # of each meter, a second apart, the newest in the past
SINCE = 200 * SECOND
WRONG = """
import time
right = time.time_ns
time.time_ns = lambda: right() + ({offset}) * 1_000_000_000
"""
JUMPING = f"(0, {MONTH_S}, 0, -{MONTH_S})[int(time.monotonic()) % 4]"


async def quarantine(place: Place, *words: str) -> str:
    """Run `metergate quarantine` as a person would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAIN, "quarantine", words[0], str(place.file), *words[1:], stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


def waiting(place: Place) -> int:
    """Return how many readings wait for a decision."""
    state = State.open(place.data / "state.db")
    try:
        return sum(heap.readings for heap in HeldBack(state).heaps())
    finally:
        state.close()


async def start(place: Place, *, gateway: str = "0", headend: str = "0", ahead: int = 0) -> None:
    """Start both with their clocks wrong; `ahead` is how far the stamps are."""
    place.begin = timing.slot_at_or_before(timing.now() - SINCE, 1)
    await place.start_headend(WRONG.format(offset=headend))
    await until(lambda: place.get("/healthz"), "the head-end")
    await place.start_gateway(WRONG.format(offset=gateway), batches=READINGS, ahead=ahead)
    await place.settled()


async def rightly_set(place: Place) -> None:
    """Start the head-end anew with the right clock."""
    await place.end("headend", signal.SIGTERM)
    await place.start_headend()
    await until(lambda: place.get("/healthz"), "the head-end")


async def test_a_gateway_a_month_ahead_is_held_back_and_re_timed_by_a_persons_word(tmp_path: Path):
    async with Place(tmp_path) as place:
        await start(place, gateway=str(MONTH_S), ahead=MONTH)
        assert waiting(place) == READINGS * METERS
        assert (await place.billing(0, end=READINGS)).numbers == []
        assert {each["device"] for each in await place.events("readings-from-future")} == {f"gateway:{GATEWAY}"}
        said = await quarantine(place, "list")
        assert said.count(f"gateway {GATEWAY}  device m") == METERS
        await quarantine(place, "retime", "--gateway", GATEWAY, "--reason", "its clock was set to next month")
        await until(lambda: stored(place, READINGS), "the re-timed readings")
        rows = await all_rows(place, 0)
        assert Counter(int(row["value"]) for row in rows) == Counter(range(READINGS))
        for row in rows:
            exactly = place.begin + int(row["value"]) * SECOND
            assert abs(timing.from_rfc3339(row["measured_at"]) - exactly) < 60 * SECOND  # as well as it was measured
            assert row["slot"] is None
            assert "clock-suspect" in str(row["quality"])
        told = await place.events("readings-retimed")
        assert {each["device"] for each in told} == {f"m{meter}" for meter in range(METERS)}
        assert waiting(place) == 0


async def test_a_headend_a_month_behind_holds_back_and_releases_unchanged_by_a_persons_word(tmp_path: Path):
    async with Place(tmp_path) as place:
        await start(place, headend=f"-{MONTH_S}")
        assert waiting(place) == READINGS * METERS
        await rightly_set(place)
        assert waiting(place) == READINGS * METERS  # no clock alone can tell which one was wrong
        decide(place.file, "release", GATEWAY, "", "our own clock was a month behind", None)
        await until(lambda: stored(place, READINGS), "the released readings")
        await place.check()
        assert {each["device"] for each in await place.events("readings-released")} == {"m0", "m1", "m2", "m3"}


async def test_a_gateway_a_month_behind_and_a_headend_a_month_ahead_lose_nothing(tmp_path: Path):
    async with Place(tmp_path) as place:
        await start(place, gateway=f"-{MONTH_S}", headend=str(MONTH_S))
        assert waiting(place) == 0
        await place.check()


async def test_while_the_headends_clock_jumps_by_months_each_reading_is_billed_or_held_back(tmp_path: Path):
    async with Place(tmp_path) as place:
        place.begin = timing.slot_at_or_before(timing.now() - SINCE, 1)
        await place.start_headend(WRONG.format(offset=JUMPING))
        await until(lambda: place.get("/healthz"), "the head-end")
        await place.start_gateway(batches=READINGS, pause_s=0.06)
        await place.settled()
        await rightly_set(place)
        held = waiting(place)
        assert held + sum([len((await place.billing(n, end=READINGS)).numbers) for n in range(METERS)]) >= (
            READINGS * METERS
        )
        if held:
            decide(place.file, "release", GATEWAY, "", "our own clock jumped", None)
        await until(lambda: stored(place, READINGS), "all readings")
        await place.check()


async def stored(place: Place, count: int) -> bool:
    return all([len(await all_rows(place, meter)) == count for meter in range(METERS)])


async def all_rows(place: Place, meter: int) -> list[dict[str, object]]:
    """Return what billing reads of a meter, an hour around."""
    hour = 3600 * SECOND
    span = {"from": timing.to_rfc3339(place.begin - hour), "to": timing.to_rfc3339(place.begin + hour)}
    found = await place.get(f"/v1/meter-points/p{meter}/readings", obis=OBIS, limit=1000, **span)
    return found["readings"] if found is not None else []
