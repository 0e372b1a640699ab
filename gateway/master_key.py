"""The master key that opens the key store, and what keeps keys inside this process. It stores nothing."""

import ctypes
import os
import resource
import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from metering.errors import ConfigError
from metering.secret import resolve_secret

MASTER_BYTES = 32

_PR_SET_DUMPABLE = 4


def read_master(reference: str) -> bytes:
    """Return the master key that `env:NAME` or `file:PATH` points at: 64 hex digits.

    Raises:
        ConfigError: it is not there, or not 64 hex digits.

    """
    try:
        key = bytes.fromhex(resolve_secret(reference))
    except ValueError:
        key = b""
    if len(key) != MASTER_BYTES:
        raise ConfigError(f"{reference} holds no master key: 64 hex digits, as `metergate key init` makes them")
    return key


def make_master() -> str:
    """Return a new master key as text."""
    return secrets.token_hex(MASTER_BYTES)


def forbid_core_dumps() -> None:
    """Keep this process's memory, and the keys in it, out of core files and away from debuggers of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.uname().sysname == "Linux":  # a limit of 0 does not stop a core file that goes into a program's pipe
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def derive(master: bytes) -> tuple[AESGCM, bytes]:
    """Return the cipher of the records and the key of the fingerprints."""

    def key(info: bytes) -> bytes:
        return HKDF(SHA256(), MASTER_BYTES, None, info).derive(master)

    return AESGCM(key(b"metergate key store: records")), key(b"metergate key store: fingerprints")
