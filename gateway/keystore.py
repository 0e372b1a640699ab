"""The meters' keys and passwords, encrypted on disk, and which of them a meter has refused. It speaks to no meter.

Each meter's secrets are one record under AES-256-GCM, bound to the meter's name, so that records cannot be exchanged.
The key of the file comes from the master key, which stands elsewhere (`env:` or `file:`).
"""

import hmac
import os
import secrets as chance
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
from cryptography.exceptions import InvalidTag

from collector.keys import MeterKeys
from gateway.counters import Counter, Counters
from gateway.master_key import derive, read_master
from metering.errors import ConfigError, StorageError
from storage.files import lock_directory, replace_file

NONCE_BYTES = 12
LARGEST_FILE = 16 << 20  # bytes; 50,000 meters need less
FINGERPRINT_DIGITS = 16

KEY_LENGTHS = {"encryption": 16, "authentication": 16, "broadcast": 16, "master": 16, "operator": 4}
LONGEST_PASSWORD = 64

logger = structlog.get_logger(__name__)

_CHECK = "master key"  # the record that tells a wrong master key from a damaged record


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The file: format version, and for each meter nonce and ciphertext in hex."""

    version: int
    records: dict[str, str]


class _Secrets(msgspec.Struct, forbid_unknown_fields=True):
    """One meter's record in clear. `counter` is a person's word of where the invocation counter begins.

    `counting` tells that values were given out since: should the account of them be lost, that word is too old.
    """

    keys: dict[str, str]
    counter: int | None = None
    counting: bool = False

    def __repr__(self) -> str:
        return "<secrets>"


class KeyInfo(NamedTuple):
    """What may be shown of a meter's record: which secrets there are, a keyed digest of them, and its state."""

    meter: str
    has: tuple[str, ...]
    fingerprint: str
    counter: int | None
    refused: str


