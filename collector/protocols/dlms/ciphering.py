"""Security suite 0 of DLMS/COSEM: AES-GCM-128 over APDUs, GMAC and key wrap. Knows no session and keeps no key.

Green Book 9.2.3 and 9.2.7: security control byte SC, invocation counter IC (4 bytes), initialization vector = system
title of the sender (8 bytes) || IC, tags of 12 bytes. Nothing that was not authenticated is handed out where
authentication was agreed. Making the cipher anew for each APDU costs 1 us and keeps keys out of every cache.
"""

import struct
from enum import IntEnum
from hmac import compare_digest
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from collector.protocols.dlms.axdr_values import encode_length, read_length
from collector.protocols.dlms.errors import WrongKeyError
from metering.errors import AuthError, FrameError

KEY_LENGTH = 16
TITLE_LENGTH = 8
TAG_LENGTH = 12
COUNTER_END = 0xFFFFFFFF  # no value after it: the key must be changed
WRAPPED_LENGTH = KEY_LENGTH + 8  # RFC 3394 adds one block of eight bytes

# Security control byte (Green Book table 37).
SUITE_BITS = 0x0F
AUTHENTICATED = 0x10
ENCRYPTED = 0x20
BROADCAST = 0x40
COMPRESSED = 0x80
_PROTECTED = AUTHENTICATED | ENCRYPTED

GENERAL_GLO = 0xDB
GENERAL_DED = 0xDC

# Tag of the plain APDU -> tags of its service-specific ciphered forms, global and dedicated key.
_GLO = {
    0x01: 0x21,
    0x08: 0x28,
    0x0E: 0x2E,
    0xC0: 0xC8,
    0xC1: 0xC9,
    0xC2: 0xCA,
    0xC3: 0xCB,
    0xC4: 0xCC,
    0xC5: 0xCD,
    0xC7: 0xCF,
}
_DED = {plain: plain + 0x10 for plain in (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC7)}
# Tag of a service-specific ciphered APDU -> tag of the plain one inside.
PLAIN_OF_GLO = {ciphered: plain for plain, ciphered in _GLO.items()}
PLAIN_OF_DED = {ciphered: plain for plain, ciphered in _DED.items()}
CIPHERED_TAGS = frozenset({*PLAIN_OF_GLO, *PLAIN_OF_DED, GENERAL_GLO, GENERAL_DED})

_CONTROL_AND_COUNTER = struct.Struct(">BI")


class Suite(IntEnum):
    """Security suites (Green Book table 21). Only the first is supported; the others are told by their names."""

    AES_GCM_128 = 0
    ECDSA_P256 = 1
    ECDSA_P384 = 2


class Ciphered(NamedTuple):
    """A ciphered APDU, still closed: `content` is ciphertext or plaintext, and the tag where there is one.

    `title` is the sender's system title as a general- APDU shows it; empty where it shows none.
    """

    tag: int
    title: bytes
    control: int
    counter: int
    content: bytes


def glo_tag(plain: int) -> int:
    """Return the glo- tag for the tag of a plain APDU. Raises `ValueError` where the service has none."""
    return _tag_of(_GLO, plain)


def ded_tag(plain: int) -> int:
    """Return the ded- tag for the tag of a plain APDU. Raises `ValueError` where the service has none."""
    return _tag_of(_DED, plain)


def _tag_of(tags: dict[int, int], plain: int) -> int:
    if plain not in tags:
        raise ValueError(f"APDU {plain:#04x} has no ciphered form of its own; general ciphering takes any")
    return tags[plain]


def check_control(control: int) -> None:
    """Refuse a security control byte that this suite does not have.

    Raises:
        FrameError: suite 1, 2 or an unknown one, compression, or neither authentication nor encryption.

    """
    suite = control & SUITE_BITS
    if suite != Suite.AES_GCM_128:
        name = f" ({Suite(suite).name.replace('_', '-')})" if suite in tuple(Suite) else ""
        raise FrameError(f"security suite {suite}{name} is not supported, only suite 0 (AES-GCM-128) is")
    if control & COMPRESSED:
        raise FrameError("compressed APDUs are not supported")
    if not control & _PROTECTED:
        raise FrameError(f"security control {control:#04x} protects nothing")


