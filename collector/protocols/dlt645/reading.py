"""Reading one identifier, follow-up frames included: requests out, frames in, one string of bytes. No I/O.

`read` is a generator: it yields each request, is sent the answer's frame, and returns the data behind the identifier.
"""

from collections.abc import Generator
from typing import NamedTuple

from collector.protocols.dlt645.errors import refusal
from collector.protocols.dlt645.frame import (
    MAX_READ_DATA,
    OVERHEAD,
    Frame,
    build_frame,
    parse_frame,
    station,
)
from collector.protocols.dlt645.identifiers import EDITIONS, Edition, EditionName, di_bytes
from collector.protocols.dlt645.receiver import Dlt645Receiver
from metering.errors import FrameError

MAX_FOLLOW_UPS = 255  # the sequence number is one byte and begins at 1
MAX_JOINED = 16_384  # bytes of one answer, all its frames together, before a profile says otherwise


class Request(NamedTuple):
    """One request: where it goes, and what its answer begins with."""

    address: str
    control: int
    data: bytes
    expect: bytes = b""

    def __repr__(self) -> str:
        return f"Request({self.address}, {self.control:02X}, {len(self.data)} bytes)"

    @property
    def unit(self) -> int:
        """Return the number that tells the meter apart on its wire."""
        return station(self.address)

    def to_bytes(self, wake: int = 4) -> bytes:
        """Return the frame with `wake` bytes FE before it."""
        return build_frame(self.address, self.control, self.data, wake=wake)

    def receiver(self, limit: int = MAX_READ_DATA) -> Dlt645Receiver:
        """Return what finds the answer."""
        return Dlt645Receiver(self.address, self.control, self.expect, limit=limit)


def checked(raw: bytes) -> Frame:
    """Return the frame of an answer.

    Raises:
        RefusedError: the meter says no.
        AuthError: it says no to a password.
        FrameError: these bytes are no answer.

    """
    frame = parse_frame(raw)
    if not frame.is_answer:
        raise FrameError("a request is no answer")
    if frame.is_error:
        raise refusal(frame)
    return frame


def read_request(address: str, di: str, argument: bytes = b"", edition: EditionName = "2007") -> Request:
    """Return the request for one identifier; `argument` is what load records want besides."""
    wanted = di_bytes(di)
    return Request(address, EDITIONS[edition].read, wanted + argument, wanted)


def answer_length(size: int, edition: EditionName = "2007", wake: int = 4) -> int:
    """Return the length of the usual answer with `size` bytes of value, on the wire."""
    return wake + OVERHEAD + EDITIONS[edition].size + size


def read(
    address: str,
    di: str,
    argument: bytes = b"",
    *,
    edition: EditionName = "2007",
    limit: int = MAX_JOINED,
) -> Generator[Request, Frame, bytes]:
    """Read one identifier; returns what stands behind it in all frames of the answer.

    Raises:
        FrameError: a sequence number out of order, more frames than there can be, more data than `limit`.

    """
    wanted = di_bytes(di)
    codes = EDITIONS[edition]
    frame = yield read_request(address, di, argument, edition)
    data = _behind(wanted, frame)
    sequence = 0
    while frame.has_more:
        sequence += 1
        if sequence > MAX_FOLLOW_UPS:
            raise FrameError("the meter always has more to follow")
        frame = yield _follow(address, codes, wanted, sequence)
        part = _behind(wanted, frame)
        if not part or part[-1] != sequence:
            raise FrameError(f"a follow-up frame with sequence {part[-1] if part else 'none'}, not {sequence}")
        data += part[:-1]
        if len(data) > limit:
            raise FrameError(f"an answer longer than {limit} bytes")
    return data


def _follow(address: str, codes: Edition, wanted: bytes, sequence: int) -> Request:
    return Request(address, codes.follow, wanted + bytes((sequence,)), wanted)


def _behind(wanted: bytes, frame: Frame) -> bytes:
    if not frame.data.startswith(wanted):
        raise FrameError("the answer is about another identifier")
    return frame.data[len(wanted) :]
