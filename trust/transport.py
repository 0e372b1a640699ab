"""Meter keys on their way: wrapped to one gateway's public key, opened there alone. No store, no policy.

X25519 with a key pair of its own for each bundle, HKDF-SHA256, AES-256-GCM. The bundle is bound to the device, the
gateway and its version: it opens for no other, and whoever only carries it reads nothing. It proves not who made it.
"""

from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PUBLIC_BYTES = 32
MAX_BUNDLE = 4096  # bytes of a wrapped bundle
_FORMAT = b"MGK1"
_KEY_BYTES, _NONCE_BYTES = 32, 12


class Bound(msgspec.Struct, frozen=True, array_like=True):
    """What a bundle is bound to. `version` counts up with each change of the device's keys."""

    device: str
    gateway: str
    version: Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class MeterSecrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One meter's secrets by name, and where its invocation counter begins (None: nobody said)."""

    keys: dict[str, bytes]
    counter: int | None = None

    def __repr__(self) -> str:
        return "<secrets>"


class UnwrapError(ValueError):
    """A bundle that does not open: damaged, or for another device, gateway or version. It shows nothing of it."""


def new_private_key() -> bytes:
    """Return a new private key (32 bytes)."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """Return the public key of a private one (32 bytes)."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def wrap(secrets: MeterSecrets, bound: Bound, to: bytes) -> bytes:
    """Return the secrets wrapped to a gateway's public key.

    Raises:
        ValueError: that is no public key.

    """
    once = X25519PrivateKey.generate()
    ours = once.public_key().public_bytes_raw()
    cipher, nonce = _cipher(once.exchange(X25519PublicKey.from_public_bytes(to)), ours, to)
    return _FORMAT + ours + cipher.encrypt(nonce, msgspec.msgpack.encode(secrets), _bytes_of(bound))


def unwrap(bundle: bytes, bound: Bound, private: bytes) -> MeterSecrets:
    """Return the secrets of a bundle that was wrapped to this key for this device, gateway and version.

    Raises:
        UnwrapError: it is not such a bundle.

    """
    start = len(_FORMAT)
    theirs, sealed = bundle[start : start + PUBLIC_BYTES], bundle[start + PUBLIC_BYTES :]
    if not bundle.startswith(_FORMAT) or len(theirs) != PUBLIC_BYTES or len(bundle) > MAX_BUNDLE:
        raise UnwrapError("these are no wrapped keys")
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(theirs))
        cipher, nonce = _cipher(shared, theirs, public_key(private))
        return msgspec.msgpack.decode(cipher.decrypt(nonce, sealed, _bytes_of(bound)), type=MeterSecrets)
    except (InvalidTag, ValueError):
        raise UnwrapError("the wrapped keys do not open: not for this device, gateway or version") from None


def _cipher(shared: bytes, once: bytes, to: bytes) -> tuple[AESGCM, bytes]:
    """Return the cipher and its nonce: both are of this bundle alone, as its key pair is."""
    made = HKDF(SHA256(), _KEY_BYTES + _NONCE_BYTES, None, b"metergate meter keys" + once + to).derive(shared)
    return AESGCM(made[:_KEY_BYTES]), made[_KEY_BYTES:]


def _bytes_of(bound: Bound) -> bytes:
    return msgspec.msgpack.encode(bound)
