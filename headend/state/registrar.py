"""How the registry in the database is changed: points, devices, installations, and whole fleets at once. No reading.

Every change is one transaction with its check: a point has one device at a time, a device hangs at one point at a time.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from headend.registry import MemoryRegistry
from headend.state import moved
from headend.state.assignments import Assignment, assign
from headend.state.gateways import create_gateway
from headend.state.registry import device_of, point_of
from headend.state.registry_tables import assignments, devices, gateways, installations, points
from headend.state.revision import bump
from headend.state.rows import put
from headend.state.store import State
from metering.model import Device, Installation, MeterPoint

CHUNK = 500  # rows of one statement


class Wanted(msgspec.Struct, frozen=True):
    """A fleet as a file describes it. `earlier` names, for a device, the gateways that read it before."""

    gateways: Sequence[str]
    points: Sequence[MeterPoint]
    devices: Sequence[Device]  # with their gateways
    installations: Sequence[Installation]
    earlier: Mapping[str, Sequence[str]] = {}


class Registrar:
    """Changes the registry. All methods raise `StorageError`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def put_point(self, point: MeterPoint, now: int, actor: str) -> None:
        """Add a meter point, or change it. `actor` is who does, as the audit has it.

        Raises:
            ConfigError: it would leave a region for which a hold stands; nothing has changed then.

        """
        self._state.write(lambda connection: _put_point(connection, point, now, actor))

    def put_device(self, device: Device, installation: Installation | None = None) -> None:
        """Add a device, or change it, with the installation that begins when it says. Its gateway stays as it is.

        Raises:
            ConfigError: the installation contradicts another, or names an unknown point; nothing has changed then.

        """
        self._state.write(lambda connection: _put_device(connection, device, installation))

    def take_in(self, wanted: Wanted, now: int, actor: str = "head-end") -> int:
        """Add and change what a fleet's description names, at once; leave the rest. Return how many devices changed.

        A device whose gateway is another one than before is assigned to it from `now` on.

        Raises:
            ConfigError: it contradicts itself or what is there; nothing has changed then.

        """
        return self._state.write(lambda connection: _take_in(connection, wanted, now, actor))


def _put_point(connection: sa.Connection, point: MeterPoint, now: int, actor: str) -> None:
    known = connection.execute(sa.select(points).where(points.c.id == point.id)).one_or_none()
    if known is not None:
        moved.tell(connection, [(point_of(known), point)], now, actor)
    put(connection, points, {**msgspec.structs.asdict(point), "revision": bump(connection)})


def _put_device(connection: sa.Connection, device: Device, installation: Installation | None) -> None:
    number = bump(connection)
    known = connection.execute(sa.select(devices).where(devices.c.id == device.id)).one_or_none()
    device = msgspec.structs.replace(device, gateway=known.gateway if known is not None else "")
    put(connection, devices, {**msgspec.structs.asdict(device), "revision": number})
    if installation is None:
        return
    near = _installations(
        connection,
        sa.or_(installations.c.device == installation.device, installations.c.point == installation.point),
    )
    near = [each for each in near if (each.device, each.valid_from) != (installation.device, installation.valid_from)]
    here = sa.select(points).where(points.c.id.in_({each.point for each in (*near, installation)}))
    names = sa.select(devices).where(devices.c.id.in_({each.device for each in (*near, installation)}))
    MemoryRegistry(
        [point_of(row) for row in connection.execute(here)],
        [device_of(row) for row in connection.execute(names)],
        [*near, installation],
    )
    put(connection, installations, _row(installation))


