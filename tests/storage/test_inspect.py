from pathlib import Path

import pytest

from metering.errors import StorageError
from storage.inspect import describe
from storage.log import Log, LogLimits
from storage.segment import RECORD_HEADER, SEGMENT_HEADER

LIMITS = LogLimits(max_bytes=64 * 1024, min_free_bytes=0)


@pytest.fixture
def log(tmp_path: Path):
    opened = Log.open(tmp_path / "log", LIMITS)
    opened.append_now([b"one--", b"two--", b"three"])
    opened.cursor("up").move(2)
    yield opened
    opened.close()


def contents(directory: Path):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_log_in_use_is_described(log: Log, tmp_path: Path):
    text = "\n".join(describe(tmp_path / "log"))
    assert f"epoch {log.epoch}" in text
    assert "seq 1 to 3  records 3" in text
    assert "cursor up  next seq 2" in text
    assert log.append_now([b"undisturbed"]) == range(4, 5)


def test_damage_is_shown_and_nothing_is_repaired(log: Log, tmp_path: Path):
    log.close()
    path = next((tmp_path / "log").glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    data[SEGMENT_HEADER + RECORD_HEADER + 5 + 4] ^= 1
    path.write_bytes(data + b"half a rec")
    (tmp_path / "log/cursors/up.cursor").write_bytes(b"?")
    (tmp_path / "log/tombstones").write_bytes(b"?")
    (tmp_path / "log/state").write_bytes(b"?")
    before = contents(tmp_path)
    text = "\n".join(describe(tmp_path / "log"))
    assert contents(tmp_path) == before
    for said in (
        "header damaged",
        "seq 2 to 2 missing; bytes",
        "not (yet) whole",
        "cursor up  damaged",
        "tombstones damaged",
        "state file missing or damaged",
    ):
        assert said in text


def test_tombstones_and_quarantine_are_shown(log: Log, tmp_path: Path):
    log.close()
    path = next((tmp_path / "log").glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[SEGMENT_HEADER + RECORD_HEADER + 2] ^= 1
    path.write_bytes(data)
    Log.open(tmp_path / "log", LIMITS).close()
    text = "\n".join(describe(tmp_path / "log"))
    assert "tombstone seq 1 to 1  quarantined" in text
    assert "its payload fails its CRC" in text


def test_a_segment_missing_in_the_middle_is_shown(log: Log, tmp_path: Path):
    for _ in range(12):
        log.append_now([bytes(4000)])
    paths = sorted((tmp_path / "log").glob("*.seg"))
    paths[1].unlink()
    lines = list(describe(tmp_path / "log"))
    assert any(f"to {int(paths[2].stem) - 1} missing" in line for line in lines)


@pytest.mark.parametrize("made", [True, False])
def test_a_directory_without_a_log_is_said_to_be_one(tmp_path: Path, *, made: bool):
    if made:
        (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="holds no log"):
        list(describe(tmp_path / "empty"))
