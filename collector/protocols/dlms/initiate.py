"""What both ends agree on: xDLMS-Initiate and the conformance block (IEC 62056-5-3, Green Book 9.4.6.1). No ACSE."""

from enum import IntFlag
from typing import Any

from collector.protocols.dlms.cursor import Cursor, octet_string
from collector.protocols.dlms.invoke import Apdu
from metering.errors import FrameError

INITIATE_REQUEST, INITIATE_RESPONSE = 0x01, 0x08
DLMS_VERSION = 6
VAA_LN = 0x0007  # logical names
PDU_MAX = 0xFFFF


class Conformance(IntFlag):
    """What an end can do, negotiated; the standard's bit 0 is the highest of the 24 (Green Book 9.4.6.1)."""

    GENERAL_PROTECTION = 1 << 22
    GENERAL_BLOCK_TRANSFER = 1 << 21
    READ = 1 << 20
    WRITE = 1 << 19
    UNCONFIRMED_WRITE = 1 << 18
    DELTA_VALUE_ENCODING = 1 << 17
    ATTRIBUTE_0_SET = 1 << 15
    PRIORITY = 1 << 14
    ATTRIBUTE_0_GET = 1 << 13
    BLOCK_GET = 1 << 12
    BLOCK_SET = 1 << 11
    BLOCK_ACTION = 1 << 10
    MULTIPLE_REFERENCES = 1 << 9
    INFORMATION_REPORT = 1 << 8
    DATA_NOTIFICATION = 1 << 7
    ACCESS = 1 << 6
    PARAMETERIZED_ACCESS = 1 << 5
    GET = 1 << 4
    SET = 1 << 3
    SELECTIVE_ACCESS = 1 << 2
    EVENT_NOTIFICATION = 1 << 1
    ACTION = 1 << 0


class InitiateRequest(Apdu, frozen=True):
    """What the client offers: xDLMS version, conformance, its PDU size (0: any), a dedicated key."""

    conformance: Conformance
    max_pdu: int
    dedicated_key: bytes = b""  # a secret, never shown
    response_allowed: bool = True
    quality: int | None = None
    version: int = DLMS_VERSION

    def __repr__(self) -> str:
        return f"InitiateRequest({int(self.conformance):06X}, max_pdu={self.max_pdu})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        key = b"\1" + octet_string(self.dedicated_key) if self.dedicated_key else b"\0"
        allowed = b"\0" if self.response_allowed else b"\1\0"
        head = bytes((INITIATE_REQUEST,)) + key + allowed + _quality(self.quality)
        return head + bytes((self.version,)) + _conformance(self.conformance) + self.max_pdu.to_bytes(2, "big")


class InitiateResponse(Apdu, frozen=True):
    """What the meter takes of it, and its own PDU size."""

    conformance: Conformance
    max_pdu: int
    quality: int | None = None
    version: int = DLMS_VERSION
    vaa_name: int = VAA_LN

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((INITIATE_RESPONSE,)) + _quality(self.quality) + bytes((self.version,))
        sizes = self.max_pdu.to_bytes(2, "big") + self.vaa_name.to_bytes(2, "big")
        return head + _conformance(self.conformance) + sizes


def _quality(quality: int | None) -> bytes:
    return b"\0" if quality is None else b"\1" + quality.to_bytes(1, "big", signed=True)


def _conformance(conformance: Conformance) -> bytes:
    return b"\x5f\x1f\x04\x00" + int(conformance).to_bytes(3, "big")


def parse_initiate_request(apdu: bytes) -> InitiateRequest:
    """Read an xDLMS-Initiate.request. Raises FrameError."""
    cursor = Cursor(apdu)
    cursor.expect(INITIATE_REQUEST, "initiate-request")
    key = cursor.octets() if cursor.flag() else b""
    allowed = not cursor.flag() or cursor.flag()
    quality = _read_quality(cursor)
    version = cursor.u8()
    request = InitiateRequest(_read_conformance(cursor), cursor.u16(), key, allowed, quality, version)
    cursor.end()
    return request


def parse_initiate_response(apdu: bytes) -> InitiateResponse:
    """Read an xDLMS-Initiate.response. Raises FrameError."""
    cursor = Cursor(apdu)
    cursor.expect(INITIATE_RESPONSE, "initiate-response")
    quality = _read_quality(cursor)
    version = cursor.u8()
    response = InitiateResponse(_read_conformance(cursor), cursor.u16(), quality, version, cursor.u16())
    cursor.end()
    return response


def _read_quality(cursor: Cursor) -> int | None:
    return int.from_bytes(cursor.take(1), "big", signed=True) if cursor.flag() else None


def _read_conformance(cursor: Cursor) -> Conformance:
    cursor.expect(0x5F, "conformance")
    tag = cursor.u8()
    if tag == 0x1F:  # older meters write the tag in one octet
        tag = cursor.u8()
    if tag != 4:
        raise FrameError(f"conformance of {tag} bytes")
    cursor.expect(0, "conformance's unused bits")
    return Conformance(int.from_bytes(cursor.take(3), "big"))
