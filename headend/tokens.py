"""Bearer tokens of the API: made, listed, revoked and verified against a table. Not the HTTP side of it.

A token reads `mg_<id>_<secret>`: the id (8 hex digits) is public and finds the row, the secret has 256 random bits.
Only SHA-256 of the secret is stored. A slow password hash would add nothing: nobody can guess 256 random bits, however
fast the hash, and a fast one lets every request be verified against the table, so that a revocation holds at once.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from headend.state.rows import put
from headend.state.store import State, cause
from headend.state.tables import TOKEN_NAME, tokens
from metering import timing
from metering.errors import StorageError

SCOPES = ("readings:read", "commands:request", "commands:approve", "audit:read", "admin")

BUSY_TIMEOUT_MS = 5_000  # how long one process waits while another writes
_TOKEN = re.compile(r"mg_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_REGION = re.compile(r"(?:[A-Za-z0-9_-]{1,64}(?:/[A-Za-z0-9_-]{1,64})*)?")
_Result = TypeVar("_Result")
REMEMBERED_S = 86_400  # how long a token that was verified is known while the state does not answer
MAX_REMEMBERED = 1_000  # tokens
_NOBODY = hashlib.sha256(b"").digest()


class Grant(msgspec.Struct, frozen=True):
    """What a verified token may do: its scopes, inside its region prefixes (`""` is everywhere)."""

    token: str  # the public id
    name: str
    scopes: frozenset[str]
    regions: tuple[str, ...]
    remembered: bool = False  # verified before, and not now: the state does not answer
    person: str = ""  # whose it is; empty: its name says so

    @property
    def who(self) -> str:
        """Return the person: two tokens of one person are one person, who is nobody's second."""
        return self.person or self.name


class TokenInfo(msgspec.Struct, frozen=True):
    """A token as it is listed: everything but the secret, which is not kept. Instants in microseconds, UTC."""

    id: str
    name: str
    person: str
    scopes: tuple[str, ...]
    regions: tuple[str, ...]
    created_at: int
    expires_at: int | None
    revoked_at: int | None


