"""Journals of gateways in the head-end's log: each kind goes to its handler, and nothing is passed over."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from headend import journal
from headend.journal import Entries, JournalReader
from metering.batch import Batch
from metering.errors import StorageError
from metering.model import JournalEntry
from storage.codec import Origin, pack, with_origin
from storage.log import Log
from tests.faults.site_process import until


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log.open(tmp_path / "log")
    yield opened
    opened.close()


def record(gateway: str, seq: int, *entries: tuple[str, str]) -> bytes:
    made = tuple(JournalEntry(seq, kind, name, "done") for kind, name in entries)
    return with_origin(Origin(gateway, "e", seq, seq), pack(Batch(seq, journal=made)))


def test_each_kind_goes_to_its_handler_in_order_and_once(log: Log) -> None:
    found: list[tuple[str, str, str]] = []

    def take(entries: Entries) -> None:
        found.extend((gateway, entry.kind, entry.id) for gateway, entry in entries)

    reader = JournalReader(log, {"a": take, "b": take})
    log.append_now([record("g1", 1, ("a", "1"), ("c", "x")), record("g2", 1, ("b", "2")), record("g1", 2, ("a", "3"))])
    log.append_now([pack(Batch(1, journal=(JournalEntry(1, "a", "own", "done"),))), b"\xff no record"])
    reader.step()
    reader.step()
    assert found == [("g1", "a", "1"), ("g1", "a", "3"), ("g2", "b", "2")]
    assert JournalReader(log, {"a": take}).position == log.next_seq


async def test_what_a_handler_could_not_do_comes_again(log: Log, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "FIRST_PAUSE_S", 0.01)
    tries: list[int] = []

    def take(entries: Entries) -> None:
        tries.append(len(entries))
        if len(tries) < 3:
            raise StorageError("the database is away", retry=True)

    reader = JournalReader(log, {"a": take})
    stop = asyncio.Event()
    task = asyncio.create_task(reader.run(stop))
    log.append_now([record("g1", 1, ("a", "1"))])

    async def passed() -> bool:
        return reader.position == log.next_seq

    await until(passed, "the cursor")
    stop.set()
    await task
    assert tries == [1, 1, 1]
