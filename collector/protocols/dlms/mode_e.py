"""How a meter on an optical head is brought from IEC 62056-21 to HDLC: mode E (annex E). No wire, no baud rates set.

All of it is ASCII at 300 baud 7E1; a port that speaks 8N1 carries it with the parity bit put in by `protocols.parity`.
After the acknowledgement both ends change to the meter's baud rate, 8N1.
"""

import re
from typing import NamedTuple

from metering.errors import FrameError

START_BAUD = 300
BAUD_RATES = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
MAX_ADDRESS = 32
MAX_IDENTIFICATION = 64  # bytes of the line; the standard has 16 for the identification, meters have more
_ACKNOWLEDGE = re.compile(rb"\x062([0-6])2\r\n")
_IDENTIFICATION = re.compile(rb"/([A-Za-z]{3})([0-9A-I])((?:\\[!-~]){0,8})([ -.0-~]{0,48})\r\n")


# --- the asking side -------------------------------------------------------------------------------------------------


class Identification(NamedTuple):
    """What a meter says of itself: maker (three letters), its baud character, mode E or not, and its own text.

    A small third letter of the maker means that the meter may answer after 20 ms already.
    """

    maker: str
    baud_char: str
    mode_e: bool
    ident: str

    @property
    def baud(self) -> int:
        """Return the baud rate of its mode C or E; 0 for other modes."""
        return BAUD_RATES.get(self.baud_char, 0)


def identify_request(address: str = "") -> bytes:
    """Return the request for identification; without an address every meter on the line answers."""
    if len(address) > MAX_ADDRESS or not re.fullmatch("[0-9A-Za-z ]*", address):
        raise ValueError("an address of IEC 62056-21 has up to 32 letters, digits and spaces")
    return b"/?" + address.encode("ascii") + b"!\r\n"


def acknowledge(baud_char: str) -> bytes:
    """Return the acknowledgement that chooses HDLC (protocol 2, mode 2) at the meter's baud rate; it says the same."""
    if baud_char not in BAUD_RATES:
        raise ValueError(f"baud character {baud_char!r} is not 0 to 6")
    return b"\x062" + baud_char.encode("ascii") + b"2\r\n"


def parse_identification(line: bytes) -> Identification:
    r"""Return what the line `/XXXZ\2ident` CR LF says.

    Raises:
        FrameError: not an identification.

    """
    match = _IDENTIFICATION.fullmatch(line) if len(line) <= MAX_IDENTIFICATION else None
    if match is None:
        raise FrameError("not an identification of IEC 62056-21")
    maker, baud_char, escapes, ident = (part.decode("ascii") for part in match.groups())
    return Identification(maker, baud_char, "2" in escapes[1::2], ident)


class IdentificationReceiver:
    """A `Receiver` of an identification line, for `parse_identification`. Keeps no more than one line.

    Noise, and our own request heard again, are skipped.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._seen = 0

    def __call__(self, data: bytes) -> bytes | None:
        """Take the next bytes (parity stripped); return the line once it is whole, None before."""
        self._seen += len(data)
        self._held += data
        match = _IDENTIFICATION.search(self._held)
        if match:
            return match.group()
        del self._held[:-MAX_IDENTIFICATION]
        return None

    def complaint(self) -> str:
        """Return what came instead of the line, in words; empty when nothing came at all."""
        return f"{self._seen} bytes that are no answer of IEC 62056-21" if self._seen else ""


# --- the serving side ------------------------------------------------------------------------------------------------


def identification(maker: str, baud_char: str, ident: str, *, mode_e: bool = True) -> bytes:
    """Return the identification line of a meter. Raises `ValueError` where it would not read back the same."""
    mode = r"\2" if mode_e else ""
    line = f"/{maker}{baud_char}{mode}{ident}\r\n".encode("ascii")
    try:
        same = parse_identification(line) == (maker, baud_char, mode_e, ident)
    except FrameError:
        same = False
    if not same:
        raise ValueError("maker, baud character or text do not go into an identification")
    return line


def parse_request(line: bytes) -> str:
    """Return the address that a request for identification asks for; empty: anybody. Raises `FrameError`."""
    match = re.fullmatch(rb"/\?([0-9A-Za-z ]{0,32})!\r\n", line)
    if match is None:
        raise FrameError("not a request for identification of IEC 62056-21")
    return match.group(1).decode("ascii")


def parse_acknowledge(line: bytes) -> str:
    """Return the baud character of an acknowledgement that chooses HDLC. Raises `FrameError` for any other."""
    match = _ACKNOWLEDGE.fullmatch(line)
    if match is None:
        raise FrameError("not an acknowledgement that chooses HDLC")
    return match.group(1).decode("ascii")
