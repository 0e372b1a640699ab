"""Gateways, the tokens by which they enrol, and the versions of their configuration. Not who may change them."""

import hashlib
import secrets
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from headend.state.rows import put
from headend.state.store import State
from headend.state.tables import configs, enrolment_tokens, gateways
from metering import timing

ConfigState = Literal["offered", "applied", "refused", "rolled-back"]


class Gateway(msgspec.Struct, frozen=True):
    """An enrolled gateway. `fingerprint` is the SHA-256 of its certificate in hex; instants in microseconds, UTC."""

    id: str
    enrolled_at: int
    fingerprint: str
    epoch: str = ""
    boot: str = ""
    status: str = ""
    last_seen: int | None = None
    config_version: int = 0  # the one that it has applied; 0: none


class Config(msgspec.Struct, frozen=True):
    """One version of a gateway's configuration. `body` never changes once it was offered."""

    gateway: str
    version: int
    body: bytes
    state: ConfigState


class Gateways:
    """The enrolled gateways. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, gateway: str) -> Gateway | None:
        """Return the gateway, or None where none of that id is enrolled."""
        query = sa.select(gateways).where(gateways.c.id == gateway)
        row = self._state.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else Gateway(*row)

    def list(self) -> list[Gateway]:
        """Return all gateways in the order of their ids."""
        rows = self._state.read(lambda connection: connection.execute(sa.select(gateways)).all())
        return sorted((Gateway(*row) for row in rows), key=lambda each: each.id)

    def seen(self, gateway: str, *, epoch: str, boot: str, status: str, at: int) -> bool:
        """Note what a gateway said of itself. Older words change nothing; return False then, or if it is unknown."""
        newer = sa.or_(gateways.c.last_seen.is_(None), gateways.c.last_seen <= at)
        statement = sa.update(gateways).where(gateways.c.id == gateway, newer)
        return self._changed(statement.values(epoch=epoch, boot=boot, status=status, last_seen=at))

    def applied(self, gateway: str, version: int) -> bool:
        """Note the version of its configuration that a gateway runs with. Return False for an unknown gateway."""
        return self._changed(sa.update(gateways).where(gateways.c.id == gateway).values(config_version=version))

    def _changed(self, statement: sa.Update) -> bool:
        return self._state.write(lambda connection: connection.execute(statement).rowcount) > 0


class Enrolment:
    """One-time tokens: made here, shown once, kept as SHA-256 (256 random bits need no slow hash)."""

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

    def use(self, token: str, fingerprint: str, now: int | None = None) -> Gateway | None:
        """Spend a token: the gateway is enrolled with this certificate pinned, in one transaction.

        The same token with the same certificate again gives the same answer: an answer may get lost on its way. None
        where the token is unknown, expired, or spent by another certificate.
        """
        at = timing.now() if now is None else now
        return self._state.write(lambda connection: _use(connection, _hash(token), fingerprint, at))


def _use(connection: sa.Connection, digest: bytes, fingerprint: str, at: int) -> Gateway | None:
    table = enrolment_tokens
    row = connection.execute(sa.select(table).where(table.c.hash == digest)).one_or_none()
    if row is None:
        return None
    if row.used_at is not None:
        found = connection.execute(sa.select(gateways).where(gateways.c.id == row.gateway)).one_or_none()
        same = row.used_by == fingerprint and found is not None and found.fingerprint == fingerprint
        return Gateway(*found) if found is not None and same else None
    if row.expires_at <= at:
        return None
    connection.execute(sa.update(table).where(table.c.hash == digest).values(used_at=at, used_by=fingerprint))
    gateway = Gateway(row.gateway, at, fingerprint)
    put(connection, gateways, msgspec.structs.asdict(gateway))
    return gateway


class Configs:
    """Versions of each gateway's configuration, counted up from 1."""

    def __init__(self, state: State) -> None:
        self._state = state

    def offer(self, gateway: str, body: bytes) -> Config:
        """Keep a new version and return it. The newest version's body again is that version."""
        return self._state.write(lambda connection: _offer(connection, gateway, body))

    def newest(self, gateway: str) -> Config | None:
        """Return the newest version, or None where there is none."""
        return self._state.read(lambda connection: _newest(connection, gateway))

    def get(self, gateway: str, version: int) -> Config | None:
        """Return one version, or None where there is none."""
        query = sa.select(configs).where(configs.c.gateway == gateway, configs.c.version == version)
        return _config(self._state.read(lambda connection: connection.execute(query).one_or_none()))

    def mark(self, gateway: str, version: int, state: ConfigState) -> bool:
        """Note what became of a version. Return False where there is none."""
        key = (configs.c.gateway == gateway, configs.c.version == version)
        statement = sa.update(configs).where(*key).values(state=state)
        return self._state.write(lambda connection: connection.execute(statement).rowcount) > 0


def _offer(connection: sa.Connection, gateway: str, body: bytes) -> Config:
    last = _newest(connection, gateway)
    if last is not None and last.body == body and last.state == "offered":
        return last
    new = Config(gateway, last.version + 1 if last is not None else 1, body, "offered")
    put(connection, configs, msgspec.structs.asdict(new))
    return new


def _newest(connection: sa.Connection, gateway: str) -> Config | None:
    query = sa.select(configs).where(configs.c.gateway == gateway).order_by(configs.c.version.desc()).limit(1)
    return _config(connection.execute(query).one_or_none())


def _config(row: Any) -> Config | None:  # noqa: ANN401 - a row has the type of its query
    return None if row is None else Config(row.gateway, row.version, bytes(row.body), row.state)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
