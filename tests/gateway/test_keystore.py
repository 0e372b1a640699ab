"""The key store: encrypted, bound to meters, silent about secrets; a refusal stands until the key changes."""

import json
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from gateway.keystore import KeyStore
from gateway.master_key import make_master, read_master
from metering.errors import ConfigError, StorageError

GUEK = bytes(range(16))
GAK = bytes(range(0xD0, 0xE0))
PASSWORD = b"planted-password"


@pytest.fixture
def master(tmp_path: Path) -> str:
    path = tmp_path / "master.key"
    path.write_text(make_master())
    return f"file:{path}"


@pytest.fixture
def store(tmp_path: Path, master: str) -> KeyStore:
    store = KeyStore(tmp_path / "keys", master)
    store.put("flat-1", {"encryption": GUEK, "authentication": GAK, "password": PASSWORD}, counter=12)
    return store


def test_keys_come_back_as_they_went_in(tmp_path: Path, master: str, store: KeyStore) -> None:
    del store
    keys = KeyStore(tmp_path / "keys", master).keys_of("flat-1")
    assert (keys.encryption, keys.authentication, keys.password, keys.broadcast) == (GUEK, GAK, PASSWORD, b"")


def test_a_meter_without_keys_has_empty_ones(store: KeyStore) -> None:
    assert store.keys_of("flat-9").encryption == b""
    assert store.fingerprint("flat-9") == ""


def test_no_secret_stands_in_any_file(tmp_path: Path, store: KeyStore) -> None:
    store.refuse("flat-1", "wrong key")
    store.counter_of("flat-1", b"MGT00001").next()
    for path in (tmp_path / "keys").iterdir():
        raw = path.read_bytes()
        for secret in (GUEK, GAK, PASSWORD):
            assert secret not in raw
            assert secret.hex().encode() not in raw.lower()


def test_no_secret_is_shown(store: KeyStore) -> None:
    keys = store.keys_of("flat-1")
    shown = f"{keys!r} {keys} {store!r} {list(store.list())!r}"
    for secret in (GUEK, GAK, PASSWORD):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    assert "encryption" in repr(keys)
    with pytest.raises(TypeError):
        pickle.dumps(keys)


def test_only_the_owner_can_read_the_file(tmp_path: Path, store: KeyStore) -> None:
    del store
    assert (tmp_path / "keys" / "keys.json").stat().st_mode & 0o077 == 0


def test_another_master_key_is_told_as_such(tmp_path: Path, store: KeyStore) -> None:
    del store
    other = tmp_path / "other.key"
    other.write_text(make_master())
    with pytest.raises(ConfigError, match="is not the one of"):
        KeyStore(tmp_path / "keys", f"file:{other}")


@pytest.mark.parametrize("text", ["", "5fc3", "zz" * 32, "00" * 31, "00" * 33])
def test_a_weak_master_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_master(f"file:{path}")
    assert not text or text not in str(caught.value)


def test_records_cannot_be_exchanged(tmp_path: Path, master: str, store: KeyStore) -> None:
    store.put("flat-2", {"password": b"other"})
    path = tmp_path / "keys" / "keys.json"
    table = json.loads(path.read_text())
    table["records"]["flat-1"], table["records"]["flat-2"] = table["records"]["flat-2"], table["records"]["flat-1"]
    path.write_text(json.dumps(table))
    with pytest.raises(StorageError, match="the record of flat-1 is damaged"):
        KeyStore(tmp_path / "keys", master).keys_of("flat-1")


def test_each_damaged_byte_is_noticed(tmp_path: Path, master: str, store: KeyStore) -> None:
    del store
    path = tmp_path / "keys" / "keys.json"
    table = json.loads(path.read_text())
    record = table["records"]["flat-1"]
    for at in range(0, len(record), 7):
        flipped = format(int(record[at], 16) ^ 1, "x")
        table["records"]["flat-1"] = record[:at] + flipped + record[at + 1 :]
        path.write_text(json.dumps(table))
        with pytest.raises(StorageError):
            KeyStore(tmp_path / "keys", master).keys_of("flat-1")


def test_a_change_by_another_process_is_seen(tmp_path: Path, master: str, store: KeyStore) -> None:
    other = KeyStore(tmp_path / "keys", master)
    other.put("flat-1", {"encryption": GAK})
    assert store.keys_of("flat-1").encryption == GAK
    assert store.keys_of("flat-1").password == PASSWORD