# --- the bytes inside -----------------------------------------------------------------------------------------------


def protect(control: int, key: bytes, ak: bytes, title: bytes, counter: int, plaintext: bytes) -> bytes:
    """Return the content of a ciphered APDU: what stands behind SC and IC.

    `key` is the encryption key that the tag and the SC's key-set bit stand for (global, broadcast, dedicated), `ak` the
    authentication key, `title` the sender's system title. Both: ciphertext || tag; authentication only: plaintext ||
    tag; encryption only: ciphertext.

    Raises:
        AuthError: a key or the system title is missing or has a wrong length, or the counter is at its end.
        FrameError: a security control that is not supported.

    """
    vector = _vector(control, key, ak, title, counter)
    control &= 0xFF
    if control & _PROTECTED == AUTHENTICATED:
        return plaintext + _tag(control, key, ak, vector, plaintext)
    if control & AUTHENTICATED:
        # The package makes tags of 16 bytes; DLMS takes the first 12 of them.
        return AESGCM(key).encrypt(vector, plaintext, bytes((control,)) + ak)[: TAG_LENGTH - 16]
    return AESGCM(key).encrypt(vector, plaintext, None)[:-16]


def unprotect(control: int, key: bytes, ak: bytes, title: bytes, counter: int, content: bytes) -> bytes:
    """Return the plaintext of a ciphered APDU's content; the arguments are those of `protect`.

    The caller checks that `control` protects as much as was agreed, and that `counter` rises.

    Raises:
        WrongKeyError: the tag does not fit.
        AuthError: a key or the system title is missing or has a wrong length.
        FrameError: a security control that is not supported, or a content too short for its tag.

    """
    vector = _vector(control, key, ak, title, counter)
    control &= 0xFF
    if not control & AUTHENTICATED:
        # Without a tag it is counter mode: the same keystream both ways.
        return AESGCM(key).encrypt(vector, content, None)[:-16]
    if len(content) < TAG_LENGTH:
        raise FrameError(f"authenticated content of {len(content)} bytes, its tag alone has {TAG_LENGTH}")
    tag = content[-TAG_LENGTH:]
    if not control & ENCRYPTED:
        body = content[:-TAG_LENGTH]
        if not compare_digest(_tag(control, key, ak, vector, body), tag):
            raise _wrong_key()
        return body
    # The package's quick decryption wants tags of 16 bytes: deciphering by counter mode and making the tag anew takes
    # half the time of its slow one, which takes shorter tags.
    cipher = AESGCM(key)
    plaintext = cipher.encrypt(vector, memoryview(content)[:-TAG_LENGTH], None)[:-16]
    if not compare_digest(cipher.encrypt(vector, plaintext, bytes((control,)) + ak)[-16 : TAG_LENGTH - 16], tag):
        raise _wrong_key()
    return plaintext


def gmac(control: int, key: bytes, ak: bytes, title: bytes, counter: int, data: bytes) -> bytes:
    """Return the GMAC (12 bytes) over SC || AK || `data`; errors as of `protect`."""
    return _tag(control & 0xFF, key, ak, _vector(control | AUTHENTICATED, key, ak, title, counter), data)


def _tag(control: int, key: bytes, ak: bytes, vector: bytes, data: bytes) -> bytes:
    return AESGCM(key).encrypt(vector, b"", bytes((control,)) + ak + data)[:TAG_LENGTH]


