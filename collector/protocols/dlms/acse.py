"""Opening and closing an association: ACSE APDUs in BER (Green Book 9.4.2). No keys, no session.

The initiate APDUs that they carry come from `initiate` and are named here, too.
"""

from enum import IntEnum
from typing import Any, TypeVar

from collector.protocols.dlms.cursor import Cursor, octet_string
from collector.protocols.dlms.initiate import (
    DLMS_VERSION,
    INITIATE_REQUEST,
    INITIATE_RESPONSE,
    PDU_MAX,
    VAA_LN,
    Conformance,
    InitiateRequest,
    InitiateResponse,
    parse_initiate_request,
    parse_initiate_response,
)
from collector.protocols.dlms.invoke import Apdu
from metering.errors import FrameError

__all__ = [
    "AARE",
    "AARQ",
    "DLMS_VERSION",
    "INITIATE_REQUEST",
    "INITIATE_RESPONSE",
    "PDU_MAX",
    "RLRE",
    "RLRQ",
    "VAA_LN",
    "Aare",
    "Aarq",
    "AssociationResult",
    "Conformance",
    "Context",
    "Diagnostic",
    "InitiateRequest",
    "InitiateResponse",
    "Mechanism",
    "Rlre",
    "Rlrq",
    "parse_aare",
    "parse_aarq",
    "parse_initiate_request",
    "parse_initiate_response",
    "parse_rlre",
    "parse_rlrq",
]

AARQ, AARE, RLRQ, RLRE = 0x60, 0x61, 0x62, 0x63

# joint-iso-ccitt(2) country(16) country-name(756) identified-organisation(5) DLMS-UA(8)
_DLMS_UA = bytes.fromhex("6085740508")
_CONTEXT_ARC, _MECHANISM_ARC = 1, 2
_REQUIREMENTS = b"\x07\x80"  # bit string of one bit: authentication

_OCTETS, _OID, _INTEGER = 0x04, 0x06, 0x02
_USER_INFORMATION, _AUTHENTICATION, _REASON = 0xBE, 0x80, 0x80


class Context(IntEnum):
    """Application contexts (Green Book 9.4.2.2.2): logical or short names, plain or ciphered."""

    LN = 1
    SN = 2
    LN_CIPHERED = 3
    SN_CIPHERED = 4


class Mechanism(IntEnum):
    """Authentication mechanisms (Green Book 9.4.2.2.3)."""

    NONE = 0
    LOW = 1
    HIGH = 2
    HIGH_MD5 = 3
    HIGH_SHA1 = 4
    HIGH_GMAC = 5
    HIGH_SHA256 = 6
    HIGH_ECDSA = 7


class AssociationResult(IntEnum):
    """What became of the request for an association."""

    ACCEPTED = 0
    REJECTED_PERMANENT = 1
    REJECTED_TRANSIENT = 2


class Diagnostic(IntEnum):
    """Why, by the meter's ACSE user. The ACSE provider has codes of its own: 1 no reason, 2 no common version."""

    NULL = 0
    NO_REASON = 1
    CONTEXT_NOT_SUPPORTED = 2
    CALLING_TITLE_NOT_RECOGNIZED = 3
    CALLING_INVOCATION_ID_NOT_RECOGNIZED = 4
    CALLING_QUALIFIER_NOT_RECOGNIZED = 5
    CALLING_AE_INVOCATION_ID_NOT_RECOGNIZED = 6
    CALLED_TITLE_NOT_RECOGNIZED = 7
    CALLED_INVOCATION_ID_NOT_RECOGNIZED = 8
    CALLED_QUALIFIER_NOT_RECOGNIZED = 9
    CALLED_AE_INVOCATION_ID_NOT_RECOGNIZED = 10
    MECHANISM_NOT_RECOGNIZED = 11
    MECHANISM_REQUIRED = 12
    AUTHENTICATION_FAILURE = 13
    AUTHENTICATION_REQUIRED = 14


