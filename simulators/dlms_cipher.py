"""The meter's side of ciphering in one association: requests opened and counted, answers closed. Knows no service."""

from typing import NamedTuple

from collector.protocols.dlms import failures
from collector.protocols.dlms.ciphering import (
    AUTHENTICATED,
    ENCRYPTED,
    GENERAL_DED,
    GENERAL_GLO,
    PLAIN_OF_DED,
    PLAIN_OF_GLO,
    Ciphered,
    build_ciphered,
    ded_tag,
    glo_tag,
    parse_ciphered,
    protect,
    unprotect,
)
from collector.protocols.dlms.errors import WrongKeyError
from collector.protocols.dlms.invoke import Apdu
from metering.errors import AuthError
from simulators.dlms_blocks import NOT_POSSIBLE
from simulators.dlms_faults import DlmsFault
from simulators.dlms_security import Client, Security


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The request is answered by this APDU, in plain text."""

    def __init__(self, apdu: Apdu) -> None:
        super().__init__(type(apdu).__name__)
        self.apdu = apdu


class Envelope(NamedTuple):
    """How a request was protected, and so how its answer will be: security control, and which family of tags."""

    control: int = 0
    general: bool = False
    dedicated: bool = False


class Cipher:
    """Opens and closes the APDUs of one association. `dedicated` is the key that the client sent for it."""

    def __init__(self, security: Security, client: Client, title: bytes) -> None:
        self.dedicated = b""
        self._security = security
        self._client = client
        self._title = title
        self._lowest = 0  # counter of the dedicated key
        self._before = 0
        self._key = b""  # that of the request: its answer comes under the same even where it changed the keys
        self._ak = b""
        self._envelope = Envelope()

    def begin(self) -> None:
        """Remember the lowest counter as it is before a request is opened."""
        self._before = self._security.expected.get(self._client.address, 0)

    def prove(self, counter: int) -> None:
        """Take the counter of an answer to a challenge, or refuse: it stands inside of an APDU with one of its own."""
        if counter < self._before:
            raise Refused(failures.ExceptionResponse(failures.NOT_ALLOWED, failures.COUNTER_ERROR, self._before))
        if counter >= self._security.expected.get(self._client.address, 0):
            self.take(counter)

    def open(self, apdu: bytes) -> bytes:
        """Return the plain APDU; remember how it was protected. Raises `WrongKeyError`, or refuses."""
        closed = parse_ciphered(apdu)
        general = closed.tag in (GENERAL_GLO, GENERAL_DED)
        dedicated = closed.tag == GENERAL_DED or closed.tag in PLAIN_OF_DED
        if closed.control & self._client.policy != self._client.policy:
            raise Refused(NOT_POSSIBLE)
        if general and closed.title and closed.title != self._title:
            raise WrongKeyError("another system title than in the AARQ")
        key = self.dedicated if dedicated else self._security.keys.encryption
        ak = self._security.keys.authentication
        try:
            plain = unprotect(closed.control, key, ak, self._title, closed.counter, closed.content)
        except WrongKeyError:
            raise
        except AuthError:
            raise WrongKeyError("a key or a title is missing") from None
        tags = PLAIN_OF_DED if dedicated else PLAIN_OF_GLO
        if not plain or (not general and plain[0] != tags[closed.tag]):
            raise WrongKeyError("what came out is not what the tag says")
        self.take(closed.counter, dedicated=dedicated)
        self._envelope, self._key, self._ak = Envelope(closed.control, general, dedicated), key, ak
        return plain

    def take(self, counter: int, *, dedicated: bool = False) -> None:
        """Take a client's counter, or refuse with the expected one."""
        if dedicated:
            lowest, self._lowest = self._lowest, max(self._lowest, counter + 1)
            expected = lowest if counter < lowest else None
        else:
            expected = self._security.take_counter(self._client.address, counter)
        if expected is not None:
            raise Refused(failures.ExceptionResponse(failures.NOT_ALLOWED, failures.COUNTER_ERROR, expected))

    def close(self, plain: bytes, now: int, fault: DlmsFault | None) -> bytes:
        """Return the APDU protected as the request was."""
        control, general, dedicated = self._envelope
        counter = self._security.own_counter(now)
        if fault is not None and fault.kind == "wrong_counter":
            counter -= 1 + max(fault.count, 1)
        control &= AUTHENTICATED | ENCRYPTED
        content = protect(control, self._key, self._ak, self._security.title, counter, plain)
        if general:
            tag = GENERAL_DED if dedicated else GENERAL_GLO
            return build_ciphered(Ciphered(tag, self._security.title, control, counter, content))
        tag = ded_tag(plain[0]) if dedicated else glo_tag(plain[0])
        return build_ciphered(Ciphered(tag, b"", control, counter, content))
