from pathlib import Path

import pytest

from gateway.promises import Promises
from metering.errors import StorageError
from metering.model import Expectation, Kind, Source


def promise(device: str, since: int, interval: int = 900) -> Expectation:
    return Expectation(device, Kind.REGISTER, Source.POLL, interval, ("1-0:1.8.0*255",), since)


def test_a_promise_is_told_once_and_survives_a_restart(tmp_path: Path) -> None:
    promises = Promises(tmp_path / "promises.json")
    assert promises.settle([promise("m1", 100)], now=100) == [promise("m1", 100)]
    promises.keep()
    again = Promises(tmp_path / "promises.json")
    assert again.settle([promise("m1", 500)], now=500) == []


def test_a_promise_that_was_told_and_not_kept_is_told_again(tmp_path: Path) -> None:
    promises = Promises(tmp_path / "promises.json")
    promises.settle([promise("m1", 100)], now=100)  # the process dies before the log has it
    again = Promises(tmp_path / "promises.json")
    assert again.settle([promise("m1", 500)], now=500) == [promise("m1", 500)]


def test_a_changed_interval_ends_one_promise_and_begins_another(tmp_path: Path) -> None:
    promises = Promises(tmp_path / "promises.json")
    promises.settle([promise("m1", 100), promise("m2", 100)], now=100)
    promises.keep()
    told = promises.settle([promise("m1", 700, interval=60), promise("m2", 700)], now=700)
    ended = Expectation("m1", Kind.REGISTER, Source.POLL, 900, ("1-0:1.8.0*255",), 100, 700)
    assert told == [ended, promise("m1", 700, interval=60)]


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "promises.json").write_bytes(b"[{")
    with pytest.raises(StorageError, match="remove it"):
        Promises(tmp_path / "promises.json")
