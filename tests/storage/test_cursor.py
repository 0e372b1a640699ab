import errno
import os
from pathlib import Path

import pytest

from metering.errors import StorageError
from storage.files import PAGE, Numbers, NumbersFile, load_numbers
from storage.log import Log, LogLimits

LIMITS = LogLimits(min_free_bytes=0)


@pytest.fixture
def log(tmp_path: Path):
    opened = Log.open(tmp_path / "log", LIMITS)
    opened.append_now([b"1", b"2", b"3"])
    yield opened
    opened.close()


def reopened(log: Log, tmp_path: Path):
    log.close()
    return Log.open(tmp_path / "log", LIMITS)


def test_a_cursor_begins_at_the_oldest_record_or_at_the_end(log: Log):
    assert log.cursor("a").position == 1
    assert log.cursor("b", "end").position == 4
    assert log.cursor("b").position == 4
    assert log.status().depth == {"a": 3, "b": 0}


def test_a_position_is_durable_and_may_go_back(log: Log, tmp_path: Path):
    log.cursor("a").move(4)
    log.cursor("a").move(2)
    again = reopened(log, tmp_path)
    assert again.cursor("a").position == 2
    again.close()


@pytest.mark.parametrize("seq", [0, 5, -1])
def test_a_position_outside_the_log_is_refused(log: Log, seq: int):
    with pytest.raises(ValueError, match="holds 1 to 3"):
        log.cursor("a").move(seq)


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 65, "é"])
def test_a_name_that_is_no_id_is_refused(log: Log, name: str):
    with pytest.raises(ValueError, match="name"):
        log.cursor(name)


def test_a_damaged_cursor_is_told_of_and_starts_at_the_oldest_record_never_at_the_end(log: Log, tmp_path: Path):
    log.cursor("a").move(4)
    log.close()
    (tmp_path / "log/cursors/a.cursor").write_bytes(b"\xff" * 2 * PAGE)
    again = Log.open(tmp_path / "log", LIMITS)
    assert again.cursor("a").position == 1
    assert "cursor a was damaged" in again.status().notes[0]
    again.close()


def test_a_torn_move_leaves_the_position_before_it(log: Log, tmp_path: Path):
    cursor = log.cursor("a")
    cursor.move(2)
    cursor.move(3)
    log.close()
    path = tmp_path / "log/cursors/a.cursor"
    pages = [path.read_bytes()[:PAGE], path.read_bytes()[PAGE:]]
    newest = max(range(2), key=lambda page: pages[page][4:12][::-1])
    pages[newest] = b"\0" * 30 + pages[newest][30:]
    path.write_bytes(b"".join(pages))
    again = Log.open(tmp_path / "log", LIMITS)
    assert again.cursor("a").position == 2
    again.close()


def test_a_refused_move_keeps_the_position_and_may_be_tried_again(log: Log, monkeypatch: pytest.MonkeyPatch):
    cursor = log.cursor("a")
    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(StorageError) as refused:
        cursor.move(2)
    assert refused.value.retry
    assert cursor.position == 1
    monkeypatch.undo()
    cursor.move(2)
    assert cursor.position == 2


def refuse(_fd: int):
    raise OSError(errno.EIO, "the disk failed")


def test_a_dropped_cursor_is_gone(log: Log, tmp_path: Path):
    log.cursor("a").move(2)
    log.drop_cursor("a")
    log.drop_cursor("../lock")
    again = reopened(log, tmp_path)
    assert again.status().depth == {}
    again.close()


def test_numbers_survive_the_damage_of_either_page(tmp_path: Path):
    file = NumbersFile(tmp_path / "n")
    file.create(Numbers("e" * 16, 1))
    for value in range(2, 6):
        file.store(Numbers("e" * 16, value))
        data = (tmp_path / "n").read_bytes()
        for page in (0, 1):
            damaged = bytearray(data)
            damaged[page * PAGE + 3] ^= 1
            (tmp_path / "m").write_bytes(damaged)
            assert load_numbers(tmp_path / "m").first in {value - 1, value}
        assert load_numbers(tmp_path / "n").first == value
