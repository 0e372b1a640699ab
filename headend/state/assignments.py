"""Which gateway a device is assigned to, and when: one gateway at any instant. Whose keys it uses is not here."""

import msgspec
import sqlalchemy as sa

from headend.state.registry_tables import assignments, devices
from headend.state.revision import bump
from headend.state.store import State


class Assignment(msgspec.Struct, frozen=True):
    """A device at a gateway for a time, half-open: since <= t < until (None: until further notice)."""

    device: str
    gateway: str
    since: int
    until: int | None = None


class Assignments:
    """All assignments, past ones too. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def assign(self, device: str, gateway: str, since: int) -> None:
        """Assign a device from an instant on: what held at it ends there, what was to begin later is dropped.

        What holds at `since` for the same gateway goes on.
        """
        self._state.write(lambda connection: _change(connection, device, gateway, since))

    def end(self, device: str, at: int) -> None:
        """Take a device from its gateway at an instant; what was to begin later is dropped."""
        self._state.write(lambda connection: _change(connection, device, "", at))

    def of(self, device: str) -> list[Assignment]:
        """Return a device's assignments in the order of `since`."""
        return self._list(assignments.c.device == device)

    def at(self, device: str, instant: int) -> str | None:
        """Return the gateway of a device at an instant; None where it had none."""
        for each in self.of(device):
            if each.since <= instant and (each.until is None or instant < each.until):
                return each.gateway
        return None

    def ever(self, gateway: str) -> frozenset[str]:
        """Return all devices that were ever assigned to a gateway: whose readings it may bring."""
        return frozenset(each.device for each in self._list(assignments.c.gateway == gateway))

    def _list(self, where: sa.ColumnElement[bool]) -> list[Assignment]:
        query = sa.select(assignments).where(where).order_by(assignments.c.device, assignments.c.since)
        rows = self._state.read(lambda connection: connection.execute(query).all())
        return [Assignment(row.device, row.gateway, row.since, row.until) for row in rows]


def _change(connection: sa.Connection, device: str, gateway: str, since: int) -> None:
    if gateway:
        assign(connection, device, gateway, since)
    else:
        _cut(connection, device, since)
    values = {"gateway": gateway, "revision": bump(connection)}
    connection.execute(sa.update(devices).where(devices.c.id == device).values(values))


def assign(connection: sa.Connection, device: str, gateway: str, since: int) -> None:
    """Write an assignment within a transaction that also gives the device its new revision."""
    table = assignments
    _cut(connection, device, since)
    before = sa.select(table).where(table.c.device == device, table.c.until == since, table.c.gateway == gateway)
    found = connection.execute(before).one_or_none()
    if found is not None:
        key = (table.c.device == device, table.c.since == found.since)
        connection.execute(sa.update(table).where(*key).values(until=None))
    else:
        connection.execute(sa.insert(table).values(device=device, gateway=gateway, since=since, until=None))


def _cut(connection: sa.Connection, device: str, at: int) -> None:
    table = assignments
    connection.execute(sa.delete(table).where(table.c.device == device, table.c.since >= at))
    holds = sa.or_(table.c.until.is_(None), table.c.until > at)
    connection.execute(sa.update(table).where(table.c.device == device, holds).values(until=at))