class Aarq(Apdu, frozen=True):
    """A client asks for an association. Empty bytes: the field is not there."""

    context: Context
    mechanism: Mechanism = Mechanism.NONE
    title: bytes = b""  # the client's system title
    authentication: bytes = b""  # LLS password or challenge: a secret, never shown
    user_information: bytes = b""  # initiate request, plain or ciphered

    def __repr__(self) -> str:
        return f"Aarq({self.context.name}, {self.mechanism.name}, title={self.title.hex()})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        parts = [_tlv(0xA1, _oid(_CONTEXT_ARC, self.context))]
        if self.title:
            parts.append(_tlv(0xA6, _tlv(_OCTETS, self.title)))
        parts += _authentication(self.mechanism, self.authentication, (0x8A, 0x8B, 0xAC))
        parts.append(_user_information(self.user_information))
        return _tlv(AARQ, b"".join(parts))


class Aare(Apdu, frozen=True):
    """A meter's answer to it. `provider` tells that `diagnostic` is the ACSE provider's, not its user's."""

    context: Context
    result: int
    diagnostic: int
    provider: bool = False
    title: bytes = b""  # the meter's system title
    mechanism: Mechanism = Mechanism.NONE
    authentication: bytes = b""  # its challenge
    user_information: bytes = b""  # initiate response or confirmed-service-error, plain or ciphered

    def __repr__(self) -> str:
        return f"Aare({self.context.name}, result={self.result}, diagnostic={self.diagnostic})"

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        source = _tlv(0xA2 if self.provider else 0xA1, _tlv(_INTEGER, bytes((self.diagnostic,))))
        parts = [
            _tlv(0xA1, _oid(_CONTEXT_ARC, self.context)),
            _tlv(0xA2, _tlv(_INTEGER, bytes((self.result,)))),
            _tlv(0xA3, source),
        ]
        if self.title:
            parts.append(_tlv(0xA4, _tlv(_OCTETS, self.title)))
        parts += _authentication(self.mechanism, self.authentication, (0x88, 0x89, 0xAA))
        parts.append(_user_information(self.user_information))
        return _tlv(AARE, b"".join(parts))


class Rlrq(Apdu, frozen=True):
    """A client ends the association; reason 0 is normal, None: not told."""

    reason: int | None = 0
    user_information: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return _tlv(RLRQ, _reason(self.reason) + _user_information(self.user_information))


class Rlre(Apdu, frozen=True):
    """A meter's answer to it."""

    reason: int | None = 0
    user_information: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        return _tlv(RLRE, _reason(self.reason) + _user_information(self.user_information))


# --- writing --------------------------------------------------------------------------------------------------------


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + octet_string(content)


def _oid(arc: int, number: int) -> bytes:
    return _tlv(_OID, _DLMS_UA + bytes((arc, number)))


def _authentication(mechanism: Mechanism, value: bytes, tags: tuple[int, int, int]) -> list[bytes]:
    if mechanism is Mechanism.NONE:
        return []
    requirements, name, authentication = tags
    # The mechanism's name is tagged implicitly: the object identifier comes without its own tag.
    fields = [_tlv(requirements, _REQUIREMENTS), _tlv(name, _DLMS_UA + bytes((_MECHANISM_ARC, mechanism)))]
    return [*fields, _tlv(authentication, _tlv(_AUTHENTICATION, value))] if value else fields


def _user_information(content: bytes) -> bytes:
    return _tlv(_USER_INFORMATION, _tlv(_OCTETS, content)) if content else b""


def _reason(reason: int | None) -> bytes:
    return b"" if reason is None else _tlv(_REASON, bytes((reason,)))


# --- reading --------------------------------------------------------------------------------------------------------


def _fields(apdu: bytes, tag: int, what: str) -> dict[int, bytes]:
    """Return an ACSE APDU's fields by tag. Fields that nobody here asks for are there as well."""
    cursor = Cursor(apdu)
    cursor.expect(tag, what)
    inner = Cursor(cursor.octets())
    cursor.end()
    fields: dict[int, bytes] = {}
    while inner.at < len(inner.buffer):
        field = inner.u8()
        if field in fields:
            raise FrameError(f"{what} has field {field:02X} twice")
        fields[field] = inner.octets()
    return fields