def _vector(control: int, key: bytes, ak: bytes, title: bytes, counter: int) -> bytes:
    check_control(control)
    if len(key) != KEY_LENGTH:
        raise AuthError("no encryption key" if not key else f"the encryption key has {len(key)} bytes, not 16")
    if control & AUTHENTICATED and len(ak) != KEY_LENGTH:
        raise AuthError("no authentication key" if not ak else f"the authentication key has {len(ak)} bytes, not 16")
    if len(title) != TITLE_LENGTH:
        raise AuthError("the sender's system title is not known" if not title else "a system title has 8 bytes")
    if not 0 <= counter <= COUNTER_END:
        raise AuthError("the invocation counter is at its end: the key must be changed")
    return title + counter.to_bytes(4, "big")


def _wrong_key() -> WrongKeyError:
    return WrongKeyError("the tag does not fit: wrong key, wrong authentication key or wrong system title")


# --- the APDUs around ------------------------------------------------------------------------------------------------


def build_ciphered(ciphered: Ciphered) -> bytes:
    """Return the APDU: tag, for general- ciphering the system title, then length, SC, IC and content."""
    head = bytes((ciphered.tag,))
    if ciphered.tag in (GENERAL_GLO, GENERAL_DED):
        head += bytes((len(ciphered.title),)) + ciphered.title
    body = _CONTROL_AND_COUNTER.pack(ciphered.control, ciphered.counter) + ciphered.content
    return head + encode_length(len(body)) + body


def parse_ciphered(apdu: bytes) -> Ciphered:
    """Return the parts of a glo-, ded-, general-glo- or general-ded-ciphered APDU, still closed.

    Raises:
        FrameError: not a ciphered APDU, lengths that do not fit the bytes there are, a system title that is neither
            empty nor of eight bytes, or a security control that is not supported.

    """
    if not apdu or apdu[0] not in CIPHERED_TAGS:
        raise FrameError(f"not a ciphered APDU: {apdu[:1].hex() or 'nothing'}")
    at, title = 1, b""
    if apdu[0] in (GENERAL_GLO, GENERAL_DED):
        length = apdu[1] if len(apdu) > 1 else 0
        if length not in (0, TITLE_LENGTH) or len(apdu) < 2 + length:
            raise FrameError(f"a system title of {length} bytes in a ciphered APDU of {len(apdu)}")
        at, title = 2 + length, bytes(apdu[2 : 2 + length])
    length, at = read_length(apdu, at)
    if length != len(apdu) - at:
        raise FrameError(f"ciphered APDU says {length} bytes, {len(apdu) - at} are there")
    if length < _CONTROL_AND_COUNTER.size:
        raise FrameError(f"{length} bytes are too few for security control and invocation counter")
    control, counter = _CONTROL_AND_COUNTER.unpack_from(apdu, at)
    check_control(control)
    return Ciphered(apdu[0], title, control, counter, bytes(apdu[at + _CONTROL_AND_COUNTER.size :]))


# --- keys in transit -------------------------------------------------------------------------------------------------


def wrap_key(master: bytes, key: bytes) -> bytes:
    """Return `key` wrapped with the master key (KEK), 24 bytes, for key_transfer (RFC 3394)."""
    if len(master) != KEY_LENGTH or len(key) != KEY_LENGTH:
        raise AuthError("master key and wrapped key have 16 bytes each")
    return aes_key_wrap(master, key)


def unwrap_key(master: bytes, wrapped: bytes) -> bytes:
    """Return the key that was wrapped with the master key (RFC 3394).

    Raises:
        WrongKeyError: another master key, or the bytes were changed.
        FrameError: not the length of a wrapped key.

    """
    if len(master) != KEY_LENGTH:
        raise AuthError("the master key has 16 bytes")
    if len(wrapped) != WRAPPED_LENGTH:
        raise FrameError(f"a wrapped key of {len(wrapped)} bytes, it has {WRAPPED_LENGTH}")
    try:
        return aes_key_unwrap(master, wrapped)
    except InvalidUnwrap:
        raise WrongKeyError("the wrapped key does not open: wrong master key") from None
