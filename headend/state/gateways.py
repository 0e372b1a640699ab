"""Gateways as the head-end knows them. Not how they enrol, nor who may change them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from headend.state.registry_tables import certificates, enrolment_tokens, gateways
from headend.state.revision import bump
from headend.state.rows import put
from headend.state.store import State


class Gateway(msgspec.Struct, frozen=True):
    """A gateway. `fingerprint` is the SHA-256 of its certificate in hex; instants in microseconds, UTC.

    One that speaks with a broker without certificates never enrols. A revoked one is nobody until it enrols anew.
    """

    id: str
    created_at: int
    enrolled_at: int | None = None
    fingerprint: str = ""
    revoked_at: int | None = None
    epoch: str = ""
    boot: str = ""
    status: str = ""
    last_seen: int | None = None
    config_version: int = 0  # the one that it has applied; 0: none


class Sighting(NamedTuple):
    """What a gateway said of itself last; `status` is online or offline, `at` our instant in microseconds, UTC."""

    gateway: str
    epoch: str
    boot: str
    status: str
    at: int


class Gateways:
    """The enrolled gateways. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, gateway: str) -> Gateway | None:
        """Return the gateway, or None where none of that id is enrolled."""
        query = sa.select(gateways).where(gateways.c.id == gateway)
        row = self._state.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else gateway_of(row)

    def create(self, gateway: str, now: int) -> bool:
        """Add a gateway, or let a revoked one send again. Return False where it is there already."""
        return self._state.write(lambda connection: _create(connection, gateway, now))

    def revoke(self, gateway: str, now: int) -> bool:
        """End a gateway, its certificates and its unused tokens. Return False where there is none of that id."""
        return self._state.write(lambda connection: _revoke(connection, gateway, now))

    def list(self) -> list[Gateway]:
        """Return all gateways in the order of their ids."""
        rows = self._state.read(lambda connection: connection.execute(sa.select(gateways)).all())
        return sorted((gateway_of(row) for row in rows), key=lambda each: each.id)

    def seen(self, sightings: Sequence[Sighting]) -> int:
        """Note what gateways said of themselves; return how many words counted: older ones, of unknown ones do not."""
        return self._state.write(lambda connection: sum(_saw(connection, each) for each in sightings))

    def applied(self, gateway: str, version: int) -> bool:
        """Note the version of its configuration that a gateway runs with. Return False for an unknown gateway."""
        return self._changed(sa.update(gateways).where(gateways.c.id == gateway).values(config_version=version))

    def _changed(self, statement: sa.Update) -> bool:
        return self._state.write(lambda connection: connection.execute(statement).rowcount) > 0


def gateway_of(row: Any) -> Gateway:  # noqa: ANN401 - a row has the type of its query
    """Return the gateway of a row of its table."""
    return Gateway(*row[: len(Gateway.__struct_fields__)])


def create_gateway(connection: sa.Connection, gateway: str, now: int, number: int) -> None:
    """Write a new gateway within a transaction; `number` is the registry's revision."""
    put(connection, gateways, {**msgspec.structs.asdict(Gateway(gateway, now)), "revision": number})


def _saw(connection: sa.Connection, word: Sighting) -> int:
    newer = sa.or_(gateways.c.last_seen.is_(None), gateways.c.last_seen <= word.at)
    statement = sa.update(gateways).where(gateways.c.id == word.gateway, newer)
    values = {"epoch": word.epoch, "boot": word.boot, "status": word.status, "last_seen": word.at}
    return connection.execute(statement.values(values)).rowcount


def _create(connection: sa.Connection, gateway: str, now: int) -> bool:
    found = connection.execute(sa.select(gateways).where(gateways.c.id == gateway)).one_or_none()
    if found is None:
        create_gateway(connection, gateway, now, bump(connection))
        return True
    if found.revoked_at is None:
        return False
    values = {"revoked_at": None, "enrolled_at": None, "fingerprint": "", "revision": bump(connection)}
    connection.execute(sa.update(gateways).where(gateways.c.id == gateway).values(values))
    return True


def _revoke(connection: sa.Connection, gateway: str, now: int) -> bool:
    values = {"revoked_at": sa.func.coalesce(gateways.c.revoked_at, now), "revision": bump(connection)}
    done = connection.execute(sa.update(gateways).where(gateways.c.id == gateway).values(values)).rowcount
    open_ones = (certificates.c.gateway == gateway, certificates.c.revoked_at.is_(None))
    connection.execute(sa.update(certificates).where(*open_ones).values(revoked_at=now))
    unused = (enrolment_tokens.c.gateway == gateway, enrolment_tokens.c.used_at.is_(None))
    connection.execute(sa.delete(enrolment_tokens).where(*unused))
    return done > 0
