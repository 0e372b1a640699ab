"""One small file of what can be learnt again: replaced whole, with a checksum. A damaged one counts as none."""

import zlib
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import structlog

from storage.files import replace_file

VERSION = b"MGST\x01"
CHECKSUM_BYTES = 4

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class StateFile(Generic[T]):
    """Keeps one value of type `kind` (a msgspec type) at `path`."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._last = b""

    def load(self) -> T | None:
        """Return what was saved last; None where there is nothing, or nothing that can be read."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        head, body = raw[: len(VERSION) + CHECKSUM_BYTES], raw[len(VERSION) + CHECKSUM_BYTES :]
        try:
            if head != VERSION + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big"):
                raise ValueError("its checksum is wrong")  # noqa: TRY301 - one way to tell both
            return self._decoder.decode(body)
        except ValueError as error:
            logger.warning("a file of the gateway is damaged; what it held is learnt again", file=str(self._path))
            logger.debug("damaged", reason=str(error))
            return None

    def save(self, value: T) -> None:
        """Make `value` durable; nothing is written where it is what the file holds.

        Raises:
            OSError: the disk refused; the former content stands.

        """
        body = msgspec.msgpack.encode(value)
        if body == self._last:
            return
        replace_file(self._path, VERSION + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big") + body)
        self._last = body