def _take_in(connection: sa.Connection, wanted: Wanted, now: int, actor: str) -> int:
    number = bump(connection)
    known_gateways = set(connection.execute(sa.select(gateways.c.id)).scalars())
    for each in wanted.gateways:
        if each not in known_gateways:
            create_gateway(connection, each, now, number)
    old_points = {row.id: point_of(row) for row in connection.execute(sa.select(points))}
    old_devices = {row.id: device_of(row) for row in connection.execute(sa.select(devices))}
    held = {(each.device, each.valid_from): each for each in _installations(connection, sa.true())}
    now_held = held | {(each.device, each.valid_from): each for each in wanted.installations}
    MemoryRegistry(
        (old_points | {each.id: each for each in wanted.points}).values(),
        (old_devices | {each.id: each for each in wanted.devices}).values(),
        now_held.values(),
    )
    moved.tell(connection, [(old_points[new.id], new) for new in wanted.points if new.id in old_points], now, actor)
    hung = [each for each in wanted.installations if held.get((each.device, each.valid_from)) != each]
    given = _assign_all(connection, wanted, now)
    touched = {each.device for each in hung} | given
    new_devices = [each for each in wanted.devices if each.id in touched or old_devices.get(each.id) != each]
    _replace(connection, points, [each for each in wanted.points if old_points.get(each.id) != each], number)
    _replace(connection, devices, new_devices, number)
    for first in range(0, len(hung), CHUNK):
        some = hung[first : first + CHUNK]
        keys = [(each.device, each.valid_from) for each in some]
        where = sa.tuple_(installations.c.device, installations.c.valid_from).in_(keys)
        connection.execute(sa.delete(installations).where(where))
        connection.execute(sa.insert(installations), [_row(each) for each in some])
    return len(new_devices)


def _assign_all(connection: sa.Connection, wanted: Wanted, now: int) -> set[str]:
    """Bring assignments in line with a description; return the devices of which any changed."""
    held: dict[str, list[Assignment]] = {}
    for row in connection.execute(sa.select(assignments).order_by(assignments.c.since)):
        held.setdefault(row.device, []).append(Assignment(row.device, row.gateway, row.since, row.until))
    begun = {each.device: each.valid_from for each in reversed(wanted.installations)}
    rows: list[dict[str, str | int | None]] = []
    changed: set[str] = set()
    for device in wanted.devices:
        mine = held.get(device.id, [])
        first = mine[0].since if mine else begun.get(device.id, now)
        for name in reversed(wanted.earlier.get(device.id, ())):
            if all(each.gateway != name for each in mine):
                rows.append({"device": device.id, "gateway": name, "since": first - 1, "until": first})
                first -= 1
        if not mine:
            rows.append(
                {"device": device.id, "gateway": device.gateway, "since": begun.get(device.id, now), "until": None}
            )
        elif mine[-1].until is not None or mine[-1].gateway != device.gateway:
            assign(connection, device.id, device.gateway, now)
            changed.add(device.id)
    changed.update(str(each["device"]) for each in rows)
    for start in range(0, len(rows), CHUNK):
        connection.execute(sa.insert(assignments), rows[start : start + CHUNK])
    return changed


def _replace(
    connection: sa.Connection, table: sa.Table, items: Sequence[MeterPoint] | Sequence[Device], number: int
) -> None:
    """Put rows in the place of those with the same ids. An update keeps what refers to them."""
    known = set(connection.execute(sa.select(table.c.id)).scalars())
    new = [{**msgspec.structs.asdict(each), "revision": number} for each in items if each.id not in known]
    for start in range(0, len(new), CHUNK):
        connection.execute(sa.insert(table), new[start : start + CHUNK])
    for each in items:
        if each.id in known:
            values = {**msgspec.structs.asdict(each), "revision": number}
            connection.execute(sa.update(table).where(table.c.id == each.id).values(values))


def _installations(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Iterable[Installation]:
    bodies = connection.execute(sa.select(installations.c.body).where(where)).scalars()
    return [msgspec.json.decode(body, type=Installation) for body in bodies]


def _row(each: Installation) -> dict[str, str | int]:
    return {
        "device": each.device,
        "valid_from": each.valid_from,
        "point": each.point,
        "body": msgspec.json.encode(each).decode(),
    }
