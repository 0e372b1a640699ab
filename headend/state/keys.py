"""Meter keys as the head-end has them: wrapped bundles, whose lease they are, how far counters were reserved.

It can open none of the bundles. What is possible when stands in `headend.key_leases`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from headend.audit.chain import Entry
from headend.audit.chain import append as audit
from headend.key_leases import Lease
from headend.state.registry_tables import devices
from headend.state.rows import put
from headend.state.store import State
from headend.state.tables import counters, key_bundles, key_leases, transport_keys


class Bundle(msgspec.Struct, frozen=True):
    """A device's keys, wrapped to one gateway. `refused` is why that gateway did not take them."""

    device: str
    gateway: str
    version: int
    body: bytes
    refused: str = ""


class Reservation(NamedTuple):
    """A report of a gateway: the values of this counter below `until` may have been used."""

    gateway: str
    device: str
    name: str
    until: int


class Due(NamedTuple):
    """A lease that is to move on: the gateway that its device is assigned to, and the wrapped keys for that."""

    lease: Lease
    gateway: str
    version: int  # 0: there are no keys for that gateway, or it refused them


class KeyBook:
    """All of it. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    # --- counters -----------------------------------------------------------------------------------------------------

    def report(self, reports: Sequence[Reservation], move: Callable[[Lease, Reservation], Lease]) -> None:
        """Keep the highest reservation of each counter; `move` what it means for the lease. All at once."""

        def work(connection: sa.Connection) -> None:
            for each in reports:
                _report(connection, each, move)

        self._state.write(work)

    def floors(self, gateway: str) -> dict[str, int]:
        """Return, for each device of which a gateway ever reported counters, how far anybody reserved them."""
        here = sa.select(counters.c.device).where(counters.c.gateway == gateway)
        query = (
            sa.select(counters.c.device, sa.func.max(counters.c.until))
            .where(counters.c.device.in_(here))
            .group_by(counters.c.device)
        )
        rows = self._state.read(lambda connection: connection.execute(query).all())
        return {row[0]: row[1] for row in rows}

    # --- transport keys -----------------------------------------------------------------------------------------------

    def put_transport(self, keys: Sequence[tuple[str, str, int]]) -> None:
        """Keep gateways' public keys: gateway, hex digits, when it was told."""

        def work(connection: sa.Connection) -> None:
            for gateway, public, at in keys:
                put(connection, transport_keys, {"gateway": gateway, "public": public, "at": at})

        self._state.write(work)

    def transport(self, gateway: str) -> str | None:
        """Return a gateway's public key in hex digits; None where it told none."""
        query = sa.select(transport_keys.c.public).where(transport_keys.c.gateway == gateway)
        return self._state.read(lambda connection: connection.execute(query).scalar_one_or_none())

    # --- bundles and leases -------------------------------------------------------------------------------------------

    def put_bundle(self, bundle: Bundle, entry: Entry) -> bool:
        """Keep wrapped keys, with the audit's entry; False where the same version or a newer one is here."""
        return self._state.write(lambda connection: _put_bundle(connection, bundle, entry))

    def bundle(self, device: str, gateway: str) -> Bundle | None:
        """Return the wrapped keys of a device for a gateway; None where there are none."""
        return self._state.read(lambda connection: _bundle(connection, device, gateway))

    def refuse(self, device: str, gateway: str, version: int, reason: str) -> None:
        """Note why a gateway did not take keys."""
        table = key_bundles.c
        key = (table.device == device, table.gateway == gateway, table.version == version)
        statement = sa.update(key_bundles).where(*key).values(refused=reason)
        self._state.write(lambda connection: connection.execute(statement))

    def lease(self, device: str) -> Lease:
        """Return a device's lease; a free one where nothing is known."""
        return self._state.read(lambda connection: _lease(connection, device))

    def change(self, device: str, move: Callable[[Lease], Lease], entry: Entry | None = None) -> Lease:
        """Move a lease on in one transaction, with the audit's entry, and return it."""
        return self._state.write(lambda connection: _change(connection, device, move, entry))

    def to_move(self, limit: int) -> list[Due]:
        """Return leases whose holder is not the gateway that the device is assigned to, or for which newer keys came.

        Those under way are left out: they move on by the gateway's answer.
        """
        wrapped, lease = key_bundles.c, key_leases.c
        here = sa.and_(wrapped.device == lease.device, wrapped.gateway == devices.c.gateway, wrapped.refused == "")
        version = sa.func.coalesce(wrapped.version, 0)
        newer = sa.and_(lease.holder == devices.c.gateway, version > lease.version)
        where = sa.or_(
            sa.and_(lease.state == "free", version > 0),
            sa.and_(lease.state.in_(("offered", "held", "renewing")), lease.holder != devices.c.gateway),
            sa.and_(lease.state == "held", newer),
        )
        query = (
            sa.select(key_leases, devices.c.gateway.label("assigned"), version.label("wrapped"))
            .join(devices, devices.c.id == lease.device)
            .outerjoin(key_bundles, here)
            .where(where)
            .order_by(lease.device)
            .limit(limit)
        )
        rows = self._state.read(lambda connection: connection.execute(query).all())
        return [Due(_lease_of(row), row.assigned, row.wrapped) for row in rows]

    def to_ask(self, now: int, limit: int) -> Sequence[Lease]:
        """Return leases whose holder is to be asked (once more), the longest waiting first."""
        query = sa.select(key_leases).where(key_leases.c.next_at <= now).order_by(key_leases.c.next_at).limit(limit)
        return [_lease_of(row) for row in self._state.read(lambda connection: connection.execute(query).all())]

    def assigned(self, device: str) -> str | None:
        """Return the gateway that a device is assigned to; None where the device is not known."""
        query = sa.select(devices.c.gateway).where(devices.c.id == device)
        return self._state.read(lambda connection: connection.execute(query).scalar_one_or_none())


