"""The registry as the database has it, read: a view in memory that is brought up to date by what changed. No writing.

A head-end asks for far more readings than somebody changes an installation. So all is answered from memory, and a
`refresh` reads one number, and the rows that are newer than what is known. Who writes stands in `registrar`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from headend.registry import MemoryRegistry
from headend.state.gateways import Gateway, gateway_of
from headend.state.registry_tables import assignments, devices, gateways, installations, points
from headend.state.revision import current
from headend.state.store import State
from metering.model import Device, Installation, MeterPoint

REFRESH_S = 2.0  # so much later at most a head-end knows what another process has changed, as long as the state answers


class _News(NamedTuple):
    revision: int
    points: list[MeterPoint]
    devices: list[Device]
    installations: list[Installation]
    assigned: dict[str, frozenset[str]]
    gateways: list[Gateway]


class _View(NamedTuple):
    revision: int
    memory: MemoryRegistry
    assigned: dict[str, frozenset[str]]  # device -> the gateways that it was ever assigned to
    gateways: dict[str, Gateway]


class DatabaseRegistry:
    """`metering.ports.Registry` over the state, with its gateways. What others write is seen after `refresh`.

    Threads may ask while another one refreshes: a view is put in the place of the last one as a whole.
    """

    def __init__(self, state: State) -> None:
        """Read all of it. Raises `StorageError`."""
        self._state = state
        self._view = _View(-1, MemoryRegistry((), (), ()), {}, {})
        self.refresh()

    def refresh(self) -> bool:
        """Take up what changed since the last time; tell whether anything did. Blocking; raises `StorageError`."""
        old = self._view
        news = self._state.read(lambda connection: _news(connection, old.revision))
        if news is None:
            return False
        new = _View(
            news.revision,
            old.memory.updated(news.points, news.devices, news.installations),
            old.assigned | news.assigned,
            dict(sorted((old.gateways | {each.id: each for each in news.gateways}).items())),
        )
        if new.revision > self._view.revision:  # another thread may have been faster
            self._view = new
        return True

    def admits(self, gateway: str) -> bool:
        """Tell whether a gateway may send: it is known and not revoked."""
        found = self._view.gateways.get(gateway)
        return found is not None and found.revoked_at is None

    def was_assigned(self, gateway: str, device: str) -> bool:
        """Tell whether a device is, or was once, assigned to a gateway."""
        return gateway in self._view.assigned.get(device, ())

    def gateway(self, gateway: str) -> Gateway | None:
        """Return a gateway as it stood when it was last created, enrolled or revoked; None where there is none."""
        return self._view.gateways.get(gateway)

    def gateways(self) -> Sequence[Gateway]:
        """Return all gateways, in the order of their ids."""
        return list(self._view.gateways.values())

    def points(self, regions: Sequence[str]) -> Iterable[MeterPoint]:
        """Return the meter points inside these region prefixes (`""` is everywhere), in the order of their ids."""
        return self._view.memory.points(regions)

    def point(self, point_id: str) -> MeterPoint | None:
        """Return the meter point, or None where there is none."""
        return self._view.memory.point(point_id)

    def devices(self, regions: Sequence[str]) -> Iterable[Device]:
        """Return the devices that are or were installed inside these region prefixes, in the order of their ids."""
        return self._view.memory.devices(regions)

    def device(self, device_id: str) -> Device | None:
        """Return the device, or None where there is none."""
        return self._view.memory.device(device_id)

    def installations_at(self, point_id: str) -> Sequence[Installation]:
        """Return all installations at a meter point in the order of `valid_from`."""
        return self._view.memory.installations_at(point_id)

    def installations_of(self, device_id: str) -> Sequence[Installation]:
        """Return all installations of a device in the order of `valid_from`."""
        return self._view.memory.installations_of(device_id)


def _news(connection: sa.Connection, known: int) -> _News | None:
    now = current(connection)
    if now == known:
        return None
    changed = devices.c.revision > known
    bodies = sa.select(installations.c.body).join(devices, devices.c.id == installations.c.device).where(changed)
    pairs = sa.select(assignments.c.device, assignments.c.gateway).join(devices, devices.c.id == assignments.c.device)
    assigned: dict[str, frozenset[str]] = {}
    for device, gateway in connection.execute(pairs.where(changed)):
        assigned[device] = assigned.get(device, frozenset()) | {gateway}
    return _News(
        now,
        [point_of(row) for row in connection.execute(sa.select(points).where(points.c.revision > known))],
        [device_of(row) for row in connection.execute(sa.select(devices).where(changed))],
        [msgspec.json.decode(body, type=Installation) for body in connection.execute(bodies).scalars()],
        assigned,
        [gateway_of(row) for row in connection.execute(sa.select(gateways).where(gateways.c.revision > known))],
    )


def point_of(row: Any) -> MeterPoint:  # noqa: ANN401 - a row has the type of its query
    """Return the meter point of a row of its table."""
    return MeterPoint(*row[: len(MeterPoint.__struct_fields__)])


def device_of(row: Any) -> Device:  # noqa: ANN401 - a row has the type of its query
    """Return the device of a row of its table."""
    return Device(*row[: len(Device.__struct_fields__)])