class TokenBook:
    """The tokens in a SQLite file of a single site, or in the head-end's state. Several processes may use it at once.

    A file of tokens alone is left as it is: it needs no migration until somebody opens it as a state.
    """

    def __init__(self, place: Path | State) -> None:
        """Open or create the file, readable by its owner alone, or use the state. Raises `StorageError`."""
        self._place = place if isinstance(place, State) else _open(place)
        self._known: dict[str, _Known] = {}

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        regions: Sequence[str],
        expires_at: int | None = None,
        person: str = "",
    ) -> str:
        """Make a token and return it in plain text: the only time that it is seen.

        `person` is whose it is, as trust documents name their approvers; left out, its name is the person's.
        `regions` are prefixes such as `js/nj`; `""` is everywhere. `expires_at` is in microseconds, UTC.

        Raises:
            ValueError: an empty name, a person that is no name, an unknown scope, no scope, no region, or a region that
                is not a path.

        """
        _check(name, person, scopes, regions)
        identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        row = {
            "id": identity,
            "name": name,
            "person": person or name.strip(),
            "hash": hashlib.sha256(secret.encode()).digest(),
            "scopes": msgspec.json.encode(sorted(set(scopes))).decode(),
            "regions": msgspec.json.encode(sorted(set(regions))).decode(),
            "created_at": timing.now(),
            "expires_at": expires_at,
        }
        self._write(lambda connection: put(connection, tokens, row))
        return f"mg_{identity}_{secret}"

    def list(self) -> list[TokenInfo]:
        """Return all tokens, the oldest first, revoked and expired ones too."""
        columns = (tokens.c[name] for name in TokenInfo.__struct_fields__)
        query = sa.select(*columns).order_by(tokens.c.created_at, tokens.c.id)
        rows = self._read(lambda connection: connection.execute(query).all())
        return [
            TokenInfo(row.id, row.name, row.person, _texts(row.scopes), _texts(row.regions), *row[5:]) for row in rows
        ]

    def revoke(self, identity: str) -> bool:
        """End a token, by its public id, from the next request on. Return False where there is no such token."""
        statement = (
            sa.update(tokens)
            .where(tokens.c.id == identity)
            .values(revoked_at=sa.func.coalesce(tokens.c.revoked_at, timing.now()))
        )
        return self._write(lambda connection: connection.execute(statement).rowcount) > 0

    def verify(self, plaintext: str, now: int | None = None) -> Grant | None:
        """Return what this token may do; None where it is malformed, unknown, expired or revoked.

        The secret is compared in constant time, and an unknown id takes the same way as a known one. While the state
        does not answer, a token that was verified in the last day is known still (`remembered`); any other raises
        `StorageError`.
        """
        match = _TOKEN.fullmatch(plaintext)
        if match is None:
            return None
        at, given = timing.now() if now is None else now, hashlib.sha256(match[2].encode()).digest()
        try:
            row = self._read(lambda connection: connection.execute(_BY_ID, {"identity": match[1]}).one_or_none())
        except StorageError:
            if (grant := self._remembered(match[1], given, at)) is None:
                raise
            return grant
        self._known.pop(match[1], None)
        same = hmac.compare_digest(given, row.hash if row is not None else _NOBODY)
        if row is None or not same or row.revoked_at is not None:
            return None
        if row.expires_at is not None and row.expires_at <= at:
            return None
        grant = Grant(row.id, row.name, frozenset(_texts(row.scopes)), _texts(row.regions), person=row.person)
        if len(self._known) < MAX_REMEMBERED:
            self._known[match[1]] = _Known(given, grant, at, row.expires_at)
        return grant

    def _remembered(self, identity: str, given: bytes, now: int) -> Grant | None:
        """Return what a token may do that was verified not long ago. Few may use it: it may have been revoked since."""
        known = self._known.get(identity)
        if known is None or not hmac.compare_digest(given, known.digest):
            return None
        if known.expires_at is not None and known.expires_at <= now:
            return None
        if not 0 <= now - known.at < REMEMBERED_S * 1_000_000:
            return None
        return msgspec.structs.replace(known.grant, remembered=True)

    def close(self) -> None:
        """Close the file; a state is closed by who opened it."""
        if isinstance(self._place, sa.Engine):
            self._place.dispose()

    def _read(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        if isinstance(self._place, State):
            return self._place.read(work)
        try:
            with self._place.connect() as connection:
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            raise StorageError(f"the tokens cannot be read: {cause(error)}", retry=True) from error

    def _write(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        if isinstance(self._place, State):
            return self._place.write(work)
        try:
            with self._place.begin() as connection:
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            raise StorageError(f"the tokens cannot be written: {cause(error)}", retry=True) from error


class _Known(msgspec.Struct, frozen=True):
    digest: bytes
    grant: Grant
    at: int
    expires_at: int | None


_BY_ID = sa.select(tokens).where(tokens.c.id == sa.bindparam("identity"))


def _open(path: Path) -> sa.Engine:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        engine = sa.create_engine(f"sqlite:///{path}")
        sa.event.listen(engine, "connect", _prepare)
        tokens.create(engine, checkfirst=True)
    except (OSError, sa.exc.SQLAlchemyError) as error:
        raise StorageError(f"the tokens in {path} cannot be opened: {error}", retry=True) from error
    return engine


def _prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")  # a writer in another process never keeps a request waiting
    cursor.execute("PRAGMA synchronous=FULL")  # a revocation that was confirmed holds after a power cut
    cursor.close()


def _texts(raw: str) -> tuple[str, ...]:
    return msgspec.json.decode(raw, type=tuple[str, ...])


def _check(name: str, person: str, scopes: Sequence[str], regions: Sequence[str]) -> None:
    if not name.strip() or len(name) > TOKEN_NAME:
        raise ValueError(f"a token's name has 1 to {TOKEN_NAME} characters")
    if person != person.strip() or not person.isprintable() or len(person) > TOKEN_NAME:
        raise ValueError(f"a person has at most {TOKEN_NAME} printable characters, without spaces around them")
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise ValueError(f"{unknown[0] if unknown else 'no scope'!r} is not a scope; choose of {', '.join(SCOPES)}")
    if not regions:
        raise ValueError('a token needs a region prefix; "" is everywhere')
    for region in regions:
        if not _REGION.fullmatch(region):
            raise ValueError(f"{region!r} is not a region; it reads like js/nj/st12")
