"""DL/T 645 frames both ways: 68 address 68 C L DATA CS 16, data bytes with 33H added. Finds no frame in a stream.

What a stream holds is `receiver`'s business, what DATA means that of the modules beside it.
"""

import re
from typing import NamedTuple

from metering.errors import FrameError

WAKE = 0xFE  # sent before a frame to wake the receiver; any number of them may come
START = 0x68
END = 0x16
OFFSET = 0x33  # added to each byte of DATA on the wire
HEAD = 10  # bytes before DATA: 68, six of the address, 68, C, L
OVERHEAD = HEAD + 2  # and behind it: checksum and 16
MAX_READ_DATA = 200  # what the standard allows in an answer, before a profile says otherwise
MAX_DATA = 255  # what L can say

BROADCAST = "999999999999"  # every meter hears it, none answers
WILDCARD = "AAAAAAAAAAAA"  # every meter answers: for a line with one meter

FROM_METER = 0x80
IS_ERROR = 0x40
HAS_MORE = 0x20
FUNCTION = 0x1F

# What is added to or taken from each byte of DATA, as tables for `bytes.translate`.
_ADD = bytes((value + OFFSET) & 0xFF for value in range(256))
_TAKE = bytes((value - OFFSET) & 0xFF for value in range(256))
_ADDRESS = re.compile(r"[0-9]{12}|(?:AA){0,6}(?:[0-9]{2}){0,6}")


class Frame(NamedTuple):
    """One frame: the address as shown (12 digits, AA for any pair), control code, DATA without the 33H."""

    address: str
    control: int
    data: bytes

    def __repr__(self) -> str:
        # DATA may carry a password: it is never shown.
        return f"Frame({self.address}, {self.control:02X}, {len(self.data)} bytes)"

    @property
    def function(self) -> int:
        """Return the function that is asked for or answered."""
        return self.control & FUNCTION

    @property
    def is_answer(self) -> bool:
        """Tell whether a meter sent it; a request heard back is an echo."""
        return bool(self.control & FROM_METER)

    @property
    def is_error(self) -> bool:
        """Tell whether the meter refuses."""
        return bool(self.control & IS_ERROR)

    @property
    def has_more(self) -> bool:
        """Tell whether the rest must be asked for with the follow-up function."""
        return bool(self.control & HAS_MORE)


def check_address(text: str) -> str:
    """Return an address as it is written: 12 digits, or AA in place of its high pairs.

    Raises:
        ValueError: it is not one.

    """
    if len(text) != 12 or not _ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is not an address of 12 digits")
    return text


def address_bytes(text: str) -> bytes:
    """Return the address as it goes on the wire: BCD, lowest pair first.

    Raises:
        ValueError: it is not an address.

    """
    return bytes.fromhex(check_address(text))[::-1]


def address_text(data: bytes) -> str:
    """Return the six bytes of an address as 12 digits, highest first.

    Raises:
        ValueError: they are no address.

    """
    return check_address(data[::-1].hex().upper())


def matches(asked: str, answered: str) -> bool:
    """Tell whether a meter of the address `answered` may answer a request to `asked` (pairs AA stand for any)."""
    pairs = zip(_pairs(asked), _pairs(answered), strict=True)
    return all(mine in ("AA", its) for mine, its in pairs)


def station(address: str) -> int:
    """Return the number that tells this address apart on its wire: its own, where it is a meter's."""
    return int(address) if address.isdecimal() else 10**12 + int(address, 16)


def build_frame(address: str, control: int, data: bytes = b"", *, wake: int = 0) -> bytes:
    """Return a frame with `wake` bytes FE before it; `data` is DATA without the 33H.

    Raises:
        ValueError: the address is none, or `data` is longer than 255 bytes.

    """
    if len(data) > MAX_DATA:
        raise ValueError(f"{len(data)} bytes of data; a frame holds {MAX_DATA}")
    body = (
        bytes((START,)) + address_bytes(address) + bytes((START, control, len(data))) + data.translate(_ADD)
    )  # the checksum counts from the first 68 to the last DATA byte
    return bytes((WAKE,)) * wake + body + bytes((sum(body) & 0xFF, END))


def parse_frame(raw: bytes) -> Frame:
    """Return the frame in these bytes, any number of FE before it; nothing may follow.

    Raises:
        FrameError: it is no whole frame; says why.

    """
    body = raw.lstrip(bytes((WAKE,)))
    fault = frame_fault(body)
    if fault:
        raise FrameError(fault)
    if len(body) != frame_length(body):
        raise FrameError(f"{len(body) - frame_length(body)} bytes follow the frame")
    return Frame(address_text(body[1:7]), body[8], body[HEAD:-2].translate(_TAKE))


def frame_length(body: bytes) -> int:
    """Return the length that a frame's head claims, from its first 68 to its 16."""
    return OVERHEAD + body[9]


def frame_fault(body: bytes) -> str:
    """Return what is wrong with the frame that begins these bytes; empty when it is whole and good."""
    if len(body) < HEAD:
        return f"{len(body)} bytes are no frame"
    if body[0] != START or body[7] != START:
        return "a frame begins with 68, six bytes of address, 68"
    if not is_address(body[1:7]):
        return "the address is not BCD"
    length = frame_length(body)
    if len(body) < length:
        return f"the frame claims {length} bytes; {len(body)} came"
    if sum(body[: length - 2]) & 0xFF != body[length - 2]:
        return "wrong checksum"
    return "" if body[length - 1] == END else "the frame does not end with 16"


def is_address(data: bytes) -> bool:
    """Tell whether six bytes can be an address."""
    return _ADDRESS.fullmatch(data[::-1].hex().upper()) is not None


def _pairs(address: str) -> list[str]:
    return [address[at : at + 2] for at in range(0, 12, 2)]
