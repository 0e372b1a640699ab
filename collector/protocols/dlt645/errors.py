"""What a DL/T 645 meter says when it refuses: the bits of its error byte as errors of the house. Decides nothing."""

from collector.protocols.dlt645.frame import Frame
from metering.errors import AuthError, FrameError, MeterError, RefusedError

OTHER = 0x01
NO_DATA = 0x02
NOT_AUTHORISED = 0x04
UNREADABLE = OTHER | NO_DATA | NOT_AUTHORISED  # a refused read with one of these is about that item, not about all

# Bits of the error byte; the 1997 edition has other words for the first two.
WORDS = {
    0x01: "another error",
    0x02: "no such data",
    0x04: "wrong password or not authorised",
    0x08: "the baud rate cannot be changed",
    0x10: "too many year zones",
    0x20: "too many day slots",
    0x40: "too many tariffs",
}
_READS = frozenset((0x01, 0x02, 0x11, 0x12, 0x13))  # no password goes with these


def error_words(code: int) -> list[str]:
    """Return what the bits of an error byte mean."""
    return [words for bit, words in WORDS.items() if code & bit] or [f"error byte {code:02X}"]


def refusal(frame: Frame) -> MeterError:
    """Return the error that an error answer is.

    A refused read is never a matter of the key, for none was sent: it is `RefusedError` whatever the bits say.
    """
    if len(frame.data) not in (1, 2):
        return FrameError(f"an error answer of {len(frame.data)} bytes")
    code = frame.data[0]
    message = f"the meter refuses: {', '.join(error_words(code))}"
    if code & NOT_AUTHORISED and frame.function not in _READS:
        return AuthError(message)
    return RefusedError(message, code=code)
