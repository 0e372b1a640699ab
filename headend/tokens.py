"""Bearer tokens of the API: made, listed, revoked and verified against a small SQLite file. Not the HTTP side of it.

A token reads `mg_<id>_<secret>`: the id (8 hex digits) is public and finds the row, the secret has 256 random bits.
Only SHA-256 of the secret is stored. A slow password hash would add nothing: nobody can guess 256 random bits, however
fast the hash, and a fast one lets every request be verified against the file, so that a revocation holds at once.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from metering import timing
from metering.errors import StorageError

SCOPES = ("readings:read", "commands:request", "commands:approve", "audit:read", "admin")

BUSY_TIMEOUT_MS = 5_000  # how long one process waits while another writes
_TOKEN = re.compile(r"mg_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_REGION = re.compile(r"(?:[A-Za-z0-9_-]{1,64}(?:/[A-Za-z0-9_-]{1,64})*)?")
_NAME_LENGTH = 100
_NOBODY = hashlib.sha256(b"").digest()

_metadata = sa.MetaData()
_tokens = sa.Table(
    "tokens",
    _metadata,
    sa.Column("id", sa.String(8), primary_key=True),
    sa.Column("name", sa.String(_NAME_LENGTH), nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),  # JSON list
    sa.Column("regions", sa.Text, nullable=False),  # JSON list
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
)


class Grant(msgspec.Struct, frozen=True):
    """What a verified token may do: its scopes, inside its region prefixes (`""` is everywhere)."""

    token: str  # the public id
    name: str
    scopes: frozenset[str]
    regions: tuple[str, ...]


class TokenInfo(msgspec.Struct, frozen=True):
    """A token as it is listed: everything but the secret, which is not kept. Instants in microseconds, UTC."""

    id: str
    name: str
    scopes: tuple[str, ...]
    regions: tuple[str, ...]
    created_at: int
    expires_at: int | None
    revoked_at: int | None


class TokenBook:
    """The tokens in a SQLite file. Several processes and threads may use it at once."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, readable by its owner alone. Raises `StorageError`."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._engine = sa.create_engine(f"sqlite:///{path}")
            sa.event.listen(self._engine, "connect", _prepare)
            _metadata.create_all(self._engine)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            raise StorageError(f"the tokens in {path} cannot be opened: {error}", retry=True) from error

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        regions: Sequence[str],
        expires_at: int | None = None,
    ) -> str:
        """Make a token and return it in plain text: the only time that it is seen.

        `regions` are prefixes such as `js/nj`; `""` is everywhere. `expires_at` is in microseconds, UTC.

        Raises:
            ValueError: an empty name, an unknown scope, no scope, no region, or a region that is not a path.

        """
        if not name.strip() or len(name) > _NAME_LENGTH:
            raise ValueError(f"a token's name has 1 to {_NAME_LENGTH} characters")
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise ValueError(f"{unknown[0] if unknown else 'no scope'!r} is not a scope; choose of {', '.join(SCOPES)}")
        if not regions:
            raise ValueError('a token needs a region prefix; "" is everywhere')
        for region in regions:
            if not _REGION.fullmatch(region):
                raise ValueError(f"{region!r} is not a region; it reads like js/nj/st12")
        identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        row = {
            "id": identity,
            "name": name,
            "hash": hashlib.sha256(secret.encode()).digest(),
            "scopes": msgspec.json.encode(sorted(set(scopes))).decode(),
            "regions": msgspec.json.encode(sorted(set(regions))).decode(),
            "created_at": timing.now(),
            "expires_at": expires_at,
        }
        self._write(sa.insert(_tokens).values(row))
        return f"mg_{identity}_{secret}"

    def list(self) -> list[TokenInfo]:
        """Return all tokens, the oldest first, revoked and expired ones too."""
        query = sa.select(*(column for column in _tokens.c if column.name != "hash")).order_by(
            _tokens.c.created_at, _tokens.c.id
        )
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
        except sa.exc.SQLAlchemyError as error:
            raise StorageError(f"the tokens cannot be read: {_cause(error)}", retry=True) from error
        return [TokenInfo(row.id, row.name, _texts(row.scopes), _texts(row.regions), *row[4:]) for row in rows]

    def revoke(self, identity: str) -> bool:
        """End a token, by its public id, from the next request on. Return False where there is no such token."""
        found = self._write(
            sa.update(_tokens)
            .where(_tokens.c.id == identity)
            .values(revoked_at=sa.func.coalesce(_tokens.c.revoked_at, timing.now()))
        )
        return found > 0

    def verify(self, plaintext: str, now: int | None = None) -> Grant | None:
        """Return what this token may do; None where it is malformed, unknown, expired or revoked.

        The secret is compared in constant time, and an unknown id takes the same way as a known one.
        """
        match = _TOKEN.fullmatch(plaintext)
        if match is None:
            return None
        try:
            with self._engine.connect() as connection:
                row = connection.execute(_BY_ID, {"identity": match[1]}).one_or_none()
        except sa.exc.SQLAlchemyError as error:
            raise StorageError(f"the tokens cannot be read: {_cause(error)}", retry=True) from error
        given = hashlib.sha256(match[2].encode()).digest()
        same = hmac.compare_digest(given, row.hash if row is not None else _NOBODY)
        if row is None or not same or row.revoked_at is not None:
            return None
        if row.expires_at is not None and row.expires_at <= (timing.now() if now is None else now):
            return None
        return Grant(row.id, row.name, frozenset(_texts(row.scopes)), _texts(row.regions))

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def _write(self, statement: sa.Insert | sa.Update) -> int:
        try:
            with self._engine.begin() as connection:
                return connection.execute(statement).rowcount
        except sa.exc.SQLAlchemyError as error:
            raise StorageError(f"the tokens cannot be written: {_cause(error)}", retry=True) from error


_BY_ID = sa.select(_tokens).where(_tokens.c.id == sa.bindparam("identity"))


def _prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")  # a writer in another process never keeps a request waiting
    cursor.execute("PRAGMA synchronous=FULL")  # a revocation that was confirmed holds after a power cut
    cursor.close()


def _cause(error: sa.exc.SQLAlchemyError) -> str:
    """Return the database's own words: SQLAlchemy's would print the statement with its parameters."""
    return str(error.orig) if isinstance(error, sa.exc.DBAPIError) else type(error).__name__


def _texts(raw: str) -> tuple[str, ...]:
    return msgspec.json.decode(raw, type=tuple[str, ...])
