"""Data identifiers: DI3 DI2 DI1 DI0 as text (`00010000`; 1997: `9010`), lowest byte first on the wire. No meanings."""

import re
from functools import lru_cache
from typing import Literal, NamedTuple

EditionName = Literal["2007", "1997"]

_TEXT = re.compile(r"[0-9A-F]{4}|[0-9A-F]{8}")
_CACHED = 4096


class Edition(NamedTuple):
    """What the two editions name differently: control codes, and the bytes of an identifier."""

    read: int
    follow: int
    write: int
    size: int


EDITIONS: dict[EditionName, Edition] = {
    "2007": Edition(read=0x11, follow=0x12, write=0x14, size=4),
    "1997": Edition(read=0x01, follow=0x02, write=0x04, size=2),
}

# Control codes that both editions or only the later one know.
BROADCAST_TIME = 0x08
READ_ADDRESS = 0x13
FREEZE = 0x16
CONTROL = 0x1C

# What the drivers ask for by themselves, of the 2007 edition; profiles may name others.
DATE = "04000101"  # YYMMDDWW
TIME = "04000102"  # hhmmss
ADDRESS = "04000401"
METER_NUMBER = "04000402"
STATUS_WORD = "0400050{}"  # 1 to 7
LOAD_RECORD = "06{class_number:02X}00{what:02X}"  # what: 0 the oldest, 1 from a given time, 2 the newest


def check_di(text: str) -> str:
    """Return an identifier as it is written.

    Raises:
        ValueError: not eight (1997: four) hexadecimal digits in capitals.

    """
    if not _TEXT.fullmatch(text):
        raise ValueError(f"{text!r} is no data identifier; write 8 digits (1997: 4) such as 00010000 or 0001FF00")
    return text


@lru_cache(maxsize=_CACHED)
def di_bytes(text: str) -> bytes:
    """Return the identifier as it is sent: lowest byte first.

    Raises:
        ValueError: not an identifier.

    """
    return bytes.fromhex(check_di(text))[::-1]


def di_text(data: bytes) -> str:
    """Return the identifier that these bytes of DATA begin with, highest byte first."""
    return data[::-1].hex().upper()


def back(di: str, count: int) -> str:
    """Return the identifier with `count` (how many freezes, settlements or records ago) as its lowest byte."""
    return f"{di[:-2]}{count:02X}"
