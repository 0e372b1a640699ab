"""What a meter sends unasked, opened and read: data- and event-notifications, ciphered ones too. Not who listens."""

from collections.abc import Callable

import msgspec

from collector.keys import MeterKeys
from collector.protocols.dlms import ciphering
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.notification import DataNotification, EventNotification
from collector.protocols.dlms.references import Attribute
from metering.errors import AuthError, FrameError

# The keys of the meter with a system title; raises AuthError for a title that nobody knows.
KeysOf = Callable[[bytes], MeterKeys]


class Notification(msgspec.Struct, frozen=True):
    """A notification. `time` is empty or 12 bytes. `attribute` is given for event-notifications only.

    `title`, `counter` and `control` are the sender's system title, invocation counter and security control byte where
    it came ciphered (`control` 0: it did not): whoever listens checks that the counter rises, and decides how much
    protection is enough.
    """

    long_invoke: int
    time: bytes
    body: Data
    attribute: Attribute | None = None
    title: bytes = b""
    counter: int | None = None
    control: int = 0


def parse_notification(apdu: bytes, keys_of: KeysOf | None = None) -> Notification:
    """Read a data-notification or event-notification, plain or general-glo-ciphered.

    Raises:
        FrameError: it is none, or ciphered in a form that does not tell its sender.
        WrongKeyError: the tag does not fit.
        AuthError: ciphered, and there is no key for its sender.

    """
    title, counter, control = b"", None, 0
    if apdu[:1] and apdu[0] in ciphering.CIPHERED_TAGS:
        closed = ciphering.parse_ciphered(apdu)
        if closed.tag != ciphering.GENERAL_GLO or not closed.title:
            raise FrameError("a ciphered notification that does not tell its sender's system title")
        if keys_of is None:
            raise AuthError("a ciphered notification, and no keys")
        keys = keys_of(closed.title)
        title, counter, control = closed.title, closed.counter, closed.control
        key = keys.broadcast if control & ciphering.BROADCAST else keys.encryption
        apdu = ciphering.unprotect(control, key, keys.authentication, title, counter, closed.content)
    inner = parse_apdu(apdu)
    if isinstance(inner, DataNotification):
        return Notification(inner.long_invoke, inner.time, inner.body, None, title, counter, control)
    if isinstance(inner, EventNotification):
        return Notification(0, inner.time, inner.value, inner.attribute, title, counter, control)
    raise FrameError(f"{type(inner).__name__} is no notification")
