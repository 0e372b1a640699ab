"""Wrapped meter keys: they open for their gateway, device and version, and for nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trust.transport import Bound, MeterSecrets, UnwrapError, new_private_key, public_key, unwrap, wrap

SECRETS = MeterSecrets({"encryption": bytes(range(16)), "password": b"planted"}, 7)
BOUND = Bound("flat-1", "gw-1", 3)
PRIVATE = new_private_key()
BUNDLE = wrap(SECRETS, BOUND, public_key(PRIVATE))


def test_keys_come_out_as_they_went_in() -> None:
    assert unwrap(BUNDLE, BOUND, PRIVATE) == SECRETS


def test_each_bundle_is_another_and_shows_no_secret() -> None:
    again = wrap(SECRETS, BOUND, public_key(PRIVATE))
    assert again != BUNDLE
    assert b"planted" not in again
    assert "planted" not in f"{SECRETS!r} {SECRETS}"


@pytest.mark.parametrize(
    "bound", [Bound("flat-2", "gw-1", 3), Bound("flat-1", "gw-2", 3), Bound("flat-1", "gw-1", 4)], ids=str
)
def test_for_another_device_gateway_or_version_it_does_not_open(bound: Bound) -> None:
    with pytest.raises(UnwrapError, match="do not open"):
        unwrap(BUNDLE, bound, PRIVATE)


def test_another_gateways_key_does_not_open_it() -> None:
    with pytest.raises(UnwrapError, match="do not open"):
        unwrap(BUNDLE, BOUND, new_private_key())


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(BUNDLE) - 1), bit=st.integers(0, 7))
def test_a_single_changed_bit_keeps_it_shut(place: int, bit: int) -> None:
    changed = bytearray(BUNDLE)
    changed[place] ^= 1 << bit
    # The highest bit of an X25519 public key is not looked at by the key exchange; the key derivation binds it.
    with pytest.raises(UnwrapError):
        unwrap(bytes(changed), BOUND, PRIVATE)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(UnwrapError):
        unwrap(raw, BOUND, PRIVATE)