def test_a_refusal_stands_over_restarts_until_the_key_changes(tmp_path: Path, master: str, store: KeyStore) -> None:
    store.refuse("flat-1", "wrong key")
    again = KeyStore(tmp_path / "keys", master)
    assert again.refused("flat-1") == "wrong key"
    again.put("flat-1", {"encryption": GAK})
    assert again.refused("flat-1") == ""
    again.put("flat-1", {"encryption": GUEK}, counter=12)  # the old key again is the refused one
    assert again.refused("flat-1") == "wrong key"
    again.put("flat-1", {}, counter=13)  # a person's word about the counter is a change, too
    assert again.refused("flat-1") == ""
    again.refuse("flat-1", "wrong key")
    assert again.unlock("flat-1")
    assert again.refused("flat-1") == ""


def test_a_new_encryption_key_has_a_counter_of_its_own(store: KeyStore) -> None:
    assert store.counter_of("flat-1", b"MGT00001").next() == 12
    store.put("flat-1", {"encryption": GAK}, counter=0)
    assert store.counter_of("flat-1", b"MGT00001").next() == 0
    store.put("flat-1", {"encryption": GUEK})
    counter = store.counter_of("flat-1", b"MGT00001")
    assert counter.known  # the old key's reservations are remembered
    assert counter.next() > 12


def test_a_persons_word_never_lowers_a_counter(store: KeyStore) -> None:
    store.put("flat-1", {}, counter=5)
    assert store.counter_of("flat-1", b"MGT00001").next() == 12


def test_a_lost_account_of_counters_is_noticed(tmp_path: Path, master: str, store: KeyStore) -> None:
    assert store.counter_of("flat-1", b"MGT00001").next() == 12
    store.close()
    (tmp_path / "keys" / "counters").unlink()
    again = KeyStore(tmp_path / "keys", master)
    assert not again.counter_of("flat-1", b"MGT00001").known  # 12 was used: the meter is asked first
    again.put("flat-1", {}, counter=12)
    assert not again.counter_of("flat-1", b"MGT00001").known  # the same old word again
    again.put("flat-1", {}, counter=5000)
    assert again.counter_of("flat-1", b"MGT00001").next() == 5000


def test_a_running_gateway_keeps_its_keys_while_the_master_key_changes(
    tmp_path: Path, master: str, store: KeyStore
) -> None:
    new = tmp_path / "new.key"
    new.write_text(make_master())
    KeyStore(tmp_path / "keys", master).rotate(f"file:{new}")
    assert store.keys_of("flat-1").encryption == GUEK
    assert store.refused("flat-1") == ""


def test_two_processes_never_share_counters(tmp_path: Path, master: str, store: KeyStore) -> None:
    store.counter_of("flat-1", b"MGT00001")
    other = KeyStore(tmp_path / "keys", master)
    with pytest.raises(StorageError, match="in use"):
        other.counter_of("flat-1", b"MGT00001")
    store.close()
    assert other.counter_of("flat-1", b"MGT00001").next() == 12


def test_rotation_keeps_all_and_ends_the_old_master_key(tmp_path: Path, master: str, store: KeyStore) -> None:
    store.refuse("flat-1", "wrong key")
    new = tmp_path / "new.key"
    new.write_text(make_master())
    assert store.rotate(f"file:{new}") == 1
    again = KeyStore(tmp_path / "keys", f"file:{new}")
    assert again.keys_of("flat-1").encryption == GUEK
    assert again.refused("flat-1") == "wrong key"
    with pytest.raises(ConfigError):
        KeyStore(tmp_path / "keys", master)


@pytest.mark.parametrize(("name", "size"), [("encryption", 15), ("authentication", 32), ("operator", 3)])
def test_a_key_of_a_wrong_length_is_refused_without_showing_it(store: KeyStore, name: str, size: int) -> None:
    with pytest.raises(ConfigError) as caught:
        store.put("flat-1", {name: b"\x5a" * size})
    assert "5a5a" not in "".join(traceback.format_exception(caught.value))


SECRETIVE = """
import ctypes, resource
from gateway.master_key import forbid_core_dumps
prctl = ctypes.CDLL(None).prctl
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
before = prctl(3, 0, 0, 0, 0)
forbid_core_dumps()
print(before, resource.getrlimit(resource.RLIMIT_CORE), prctl(3, 0, 0, 0, 0))
"""


def test_a_process_with_keys_leaves_no_core_file() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SECRETIVE], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    assert done.stdout.split("\n")[0] == "1 (0, 0) 0"
