"""The port to an encryption machine (ESAM, HSM), without which State Grid meters take no trip. No machine is here."""

from typing import Protocol


class CommandCipher(Protocol):
    """A machine that holds the meters' command keys; they never leave it."""

    async def seal(self, address: str, block: bytes) -> bytes:
        """Return a control block (N1 to N8 of 1CH, 8 bytes) sealed for the meter of this address.

        Raises:
            AuthError: the machine has no key for this meter, or refuses.
            TransportError: the machine cannot be reached.

        """
        ...
