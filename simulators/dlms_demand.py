"""Maximum demand and tariffs of a simulated meter: computed from its curves for any instant. No objects."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from metering.model import SECOND
from simulators.meter import DEMAND_PERIOD, Meter

DAY_BEGINS, DAY_ENDS = 6, 22  # hours of tariff 1 in the meter's zone; tariff 2 is the night


class Peaks:
    """The highest demand between two instants, found once for each beginning and then only carried on."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._known: dict[
            int, tuple[int, int, int]
        ] = {}  # begin -> (looked at up to, highest uW, when its period ended)

    def highest(self, begin: int, end: int) -> tuple[int, int]:
        """Return uW and the end of the demand period (us); 0 and `begin` where none has ended."""
        upto, best, when = self._known.get(begin, (begin, 0, begin))
        if upto > end:
            upto, best, when = begin, 0, begin
        first = upto - upto % DEMAND_PERIOD + DEMAND_PERIOD
        for at in range(max(first, begin + DEMAND_PERIOD), end + 1, DEMAND_PERIOD):
            demand = self._meter.demand(at)
            if demand > best:
                best, when = demand, at
        self._known[begin] = (max(upto, end), best, when)
        return best, when


class Tariffs:
    """Energy by tariff: what flowed by day is summed day by day, once; the rest is the night's."""

    def __init__(self, meter: Meter, zone: ZoneInfo) -> None:
        self._meter = meter
        self._zone = zone
        begin = datetime.fromtimestamp(meter.settings.installed_at // SECOND, UTC).astimezone(zone)
        self._first = (begin - timedelta(days=1)).date()
        self._sums: list[dict[str, int]] = [{}]  # by day since the first: uWh of tariff 1 before it

    def energy(self, obis: str, tariff: int, now: int) -> int:
        """Return uWh of a total such as `1-0:1.8.0*255` that tariff 1 or 2 has counted at `now`."""
        day = datetime.fromtimestamp(now // SECOND, UTC).astimezone(self._zone).date()
        number = (day - self._first).days
        while len(self._sums) <= number:
            index = len(self._sums) - 1
            begin, end = self._hours(index)
            self._sums.append(self._plus(self._sums[index], begin, end))
        begin, end = self._hours(number)
        by_day = self._plus(self._sums[number], begin, min(max(now, begin), end)).get(obis, 0)
        return by_day if tariff == 1 else self._meter.energies(now)[obis] - by_day

    def _hours(self, number: int) -> tuple[int, int]:
        day = self._first + timedelta(days=number)
        begin, end = (
            datetime(day.year, day.month, day.day, hour, tzinfo=self._zone) for hour in (DAY_BEGINS, DAY_ENDS)
        )
        return round(begin.timestamp()) * SECOND, round(end.timestamp()) * SECOND

    def _plus(self, sums: dict[str, int], begin: int, end: int) -> dict[str, int]:
        first, last = self._meter.energies(begin), self._meter.energies(end)
        return {obis: sums.get(obis, 0) + last[obis] - first[obis] for obis in last}