def _inner(content: bytes, tag: int, what: str) -> bytes:
    cursor = Cursor(content)
    cursor.expect(tag, what)
    inner = cursor.octets()
    cursor.end()
    return inner


_Named = TypeVar("_Named", Context, Mechanism)


def _named(kind: type[_Named], oid: bytes, arc: int) -> _Named:
    known = oid[:-1] == _DLMS_UA + bytes((arc,)) and len(oid) == len(_DLMS_UA) + 2
    if not known or oid[-1] not in tuple(kind):
        raise FrameError(f"{oid.hex()} is no {kind.__name__.lower()} of DLMS")
    return kind(oid[-1])


def _context(fields: dict[int, bytes], what: str) -> Context:
    if 0xA1 not in fields:
        raise FrameError(f"{what} without an application context")
    return _named(Context, _inner(fields[0xA1], _OID, "application context"), _CONTEXT_ARC)


def _mechanism(fields: dict[int, bytes], tag: int) -> Mechanism:
    return _named(Mechanism, fields[tag], _MECHANISM_ARC) if tag in fields else Mechanism.NONE


def _octets(fields: dict[int, bytes], tag: int, inner: int, what: str) -> bytes:
    return _inner(fields[tag], inner, what) if tag in fields else b""


def _integer(content: bytes, what: str) -> int:
    if not 1 <= len(content) <= 4:
        raise FrameError(f"{what} of {len(content)} bytes")
    return int.from_bytes(content, "big")


def parse_aarq(apdu: bytes) -> Aarq:
    """Read an AARQ. Raises FrameError."""
    fields = _fields(apdu, AARQ, "AARQ")
    return Aarq(
        context=_context(fields, "AARQ"),
        mechanism=_mechanism(fields, 0x8B),
        title=_octets(fields, 0xA6, _OCTETS, "calling AP title"),
        authentication=_octets(fields, 0xAC, _AUTHENTICATION, "calling authentication value"),
        user_information=_octets(fields, _USER_INFORMATION, _OCTETS, "user information"),
    )


def parse_aare(apdu: bytes) -> Aare:
    """Read an AARE. Raises FrameError."""
    fields = _fields(apdu, AARE, "AARE")
    if 0xA2 not in fields or 0xA3 not in fields:
        raise FrameError("AARE without result or diagnostic")
    source = Cursor(fields[0xA3])
    choice = source.u8()
    if choice not in (0xA1, 0xA2):
        raise FrameError(f"diagnostic of source {choice:02X}")
    diagnostic = source.octets()
    source.end()
    return Aare(
        context=_context(fields, "AARE"),
        result=_integer(_inner(fields[0xA2], _INTEGER, "result"), "result"),
        diagnostic=_integer(_inner(diagnostic, _INTEGER, "diagnostic"), "diagnostic"),
        provider=choice == 0xA2,
        title=_octets(fields, 0xA4, _OCTETS, "responding AP title"),
        mechanism=_mechanism(fields, 0x89),
        authentication=_octets(fields, 0xAA, _AUTHENTICATION, "responding authentication value"),
        user_information=_octets(fields, _USER_INFORMATION, _OCTETS, "user information"),
    )


def parse_rlrq(apdu: bytes) -> Rlrq:
    """Read an RLRQ. Raises FrameError."""
    return Rlrq(*_release(apdu, RLRQ, "RLRQ"))


def parse_rlre(apdu: bytes) -> Rlre:
    """Read an RLRE. Raises FrameError."""
    return Rlre(*_release(apdu, RLRE, "RLRE"))


def _release(apdu: bytes, tag: int, what: str) -> tuple[int | None, bytes]:
    fields = _fields(apdu, tag, what)
    reason = _integer(fields[_REASON], "reason") if _REASON in fields else None
    return reason, _octets(fields, _USER_INFORMATION, _OCTETS, "user information")
