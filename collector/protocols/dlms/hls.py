"""High-level security: the answers to challenges of mechanisms 3 to 6. Not the passes that carry them.

Green Book 9.2.7.4 (table 24). A prover answers the verifier's challenge; both ends do so in turn. Mechanism 2 is each
maker's own and 7 (ECDSA) belongs to suites 1 and 2: neither is supported.
"""

import hashlib
import secrets
import struct
from hmac import compare_digest
from typing import NamedTuple

from collector.protocols.dlms.ciphering import AUTHENTICATED, SUITE_BITS, TAG_LENGTH, gmac
from collector.protocols.dlms.errors import WrongPasswordError
from metering.errors import AuthError, FrameError

MD5, SHA1, GMAC, SHA256 = 3, 4, 5, 6  # authentication mechanism ids
CHALLENGE_LENGTH = 16  # of ours
CHALLENGE_LIMITS = (8, 64)  # of anybody's
_GMAC_ANSWER = struct.Struct(f">BI{TAG_LENGTH}s")


class Side(NamedTuple):
    """One end of an association: its system title and the challenge that it sent."""

    title: bytes
    challenge: bytes


def make_challenge() -> bytes:
    """Return a new challenge."""
    return secrets.token_bytes(CHALLENGE_LENGTH)


def check_challenge(theirs: bytes, ours: bytes) -> None:
    """Refuse a challenge of a wrong length, and our own one sent back: its answer would be ours to give away.

    Raises:
        FrameError: not 8 to 64 bytes.
        AuthError: it is our own challenge.

    """
    low, high = CHALLENGE_LIMITS
    if not low <= len(theirs) <= high:
        raise FrameError(f"a challenge of {len(theirs)} bytes, allowed are {low} to {high}")
    if compare_digest(theirs, ours):
        raise AuthError("the meter sent our own challenge back")


def digest_answer(mechanism: int, secret: bytes, prover: Side, verifier: Side) -> bytes:
    """Return the prover's answer f(verifier's challenge) by mechanism MD5, SHA1 or SHA256.

    MD5, SHA-1: digest of challenge || secret. SHA-256: digest of secret || prover's title || verifier's title ||
    verifier's challenge || prover's challenge. Raises `AuthError` for no secret or another mechanism.
    """
    if not secret:
        raise AuthError("no secret for high-level security")
    if mechanism == MD5:
        return hashlib.md5(verifier.challenge + secret, usedforsecurity=False).digest()
    if mechanism == SHA1:
        return hashlib.sha1(verifier.challenge + secret, usedforsecurity=False).digest()
    if mechanism == SHA256:
        parts = (secret, prover.title, verifier.title, verifier.challenge, prover.challenge)
        return hashlib.sha256(b"".join(parts)).digest()
    raise AuthError(f"authentication mechanism {mechanism} is not supported")


def check_digest(answer: bytes, mechanism: int, secret: bytes, prover: Side, verifier: Side) -> None:
    """Check the answer that the prover gave to the verifier's challenge.

    Raises:
        WrongPasswordError: the prover does not know the secret.
        AuthError: no secret, or the mechanism is not supported.

    """
    if not compare_digest(digest_answer(mechanism, secret, prover, verifier), answer):
        raise WrongPasswordError("the answer to the challenge is wrong: the other end has another secret")


def gmac_answer(key: bytes, ak: bytes, title: bytes, counter: int, challenge: bytes) -> bytes:
    """Return the prover's answer to a challenge by GMAC: SC || IC || tag, 17 bytes; `title` is the prover's own.

    Raises:
        AuthError: a key or the title is missing or has a wrong length, or the counter is at its end.

    """
    return _GMAC_ANSWER.pack(AUTHENTICATED, counter, gmac(AUTHENTICATED, key, ak, title, counter, challenge))


def check_gmac(answer: bytes, key: bytes, ak: bytes, title: bytes, challenge: bytes) -> int:
    """Check the prover's answer to our challenge; return its invocation counter, which the caller checks to rise.

    `title` is the prover's system title.

    Raises:
        WrongPasswordError: the tag does not fit.
        FrameError: not the form of an answer, or not with suite 0 and authentication alone.
        AuthError: a key or the title is missing or has a wrong length.

    """
    if len(answer) != _GMAC_ANSWER.size:
        raise FrameError(f"a GMAC answer of {len(answer)} bytes, it has {_GMAC_ANSWER.size}")
    control, counter, tag = _GMAC_ANSWER.unpack(answer)
    if control != AUTHENTICATED:
        suite = f"suite {control & SUITE_BITS}, " if control & SUITE_BITS else ""
        raise FrameError(f"a GMAC answer with {suite}security control {control:#04x}, it is 0x10")
    if not compare_digest(gmac(control, key, ak, title, counter, challenge), tag):
        raise WrongPasswordError("the answer to the challenge is wrong: the other end has other keys or another title")
    return int(counter)
