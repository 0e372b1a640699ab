"""The recorder on a real log: bounded batches in order, and nothing lost while the log does not accept."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.clock import Clock
from gateway.recorder import BATCHES_A_COMMIT, MAX_BATCH_READINGS, MAX_PENDING_READINGS, Recorder
from metering import events
from metering.batch import Batch
from metering.model import Block, Column, Kind, Layout, Source
from storage.codec import unpack
from storage.log import Log, LogLimits, Record

LAYOUT = Layout(Kind.INSTANTANEOUS, Source.POLL, 1, tuple(Column(f"1-0:{i}.7.0*255", "V", 0, "int") for i in range(25)))


def blocks(count: int, first: int = 0) -> list[Block]:
    return [Block(LAYOUT, "m", first + i, first + i, tuple(range(25))) for i in range(count)]


def held(log: Log) -> list[Batch]:
    items = log.read(log.first_seq, 1000, 1 << 26)
    return [unpack(item.payload) for item in items if isinstance(item, Record)]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log.open(tmp_path / "log", LogLimits(min_free_bytes=0))
    yield log
    log.close()


async def test_much_at_once_goes_in_bounded_batches_in_order_with_its_events_once(log: Log):
    recorder = Recorder(log, Clock(), "gateway:g")
    count = (BATCHES_A_COMMIT + 2) * MAX_BATCH_READINGS // 25 + 7
    recorder.add(blocks(count))
    recorder.raise_event(events.GATEWAY_STARTED)
    await recorder.commit()
    batches = held(log)
    assert [b.measured_at for batch in batches for b in batch.blocks] == list(range(count))
    assert all(batch.count() <= MAX_BATCH_READINGS for batch in batches)
    assert [len(batch.events) for batch in batches] == [1] + [0] * (len(batches) - 1)
    assert recorder.status()[:3] == (count * 25, len(batches), 0)


async def test_what_the_log_refuses_stays_in_order_and_what_is_beyond_the_bound_is_counted_and_told(tmp_path: Path):
    log = Log.open(tmp_path / "full", LogLimits(min_free_bytes=1 << 62))
    recorder = Recorder(log, Clock(), "gateway:g")
    fits = MAX_PENDING_READINGS // 25
    recorder.add(blocks(fits))
    await recorder.commit()
    recorder.add(blocks(3, fits))
    status = recorder.status()
    assert (status.readings, status.pending, status.dropped) == (0, MAX_PENDING_READINGS, 75)
    assert status.refusal
    log.close()
    accepts = Log.open(tmp_path / "roomy", LogLimits(min_free_bytes=0))
    recorder._log = accepts  # the disk has room again
    await recorder.commit()
    batches = held(accepts)
    assert [b.measured_at for batch in batches for b in batch.blocks] == list(range(fits))
    assert [(e.name, e.detail["readings"]) for batch in batches for e in batch.events] == [
        (events.READINGS_DROPPED.name, "75")
    ]
    assert not recorder.status().refusal
    accepts.close()


async def test_what_was_taken_by_the_log_is_not_appended_once_more_after_a_commit_was_broken_off(log: Log):
    recorder = Recorder(log, Clock(), "gateway:g")
    recorder.add(blocks(2))
    recorder.journal("supply", "c1", "verified")
    commit = asyncio.create_task(recorder.commit())
    await asyncio.sleep(0)  # the log has begun
    await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await recorder.commit()
    assert [entry.id for batch in held(log) for entry in batch.journal] == ["c1"]
    assert sum(len(batch.blocks) for batch in held(log)) == 2
