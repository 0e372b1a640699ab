"""A driver that was made once speaks with the secrets that the store has now."""

from pathlib import Path

import pytest

from gateway.keystore import KeyStore
from gateway.master_key import make_master
from gateway.secrets import Secrets
from metering.errors import AuthError

OLD, NEW = bytes(16), bytes(range(16))
TITLE = b"MTG00001"


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    path = tmp_path / "master.key"
    path.write_text(make_master())
    store = KeyStore(tmp_path / "keys", f"file:{path}")
    store.put("m", {"encryption": OLD, "password": b"old"}, counter=7)
    return store


def test_a_key_that_changed_counts_from_the_next_conversation(store: KeyStore):
    secrets = Secrets(store, "m", TITLE)
    held = secrets.keys
    assert (held.encryption, held.password, secrets.next()) == (OLD, b"old", 7)
    store.put("m", {"encryption": NEW}, counter=100)
    assert held.encryption == OLD
    secrets.renew()
    assert held.encryption == NEW
    assert secrets.next() == 100
    store.close()


def test_an_unchanged_key_goes_on_counting(store: KeyStore):
    secrets = Secrets(store, "m", TITLE)
    first = secrets.next()
    secrets.renew()
    assert secrets.next() == first + 1
    store.close()


def test_without_a_store_there_is_nothing_to_show_and_nothing_to_count():
    secrets = Secrets(None, "m", TITLE)
    assert repr(secrets.keys) == "MeterKeys()"
    with pytest.raises(AuthError, match="no key store"):
        secrets.next()
