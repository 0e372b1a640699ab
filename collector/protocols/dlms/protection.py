"""Sealing and opening the APDUs of one association with its keys, titles and counters. Not the ciphers, no states."""

import secrets

from collector.keys import InvocationCounter, MeterKeys
from collector.protocols.dlms import ciphering
from collector.protocols.dlms.acse import INITIATE_REQUEST
from collector.protocols.dlms.association import Association
from collector.protocols.dlms.ciphering import Ciphered
from collector.protocols.dlms.errors import ChangedAnswerError, ReplayedAnswerError, WrongKeyError
from metering.errors import AuthError, FrameError

_FIXED = 1 + 4 + ciphering.TAG_LENGTH  # security control, invocation counter, tag
_GLOBAL, _DEDICATED = "global", "dedicated"


class Protection:
    """Both directions of one association's ciphering. `server_title` and the dedicated key are set while it opens."""

    def __init__(self, association: Association, keys: MeterKeys, counter: InvocationCounter | None) -> None:
        self._association = association
        self._keys = keys
        self._counter = counter
        self._dedicated = b""
        self._in_force = False
        # The highest counter of the meter's that was seen, by key.
        self._seen: dict[str, int] = {}
        self.server_title = association.server_title

    def __repr__(self) -> str:
        return f"Protection({self._association.security.name}, {self._association.ciphering})"

    def renew(self) -> bytes:
        """Begin a new association: forget what the last one agreed; return its dedicated key, empty without one."""
        self.server_title = self._association.server_title
        self._in_force = False
        self._dedicated = secrets.token_bytes(ciphering.KEY_LENGTH) if self._association.dedicated else b""
        self._seen.pop(_DEDICATED, None)
        return self._dedicated

    def in_force(self) -> None:
        """Use the dedicated key from now on, where there is one."""
        self._in_force = True

    def next_counter(self) -> int:
        """Consume an invocation counter. Raises AuthError: there is none to take."""
        if self._counter is None:
            raise AuthError("no invocation counter is kept for this meter")
        return self._counter.next()

    def overhead(self) -> int:
        """Return how many bytes longer than the plain one an APDU may become."""
        if not self._association.ciphered:
            return 0
        # The tag, up to three octets of length, and for general ciphering the system title.
        return 4 + _FIXED + (1 + ciphering.TITLE_LENGTH if self._association.general else 0)

    def seal(self, plain: bytes) -> bytes:
        """Return the APDU as it is sent; a ciphered one consumes exactly one counter.

        Raises:
            AuthError: a key, our system title or the counter is missing.

        """
        association = self._association
        if not association.ciphered:
            return plain
        # The initiate APDU travels in its own form, under the global key, whatever the association will use.
        initiate = plain[0] == INITIATE_REQUEST
        name = _DEDICATED if self._in_force and self._dedicated and not initiate else _GLOBAL
        general = association.general and not initiate
        if general:
            tag = ciphering.GENERAL_DED if name == _DEDICATED else ciphering.GENERAL_GLO
        else:
            tag = ciphering.ded_tag(plain[0]) if name == _DEDICATED else ciphering.glo_tag(plain[0])
        key, title, control = self._key(name), association.client_title, association.security.value
        counter = self.next_counter()
        content = ciphering.protect(control, key, self._keys.authentication, title, counter, plain)
        return ciphering.build_ciphered(Ciphered(tag, title if general else b"", control, counter, content))

    def open(self, apdu: bytes) -> bytes:
        """Return the plain APDU within a ciphered answer.

        Raises:
            FrameError: it is protected less than was agreed, or not what it says to be.
            ReplayedAnswerError: the meter's counter does not rise.
            WrongKeyError: the tag does not fit, nor has one before.
            ChangedAnswerError: the tag does not fit under keys that have opened answers.
            AuthError: a key or the meter's system title is not known, or is another one.

        """
        closed = ciphering.parse_ciphered(apdu)
        agreed = self._association.security
        if not agreed or closed.control & agreed != agreed:
            raise FrameError(f"an answer with security control {closed.control:02X} where {agreed.value:02X} is agreed")
        if closed.control & ciphering.BROADCAST:
            raise FrameError("an answer under the broadcast key")
        if closed.title and self.server_title and closed.title != self.server_title:
            raise AuthError(f"an answer of system title {closed.title.hex()}, this meter has {self.server_title.hex()}")
        dedicated = closed.tag == ciphering.GENERAL_DED or closed.tag in ciphering.PLAIN_OF_DED
        name = _DEDICATED if dedicated else _GLOBAL
        if closed.counter <= self._seen.get(name, -1):
            raise ReplayedAnswerError(f"the meter's invocation counter did not rise: {closed.counter} has been seen")
        title, keys = self.server_title or closed.title, self._keys
        try:
            plain = ciphering.unprotect(
                closed.control, self._key(name), keys.authentication, title, closed.counter, closed.content
            )
        except WrongKeyError:
            if not self._seen:
                raise
            # Keys that have opened answers are right: a bit that fell over is no reason to leave the meter alone.
            raise ChangedAnswerError("an answer's tag does not fit: it was changed on its way") from None
        self._seen[name] = closed.counter
        inside = ciphering.PLAIN_OF_GLO.get(closed.tag) or ciphering.PLAIN_OF_DED.get(closed.tag)
        if not plain or (inside is not None and plain[0] != inside):
            raise FrameError(f"a ciphered APDU {closed.tag:02X} holds {plain[:1].hex() or 'nothing'}")
        return plain

    def _key(self, name: str) -> bytes:
        return self._dedicated if name == _DEDICATED else self._keys.encryption
