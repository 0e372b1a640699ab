"""Signed heads of the audit: what is kept elsewhere so that a chain that is cut off or made anew is found out.

Each is a line of a file beside the state, and goes to the gateways, whose logs bring it back.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from headend.audit.chain import Head
from metering.errors import StorageError
from trust.keys import PublicKey, SigningKey
from trust.signatures import BadSignatureError, Kind, sign, verify

MAX_LINE = 4096  # bytes

_log = structlog.get_logger(__name__)


class SignedHead(msgspec.Struct, frozen=True):
    """What is signed of a head: the end of the chain at an instant (us UTC)."""

    seq: int
    hash: str
    at: int

    @property
    def head(self) -> Head:
        """Return the end that it tells."""
        return Head(self.seq, self.hash)


def sign_head(head: Head, at: int, key: SigningKey) -> bytes:
    """Return a signed head, to be published."""
    body = msgspec.json.encode(SignedHead(head.seq, head.hash, at), order="deterministic")
    return sign(body, Kind.AUDIT_HEAD, [key])


def open_head(signed: bytes, key: PublicKey) -> SignedHead:
    """Return what a signed head says.

    Raises:
        BadSignatureError: this key did not sign it, or it is no head.

    """
    verified = verify(signed, Kind.AUDIT_HEAD, {key.id: key})
    try:
        return msgspec.json.decode(verified.payload, type=SignedHead)
    except msgspec.MsgspecError as error:
        raise BadSignatureError(f"no head of an audit: {error}") from None


class HeadsFile:
    """The heads that were signed here, one a line, the newest last."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, signed: bytes) -> None:
        """Keep a head: durable when this returns. Raises `StorageError`."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
            try:
                size = os.fstat(fd).st_size
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"  # by a crash: it takes no other line with it
                os.write(fd, (b"\n" if torn else b"") + signed + b"\n")
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageError(f"{self._path}: no head can be kept: {error.strerror}", retry=True) from None

    def read(self) -> Iterator[bytes]:
        """Yield the heads that are kept; a torn line counts as none."""
        yield from read_heads(self._path)


def read_heads(path: Path) -> Iterator[bytes]:
    """Yield the signed heads of a file, one a line. Raises `StorageError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE):
                if line.endswith(b"}\n"):
                    yield line.rstrip()
                elif line.strip():
                    _log.warning("a line that is no head of an audit is passed over", file=str(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", retry=False) from None
