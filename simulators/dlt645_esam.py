"""A simulated encryption machine and the module (ESAM) in a simulated meter that opens what it seals.

State Grid's real frames are not public. This one is of our own making and says so: AES-GCM under a key for each meter's
address, with a counter that never comes twice. It stands in for the machine behind `collector.command_cipher`.
"""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from collector.protocols.dlt645.writes import OPERATOR, PASSWORD, SEALED_LEVEL
from metering.errors import AuthError

HEAD = 1 + PASSWORD + OPERATOR  # bytes of DATA before what is sealed
COUNTER_BYTES = 12


class EncryptionMachine:
    """Seals control blocks, and opens them at the meter. `knows` are the addresses that it has keys for; None: all."""

    def __init__(self, secret: bytes = b"simulated", knows: frozenset[str] | None = None) -> None:
        self._secret = secret
        self._knows = knows
        self._counter = 0
        self._opened: dict[str, int] = {}

    async def seal(self, address: str, block: bytes) -> bytes:
        """Return a sealed block. Raises `AuthError` for a meter that it has no key for."""
        if self._knows is not None and address not in self._knows:
            raise AuthError(f"the encryption machine has no key for {address}")
        self._counter += 1
        nonce = self._counter.to_bytes(COUNTER_BYTES, "big")
        return nonce + self._cipher(address).encrypt(nonce, block, address.encode())

    def open(self, address: str, data: bytes) -> bytes | None:
        """Return the block of a control request's DATA, once; None where it is not sealed for this meter, or old."""
        sealed = data[HEAD:]
        nonce = sealed[:COUNTER_BYTES]
        number = int.from_bytes(nonce, "big")
        if data[:1] != bytes((SEALED_LEVEL,)) or number <= self._opened.get(address, 0):
            return None
        try:
            block = self._cipher(address).decrypt(nonce, sealed[COUNTER_BYTES:], address.encode())
        except (InvalidTag, ValueError):
            return None
        self._opened[address] = number
        return block

    def _cipher(self, address: str) -> AESGCM:
        return AESGCM(hashlib.sha256(self._secret + address.encode()).digest()[:16])