def _report(connection: sa.Connection, each: Reservation, move: Callable[[Lease, Reservation], Lease]) -> None:
    query = sa.select(counters.c.until).where(counters.c.name == each.name)
    known = connection.execute(query).scalar_one_or_none()
    if known is None or known < each.until:
        put(connection, counters, each._asdict())
    before = _lease(connection, each.device)
    after = move(before, each)
    if after != before:
        put(connection, key_leases, msgspec.structs.asdict(after))


def _put_bundle(connection: sa.Connection, bundle: Bundle, entry: Entry) -> bool:
    known = _bundle(connection, bundle.device, bundle.gateway)
    if known is not None and known.version >= bundle.version:
        return known.version == bundle.version and known.body == bundle.body
    put(connection, key_bundles, msgspec.structs.asdict(bundle))
    if connection.execute(sa.select(key_leases).where(key_leases.c.device == bundle.device)).first() is None:
        put(connection, key_leases, msgspec.structs.asdict(Lease(bundle.device)))
    audit(connection, [entry])
    return True


def _bundle(connection: sa.Connection, device: str, gateway: str) -> Bundle | None:
    key = (key_bundles.c.device == device, key_bundles.c.gateway == gateway)
    row = connection.execute(sa.select(key_bundles).where(*key)).one_or_none()
    return None if row is None else Bundle(row.device, row.gateway, row.version, bytes(row.body), row.refused)


def _change(connection: sa.Connection, device: str, move: Callable[[Lease], Lease], entry: Entry | None) -> Lease:
    before = _lease(connection, device)
    after = move(before)
    if after != before:
        put(connection, key_leases, msgspec.structs.asdict(after))
    if entry is not None:
        audit(connection, [entry])
    return after


def _lease(connection: sa.Connection, device: str) -> Lease:
    row = connection.execute(sa.select(key_leases).where(key_leases.c.device == device)).one_or_none()
    return Lease(device) if row is None else _lease_of(row)


def _lease_of(row: Any) -> Lease:  # noqa: ANN401 - a row has the type of its query
    return Lease(*row[: len(Lease.__struct_fields__)])
