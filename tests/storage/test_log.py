import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from metering.errors import LogFullError, StorageError
from metering.model import SECOND, Skipped
from storage.codec import Counts
from storage.log import Clocks, Log, LogLimits, Record
from storage.segment import MAX_PAYLOAD_BYTES, RECORD_HEADER, SEGMENT_HEADER

OpenLog = Callable[..., Log]
SMALL = LogLimits(max_bytes=64 * 1024, min_free_bytes=0)  # segments of 16 KiB
DAY = 86_400
START = 1_764_000_000 * SECOND


def count(payload: bytes):
    """A test payload is `device:time:filling`."""
    device, time, _ = payload.split(b":", 2)
    return Counts({device.decode(): 1}, int(time), int(time))


def payload(device: str = "m1", time: int = 1, size: int = 4000):
    return f"{device}:{time}:".encode().ljust(size, b"x")


class Times:
    """A wall clock and a steady clock that a test moves."""

    def __init__(self) -> None:
        self.wall, self.steady = START, 1000.0

    def clocks(self):
        return Clocks(lambda: self.wall, lambda: self.steady)

    def pass_by(self, seconds: float):
        self.wall += seconds * SECOND
        self.steady += seconds


@pytest.fixture
def open_log(tmp_path: Path):
    opened = []

    def opener(limits: LogLimits = SMALL, clocks: Clocks | None = None) -> Log:
        for log in opened:
            log.close()
        opened.append(Log.open(tmp_path / "log", limits, count=count, clocks=clocks))
        return opened[-1]

    yield opener
    for log in opened:
        log.close()


@pytest.fixture
def directory(tmp_path: Path):
    return tmp_path / "log"


def read_all(log: Log, start: int = 1, step: int = 7):
    """Read to the end in small steps, checking that no seq is left out."""
    found, position = [], start
    while items := log.read(position, step, 9000):
        for item in items:
            first = item.seq if isinstance(item, Record) else item.from_seq
            assert first == position
            position = item.seq + 1 if isinstance(item, Record) else item.to_seq + 1
        found += items
    assert position == max(log.next_seq, start)
    return found


def seqs(found: list[Record | Skipped]):
    return [one.seq for one in found if isinstance(one, Record)]


def skipped(found: list[Record | Skipped]):
    return [(one.from_seq, one.to_seq, one.reason) for one in found if isinstance(one, Skipped)]


def newest(directory: Path):
    return max(directory.glob("*.seg"))


def refuse(*_: object):
    raise OSError(errno.EIO, "the disk failed")


def test_what_was_appended_is_read_in_order_after_a_restart(open_log: OpenLog):
    log = open_log()
    assert log.append_now([b"a", b"b"]) == range(1, 3)
    assert log.append_now([b"c"]) == range(3, 4)
    assert log.append_now([]) == range(4, 4)
    epoch = log.epoch
    log = open_log()
    assert log.epoch == epoch
    assert [(one.seq, one.payload) for one in read_all(log)] == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert log.append_now([b"d"]) == range(4, 5)
    assert len(list(log._shelf.directory.glob("*.seg"))) == 1


async def test_appends_that_wait_share_commits_and_each_gets_its_own_seq(open_log: OpenLog):
    log = open_log(LogLimits(min_free_bytes=0))
    payloads = [b"%d" % number for number in range(500)]
    got = await asyncio.gather(*(log.append(one) for one in payloads))
    assert got == list(range(1, 501))
    assert log.status().commits < 100
    assert [one.payload for one in read_all(log)] == payloads


