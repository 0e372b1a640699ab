"""The wrapper around APDUs on TCP and UDP (IEC 62056-47, Green Book 7.3): header of eight bytes. No socket."""

import struct
from collections import deque
from typing import NamedTuple

from metering.errors import FrameError

VERSION = 1
HEADER_LENGTH = 8
MAX_APDU = 0xFFFF  # the header has no more
MAX_KEPT = 8  # APDUs that came at once
_HEADER = struct.Struct(">HHHH")


class Header(NamedTuple):
    """The wPorts of sender and receiver, and the length of the APDU in bytes."""

    source: int
    destination: int
    length: int


def wrap(source: int, destination: int, apdu: bytes) -> bytes:
    """Return header and APDU from wPort `source` to wPort `destination`. Raises `ValueError` beyond 65,535 bytes."""
    if not 0 < len(apdu) <= MAX_APDU:
        raise ValueError(f"an APDU of {len(apdu)} bytes does not go into one wrapper")
    return _HEADER.pack(VERSION, source, destination, len(apdu)) + apdu


def parse_header(data: bytes, limit: int = MAX_APDU) -> Header:
    """Return the header in the first eight bytes.

    Raises:
        FrameError: fewer than eight bytes, another version, an empty APDU, or one longer than `limit`.

    """
    if len(data) < HEADER_LENGTH:
        raise FrameError(f"{len(data)} bytes are no wrapper header")
    version, source, destination, length = _HEADER.unpack_from(data)
    if version != VERSION:
        raise FrameError(f"wrapper version is {version}, should be {VERSION}: the stream is lost")
    if not 0 < length <= limit:
        raise FrameError(f"wrapper holds {length} bytes, allowed are 1 to {limit}")
    return Header(source, destination, length)


class WrapperSplitter:
    """Cuts a stream into (header, APDU): the serving side, or whoever hears many ends. Keeps at most one APDU."""

    def __init__(self, limit: int = MAX_APDU) -> None:
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> list[tuple[Header, bytes]]:
        """Take the next bytes; return the APDUs that are whole, in their order.

        Raises:
            FrameError: a header as `parse_header` refuses it: the stream cannot be followed any further.

        """
        if not self._held and len(data) >= HEADER_LENGTH:
            header = parse_header(data, self._limit)
            if len(data) == HEADER_LENGTH + header.length:  # one APDU and nothing else: as it nearly always comes
                return [(header, data[HEADER_LENGTH:])]
        self._held += data
        held, at = self._held, 0
        found: list[tuple[Header, bytes]] = []
        while len(held) - at >= HEADER_LENGTH:
            header = parse_header(bytes(held[at : at + HEADER_LENGTH]), self._limit)
            end = at + HEADER_LENGTH + header.length
            if len(held) < end:
                break
            found.append((header, bytes(held[at + HEADER_LENGTH : end])))
            at = end
        del held[:at]
        return found

    @property
    def held(self) -> int:
        """Return how many bytes of an unfinished APDU are there."""
        return len(self._held)


class WrapperReceiver:
    """A `Receiver` of the next APDU from `server` to `client`; APDUs of other pairs are skipped.

    `ready` keeps what came behind it, the newest `MAX_KEPT`, for whoever asks on.
    """

    def __init__(self, client: int, server: int, limit: int = MAX_APDU) -> None:
        self._ports = (server, client)
        self._limit = limit
        self._splitter = WrapperSplitter(limit)
        self._foreign = 0
        self.ready: deque[bytes] = deque(maxlen=MAX_KEPT)

    def __call__(self, data: bytes) -> bytes | None:
        """Take the next bytes; return the APDU once it is whole, None before. Raises `FrameError` on a bad header."""
        for header, apdu in self._splitter.feed(data):
            if (header.source, header.destination) == self._ports:
                self.ready.append(apdu)
            else:
                self._foreign += 1
        return self.ready.popleft() if self.ready else None

    def complaint(self) -> str:
        """Return what came instead of a reply, in words, and forget it; empty when nothing came at all."""
        words = [f"{self._foreign} wrapped APDUs of other ports"] if self._foreign else []
        if self._splitter.held:
            words.append(f"{self._splitter.held} bytes of an unfinished one")
        self._splitter = WrapperSplitter(self._limit)
        self._foreign = 0
        return ", ".join(words)
