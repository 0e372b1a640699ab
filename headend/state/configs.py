"""The versions of each gateway's configuration, counted up from 1. Not what stands in them, nor who sends them."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from headend.audit.chain import Entry
from headend.audit.chain import append as audit
from headend.state.registry_tables import configs, gateways
from headend.state.rows import put
from headend.state.store import State

Final = Literal["applied", "refused", "rolled-back"]
ConfigState = Literal["offered", "superseded"] | Final
Answer = tuple[str, int, Final, str]  # gateway, version, what became of it, and why


class Config(msgspec.Struct, frozen=True):
    """One version of a gateway's configuration. `body` (TOML) never changes; `at` is in microseconds, UTC."""

    gateway: str
    version: int
    body: bytes
    state: ConfigState
    at: int
    reason: str = ""


class Configs:
    """All versions. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def offer(self, gateway: str, body: bytes, at: int, entry: Entry) -> Config:
        """Keep a new version with the audit's entry, and return it. What is offered already is that version."""
        return self._state.write(lambda connection: _offer(connection, gateway, body, at, entry))

    def newest(self, gateway: str, limit: int) -> Sequence[Config]:
        """Return the newest versions, the newest first."""
        query = sa.select(configs).where(configs.c.gateway == gateway).order_by(configs.c.version.desc()).limit(limit)
        return [_config(row) for row in self._state.read(lambda connection: connection.execute(query).all())]

    def offered(self, limit: int) -> list[tuple[str, int]]:
        """Return the versions without an answer, by gateway."""
        query = sa.select(configs.c.gateway, configs.c.version).where(configs.c.state == "offered").limit(limit)
        return [(row.gateway, row.version) for row in self._state.read(lambda c: c.execute(query).all())]

    def get(self, gateway: str, version: int) -> Config | None:
        """Return one version, or None where there is none."""
        query = sa.select(configs).where(configs.c.gateway == gateway, configs.c.version == version)
        row = self._state.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _config(row)

    def answered(self, answers: Sequence[Answer]) -> int:
        """Note what became of versions, all at once; return how many of them are known."""
        return self._state.write(lambda connection: sum(_answered(connection, answer) for answer in answers))


def _offer(connection: sa.Connection, gateway: str, body: bytes, at: int, entry: Entry) -> Config:
    query = sa.select(configs).where(configs.c.gateway == gateway).order_by(configs.c.version.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    last = _config(row) if row is not None else None
    if last is not None and last.body == body and last.state == "offered":
        return last
    waiting = (configs.c.gateway == gateway, configs.c.state == "offered")
    connection.execute(sa.update(configs).where(*waiting).values(state="superseded"))
    new = Config(gateway, last.version + 1 if last is not None else 1, body, "offered", at)
    put(connection, configs, msgspec.structs.asdict(new))
    audit(connection, [entry])
    return new


def _answered(connection: sa.Connection, answer: Answer) -> int:
    gateway, version, state, reason = answer
    key = (configs.c.gateway == gateway, configs.c.version == version)
    found = connection.execute(sa.update(configs).where(*key).values(state=state, reason=reason)).rowcount
    if found and state == "applied":
        statement = sa.update(gateways).where(gateways.c.id == gateway).values(config_version=version)
        connection.execute(statement)
    return found


def _config(row: Any) -> Config:  # noqa: ANN401 - a row has the type of its query
    return Config(row.gateway, row.version, bytes(row.body), row.state, row.at, row.reason)
