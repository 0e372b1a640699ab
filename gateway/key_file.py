"""The file of the key store: one sealed record for each meter. It knows nothing of counters, meters or refusals.

Each record stands under AES-256-GCM, bound to the meter's name, so that records cannot be exchanged.
"""

import secrets as chance
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog
from cryptography.exceptions import InvalidTag

from gateway.master_key import derive, read_master
from metering.errors import ConfigError, StorageError
from storage.files import replace_file

NONCE_BYTES = 12
LARGEST_FILE = 16 << 20  # bytes; 50,000 meters need less

# Records that are no meter's: ids of meters have no blanks.
_CHECK = "master key"  # tells a wrong master key from a damaged record
_TRANSPORT = "transport key"

logger = structlog.get_logger(__name__)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The file: format version, and for each meter nonce and ciphertext in hex."""

    version: int
    records: dict[str, str]


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """One meter's record in clear. `counter` is a person's word of where the invocation counter begins.

    `counting` tells that values were given out since: should the account of them be lost, that word is too old.
    `version` and `lease` are the highest of the wrapped keys that came for this meter; they outlive the keys.
    """

    keys: dict[str, str]
    counter: int | None = None
    counting: bool = False
    version: int = 0
    lease: int = 0

    def __repr__(self) -> str:
        return "<secrets>"


class KeyFile:
    """The records in a file at `path`, opened with the master key that `master` points at.

    A change of the file by another process is seen at the next question.

    Raises:
        ConfigError: the master key is missing, no key, or not the one of this file.
        StorageError: the file is damaged.

    """

    def __init__(self, path: Path, master: str) -> None:
        self._path = path
        self._cipher, self.digest_key = derive(read_master(master))
        self._stamp: tuple[int, int] = (0, 0)
        self._records: dict[str, str] = {}
        self._look()

    def names(self) -> Iterator[str]:
        """Yield the meters that have a record, in order."""
        self._look()
        yield from (name for name in sorted(self._records) if name not in {_CHECK, _TRANSPORT})

    def get(self, meter: str) -> Record:
        """Return a meter's record; an empty one where there is none. Raises `StorageError`."""
        self._look()
        return self._unseal(meter) if meter in self._records else Record({})

    def put(self, meter: str, record: Record) -> None:
        """Store a meter's record."""
        self._records[meter] = self._seal(meter, record)
        self._keep()

    def drop(self, meter: str) -> None:
        """Forget a meter's record."""
        if self._records.pop(meter, None) is not None:
            self._keep()

    def rotate(self, master: str) -> int:
        """Write all records anew under another master key; return the number of meters."""
        meters = list(self.names())
        records = {name: self._unseal(name) for name in self._records if name != _CHECK}
        self._cipher, self.digest_key = derive(read_master(master))
        self._records = {name: self._seal(name, record) for name, record in records.items()}
        self._keep()
        return len(meters)

    def transport_key(self) -> bytes | None:
        """Return the private key by which keys come wrapped; None where there is none yet."""
        found = self.get(_TRANSPORT).keys.get("private")
        return bytes.fromhex(found) if found else None

    def put_transport_key(self, private: bytes) -> None:
        """Store the private key by which keys come wrapped."""
        self.put(_TRANSPORT, Record({"private": private.hex()}))

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
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._records[_CHECK] = self._seal(_CHECK, Record({}))
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(_File(1, self._records))))
        self._path.chmod(0o600)
        state = self._path.stat()
        self._stamp = state.st_mtime_ns, state.st_ino

    def _seal(self, meter: str, record: Record) -> str:
        nonce = chance.token_bytes(NONCE_BYTES)
        return (nonce + self._cipher.encrypt(nonce, msgspec.json.encode(record), meter.encode())).hex()

    def _unseal(self, meter: str) -> Record:
        try:
            raw = bytes.fromhex(self._records[meter])
            return msgspec.json.decode(
                self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], meter.encode()), type=Record
            )
        except (KeyError, ValueError, InvalidTag):
            raise StorageError(
                f"{self._path}: the record of {meter} is damaged; put its keys in again", retry=False
            ) from None
