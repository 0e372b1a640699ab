"""What a site file will ask of each line, worked out before anything runs. It opens no port."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from collector.bus import cycle_time
from collector.capabilities import Reader
from collector.links import Link
from gateway.lines import make_bus_meters, make_link
from gateway.meters import BusMeter
from metergate.site import SiteFile


class Cycle(NamedTuple):
    """One round of all meters of a bus that have this schedule. `load` is the share of the wire's time."""

    schedule: str  # registers, instantaneous, or a meter's own profile
    period_s: float
    seconds: float

    @property
    def load(self) -> float:
        """Return the share of the wire's time."""
        return self.seconds / self.period_s


@dataclass(frozen=True)
class BusForecast:
    """One bus: its cycles, and the meter that takes the largest part of the load."""

    id: str
    link: str
    meters: int
    cycles: Sequence[Cycle]
    costliest: str
    share: float  # of the bus's load

    @property
    def load(self) -> float:
        """Return the share of the wire's time that all schedules take together."""
        return sum(cycle.load for cycle in self.cycles)


def forecast_buses(site: SiteFile) -> list[BusForecast]:
    """Return the forecast of each bus in the file's order.

    Raises:
        ConfigError: a profile is unknown or wrong.

    """
    meters = forecast_meters(site)
    return [
        _forecast(bus.id, make_link(bus), [meter for meter in meters if meter.settings.bus == bus.id])
        for bus in site.bus
    ]


def forecast_meters(site: SiteFile) -> list[BusMeter]:
    """Return the meters of the file's buses, made without their secrets.

    Raises:
        ConfigError: a profile is unknown or wrong.

    """
    return list(make_bus_meters(site, lambda _meter, _holes: None).values())


def _forecast(name: str, link: Link, meters: Sequence[BusMeter]) -> BusForecast:
    seconds: dict[tuple[str, float], float] = defaultdict(float)
    loads: dict[str, float] = defaultdict(float)
    for meter in meters:
        for schedule, period, reader in readers_of(meter):
            cost = cycle_time(link.parameters, reader.exchanges())
            seconds[schedule, period] += cost
            loads[meter.id] += cost / period
        for profile in meter.profiles:
            if profile.interval:
                seconds[f"profile {profile.name}", profile.interval] += profile.row_s
                loads[meter.id] += profile.row_s / profile.interval
    cycles = [Cycle(schedule, period, cost) for (schedule, period), cost in sorted(seconds.items(), reverse=True)]
    costliest = max(loads, key=lambda meter: loads[meter], default="")
    share = loads[costliest] / sum(loads.values()) if costliest else 0.0
    return BusForecast(name, link.name, len(meters), cycles, costliest, share)


def readers_of(meter: BusMeter) -> Iterable[tuple[str, float, Reader]]:
    """Yield schedule, period in seconds and reader of what is read of a meter by schedule."""
    if meter.registers is not None and meter.schedule.registers is not None:
        yield "registers", meter.schedule.registers, meter.registers
    if meter.moments is not None and meter.schedule.instantaneous is not None:
        yield "instantaneous", meter.schedule.instantaneous, meter.moments
