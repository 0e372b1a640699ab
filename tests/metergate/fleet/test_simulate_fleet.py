"""`metergate simulate fleet` as a process: it starts all it needs, ends by itself, and accounts for every reading."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from simulators.broker import find_mosquitto
from tests.faults.site_process import MAIN, until

pytestmark = pytest.mark.real

WAIT_S = 100.0


async def fleet(*options: str, wait_s: float = WAIT_S) -> tuple[int, str]:
    assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAIN, "simulate", "fleet", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), wait_s)
    assert process.returncode is not None
    return process.returncode, said.decode()


def numbers(text: str) -> dict[str, int]:
    found = re.search(
        r"account: taken ([\d,]+), .* log ([\d,]+), stored ([\d,]+), .*lost ([\d,]+), doubled ([\d,]+)", text
    )
    assert found, text
    return dict(
        zip(
            ("taken", "logged", "stored", "lost", "doubled"),
            (int(n.replace(",", "")) for n in found.groups()),
            strict=True,
        )
    )


async def test_a_small_fleet_stores_every_reading_that_it_took():
    code, said = await fleet("--gateways", "12", "--meters", "60", "--for", "4", "--interval", "1")
    assert code == 0, said
    account = numbers(said)
    assert account["taken"] == account["logged"] == account["stored"] >= 60 * 4 * 2
    assert (account["lost"], account["doubled"]) == (0, 0)
    for words in ("CPU per reading: gateways", "memory: gateways", "p50", "p99", "store lag", "gaps: ", "errors: "):
        assert words in said


async def test_a_fleet_that_cannot_be_is_told_and_nothing_starts():
    code, said = await fleet("--gateways", "5", "--meters", "3")
    assert code == 2
    assert said == "metergate: --meters 3: each of the 5 gateways needs one at least\n"


async def test_nothing_of_a_fleet_outlives_the_command_when_it_is_killed():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAIN, "simulate", "fleet", "--gateways", "3", "--meters", "3"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"gateways up" in await asyncio.wait_for(process.stdout.readline(), WAIT_S)
    family = children(process.pid)
    assert len(family) == 3  # broker, head-end, worker
    process.kill()
    await process.wait()

    async def all_gone() -> bool:
        return not any(lives(pid) for pid in family)

    await until(all_gone, "the end of broker, head-end and worker")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.soak
async def test_a_thousand_gateways_with_a_hundred_thousand_meters_store_every_reading():
    options = ("--gateways", "1000", "--meters", "100000", "--for", "180", "--interval", "60")
    code, said = await fleet(*options, wait_s=1800)
    assert code == 0, said
    account = numbers(said)
    assert account["taken"] == account["stored"] >= 100_000 * 4
