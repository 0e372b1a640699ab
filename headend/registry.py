"""The registry in memory: who is supplied where by which meter, and when. It never changes: `updated` makes another."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import TypeVar

from metering.errors import ConfigError
from metering.model import Device, Installation, MeterPoint

EVERYWHERE = ""

_Named = TypeVar("_Named", MeterPoint, Device)


def covers(prefixes: Iterable[str], region: str) -> bool:
    """Tell whether a region lies inside one of the prefixes, by path segment.

    `js/nj` covers `js/nj` and `js/nj/st12`, never `js/njx`; `""` covers everything.
    """
    for prefix in prefixes:
        path = prefix.strip("/")
        if not path or region == path or region.startswith(f"{path}/"):
            return True
    return False


class MemoryRegistry:
    """`metering.ports.Registry` over three lists. Ids resolve by date through the installations.

    Raises:
        ConfigError: a duplicate id, an installation of an unknown point or device, an empty or overlapping time. A
            device is at one point at a time, and a point has one device at a time.

    """

    def __init__(
        self, points: Iterable[MeterPoint], devices: Iterable[Device], installations: Iterable[Installation]
    ) -> None:
        self._points = _by_id("meter point", points)
        self._devices = _by_id("device", devices)
        self._at: dict[str, list[Installation]] = {}
        self._of: dict[str, list[Installation]] = {}
        for installation in sorted(installations, key=lambda each: each.valid_from):
            self._add(installation)

    def updated(
        self, points: Iterable[MeterPoint], devices: Iterable[Device], installations: Iterable[Installation]
    ) -> "MemoryRegistry":
        """Return a registry with these points and devices, new or changed. Their installations are all they have."""
        new = MemoryRegistry((), (), ())
        changed = {device.id: device for device in devices}
        new._points = dict(sorted((self._points | {point.id: point for point in points}).items()))
        new._devices = dict(sorted((self._devices | changed).items()))
        new._at, new._of = dict(self._at), dict(self._of)
        for device in changed:
            for old in new._of.pop(device, ()):
                new._at[old.point] = [each for each in new._at[old.point] if each.device != device]
        for installation in sorted(installations, key=lambda each: each.valid_from):
            new._add(installation)
        return new

    def _add(self, installation: Installation) -> None:
        name = f"installation of {installation.device!r} at {installation.point!r}"
        if installation.point not in self._points:
            raise ConfigError(f"{name}: there is no such meter point")
        if installation.device not in self._devices:
            raise ConfigError(f"{name}: there is no such device")
        if installation.valid_to is not None and installation.valid_to <= installation.valid_from:
            raise ConfigError(f"{name}: it ends before it begins")
        _check_numbers(name, installation)
        for lists, key in ((self._at, installation.point), (self._of, installation.device)):
            row = sorted([*lists.get(key, ()), installation], key=lambda each: each.valid_from)
            for earlier, later in pairwise(row):
                if earlier.valid_to is None or earlier.valid_to > later.valid_from:
                    other = later if earlier is installation else earlier
                    raise ConfigError(f"{name}: it overlaps that of {other.device!r} at {other.point!r}")
            lists[key] = row

    def points(self, regions: Sequence[str]) -> Iterable[MeterPoint]:
        """Return the meter points inside these region prefixes (`""` is everywhere), in the order of their ids."""
        return [point for point in self._points.values() if covers(regions, point.region)]

    def point(self, point_id: str) -> MeterPoint | None:
        """Return the meter point, or None where there is none."""
        return self._points.get(point_id)

    def devices(self, regions: Sequence[str]) -> Iterable[Device]:
        """Return the devices that are or were installed inside these region prefixes, in the order of their ids.

        A device that was never installed is seen only by those who see everything.
        """
        inside = {point.id for point in self.points(regions)}
        everything = covers(regions, EVERYWHERE)
        return [
            device
            for device in self._devices.values()
            if everything or any(each.point in inside for each in self._of.get(device.id, ()))
        ]

    def device(self, device_id: str) -> Device | None:
        """Return the device, or None where there is none."""
        return self._devices.get(device_id)

    def installations_at(self, point_id: str) -> Sequence[Installation]:
        """Return all installations at a meter point in the order of `valid_from`."""
        return self._at.get(point_id, ())

    def installations_of(self, device_id: str) -> Sequence[Installation]:
        """Return all installations of a device in the order of `valid_from`."""
        return self._of.get(device_id, ())


def _check_numbers(name: str, installation: Installation) -> None:
    ratios = {"ct_ratio": installation.ct_ratio, "pt_ratio": installation.pt_ratio}
    for key, text in (ratios | installation.initial | installation.removal).items():
        try:
            number = Decimal(text)
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite() or (key in ratios and number <= 0):
            raise ConfigError(
                f"{name}: {text!r} is not {'a ratio' if key in ratios else 'a register reading'}", key=key
            )


def installation_on(installations: Sequence[Installation], instant: int) -> Installation | None:
    """Return the installation that holds at an instant, or None. `installations` are in the order of `valid_from`."""
    index = bisect_right(installations, instant, key=lambda each: each.valid_from) - 1
    if index < 0:
        return None
    found = installations[index]
    return found if found.valid_to is None or instant < found.valid_to else None


def _by_id(what: str, items: Iterable[_Named]) -> dict[str, _Named]:
    found: dict[str, _Named] = {}
    for item in items:
        if item.id in found:
            raise ConfigError(f"{what} {item.id!r} stands there twice")
        found[item.id] = item
    return dict(sorted(found.items()))
