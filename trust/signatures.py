"""Signed payloads: JWS in general JSON serialisation (RFC 7515, 7.2.1) with several Ed25519 signatures. No policy.

Each kind of payload has its own `typ` inside the protected header, so that a signature under one kind is none under
another. Algorithms are not negotiated: Ed25519 (RFC 9864) is the only one that is ever read. What could be read in two
ways (a member twice, another form of base64url) is not read at all.
"""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode, urlsafe_b64encode

from trust.keys import PublicKey, SigningKey

ALGORITHM = "Ed25519"
MAX_SIGNATURES = 32
MAX_PAYLOAD = 8 << 20  # bytes in base64url: a trust document binds up to some 20,000 meters
MAX_SIGNED = MAX_PAYLOAD + (64 << 10)
_HEADER = frozenset({"alg", "kid", "typ"})


class Kind(StrEnum):
    """What is signed."""

    COMMAND = "metergate-command+jws"
    MANIFEST = "metergate-manifest+jws"
    TRUST = "metergate-trust+jws"
    CANCEL = "metergate-cancel+jws"
    AUDIT_HEAD = "metergate-audit-head+jws"


class BadSignatureError(ValueError):
    """It is not signed as it has to be; the text says why and shows no signature."""


class Verified(NamedTuple):
    """A payload, and the ids of the known keys that signed it, each once."""

    payload: bytes
    kids: frozenset[str]


class _Signature(msgspec.Struct, forbid_unknown_fields=True):
    protected: Annotated[str, msgspec.Meta(max_length=512)]
    signature: Annotated[str, msgspec.Meta(max_length=128)]


class _General(msgspec.Struct, forbid_unknown_fields=True):
    payload: Annotated[str, msgspec.Meta(max_length=MAX_PAYLOAD)]
    signatures: Annotated[list[_Signature], msgspec.Meta(min_length=1, max_length=MAX_SIGNATURES)]


class _Registry(jws.JWSRegistry):
    max_payload_length = MAX_PAYLOAD


_REGISTRY = _Registry(algorithms=[ALGORITHM])


def sign(payload: bytes, kind: Kind, keys: Sequence[SigningKey]) -> bytes:
    """Return the payload signed with each of the keys."""
    signed: bytes | None = None
    for key in keys:
        signed = _join(signed, payload, kind, key)
    if signed is None:
        raise BadSignatureError("nobody signs")
    return signed


def add(signed: bytes, kind: Kind, key: SigningKey) -> bytes:
    """Return what is signed already with one signature more; that of the same key is not doubled.

    Raises:
        BadSignatureError: it cannot be read.

    """
    general = _read(signed)
    return _join(signed, _payload(general), kind, key)


def payload_of(signed: bytes) -> bytes:
    """Return the payload WITHOUT looking at a signature: to be shown to whoever is to sign it.

    Raises:
        BadSignatureError: it cannot be read.

    """
    return _payload(_read(signed))


def merge(first: bytes, other: bytes) -> bytes:
    """Return the signatures of both, which must be of the same payload; each key's first one stays.

    Raises:
        BadSignatureError: one cannot be read, or they are of different payloads.

    """
    one, two = _read(first), _read(other)
    if one.payload != two.payload:
        raise BadSignatureError("the signatures are of different payloads")
    known = {_kid(each) for each in one.signatures}
    for each in two.signatures:
        kid = _kid(each)
        if kid not in known:
            one.signatures.append(each)
            known.add(kid)
    return _written(one)


def verify(signed: bytes, kind: Kind, keys: Mapping[str, PublicKey]) -> Verified:
    """Return the payload and which of these keys signed it.

    Signatures of keys that are not among `keys` are passed over: they say nothing. One bad signature under a known
    key's name spoils all.

    Raises:
        BadSignatureError: it cannot be read, no known key signed it, or a signature is wrong, of another kind or
            algorithm.

    """
    general = _read(signed)
    kids: set[str] = set()
    for each in general.signatures:
        header = _header(each)
        kid = header["kid"]
        key = keys.get(kid)
        if key is None:
            continue
        if header["typ"] != kind:
            raise BadSignatureError(f"the key {kid} signed a {header['typ'][:40]!r}, not a {kind}")
        one: jws.GeneralJSONSerialization = {
            "payload": general.payload,
            "signatures": [{"protected": each.protected, "signature": each.signature}],
        }
        try:
            _unpadded(each.signature)
            jws.deserialize_json(one, key.jwk(), registry=_REGISTRY)
        except (JoseError, ValueError) as error:
            raise BadSignatureError(f"the signature of the key {kid} is wrong ({type(error).__name__})") from None
        kids.add(kid)
    if not kids:
        raise BadSignatureError("no key that is known here signed it")
    return Verified(_payload(general), frozenset(kids))


def _join(signed: bytes | None, payload: bytes, kind: Kind, key: SigningKey) -> bytes:
    member = {"protected": {"alg": ALGORITHM, "kid": key.public.id, "typ": str(kind)}}
    made = jws.serialize_json([member], payload, key.jwk(), registry=_REGISTRY)  # type: ignore[list-item]  # a TypedDict
    fresh = msgspec.json.encode(made)
    return fresh if signed is None else merge(signed, fresh)


def _read(signed: bytes) -> _General:
    if len(signed) > MAX_SIGNED:
        raise BadSignatureError(f"{len(signed)} bytes are more than {MAX_SIGNED}")
    try:
        general = msgspec.json.decode(signed, type=_General)
        _each_once(signed)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadSignatureError(f"no JWS in general JSON serialisation: {str(error)[:100]}") from None
    return general


def _header(signature: _Signature) -> dict[str, str]:
    try:
        raw = _unpadded(signature.protected)
        header = msgspec.json.decode(raw, type=dict[str, str])
        _each_once(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadSignatureError("a protected header cannot be read") from None
    if set(header) != _HEADER:
        raise BadSignatureError(f"a protected header has exactly alg, kid and typ, not {sorted(header)[:8]}")
    if header["alg"] != ALGORITHM:
        raise BadSignatureError(f"the algorithm {header['alg'][:20]!r} is not taken; {ALGORITHM} alone is")
    return header


def _each_once(raw: bytes) -> None:
    """Raise `ValueError` where a member of an object stands twice: another reader could take the other."""

    def members(pairs: list[tuple[str, object]]) -> None:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a member stands twice")

    json.loads(raw.decode(), object_pairs_hook=members)


def _kid(signature: _Signature) -> str:
    return _header(signature)["kid"]


def _payload(general: _General) -> bytes:
    try:
        return _unpadded(general.payload)
    except ValueError:
        raise BadSignatureError("the payload is no base64url") from None


def _unpadded(text: str) -> bytes:
    raw = urlsafe_b64decode(text.encode())
    if urlsafe_b64encode(raw).decode() != text:
        raise ValueError("not the one form of base64url")
    return raw


def _written(general: _General) -> bytes:
    if len(general.signatures) > MAX_SIGNATURES:
        raise BadSignatureError(f"more than {MAX_SIGNATURES} signatures")
    return msgspec.json.encode(general)
