"""What a DL/T 645 meter shows: the physical model's values as the items of a profile. No frames, no records.

The map is the one the collector reads by; the encoding is `collector.protocols`', so nothing is written twice.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import Point
from collector.protocols.dlt645.times import encode_stamp, from_utc, to_utc
from collector.protocols.dlt645.values import encode_number
from metering.model import Kind
from metering.obis import parse_obis
from simulators.meter import MICRO, Meter

# Energy goes to the tariffs in stripes of the running total: so many kWh of each ten, then the next tariff. A clock
# would be truer to life; stripes add up exactly and need no history.
_STRIPES = (2, 3, 4, 1)
_ROUND = sum(_STRIPES) * 1000 * MICRO  # uWh
# Quadrants that the model does not tell apart: what is drawn is in the first, what is given in the fourth.
_SAME = {"1-0:5.8.0*255": "1-0:3.8.0*255", "1-0:8.8.0*255": "1-0:4.8.0*255"}


class Shown:
    """The values of one meter as the items of its profile."""

    def __init__(self, meter: Meter, profile: Dlt645Profile) -> None:
        self.meter = meter
        self.profile = profile
        self.zone = ZoneInfo(profile.zone)
        self._points = {point.di: point for point in profile.points if not point.before}
        self._blocks = {block.di: block for block in profile.block}

    def read(self, di: str, at: int) -> bytes | None:
        """Return the bytes behind a current item or block as of `at` (us UTC); None where there is no such item."""
        if di in self._points:
            return self.items((self._points[di].name,), at)
        block = self._blocks.get(di)
        if block is None:
            return None
        values = self.meter.values(at)
        items = self.profile.items(block.points)
        return b"".join(self._item(points[0], values, at) if points else bytes(size) for points, size in items)

    def is_settled(self, di: str) -> bool:
        """Tell whether an item or block has running totals or maxima, which are frozen at settlement days."""
        block = self._blocks.get(di)
        point = self.profile.point(block.points[0]) if block is not None else self._points.get(di)
        return point is not None and point.what in (Kind.REGISTER, Kind.MAXIMUM_DEMAND)

    def items(self, names: tuple[str, ...], at: int) -> bytes:
        """Return the items of these points as of `at`."""
        values = self.meter.values(at)
        return b"".join(self._item(self.profile.point(name), values, at) for name in names)

    def numbers(self, names: tuple[str, ...], at: int) -> bytes:
        """Return the bytes of these points as of `at`, without what follows a number."""
        values = self.meter.values(at)
        points = [self.profile.point(name) for name in names]
        return b"".join(encode_number(point.form, self.stored(point, values)) for point in points)

    def stored(self, point: Point, values: dict[str, int]) -> int:
        """Return the integer that the item shows."""
        micro = _of(point.obis, values)
        divisor = MICRO * (1000 if point.unit.startswith("k") else 1)
        stored = abs(micro) * 10**-point.scale // divisor
        if not point.signed:
            return int(stored) % point.form.modulus if micro >= 0 else 0
        limit = point.form.modulus * 8 // 10 - 1
        return min(int(stored), limit) * (-1 if micro < 0 else 1)

    def civil(self, at: int) -> datetime:
        """Return the civil time of an instant."""
        return from_utc(at, self.zone)

    def instant(self, civil: datetime) -> int:
        """Return the instant of a civil time."""
        return to_utc(civil, self.zone).us

    def _item(self, point: Point, values: dict[str, int], at: int) -> bytes:
        number = encode_number(point.form, self.stored(point, values))
        if not point.extra:
            return number
        # The stamp of a maximum: the evening of the month's first day, as good as any.
        first = self.civil(at - 1).replace(day=1, hour=0, minute=0, second=0)
        peak = first.replace(hour=19, minute=15)
        stamp = peak if self.instant(peak) < at else first
        return number + encode_stamp(stamp, 5)[: point.extra].ljust(point.extra, b"\0")


def _of(obis: str, values: dict[str, int]) -> int:
    if obis in values:
        return values[obis]
    if obis in _SAME:
        return values[_SAME[obis]]
    a, b, c, d, e, _ = parse_obis(obis)
    total = values.get(f"{a}-{b}:{c}.{d}.0*255", 0)
    return tariff(total, e) if d == 8 and e >= 1 else 0


def tariff(total: int, number: int) -> int:
    """Return the part of a running total (uWh) that stands in one tariff register, 1 to 4."""
    if number > len(_STRIPES):
        return 0
    rounds, rest = divmod(total, _ROUND)
    stripe = _STRIPES[number - 1] * 1000 * MICRO
    before = sum(_STRIPES[: number - 1]) * 1000 * MICRO
    return rounds * stripe + min(max(rest - before, 0), stripe)
