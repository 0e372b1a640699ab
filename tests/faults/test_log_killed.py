"""kill -9 in mid-stream, again and again on one log: what was acknowledged is there once, and nothing torn is seen."""

import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metering.model import Skipped
from storage.log import Log, LogLimits, Record

KILLS = [pytest.param(20), pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(0)])]
WRITER = Path(__file__).with_name("log_writer.py")


def run_and_kill(directory: Path, name: str, lines_first: int, chance: random.Random) -> dict[int, str]:
    """Start a writer, kill it in the middle of its writes, and return what it had acknowledged."""
    root = WRITER.parents[2]
    process = subprocess.Popen(
        [sys.executable, str(WRITER), str(directory), name],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    heard = b""
    try:
        while heard.count(b"\n") < lines_first:
            ready, _, _ = select.select([process.stdout], [], [], 30)
            assert ready, "the writer fell silent"
            part = os.read(process.stdout.fileno(), 65536)
            assert part, "the writer ended by itself"
            heard += part
        time.sleep(chance.uniform(0, 0.02))
    finally:
        process.kill()
        heard += process.stdout.read()
        process.stdout.close()
        process.wait()
    lines = [line.split() for line in heard.decode().split("\n")[:-1]]
    return {int(seq): text for seq, text in lines}


@pytest.mark.fault
@pytest.mark.parametrize("kills", KILLS)
def test_kills_lose_nothing_that_was_acknowledged_and_double_nothing(tmp_path: Path, kills: int) -> None:
    chance = random.Random(20)
    acknowledged: dict[int, str] = {}
    for kill in range(kills):
        got = run_and_kill(tmp_path / "log", f"run{kill}", chance.randrange(1, 150), chance)
        assert not acknowledged.keys() & got.keys(), "a seq was given twice"
        acknowledged.update(got)
    log = Log.open(tmp_path / "log", LogLimits(min_free_bytes=0))
    stored: dict[int, str] = {}
    position = log.first_seq
    while items := log.read(position):
        for item in items:
            assert isinstance(item, Record), item
            assert item.seq == position
            stored[item.seq] = item.payload.decode().rstrip(".")
            position = item.seq + 1
    assert acknowledged.items() <= stored.items()
    assert len(set(stored.values())) == len(stored)
    assert all(text.count("-") == 2 for text in stored.values())
    assert not [one for one in log.tombstones() if isinstance(one, Skipped)]
    assert log.cursor("up").position in stored
    log.close()
