"""The registry in the database: `metering.ports.Registry` over its tables, and how they are filled.

What is asked is answered from the registry in memory, which is read anew when the tables have changed: a head-end asks
far more often than somebody changes an installation.
"""

from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from headend.registry import MemoryRegistry
from headend.state.store import State
from headend.state.tables import devices, installations, points
from metering.model import Device, Installation, MeterPoint


class DatabaseRegistry:
    """`metering.ports.Registry` over the state. What other processes write is seen after `refresh`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.refresh()

    def refresh(self) -> None:
        """Read all of it. Raises `StorageError`."""
        self._memory = self._state.read(_read)

    def replace(
        self,
        all_points: Iterable[MeterPoint],
        all_devices: Iterable[Device],
        all_installations: Iterable[Installation],
    ) -> None:
        """Put these in the place of all that is there, at once.

        Raises:
            ConfigError: they contradict each other, as `MemoryRegistry` says; nothing has changed then.
            StorageError: the database.

        """
        lists = list(all_points), list(all_devices), list(all_installations)
        memory = MemoryRegistry(*lists)
        self._state.write(lambda connection: _write(connection, *lists))
        self._memory = memory

    def points(self, regions: Sequence[str]) -> Iterable[MeterPoint]:
        """Return the meter points inside these region prefixes (`""` is everywhere), in the order of their ids."""
        return self._memory.points(regions)

    def point(self, point_id: str) -> MeterPoint | None:
        """Return the meter point, or None where there is none."""
        return self._memory.point(point_id)

    def devices(self, regions: Sequence[str]) -> Iterable[Device]:
        """Return the devices that are or were installed inside these region prefixes, in the order of their ids."""
        return self._memory.devices(regions)

    def device(self, device_id: str) -> Device | None:
        """Return the device, or None where there is none."""
        return self._memory.device(device_id)

    def installations_at(self, point_id: str) -> Sequence[Installation]:
        """Return all installations at a meter point in the order of `valid_from`."""
        return self._memory.installations_at(point_id)

    def installations_of(self, device_id: str) -> Sequence[Installation]:
        """Return all installations of a device in the order of `valid_from`."""
        return self._memory.installations_of(device_id)


def _read(connection: sa.Connection) -> MemoryRegistry:
    return MemoryRegistry(
        (MeterPoint(*row) for row in connection.execute(sa.select(points))),
        (Device(*row) for row in connection.execute(sa.select(devices))),
        (
            msgspec.json.decode(body, type=Installation)
            for body in connection.execute(sa.select(installations.c.body)).scalars()
        ),
    )


def _write(
    connection: sa.Connection,
    all_points: list[MeterPoint],
    all_devices: list[Device],
    all_installations: list[Installation],
) -> None:
    for table in (installations, devices, points):
        connection.execute(sa.delete(table))
    for table, items in ((points, all_points), (devices, all_devices)):
        if items:
            connection.execute(sa.insert(table), [msgspec.structs.asdict(each) for each in items])
    if all_installations:
        rows = [
            {
                "device": each.device,
                "valid_from": each.valid_from,
                "point": each.point,
                "body": msgspec.json.encode(each).decode(),
            }
            for each in all_installations
        ]
        connection.execute(sa.insert(installations), rows)
