"""Seven-bit characters with even parity (7E1, as IEC 62056-21 begins) on a port of eight bits without. Pure."""

WRONG = 0  # what a character with wrong parity becomes: NUL stands in no message


def with_parity(data: bytes) -> bytes:
    """Return the characters with their even parity in the eighth bit."""
    return data.translate(_EVEN)


def strip_parity(data: bytes) -> bytes:
    """Return the characters without their parity bit; each one whose parity is wrong becomes `WRONG`."""
    return data.translate(_STRIPPED)


_EVEN = bytes(code & 0x7F | (code & 0x7F).bit_count() % 2 << 7 for code in range(256))
_STRIPPED = bytes(WRONG if code.bit_count() % 2 else code & 0x7F for code in range(256))
