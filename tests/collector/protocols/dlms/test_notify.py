"""Notifications, plain and ciphered by the sender's system title; what does not tell its sender is not opened."""

import pytest

from collector.keys import MeterKeys
from collector.protocols.dlms import axdr, ciphering
from collector.protocols.dlms.ciphering import Ciphered
from collector.protocols.dlms.errors import WrongKeyError
from collector.protocols.dlms.get import GetResponse
from collector.protocols.dlms.notification import DataNotification, EventNotification
from collector.protocols.dlms.notify import Notification, parse_notification
from collector.protocols.dlms.references import Attribute
from metering.errors import AuthError, FrameError

TITLE = b"ABC\0\0\0\0\2"
KEYS = MeterKeys(encryption=bytes(range(16)), authentication=bytes(16), broadcast=bytes(range(16, 32)))
TIME = bytes.fromhex("07E8010100000000FF800000")
PUSH = DataNotification(7, TIME, axdr.structure(axdr.u32(5009)))
EVENT = EventNotification(TIME, Attribute(1, "0-0:96.11.0*255", 2), axdr.u8(3))


def keys_of(title: bytes) -> MeterKeys:
    if title != TITLE:
        raise AuthError("no keys for this sender")
    return KEYS


def sealed(plain: bytes, *, tag: int = 0xDB, title: bytes = TITLE, key: bytes = KEYS.encryption, control: int = 0x30):
    content = ciphering.protect(control, key, KEYS.authentication, TITLE, 42, plain)
    return ciphering.build_ciphered(Ciphered(tag, title, control, 42, content))


def test_a_plain_push_is_read():
    assert parse_notification(PUSH.to_bytes()) == Notification(7, TIME, PUSH.body)


def test_a_plain_event_is_read_with_its_attribute():
    assert parse_notification(EVENT.to_bytes()) == Notification(0, TIME, EVENT.value, EVENT.attribute)


@pytest.mark.parametrize(("key", "control"), [(KEYS.encryption, 0x30), (KEYS.encryption, 0x10), (KEYS.broadcast, 0x70)])
def test_a_ciphered_push_is_opened_by_the_senders_keys(key: bytes, control: int):
    notification = parse_notification(sealed(PUSH.to_bytes(), key=key, control=control), keys_of)
    assert notification == Notification(7, TIME, PUSH.body, None, TITLE, 42, control)


@pytest.mark.parametrize(
    ("apdu", "error"),
    [
        (sealed(PUSH.to_bytes(), key=bytes(16)), WrongKeyError),
        (sealed(PUSH.to_bytes(), title=b"XYZ\0\0\0\0\3"), AuthError),
        (sealed(PUSH.to_bytes(), title=b""), FrameError),
        (sealed(EVENT.to_bytes(), tag=0xCA, title=b""), FrameError),
        (GetResponse(0xC1, b"\0").to_bytes(), FrameError),
        (b"", FrameError),
    ],
)
def test_what_cannot_be_opened_or_is_none_is_told(apdu: bytes, error: type[Exception]):
    with pytest.raises(error):
        parse_notification(apdu, keys_of)


def test_without_keys_a_ciphered_push_is_not_opened():
    with pytest.raises(AuthError, match="no keys"):
        parse_notification(sealed(PUSH.to_bytes()))
