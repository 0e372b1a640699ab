"""The account of a fleet: what is missing, what stands twice and what was told as skipped is counted exactly."""

from pathlib import Path

import pytest

from metergate.fleet.accounts import Account, account, read_log
from metergate.fleet.report import Edge
from metergate.parts import log_directory
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Kind, Layout, Skipped, Source
from storage.codec import Origin, pack, with_origin
from storage.embedded import EmbeddedStore
from storage.embedded_count import Held, count_readings
from storage.log import Log

COLUMNS = (Column("1-0:1.8.0*255", "kWh", 0, "float32"), Column("1-0:2.8.0*255", "kWh", 0, "float32"))
LAYOUT = Layout(Kind.REGISTER, Source.POLL, 10, COLUMNS)
NOW = 1_800_000_000 * SECOND


def batch(number: int, value: float = 1.0) -> Batch:
    at = NOW + number * 10 * SECOND
    return Batch(at, [Block(LAYOUT, f"m{meter}", at, at, [value, value], at) for meter in range(3)])


def headend(data: Path, records: list[tuple[int, Batch]], *, stored: list[Batch] | None = None) -> None:
    """Make a head-end's log of a gateway's records by seq, and its store."""
    log = Log.open(log_directory(data))
    payloads = [with_origin(Origin("g", "e", seq, _last(seq, each)), pack(each)) for seq, each in records]
    log.append_now([*payloads, pack(Batch(NOW))])
    log.close()
    store = EmbeddedStore(data / "readings.db")
    store.write([each for _, each in records] if stored is None else stored)
    store.close()


def _last(seq: int, each: Batch) -> int:
    return each.skipped[0].to_seq if each.skipped else seq


def made(data: Path, edge: Edge) -> Account:
    return account([edge], read_log(data), data / "readings.db")


def test_what_came_through_whole_balances(tmp_path: Path):
    headend(tmp_path, [(1, batch(1)), (2, batch(2))])
    found = made(tmp_path, Edge("g", "e", 2, 12))
    assert found == Account(12, 12, 12, 0, 0, 0, 0, 0)


def test_a_record_that_never_came_is_lost(tmp_path: Path):
    headend(tmp_path, [(1, batch(1)), (3, batch(3))])
    found = made(tmp_path, Edge("g", "e", 3, 18))
    assert (found.missing_records, found.lost, found.doubled) == (1, 6, 0)


def test_a_record_that_the_store_lacks_is_lost(tmp_path: Path):
    headend(tmp_path, [(1, batch(1)), (2, batch(2))], stored=[batch(1)])
    found = made(tmp_path, Edge("g", "e", 2, 12))
    assert (found.missing_records, found.logged, found.stored, found.lost) == (0, 12, 6, 6)


def test_a_record_that_was_committed_twice_is_doubled(tmp_path: Path):
    headend(tmp_path, [(1, batch(1)), (1, batch(1))])
    found = made(tmp_path, Edge("g", "e", 1, 6))
    assert (found.doubled_records, found.doubled, found.lost) == (1, 6, 0)


def test_another_value_for_the_same_time_is_doubled(tmp_path: Path):
    headend(tmp_path, [(1, batch(1)), (2, batch(1, value=2.0))])
    assert count_readings(tmp_path / "readings.db") == Held(12, 6)
    assert made(tmp_path, Edge("g", "e", 2, 6)).doubled == 6


def test_what_was_told_as_skipped_is_a_gap_and_not_lost(tmp_path: Path):
    gone = Batch(NOW, skipped=(Skipped(2, 3, "evicted", {"m0": 4, "m1": 2}),))
    headend(tmp_path, [(1, batch(1)), (2, gone)])
    found = made(tmp_path, Edge("g", "e", 3, 12))
    assert (found.gaps, found.missing_records, found.lost, found.doubled) == (6, 0, 0, 0)


@pytest.mark.parametrize("readings", [0, 6])
def test_an_epoch_that_the_headend_never_saw_is_missing_altogether(tmp_path: Path, readings: int):
    headend(tmp_path, [(1, batch(1))])
    found = made(tmp_path, Edge("g", "other", 4, readings))
    assert found.missing_records == 4
