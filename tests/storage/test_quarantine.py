import os
from pathlib import Path

import pytest

from storage import quarantine
from storage.quarantine import MAX_ITEM_BYTES, Quarantine


def test_bytes_are_kept_with_origin_and_reason_in_the_order_they_came(tmp_path: Path):
    kept = Quarantine(tmp_path / "q")
    kept.put("mqtt a/b", "no JSON", b"\x00\xff")
    kept.put("log", "bad CRC", b"second")
    found = list(Quarantine(tmp_path / "q").items())
    assert [(one.origin, one.reason, one.size, one.payload) for one in found] == [
        ("mqtt a/b", "no JSON", 2, b"\x00\xff"),
        ("log", "bad CRC", 6, b"second"),
    ]


def test_the_same_bytes_of_one_origin_are_kept_once(tmp_path: Path):
    kept = Quarantine(tmp_path)
    assert all(kept.put("a", "r", b"x") for _ in range(3))
    kept.put("b", "r", b"x")
    assert len(kept) == 2
    assert kept.dropped == 0


def test_the_oldest_give_way_and_are_counted(tmp_path: Path):
    kept = Quarantine(tmp_path, max_bytes=5000)
    for number in range(20):
        kept.put("a", "r", bytes([number]) * 1000)
    assert kept.dropped == 20 - len(kept)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5000
    assert next(iter(Quarantine(tmp_path).items())).payload[0] == 20 - len(kept)


def test_a_huge_payload_is_cut_and_its_true_size_told(tmp_path: Path):
    kept = Quarantine(tmp_path)
    kept.put("a", "r", bytes(MAX_ITEM_BYTES + 5))
    (one,) = kept.items()
    assert (one.size, len(one.payload)) == (MAX_ITEM_BYTES + 5, MAX_ITEM_BYTES)


def test_a_babbling_source_does_not_wear_out_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine, "MAX_PER_HOUR", 3)
    kept = Quarantine(tmp_path)
    assert [kept.put("a", "r", bytes([n])) for n in range(5)] == [True, True, True, False, False]
    assert kept.dropped == 2


def test_a_full_disk_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = Quarantine(tmp_path)
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert kept.put("a", "r", b"x") is False
    monkeypatch.undo()
    assert kept.dropped == 1
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_is_itself_damaged_says_so(tmp_path: Path):
    kept = Quarantine(tmp_path)
    kept.put("a", "r", b"x")
    next(tmp_path.iterdir()).write_bytes(b"\xff\xff")
    (one,) = kept.items()
    assert "unreadable" in one.reason
