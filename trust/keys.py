"""Ed25519 keys of people and services: made, kept in a file, shown. It signs nothing.

A key's id is the SHA-256 of its 32 bytes, so that nobody chooses it.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.util import urlsafe_b64decode, urlsafe_b64encode

from metering.errors import ConfigError

PREFIX = "ed25519:"
KEY_BYTES = 32
ID_DIGITS = 32  # hex digits of the id: 128 bits of the digest
MAX_FILE = 4096  # bytes


class PublicKey(NamedTuple):
    """A public key. Its text form is `ed25519:` and 43 characters of base64url."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key of its text form.

        Raises:
            ValueError: it is none.

        """
        if not text.startswith(PREFIX):
            raise ValueError(f"{text[:20]!r} is no public key; one begins with {PREFIX}")
        try:
            key = cls(urlsafe_b64decode(text.removeprefix(PREFIX).encode()))
            Ed25519PublicKey.from_public_bytes(key.raw)
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("a public key has 32 bytes, written in 43 characters of base64url") from None
        if str(key) != text:
            raise ValueError("a public key has one form only: base64url without padding")
        return key

    @property
    def id(self) -> str:
        """Return its id: 32 hex digits."""
        return hashlib.sha256(self.raw).hexdigest()[:ID_DIGITS]

    def jwk(self) -> OKPKey:
        """Return it as joserfc wants it."""
        return OKPKey.import_key(
            {"kty": "OKP", "crv": "Ed25519", "x": urlsafe_b64encode(self.raw).decode(), "kid": self.id}
        )

    def __str__(self) -> str:
        return PREFIX + urlsafe_b64encode(self.raw).decode()


class SigningKey:
    """A private key in memory. Never shown: its `repr` has its id alone."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = PublicKey(raw)
        self._key = key

    def __repr__(self) -> str:
        return f"SigningKey({self.public.id})"

    @classmethod
    def generate(cls) -> Self:
        """Make a new one."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> Self:
        """Return the key of a PEM file (PKCS 8).

        Raises:
            ConfigError: the file cannot be read, others may read it, it is no such key, or the passphrase is wrong.

        """
        try:
            mode = path.stat().st_mode
            raw = path.read_bytes()[: MAX_FILE + 1]
        except OSError as error:
            raise ConfigError(f"the signing key {path} cannot be read: {error.strerror}") from None
        if mode & 0o077:
            raise ConfigError(f"the signing key {path} can be read by others: chmod 600 {path}")
        try:
            secret = passphrase.encode() if passphrase is not None else None
            key = serialization.load_pem_private_key(raw, secret)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            wanted = "its passphrase is needed" if isinstance(error, TypeError) and secret is None else "not opened"
            raise ConfigError(f"the signing key {path}: {wanted}; it must be an Ed25519 key in PEM (PKCS 8)") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"the signing key {path} is no Ed25519 key")
        return cls(key)

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write it into a new file that its owner alone can read.

        Raises:
            ConfigError: the file is there already, or cannot be written.

        """
        how: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            how = serialization.BestAvailableEncryption(passphrase.encode())
        pem = self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigError(f"{path} is there already; a key is never written over") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
        with os.fdopen(fd, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())

    def jwk(self) -> OKPKey:
        """Return it as joserfc wants it."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            return OKPKey.import_key(pem, {"kid": self.public.id})
        except JoseError as error:  # never shown with the key
            raise ConfigError(f"the key {self.public.id} cannot be used: {type(error).__name__}") from None
