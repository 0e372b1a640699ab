"""How one DLMS meter is asked: client, addresses, authentication and security, in the words of settings. No keys."""

from dataclasses import dataclass, replace
from typing import Literal

from collector.dlms_profile import DlmsProfile
from collector.protocols.dlms.hdlc import ServerAddress
from collector.protocols.dlms.session import Association, Mechanism, Security
from metering.errors import ConfigError

PUBLIC_CLIENT = 16

Authentication = Literal["none", "low", "high-md5", "high-sha1", "high-gmac", "high-sha256"]
SecurityName = Literal["none", "authenticated", "encrypted", "authenticated-encrypted"]
CipheringName = Literal["glo", "ded", "general-glo", "general-ded"]

_MECHANISMS: dict[str, Mechanism] = {
    "none": Mechanism.NONE,
    "low": Mechanism.LOW,
    "high-md5": Mechanism.HIGH_MD5,
    "high-sha1": Mechanism.HIGH_SHA1,
    "high-gmac": Mechanism.HIGH_GMAC,
    "high-sha256": Mechanism.HIGH_SHA256,
}
_SECURITIES: dict[str, Security] = {
    "none": Security.NONE,
    "authenticated": Security.AUTHENTICATED,
    "encrypted": Security.ENCRYPTED,
    "authenticated-encrypted": Security.AUTHENTICATED_ENCRYPTED,
}


@dataclass(frozen=True)
class DlmsAccess:
    """How one meter is asked. `server` is the logical device, `physical` the HDLC lower address (None: there is none).

    Titles are of 8 bytes or empty: `system_title` the meter's, checked where it is said, `client_title` ours.
    """

    client: int = PUBLIC_CLIENT
    server: int = 1
    physical: int | None = None
    address_bytes: Literal[1, 2, 4] = 1
    authentication: Authentication = "none"
    security: SecurityName = "none"
    ciphering: CipheringName = "glo"
    system_title: bytes = b""
    client_title: bytes = b""
    read_counter: bool = False
    counter_obis: str = "0-0:43.1.0*255"

    @property
    def counted(self) -> bool:
        """Tell whether asking so consumes invocation counters."""
        return self.security != "none" or self.authentication == "high-gmac"

    @property
    def protection(self) -> Security:
        """Return how APDUs are protected."""
        return _SECURITIES[self.security]

    @property
    def hdlc_address(self) -> ServerAddress:
        """Return the server's address in HDLC frames."""
        size = self.address_bytes
        if self.physical is not None and size == 1:
            size = 2 if max(self.server, self.physical) <= 0x7F else 4
        return ServerAddress(self.server, self.physical or 0, size)

    def association(self, max_pdu: int) -> Association:
        """Return what is asked for; `max_pdu` is the longest APDU in bytes that we take.

        Raises:
            ConfigError: such an association cannot be.

        """
        try:
            return Association(
                client=self.client,
                server=self.server,
                mechanism=_MECHANISMS[self.authentication],
                security=self.protection,
                ciphering=self.ciphering,
                client_title=self.client_title,
                server_title=self.system_title,
                max_pdu=max_pdu,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def public(self) -> "DlmsAccess":
        """Return how the public client asks the same meter."""
        return replace(
            self,
            client=PUBLIC_CLIENT,
            authentication="none",
            security="none",
            system_title=b"",
            client_title=b"",
        )


def access_of(profile: DlmsProfile, **said: object) -> DlmsAccess:
    """Return how a meter of this profile is asked: as it says, where what is `said` (None: nothing) does not differ."""
    usual = profile.association
    access = DlmsAccess(
        client=usual.client,
        server=usual.server,
        address_bytes=profile.hdlc.address_bytes,
        authentication=usual.authentication,
        security=usual.security,
        ciphering=usual.ciphering,
        counter_obis=usual.counter,
    )
    return replace(access, **{name: value for name, value in said.items() if value is not None})  # type: ignore[arg-type] # checked by whoever says it
