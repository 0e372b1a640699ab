"""The one-time tokens by which gateways enrol, and the certificates that they got. It signs nothing.

One certificate of a gateway counts at a time, the pinned one: a gateway that enrols anew, with a new token, ends the
one before, and what was ended stands in the list of revoked certificates until it would have expired anyway.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from headend.state.registry_tables import certificates, enrolment_tokens, gateways
from headend.state.revision import bump
from headend.state.rows import put
from headend.state.store import State
from metering import timing


class Certificate(msgspec.Struct, frozen=True):
    """A gateway's certificate. `serial` in hex, `key` the SHA-256 of its public key in hex, `fingerprint` its own."""

    serial: str
    gateway: str
    key: str
    pem: str
    expires_at: int
    fingerprint: str = ""


Sign = Callable[[str], Certificate]  # the certificate of this gateway, for the key that asks


class Enrolment:
    """Tokens are made here, shown once, and kept as SHA-256 (256 random bits need no slow hash)."""

    def __init__(self, state: State) -> None:
        self._state = state

    def create(self, gateway: str, expires_at: int) -> str:
        """Make a token with which this gateway may enrol before `expires_at`, and return it: the only time."""
        token = secrets.token_urlsafe(32)
        values = {
            "hash": _hash(token),
            "gateway": gateway,
            "expires_at": expires_at,
            "used_at": None,
            "used_by": "",
        }
        self._state.write(lambda connection: put(connection, enrolment_tokens, values))
        return token

    def use(self, token: str, key: str, sign: Sign, now: int | None = None) -> Certificate | None:
        """Spend a token: the gateway is enrolled with the certificate that `sign` gives, in one transaction.

        The same token for the same key again gives the same certificate: an answer may get lost on its way. None where
        the token is unknown, expired, or spent by another key, or its gateway was revoked.
        """
        at = timing.now() if now is None else now
        return self._state.write(lambda connection: _use(connection, _hash(token), key, sign, at))

    def revoked(self, now: int) -> list[tuple[str, int]]:
        """Return the serials (hex) of certificates that were ended before their time, and when."""
        ended = (certificates.c.revoked_at.is_not(None), certificates.c.expires_at > now)
        query = sa.select(certificates.c.serial, certificates.c.revoked_at).where(*ended).order_by("serial")
        return [(row.serial, row.revoked_at) for row in self._state.read(lambda c: c.execute(query).all())]


def _use(connection: sa.Connection, digest: bytes, key: str, sign: Sign, at: int) -> Certificate | None:
    table = enrolment_tokens
    row = connection.execute(sa.select(table).where(table.c.hash == digest)).one_or_none()
    if row is None or not hmac.compare_digest(row.hash, digest):
        return None
    if row.used_at is not None:
        return _known(connection, row.gateway, key) if hmac.compare_digest(row.used_by, key) else None
    if row.expires_at <= at:
        return None
    here = sa.select(gateways.c.id).where(gateways.c.id == row.gateway, gateways.c.revoked_at.is_(None))
    if connection.execute(here).one_or_none() is None:
        return None
    made = sign(row.gateway)
    open_ones = (certificates.c.gateway == row.gateway, certificates.c.revoked_at.is_(None))
    connection.execute(sa.update(certificates).where(*open_ones).values(revoked_at=at))
    values = {name: getattr(made, name) for name in ("serial", "gateway", "key", "pem", "expires_at")}
    put(connection, certificates, {**values, "revoked_at": None})
    connection.execute(sa.update(table).where(table.c.hash == digest).values(used_at=at, used_by=key))
    pinned = {"enrolled_at": at, "fingerprint": made.fingerprint, "revision": bump(connection)}
    connection.execute(sa.update(gateways).where(gateways.c.id == row.gateway).values(pinned))
    return made


def _known(connection: sa.Connection, gateway: str, key: str) -> Certificate | None:
    open_ones = (certificates.c.gateway == gateway, certificates.c.key == key, certificates.c.revoked_at.is_(None))
    row = connection.execute(sa.select(certificates).where(*open_ones)).one_or_none()
    return None if row is None else Certificate(row.serial, row.gateway, row.key, row.pem, row.expires_at)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
