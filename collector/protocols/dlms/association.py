"""What an association is to be, and what was agreed. Not how it is opened, and no secrets."""

from enum import IntEnum
from typing import Literal, NamedTuple

import msgspec

from collector.protocols.dlms.acse import PDU_MAX, Conformance, Context, Mechanism
from collector.protocols.dlms.ciphering import TITLE_LENGTH

# What this client can do; general protection joins where it is asked for.
CLIENT_CONFORMANCE = (
    Conformance.PRIORITY
    | Conformance.BLOCK_GET
    | Conformance.BLOCK_SET
    | Conformance.BLOCK_ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.GET
    | Conformance.SET
    | Conformance.SELECTIVE_ACCESS
    | Conformance.EVENT_NOTIFICATION
    | Conformance.ACTION
)

Ciphering = Literal["glo", "ded", "general-glo", "general-ded"]


class Security(IntEnum):
    """How APDUs are protected; the numbers are those of the security control byte, suite 0."""

    NONE = 0x00
    AUTHENTICATED = 0x10
    ENCRYPTED = 0x20
    AUTHENTICATED_ENCRYPTED = 0x30


class Association(msgspec.Struct, frozen=True):
    """An association as it is asked for: LN referencing.

    `client` and `server` are the SAPs; `client_title` is ours, `server_title` the one that the meter must have (empty:
    it is taken from its answer). `max_pdu` is the longest APDU in bytes that we take, 0: any.
    """

    client: int = 16
    server: int = 1
    mechanism: Mechanism = Mechanism.NONE
    security: Security = Security.NONE
    ciphering: Ciphering = "glo"
    client_title: bytes = b""
    server_title: bytes = b""
    max_pdu: int = PDU_MAX
    conformance: Conformance = CLIENT_CONFORMANCE

    def __post_init__(self) -> None:
        if self.mechanism in (Mechanism.HIGH, Mechanism.HIGH_ECDSA):
            raise ValueError(f"authentication mechanism {self.mechanism.value} is not supported")
        if self.dedicated and not self.security & Security.ENCRYPTED:
            raise ValueError("a dedicated key is sent to the meter: the association must be encrypted")
        if (self.ciphered or self.mechanism is Mechanism.HIGH_GMAC) and len(self.client_title) != TITLE_LENGTH:
            raise ValueError(f"our own system title has {TITLE_LENGTH} bytes, not {len(self.client_title)}")

    @property
    def ciphered(self) -> bool:
        """Tell whether APDUs are protected."""
        return self.security is not Security.NONE

    @property
    def general(self) -> bool:
        """Tell whether general- ciphering is used, not the services' own."""
        return self.ciphered and self.ciphering.startswith("general")

    @property
    def dedicated(self) -> bool:
        """Tell whether a key of this association alone is used."""
        return self.ciphered and self.ciphering.endswith("ded")

    @property
    def context(self) -> Context:
        """Return the application context."""
        return Context.LN_CIPHERED if self.ciphered else Context.LN

    @property
    def proposed(self) -> Conformance:
        """Return the conformance that is proposed."""
        return self.conformance | (Conformance.GENERAL_PROTECTION if self.general else Conformance(0))


class Negotiated(NamedTuple):
    """What both ends agreed on. `server_max_pdu` is the longest APDU in bytes that the meter takes."""

    conformance: Conformance = Conformance(0)
    server_max_pdu: int = PDU_MAX
    server_title: bytes = b""
