"""What both ends of an HDLC link keep: I frames not yet acknowledged, and the segments of an APDU. Sends nothing."""

from typing import NamedTuple

from collector.protocols.dlms.hdlc import Frame
from metering.errors import FrameError

LLC_COMMAND = b"\xe6\xe6\x00"  # before every APDU from the client (Green Book 8.3.2)
LLC_RESPONSE = b"\xe6\xe7\x00"  # and from the server
LIMIT = 65536  # bytes of one APDU


class Segment(NamedTuple):
    """What one I frame carries: N(S), the bytes, and whether more of the same APDU follow."""

    number: int
    info: bytes
    more: bool


class Outbox:
    """The segments of one APDU until the other end has acknowledged them; numbers go on modulo 8 over all APDUs."""

    def __init__(self) -> None:
        self._number = 0  # N(S) of the first segment that is not acknowledged
        self._segments: list[bytes] = []
        self._sent = 0  # how many of them went out at least once

    def load(self, message: bytes, size: int) -> None:
        """Cut an APDU with its LLC header into segments of `size` bytes; what was left of the last one is dropped."""
        self._segments = [message[at : at + size] for at in range(0, len(message), size)]
        self._sent = 0

    def __len__(self) -> int:
        return len(self._segments)

    def window(self, size: int) -> list[Segment]:
        """Return the next segments to send, at most `size`: the first ones that are not acknowledged."""
        self._sent = max(self._sent, min(size, len(self._segments)))
        last = len(self._segments) - 1
        return [Segment((self._number + at) & 7, info, at < last) for at, info in enumerate(self._segments[:size])]

    def acknowledge(self, receive: int) -> int | None:
        """Take the N(R) of the other end: return how many segments it acknowledges.

        None: it fits nothing that was sent. The frame is an old one that comes late.
        """
        steps = (receive - self._number) & 7
        if steps > self._sent:
            return None
        del self._segments[:steps]
        self._sent -= steps
        self._number = receive
        return steps


class Inbox:
    """The segments of an APDU as they come in, in their order and each once."""

    def __init__(self, llc: bytes, limit: int) -> None:
        self._llc, self._limit = llc, limit
        self.number = 0  # V(R), N(S) that the next I frame must have
        self._held = bytearray()
        self._whole = False

    def take(self, frame: Frame) -> bool:
        """Take an I frame; False: it is not the next one (it came before, or one is missing before it).

        Raises:
            FrameError: no LLC header where an APDU begins, an APDU above the limit, or more than one.

        """
        if frame.send != self.number:
            return False
        if self._whole:
            raise FrameError("the other end sends more than one APDU")
        if not self._held and not frame.info.startswith(self._llc):
            raise FrameError(f"no LLC header {self._llc.hex()} but {frame.info[:3].hex() or 'nothing'}")
        if len(self._held) + len(frame.info) > self._limit + len(self._llc):
            raise FrameError(f"an APDU of more than {self._limit} bytes in HDLC frames")
        self._held += frame.info
        self._whole = not frame.segmented
        self.number = (self.number + 1) & 7
        return True

    def pop(self) -> bytes | None:
        """Return the APDU once it is whole, without its LLC header, and make room for the next; None before."""
        if not self._whole:
            return None
        with memoryview(self._held) as held:
            apdu = bytes(held[len(self._llc) :])
        self._held.clear()
        self._whole = False
        return apdu