class KeyStore:
    """The key store of one gateway in the folder `directory`, opened with the master key that `master` points at.

    A change of the file by another process (`metergate key`) is seen at the next question.

    Raises:
        ConfigError: the master key is missing, no key, or not the one of this store.
        StorageError: the store is damaged.

    """

    def __init__(self, directory: Path, master: str, *, epoch: str = "") -> None:
        self._directory = directory
        self._path = directory / "keys.json"
        self._refused_path = directory / "refused.json"
        self._epoch = epoch
        self._counters: Counters | None = None
        self._lock = -1
        self._cipher, self._digest_key = derive(read_master(master))
        self._stamp: tuple[int, int] = (0, 0)
        self._records: dict[str, str] = {}
        self._refused = self._load_refused()
        self._look()

    def __repr__(self) -> str:
        return f"KeyStore({str(self._directory)!r})"

    # --- for the gateway ----------------------------------------------------------------------------------------------

    def keys_of(self, meter: str) -> MeterKeys:
        """Return a meter's secrets; all empty where there are none."""
        return MeterKeys(**{name: bytes.fromhex(text) for name, text in self._open(meter).keys.items()})

    def counter_of(self, meter: str, client_title: bytes) -> Counter:
        """Return the invocation counter of the meter's present encryption key for this client system title.

        Raises:
            StorageError: another process has the counters.

        """
        record = self._open(meter)
        if self._counters is None:
            self._lock = lock_directory(self._directory)  # two owners of one counter would use a value twice
            self._counters = Counters(self._directory / "counters", self._epoch)
        name = f"{meter} {self._digest(record.keys.get('encryption', ''))} {client_title.hex() or '-'}"
        lost = record.counting and self._counters.reserved(name) is None
        return self._counters.counter(name, None if lost else record.counter, lambda: self._count(meter))

    def close(self) -> None:
        """Let another process have the counters."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
            self._counters = None

    def refuse(self, meter: str, reason: str) -> None:
        """Note, durably, that the meter refused its present secrets: it is not asked again until they change."""
        self._refused[meter] = (self.fingerprint(meter), reason)
        self._keep_refused()

    def refused(self, meter: str) -> str:
        """Return why the meter is not to be asked with its present secrets; empty where it may be."""
        known = self._refused.get(meter)
        return known[1] if known is not None and known[0] == self.fingerprint(meter) else ""

    def fingerprint(self, meter: str) -> str:
        """Return a keyed digest that changes with the meter's secrets and its counter; empty where there are none."""
        record = self._open(meter)
        if not record.keys:
            return ""
        secrets = "/".join(f"{name}={text}" for name, text in sorted(record.keys.items()))
        return self._digest(f"{secrets}/{record.counter}")

    def _count(self, meter: str) -> None:
        """Note that values of the meter's counter are given out from now on."""
        record = self._open(meter)
        if not record.counting and meter in self._records:
            record.counting = True
            self._records[meter] = self._seal(meter, record)
            self._keep()

    # --- for people ---------------------------------------------------------------------------------------------------

    def list(self) -> Iterator[KeyInfo]:
        """Yield what may be shown of each meter's record, in the order of their ids."""
        self._look()
        for meter in sorted(self._records):
            if meter == _CHECK:
                continue
            record = self._open(meter)
            has = tuple(sorted(record.keys))
            yield KeyInfo(meter, has, self.fingerprint(meter)[:8], record.counter, self.refused(meter))

    def put(self, meter: str, keys: dict[str, bytes], *, counter: int | None = None) -> None:
        """Store secrets of a meter; those not named keep their value.

        `counter` is where its invocation counter begins. Of a new encryption key it is not taken over from the old one.

        Raises:
            ConfigError: a secret has a wrong length.

        """
        for name, value in keys.items():
            check_secret(name, value)
        record = self._open(meter)
        new_key = "encryption" in keys and keys["encryption"].hex() != record.keys.get("encryption")
        kept = None if new_key else record.counter
        changed = _Secrets(
            {**record.keys, **{name: value.hex() for name, value in keys.items()}},
            kept,
            counting=record.counting and not new_key,
        )
        if counter is not None:
            changed.counter = max(counter, kept or 0)
            changed.counting = changed.counting and counter <= (kept or 0)
        self._records[meter] = self._seal(meter, changed)
        self._keep()

    def remove(self, meter: str) -> bool:
        """Forget a meter's secrets; False where there are none."""
        self._look()
        if self._records.pop(meter, None) is None or meter == _CHECK:
            return False
        self._keep()
        return True

    def unlock(self, meter: str) -> bool:
        """Let the meter be asked again with the secrets that it refused; False where it refused none."""
        if self._refused.pop(meter, None) is None:
            return False
        self._keep_refused()
        return True

    def rotate(self, master: str) -> int:
        """Write all records anew under another master key; return their number. The old one opens nothing any more."""
        self._look()
        records = {meter: self._open(meter) for meter in self._records if meter != _CHECK}
        marks = {meter: self.refused(meter) for meter in records}
        self._cipher, self._digest_key = derive(read_master(master))
        self._records = {meter: self._seal(meter, record) for meter, record in records.items()}
        self._keep()
        self._refused = {meter: (self.fingerprint(meter), reason) for meter, reason in marks.items() if reason}
        self._keep_refused()
        return len(records)

    # --- the file -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read the file where it has changed; what cannot be opened any more is left until the next start."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return
        stamp = state.st_mtime_ns, state.st_ino
        if stamp == self._stamp:
            return
        before = self._records
        try:
            self._records = self._read(state.st_size)
        except (ConfigError, StorageError) as error:
            self._records = before
            if not before:
                raise
            logger.warning("the key store changed and cannot be opened: the former keys are used", reason=str(error))
        self._stamp = stamp

    def _read(self, size: int) -> dict[str, str]:
        if size > LARGEST_FILE:
            raise StorageError(f"{self._path} is no key store: {size} bytes", retry=False)
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except ValueError:
            raise StorageError(f"{self._path} is damaged; put it back from a copy", retry=False) from None
        self._records = found.records
        try:
            self._unseal(_CHECK)
        except StorageError:
            raise ConfigError(f"the master key is not the one of {self._path}") from None
        return found.records

    def _keep(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._records[_CHECK] = self._seal(_CHECK, _Secrets({}))
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(_File(1, self._records))))
        self._path.chmod(0o600)
        state = self._path.stat()
        self._stamp = state.st_mtime_ns, state.st_ino

    def _open(self, meter: str) -> _Secrets:
        self._look()
        return self._unseal(meter) if meter in self._records else _Secrets({})

    def _seal(self, meter: str, record: _Secrets) -> str:
        nonce = chance.token_bytes(NONCE_BYTES)
        return (nonce + self._cipher.encrypt(nonce, msgspec.json.encode(record), meter.encode())).hex()

    def _unseal(self, meter: str) -> _Secrets:
        try:
            raw = bytes.fromhex(self._records[meter])
            return msgspec.json.decode(
                self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], meter.encode()), type=_Secrets
            )
        except (KeyError, ValueError, InvalidTag):
            raise StorageError(
                f"{self._path}: the record of {meter} is damaged; put its keys in again", retry=False
            ) from None

    def _digest(self, text: str) -> str:
        return hmac.digest(self._digest_key, text.encode(), "sha256").hex()[:FINGERPRINT_DIGITS]

    def _load_refused(self) -> dict[str, tuple[str, str]]:
        try:
            return msgspec.json.decode(self._refused_path.read_bytes(), type=dict[str, tuple[str, str]])
        except FileNotFoundError:
            return {}
        except ValueError:
            raise StorageError(
                f"{self._refused_path} is damaged; remove it once the keys are right", retry=False
            ) from None

    def _keep_refused(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._refused_path, msgspec.json.encode(self._refused))


def check_secret(name: str, value: bytes) -> None:
    """Check a secret's length.

    Raises:
        ConfigError: it is not one that a meter could have; the message does not show it.

    """
    wanted = KEY_LENGTHS.get(name)
    if wanted is not None and len(value) != wanted:
        raise ConfigError(f"the {name} key has {wanted} bytes ({2 * wanted} hex digits), not {len(value)}")
    if wanted is None and not 0 < len(value) <= LONGEST_PASSWORD:
        raise ConfigError(f"the {name} has 1 to {LONGEST_PASSWORD} bytes, not {len(value)}")
