"""The chain of the audit: entries that are only ever appended, each with the hash of the one before. It judges nothing.

An entry is written in the transaction of the decision that it tells: no audit, no decision. The database itself
refuses to change or remove a row; whoever gets around that breaks the hashes, and whoever takes the end away lacks
what the signed heads say (`headend.audit.heads`).
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from headend.state.store import State
from headend.state.tables import audit
from metering.timing import to_rfc3339

MAX_BODY = 256 * 1024  # bytes of an entry's body: a verdict with its inputs, masked frames
PAGE = 500  # entries that are read at once
LOCK = 0x6D67_6175  # PostgreSQL's advisory lock of the chain: appends queue there instead of failing on each other
GENESIS = bytes(32)
_LENGTH = struct.Struct("<I")


class Entry(msgspec.Struct, frozen=True):
    """One decision. `actor` is who took it: `token:<id>`, `key:<id>`, `gateway:<id>`, `rule-set:<name>@<version>`.

    `kind` says what it was (`command-requested`, `approval`, `policy`, ...), `subject` what it was about (a command, a
    meter point), `region` who may read it. `body` is JSON that holds no secret: whoever makes an entry sees to that.
    """

    at: int
    actor: str
    kind: str
    subject: str
    region: str
    body: Mapping[str, object]


class Link(NamedTuple):
    """An entry in its place. `body` is the JSON as it was hashed."""

    seq: int
    at: int
    actor: str
    kind: str
    subject: str
    region: str
    body: str
    prev: bytes
    hash: bytes

    def computed(self) -> bytes:
        """Return the hash that its content should have."""
        return _digest(self.prev, self.seq, self.at, self.actor, self.kind, self.subject, self.region, self.body)


def as_json(link: Link) -> bytes:
    """Return an entry as it is shown to others: its hashes in hex, its body as it was hashed."""
    view = link._asdict() | {
        "at": to_rfc3339(link.at),
        "at_us": link.at,
        "body": msgspec.Raw(link.body.encode()),
        "prev": link.prev.hex(),
        "hash": link.hash.hex(),
    }
    return msgspec.json.encode(view)


class Head(msgspec.Struct, frozen=True):
    """The end of the chain: its last entry's seq and hash (hex). Seq 0: there is none yet."""

    seq: int
    hash: str


def append(connection: sa.Connection, entries: Sequence[Entry]) -> Head:
    """Append entries within the caller's transaction (`State.write`), in their order, and return the new end.

    Raises:
        ValueError: a body is longer than MAX_BODY.

    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    seq, prev = _end(connection)
    rows = []
    for entry in entries:
        body = msgspec.json.encode(entry.body, order="deterministic").decode()
        if len(body) > MAX_BODY:
            raise ValueError(f"an audit entry of {len(body)} bytes; the limit is {MAX_BODY}")
        seq += 1
        made = _digest(prev, seq, entry.at, entry.actor, entry.kind, entry.subject, entry.region, body)
        rows.append(Link(seq, entry.at, entry.actor, entry.kind, entry.subject, entry.region, body, prev, made))
        prev = made
    if rows:
        connection.execute(sa.insert(audit), [row._asdict() for row in rows])
    return Head(seq, prev.hex())


def end(connection: sa.Connection) -> Head:
    """Return the present end of the chain."""
    seq, digest = _end(connection)
    return Head(seq, digest.hex())


class Trail:
    """The audit as it is read. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def write(self, *entries: Entry) -> Head:
        """Append entries in a transaction of their own: for what changes nothing else."""
        return self._state.write(lambda connection: append(connection, entries))

    def head(self) -> Head:
        """Return the present end of the chain."""
        return self._state.read(end)

    def page(self, after: int, limit: int = PAGE, where: sa.ColumnElement[bool] | None = None) -> list[Link]:
        """Return at most `limit` entries after a seq, in order."""
        query = sa.select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
        if where is not None:
            query = query.where(where)
        rows = self._state.read(lambda connection: connection.execute(query).all())
        return [Link(*row)._replace(prev=bytes(row.prev), hash=bytes(row.hash)) for row in rows]

    def all(self) -> Iterator[Link]:
        """Yield every entry in order."""
        after = 0
        while page := self.page(after):
            yield from page
            after = page[-1].seq


def _end(connection: sa.Connection) -> tuple[int, bytes]:
    query = sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return (0, GENESIS) if row is None else (row.seq, bytes(row.hash))


def _digest(prev: bytes, seq: int, at: int, *texts: str) -> bytes:
    """Return SHA-256 over the fields, each behind its length: no two entries have the same bytes."""
    made = hashlib.sha256(prev + struct.pack("<qq", seq, at))
    for text in texts:
        raw = text.encode()
        made.update(_LENGTH.pack(len(raw)) + raw)
    return made.digest()