async def test_a_cancelled_append_is_stored_whole_or_not_at_all_and_hurts_no_other(open_log: OpenLog):
    log = open_log(LogLimits(min_free_bytes=0))
    tasks = [asyncio.ensure_future(log.append(b"%d" % number)) for number in range(100)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    await log.append(b"last")
    stored = {one.payload: one.seq for one in read_all(log)}
    assert len(stored) == 101
    for number, outcome in enumerate(done):
        assert isinstance(outcome, asyncio.CancelledError) or stored[b"%d" % number] == outcome


async def test_waiting_ends_when_the_record_is_there(open_log: OpenLog):
    log = open_log()
    waiting = [asyncio.ensure_future(log.wait_for(seq)) for seq in (3, 1, 2)]
    cancelled = asyncio.ensure_future(log.wait_for(1))
    await asyncio.sleep(0)
    cancelled.cancel()
    await log.append(b"1")
    await asyncio.wait_for(waiting[1], 5)
    assert not waiting[0].done()
    log.append_now([b"2", b"3"])
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    await log.wait_for(1)


def test_a_loop_that_is_gone_does_not_stop_the_writer(open_log: OpenLog):
    log = open_log()

    async def leave() -> None:
        task = asyncio.ensure_future(log.append(b"left behind"))
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(leave())
    log.append_now([b"next"])
    assert [one.payload for one in read_all(log)][-1] == b"next"


def test_a_second_opener_is_told_who_has_the_log(open_log: OpenLog, directory: Path):
    log = open_log()
    with pytest.raises(StorageError, match=f"in use by process {os.getpid()}") as refused:
        Log.open(directory, SMALL)
    assert not refused.value.retry
    log.append_now([b"undisturbed"])


def test_a_closed_log_and_a_huge_payload_are_refused(open_log: OpenLog):
    log = open_log()
    with pytest.raises(StorageError, match=str(MAX_PAYLOAD_BYTES)):
        log.append_now([bytes(MAX_PAYLOAD_BYTES + 1)])
    log.close()
    with pytest.raises(StorageError, match="closed"):
        log.append_now([b"x"])


def test_a_new_directory_is_a_new_epoch(open_log: OpenLog, directory: Path):
    first = open_log()
    first.append_now([b"x"])
    first.cursor("up").move(2)
    first.close()
    for path in directory.glob("*.seg"):
        path.unlink()
    second = open_log()
    assert second.epoch != first.epoch
    assert (second.next_seq, second.cursor("up").position) == (1, 1)
    assert any("new epoch" in note for note in second.status().notes)
    second.close()
    shutil.rmtree(directory)
    assert open_log().epoch not in {first.epoch, second.epoch}


def test_a_lost_epoch_file_is_made_good_from_the_segments(open_log: OpenLog, directory: Path):
    log = open_log()
    log.append_now([b"x"])
    log.close()
    (directory / "epoch").write_bytes(b"\xff")
    again = open_log()
    assert again.epoch == log.epoch
    assert seqs(read_all(again)) == [1]


@pytest.mark.parametrize("at", [3, 9, 15, 27, 33, RECORD_HEADER + 2])
def test_a_damaged_record_is_quarantined_and_the_next_one_read(open_log: OpenLog, directory: Path, at: int):
    log = open_log()
    log.append_now([b"one--", b"two--", b"three"])
    log.close()
    data = bytearray(newest(directory).read_bytes())
    data[SEGMENT_HEADER + RECORD_HEADER + 5 + at] ^= 0x41
    newest(directory).write_bytes(data)
    log = open_log()
    for _ in range(2):
        assert seqs(read_all(log)) == [1, 3]
        assert skipped(read_all(log)) == [(2, 2, "quarantined")]
        assert log.tombstones() == [Skipped(2, 2, "quarantined")]
        assert log.status().quarantined_records == 1
        assert log.status().quarantine_items == 1
        log = open_log()
    assert log.append_now([b"four"]) == range(4, 5)


@pytest.mark.parametrize("at", [2, 5, 10, RECORD_HEADER + 1])
def test_an_acknowledged_seq_is_not_used_again_when_the_last_record_is_damaged(
    open_log: OpenLog, directory: Path, at: int
):
    log = open_log()
    log.append_now([b"one--", b"two--"])
    log.close()
    data = bytearray(newest(directory).read_bytes())
    data[SEGMENT_HEADER + RECORD_HEADER + 5 + at] ^= 0x41
    newest(directory).write_bytes(data)
    log = open_log()
    assert log.append_now([b"three"]) == range(3, 4)
    log = open_log()
    assert skipped(read_all(log)) == [(2, 2, "quarantined")]
    assert seqs(read_all(log)) == [1, 3]


def test_a_torn_tail_is_cut_and_written_over(open_log: OpenLog, directory: Path):
    log = open_log()
    log.append_now([b"one", b"never acknowledged"])
    log.close()
    path = newest(directory)
    path.write_bytes(path.read_bytes()[:-4])
    log = open_log()
    assert seqs(read_all(log)) == [1]
    assert path.stat().st_size == SEGMENT_HEADER + RECORD_HEADER + 3
    assert log.append_now([b"two"]) == range(2, 3)
    assert log.tombstones() == []


def test_a_damaged_segment_header_costs_no_record(open_log: OpenLog, directory: Path):
    log = open_log()
    log.append_now([b"one", b"two"])
    log.close()
    data = bytearray(newest(directory).read_bytes())
    data[20] ^= 1
    newest(directory).write_bytes(data)
    log = open_log()
    assert seqs(read_all(log)) == [1, 2]
    assert "header" in log.status().notes[0]
    assert log.append_now([b"three"]) == range(3, 4)
    assert seqs(read_all(open_log())) == [1, 2, 3]


@pytest.mark.parametrize("live", [False, True])
def test_a_segment_missing_in_the_middle_is_lost_and_told(open_log: OpenLog, directory: Path, *, live: bool):
    log = open_log()
    for _ in range(10):
        log.append_now([payload()])
    paths = sorted(directory.glob("*.seg"))
    if not live:
        log.close()
    paths[1].unlink()
    if not live:
        log = open_log()
    assert seqs(read_all(log)) == [1, 2, 3, 4, 9, 10]
    assert skipped(read_all(log)) == [(5, 8, "lost")]
    assert log.status().lost_records == 4
    assert log.append_now([b"next"]) == range(11, 12)


def test_the_oldest_segment_missing_is_lost_and_told(open_log: OpenLog, directory: Path):
    log = open_log()
    for _ in range(10):
        log.append_now([payload()])
    log.close()
    min(directory.glob("*.seg")).unlink()
    assert skipped(read_all(open_log())) == [(1, 4, "lost")]


def test_the_newest_segment_missing_never_leads_to_a_seq_used_twice(open_log: OpenLog, directory: Path):
    log = open_log()
    for _ in range(10):
        log.append_now([payload()])
    log.close()
    newest(directory).unlink()
    log = open_log()
    (got,) = log.append_now([b"next"])
    assert got > 10
    assert seqs(read_all(log)) == [*range(1, 9), got]
    assert skipped(read_all(log)) == [(9, got - 1, "lost")]


def test_a_cursor_ahead_of_the_log_proves_that_its_seqs_were_used(open_log: OpenLog, directory: Path):
    log = open_log()
    log.append_now([b"one", b"two", b"three"])
    log.cursor("up").move(4)
    log.close()
    path = newest(directory)
    path.write_bytes(path.read_bytes()[: SEGMENT_HEADER + RECORD_HEADER + 3])
    log = open_log()
    assert log.append_now([b"four"]) == range(4, 5)
    assert skipped(read_all(log)) == [(2, 3, "lost")]


def test_a_full_log_evicts_the_oldest_and_counts_it_by_device(open_log: OpenLog):
    log = open_log()
    log.cursor("up")
    for number in range(40):
        log.append_now([payload(f"m{number % 2}", number)])
    status = log.status()
    assert status.bytes <= SMALL.max_bytes
    gone = log.first_seq - 1
    assert gone > 20
    assert status.evicted_records == status.evicted_readings == gone
    stones = log.tombstones()
    assert (stones[0].from_seq, stones[-1].to_seq) == (1, gone)
    assert (stones[0].first, stones[-1].last) == (0, gone - 1)
    total = {name: sum(one.readings.get(name, 0) for one in stones) for name in ("m0", "m1")}
    assert total == {"m0": (gone + 1) // 2, "m1": gone // 2}
    assert seqs(read_all(log)) == list(range(gone + 1, 41))
    assert open_log().tombstones() == stones


def test_each_cursor_is_told_of_exactly_what_it_will_not_get(open_log: OpenLog):
    log = open_log()
    log.cursor("slow")
    log.append_now([payload()])
    log.append_now([payload()])
    log.cursor("fast").move(3)
    for _ in range(40):
        log.append_now([payload()])
    for position in (1, 3):
        told = [one for one in read_all(log, position) if isinstance(one, Skipped)]
        assert sum(sum(one.readings.values()) for one in told) == log.first_seq - position


def test_what_every_cursor_has_passed_is_trimmed_and_not_called_evicted(open_log: OpenLog):
    log = open_log()
    cursor = log.cursor("up")
    for _ in range(40):
        (seq,) = log.append_now([payload()])
        cursor.move(seq + 1)
    status = log.status()
    assert (status.evicted_records, status.trimmed_records) == (0, log.first_seq - 1)
    assert log.tombstones() == []
    assert log.read(1, 1)[0] == Skipped(1, log.first_seq - 1, "evicted")


def test_age_evicts_by_the_logs_own_clock_whatever_the_wall_clock_does(open_log: OpenLog):
    times = Times()
    limits = LogLimits(max_age_s=10 * DAY, keep_s=0, min_free_bytes=0)
    log = open_log(limits, clocks=times.clocks())
    log.append_now([payload()])
    times.wall -= 400 * DAY * SECOND  # the clock steps back more than a year
    for _ in range(12):
        times.pass_by(DAY)
        log.append_now([payload()])
        log.trim()
    assert 2 <= log.first_seq <= 4
    before = log.first_seq
    times.wall += 3000 * DAY * SECOND  # and forward: nothing grows old by that
    log.trim()
    assert log.first_seq == before


def test_a_clock_that_was_never_set_evicts_nothing_when_it_is_at_last(open_log: OpenLog):
    times = Times()
    times.wall = 1000
    limits = LogLimits(max_age_s=DAY, keep_s=0, min_free_bytes=0)
    log = open_log(limits, clocks=times.clocks())
    log.append_now([payload()])
    log.close()
    times.wall, times.steady = START, 3.0
    log = open_log(limits, clocks=times.clocks())
    log.append_now([payload()])
    log.trim()
    assert seqs(read_all(log)) == [1, 2]


def test_consumed_records_stay_for_the_feed_of_changes_until_their_time_is_up(open_log: OpenLog):
    times = Times()
    limits = LogLimits(max_age_s=0, keep_s=16 * DAY, min_free_bytes=0)
    log = open_log(limits, clocks=times.clocks())
    up = log.cursor("up")
    log.append_now([payload()])
    up.move(2)
    times.pass_by(2 * DAY)
    log.trim()
    log.append_now([payload()])
    assert seqs(read_all(log)) == [1, 2]
    times.pass_by(17 * DAY)
    log.trim()
    assert seqs(read_all(log)) == [2]
    assert log.status().trimmed_records == 1
    times.pass_by(400 * DAY)
    log.trim()
    assert seqs(read_all(log)) == [2]  # nobody has had it yet, and no age limits it


def test_the_next_seq_survives_the_eviction_of_everything(open_log: OpenLog):
    times = Times()
    limits = LogLimits(max_age_s=DAY, keep_s=0, min_free_bytes=0)
    log = open_log(limits, clocks=times.clocks())
    log.append_now([payload(), payload()])
    times.pass_by(3 * DAY)
    log.trim()
    times.pass_by(3 * DAY)
    log.trim()
    assert (log.first_seq, log.next_seq) == (3, 3)
    log = open_log(limits, clocks=times.clocks())
    assert log.append_now([payload()]) == range(3, 4)
    assert skipped(read_all(log)) == [(1, 2, "evicted")]


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
def test_a_failed_commit_stores_nothing_and_the_descriptor_is_never_used_again(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch, call: str
):
    log = open_log()
    log.append_now([b"one"])
    failed = log._appender._fd
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(LogFullError, match="the disk failed"):
        log.append_now([b"never"])
    assert seqs(read_all(log)) == [1]
    assert log.status().accepting is False
    assert "disk fails" in log.status().why_not
    monkeypatch.undo()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(failed)
    assert log.append_now([b"two"]) == range(2, 3)
    assert log.status().accepting is True
    for opened in (log, open_log()):
        assert [one.payload for one in read_all(opened)] == [b"one", b"two"]


def test_a_remnant_that_could_not_be_cut_never_passes_for_a_record(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch):
    log = open_log()
    log.append_now([b"one"])
    monkeypatch.setattr(os, "fdatasync", refuse)
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(LogFullError):
        log.append_now([b"refused, and whole on the disk"])
    monkeypatch.undo()
    log.append_now([b"two"])
    for opened in (log, open_log()):
        assert [one.payload for one in read_all(opened)] == [b"one", b"two"]
        assert opened.tombstones() == []


def test_an_eviction_that_cannot_be_accounted_for_does_not_happen(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch):
    log = open_log()
    log.cursor("up")
    while log.status().bytes + 4000 + RECORD_HEADER <= SMALL.max_bytes:
        log.append_now([payload()])
    held = seqs(read_all(log))
    monkeypatch.setattr("storage.tombstones.replace_file", refuse)
    for _ in range(3):
        with pytest.raises(LogFullError):
            log.append_now([payload()])
    assert seqs(read_all(log)) == held
    monkeypatch.undo()
    log.append_now([payload()])
    assert log.first_seq > 1
    assert log.tombstones()[0].readings == {"m1": log.first_seq - 1}


def test_a_crash_between_account_and_unlink_leaves_one_account(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch, directory: Path
):
    log = open_log()
    log.cursor("up")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    for _ in range(40):
        log.append_now([payload()])
    stones = log.tombstones()
    monkeypatch.undo()
    log = open_log()
    assert log.tombstones() == stones
    assert int(min(directory.glob("*.seg")).stem) == stones[-1].to_seq + 1
    assert seqs(read_all(log))[0] == stones[-1].to_seq + 1


def test_a_segment_removed_under_the_writer_is_noticed_at_the_next_commit(open_log: OpenLog, directory: Path):
    log = open_log()
    log.append_now([b"one"])
    newest(directory).unlink()
    with pytest.raises(LogFullError, match="removed"):
        log.append_now([b"two"])
    assert log.append_now([b"two"]) == range(2, 3)
    assert skipped(read_all(log)) == [(1, 1, "lost")]
    assert seqs(read_all(log)) == [2]


def test_an_unreadable_sector_takes_only_the_records_in_it(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch):
    log = open_log()
    log.append_now([payload(size=3000) for _ in range(5)])
    true_pread = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        if (size > 100 and offset < 8192 <= offset + size - 1) or (4096 <= offset < 8192 and offset + size > 6000):
            raise OSError(errno.EIO, "bad sector")
        return true_pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    found = read_all(log)
    assert {1, 4, 5} <= set(seqs(found))
    assert skipped(found)
    assert skipped(found)[0][2] == "quarantined"


def test_damaged_books_are_told_and_cost_no_record(open_log: OpenLog, directory: Path):
    log = open_log()
    log.cursor("up")
    for _ in range(30):
        log.append_now([payload()])
    held, first = seqs(read_all(log)), log.first_seq
    log.close()
    (directory / "tombstones").write_bytes(b"\xff")
    (directory / "state").write_bytes(b"\xff")
    log = open_log()
    assert seqs(read_all(log)) == held
    assert log.first_seq == first
    assert len(log.status().notes) == 2
    assert log.append_now([b"m:1:"]) == range(31, 32)


def test_readers_are_right_while_others_append_and_trim(open_log: OpenLog):
    log = open_log()
    log.cursor("up")
    stop = threading.Event()
    failures = []

    def reader() -> None:
        while not stop.is_set():
            position = 1
            while items := log.read(position, 5, 20_000):
                for item in items:
                    first = item.seq if isinstance(item, Record) else item.from_seq
                    if first != position:
                        failures.append((position, item))
                    position = item.seq + 1 if isinstance(item, Record) else item.to_seq + 1
                    if isinstance(item, Record) and item.payload != payload(time=item.seq):
                        failures.append(item)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seq in range(1, 200):
        log.append_now([payload(time=seq)])
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_limits_that_cannot_work_are_refused():
    for wrong in ({"max_bytes": 1000}, {"segment_bytes": 0}, {"max_age_s": -1}):
        with pytest.raises(ValueError, match="log"):
            LogLimits(**wrong)
