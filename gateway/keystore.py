"""The meters' keys and passwords, encrypted on disk, and which of them a meter has refused. It speaks to no meter.

The key of the file comes from the master key, which stands elsewhere (`env:` or `file:`).
"""

import hmac
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from collector.keys import MeterKeys
from gateway.counters import Counter, Counters
from gateway.key_file import KeyFile, Record
from metering.errors import ConfigError, StorageError
from storage.files import lock_directory, replace_file
from trust.transport import new_private_key

FINGERPRINT_DIGITS = 16

KEY_LENGTHS = {"encryption": 16, "authentication": 16, "broadcast": 16, "master": 16, "operator": 4}
LONGEST_PASSWORD = 64


class KeyInfo(NamedTuple):
    """What may be shown of a meter's record: which secrets there are, a keyed digest of them, and its state."""

    meter: str
    has: tuple[str, ...]
    fingerprint: str
    counter: int | None
    refused: str


class KeyStore:
    """The key store of one gateway in the folder `directory`, opened with the master key that `master` points at.

    `epoch` is that under which the log goes up, `headend` tells that there is one, see `gateway.counters.Counters`.
    A change of the file by another process (`metergate key`) is seen at the next question.

    Raises:
        ConfigError: the master key is missing, no key, or not the one of this store.
        StorageError: the store is damaged.

    """

    def __init__(self, directory: Path, master: str, *, epoch: str = "", headend: bool = False) -> None:
        self._directory = directory
        self._refused_path = directory / "refused.json"
        self._epoch = epoch
        self._headend = headend
        self._opened: Counters | None = None
        self._counted: dict[str, Counter] = {}
        self._lock = -1
        self._file = KeyFile(directory / "keys.json", master)
        self._refused = self._load_refused()

    def __repr__(self) -> str:
        return f"KeyStore({str(self._directory)!r})"

    # --- for the gateway ----------------------------------------------------------------------------------------------

    def keys_of(self, meter: str) -> MeterKeys:
        """Return a meter's secrets; all empty where there are none."""
        return MeterKeys(**{name: bytes.fromhex(text) for name, text in self._file.get(meter).keys.items()})

    def counter_of(self, meter: str, client_title: bytes) -> Counter:
        """Return the invocation counter of the meter's present encryption key for this client system title.

        Raises:
            StorageError: another process has the counters.

        """
        record = self._file.get(meter)
        name = f"{meter} {self._digest(record.keys.get('encryption', ''))} {client_title.hex() or '-'}"
        lost = record.counting and self.counters.reserved(name) is None
        floor = None if lost else record.counter
        counter = self._counted[meter] = self.counters.counter(name, floor, lambda: self._count(meter))
        return counter

    @property
    def counters(self) -> Counters:
        """Return all counters; they are this process's from now on. Raises `StorageError`: another has them."""
        if self._opened is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = lock_directory(self._directory)  # two owners of one counter would use a value twice
            self._opened = Counters(self._directory / "counters", self._epoch, headend=self._headend)
        return self._opened

    def held(self, meter: str) -> str:
        """Return why a meter that wants secrets is not to be asked for now; empty where it may be."""
        if not self._file.get(meter).keys:
            return "its keys are not here"
        counter = self._counted.get(meter)
        return counter.waits if counter is not None else ""

    def close(self) -> None:
        """Let another process have the counters."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
            self._opened = None

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
        record = self._file.get(meter)
        if not record.keys:
            return ""
        secrets = "/".join(f"{name}={text}" for name, text in sorted(record.keys.items()))
        return self._digest(f"{secrets}/{record.counter}")

    def _count(self, meter: str) -> None:
        """Note that values of the meter's counter are given out from now on."""
        record = self._file.get(meter)
        if not record.counting and record.keys:
            record.counting = True
            self._file.put(meter, record)

    # --- for people ---------------------------------------------------------------------------------------------------

    def list(self) -> Iterator[KeyInfo]:
        """Yield what may be shown of each meter's record, in the order of their ids."""
        for meter in self._file.names():
            record = self._file.get(meter)
            has = tuple(sorted(record.keys))
            yield KeyInfo(meter, has, self.fingerprint(meter)[:8], record.counter, self.refused(meter))

    def put(
        self,
        meter: str,
        keys: dict[str, bytes],
        *,
        counter: int | None = None,
        version: int | None = None,
        lease: int | None = None,
    ) -> None:
        """Store secrets of a meter; those not named keep their value.

        `counter` is where its invocation counter begins. Of a new encryption key it is not taken over from the old one.
        `version` and `lease` are of keys that came wrapped.

        Raises:
            ConfigError: a secret has a wrong length.

        """
        for name, value in keys.items():
            check_secret(name, value)
        record = self._file.get(meter)
        new_key = "encryption" in keys and keys["encryption"].hex() != record.keys.get("encryption")
        kept = None if new_key else record.counter
        changed = Record(
            {**record.keys, **{name: value.hex() for name, value in keys.items()}},
            kept,
            counting=record.counting and not new_key,
            version=record.version if version is None else version,
            lease=record.lease if lease is None else lease,
        )
        if counter is not None:
            changed.counter = max(counter, kept or 0)
            changed.counting = changed.counting and counter <= (kept or 0)
        self._file.put(meter, changed)

    def remove(self, meter: str, *, lease: int = 0) -> bool:
        """Forget a meter's secrets; False where there are none. Of keys that came wrapped the version stays known."""
        record = self._file.get(meter)
        if lease or record.lease or record.version:
            self._file.put(meter, Record({}, version=record.version, lease=max(lease, record.lease)))
        elif record.keys:
            self._file.drop(meter)
        return bool(record.keys)

    def came(self, meter: str) -> tuple[int, int]:
        """Return version and lease of the wrapped keys that came last for a meter; 0 where none ever did."""
        record = self._file.get(meter)
        return record.version, record.lease

    def transport_key(self) -> bytes:
        """Return the private key by which keys come wrapped to this gateway; it is made when it is first wanted."""
        found = self._file.transport_key()
        if found is None:
            found = new_private_key()
            self._file.put_transport_key(found)
        return found

    def unlock(self, meter: str) -> bool:
        """Let the meter be asked again with the secrets that it refused; False where it refused none."""
        if self._refused.pop(meter, None) is None:
            return False
        self._keep_refused()
        return True

    def rotate(self, master: str) -> int:
        """Write all records anew under another master key; return their number. The old one opens nothing any more."""
        marks = {meter: self.refused(meter) for meter in self._file.names()}
        count = self._file.rotate(master)
        self._refused = {meter: (self.fingerprint(meter), reason) for meter, reason in marks.items() if reason}
        self._keep_refused()
        return count

    def _digest(self, text: str) -> str:
        return hmac.digest(self._file.digest_key, text.encode(), "sha256").hex()[:FINGERPRINT_DIGITS]

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
