"""The trust document as it lies on a gateway's disk, and the highest version that was ever in force. Not what it says.

It stands in a folder of its own (`trust` in the data folder), which no configuration names and nothing that a head-end
sends can replace but by the signatures of the document in force.
"""

from pathlib import Path

import msgspec

from metering.errors import ConfigError, StorageError
from storage.files import replace_file
from trust.document import TrustDocument, accept, parse
from trust.signatures import BadSignatureError, payload_of

FOLDER = "trust"
DOCUMENT = "document.json"
HIGHEST = "version"
MAX_BYTES = 16 << 20


class TrustFile:
    """The document of one gateway. Blocking."""

    def __init__(self, data: Path, gateway: str) -> None:
        """Open what is there in a gateway's data folder.

        Raises:
            ConfigError: the document is damaged, another gateway's, or older than one that was in force.

        """
        self._folder = data / FOLDER
        self._gateway = gateway
        self._stamp = self._look()
        self.document = self._load()

    def renew(self) -> bool:
        """Take up what another process has installed since; tell whether there was anything. Raises `ConfigError`."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self.document = self._load()
        self._stamp = stamp
        return True

    def _look(self) -> tuple[int, int]:
        try:
            found = (self._folder / DOCUMENT).stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino

    def install(self, signed: bytes) -> TrustDocument:
        """Put a document in force: durable when this returns.

        Raises:
            BadSignatureError: it is not signed by the custodians of the one in force, or not newer.
            StorageError: the disk refused; what was in force stays.

        """
        document = accept(self.document, signed, self._gateway)
        highest = self._highest()
        if document.version <= highest:
            raise BadSignatureError(f"version {document.version} is not newer than {highest}, which was in force")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._folder / DOCUMENT, signed)
            replace_file(self._folder / HIGHEST, str(document.version).encode())
        except OSError as error:
            raise StorageError(f"the trust document cannot be written: {error.strerror}", retry=True) from None
        self.document = document
        return document

    def _load(self) -> TrustDocument | None:
        path = self._folder / DOCUMENT
        try:
            raw = path.read_bytes()[: MAX_BYTES + 1]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"the trust document {path} cannot be read: {error.strerror}") from None
        try:
            document = parse(payload_of(raw))
        except (ValueError, msgspec.MsgspecError) as error:
            raise ConfigError(f"the trust document {path} is damaged: {str(error)[:200]}") from None
        if document.gateway != self._gateway:
            raise ConfigError(f"the trust document {path} is that of the gateway {document.gateway}")
        if document.version < self._highest():
            raise ConfigError(f"the trust document {path} is older than version {self._highest()}, which was in force")
        return document

    def _highest(self) -> int:
        try:
            return int((self._folder / HIGHEST).read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            raise ConfigError(f"{self._folder / HIGHEST} cannot be read: install a newer document") from None
