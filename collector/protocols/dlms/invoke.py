"""What all xDLMS APDUs share: their base type, and the octet of invoke-id and priority. Not any service's fields."""

import msgspec

CONFIRMED = 0x40  # service class: an answer is wanted
HIGH_PRIORITY = 0x80
_ID_BITS = 0x0F

# Octet string of a block, or the reason why there is none, is told apart by these two octets.
RAW_DATA = 0
RESULT = 1


class Apdu(msgspec.Struct, frozen=True):
    """An APDU. The fields of each are those of the standard's ASN.1; `invoke` is the whole invoke-id-and-priority."""

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        raise NotImplementedError


def invoke_id(invoke: int) -> int:
    """Return the invoke-id of an octet of invoke-id and priority."""
    return invoke & _ID_BITS


def invoke_octet(identifier: int, *, confirmed: bool = True, high: bool = True) -> int:
    """Return the octet for an invoke-id of 0 to 15."""
    return identifier & _ID_BITS | (CONFIRMED if confirmed else 0) | (HIGH_PRIORITY if high else 0)
