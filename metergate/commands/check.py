"""`metergate check`: a configuration file as its site or head-end will live with it: lines, log, flash, supply.

It starts nothing.
"""

from collections.abc import Iterator
from pathlib import Path

from collector.mqtt_profile import MqttProfile
from metergate.forecast import BusForecast, Cycle, forecast_buses
from metergate.forecast_log import PUBLISH_S, days_of_autonomy, flash_bytes_per_year, forecast_log
from metergate.headend_file import is_headend, load_headend
from metergate.site import EmbeddedSettings, SiteFile, load_site, profiles_of
from metergate.site_keys import missing_keys
from metergate.supply_check import supply_faults
from metering.errors import ConfigError, StorageError

LOAD_LIMIT = 0.8  # above it retries, on-demand reads and a dead meter's probes find no room
AUTONOMY_DAYS = 40  # what a log should hold: a fault of a month, noticed late
GIB = 1 << 30


def run_check(file: Path) -> int:
    """Print the forecast of a file; return 0 when all fits, 1 when a bus is overloaded or something is missing."""
    if is_headend(file):
        return _head_end(file)
    site = load_site(file)
    buses = forecast_buses(site)
    polled = sum(bus.meters for bus in buses)
    published = sum(meter.topic is not None and meter.removed is None for meter in site.meter)
    print(f"{file}: correct; {polled} meters on {len(buses)} buses, {published} that publish by themselves")
    warnings = []
    for bus in buses:
        print(f"\nbus {bus.id} ({bus.link})")
        for line in _bus(bus):
            print(f"  {line}")
        warnings += [f"bus {bus.id}: {warning}" for warning in bus_warnings(bus)]
    warnings += _key_warnings(file, site)
    warnings += supply_faults(site)
    print("\nlog")
    for line in _log(site):
        print(f"  {line}")
    remarks = unverified(site)
    if remarks:
        print(f"\nnot verified by a second source: {'; '.join(remarks)}")
    for warning in warnings:
        print(f"\nWARNING {warning}")
    return 1 if warnings else 0


def _head_end(file: Path) -> int:
    """Print what is wrong with a head-end's file beyond what is told at its start."""
    warnings = supply_faults(load_headend(file))
    print(f"{file}: correct")
    for warning in warnings:
        print(f"\nWARNING {warning}")
    return 1 if warnings else 0


def _key_warnings(file: Path, site: SiteFile) -> list[str]:
    """Return which keys are missing. Where the master key is not here (the file is checked elsewhere), that alone."""
    try:
        return [f"keys: {error}" for error in missing_keys(file, site)]
    except (ConfigError, StorageError) as error:
        return [f"keys: not looked at: {error}"]


def bus_warnings(bus: BusForecast) -> list[str]:
    """Return what is wrong with a bus, in plain words with what to do."""
    found = [
        f"a cycle of {cycle.schedule} takes {cycle.seconds:.1f} s and does not fit into its {_period(cycle)}: "
        "read less often, fewer values (`only`), at a higher baud rate, or on a further line"
        for cycle in bus.cycles
        if cycle.seconds > cycle.period_s
    ]
    if not found and bus.load > LOAD_LIMIT:
        found.append(
            f"load {bus.load:.0%} is above {LOAD_LIMIT:.0%}, which leaves no room for retries and reads on demand: "
            f"read less often, fewer values (`only`), or move meters to a further line ({bus.costliest} costs most)"
        )
    return found


def unverified(site: SiteFile) -> list[str]:
    """Return for each profile in use how much of it only one source confirms."""
    found = []
    for name, profile in sorted(profiles_of(site).items()):
        if isinstance(profile, MqttProfile):
            if not profile.verified:
                found.append(f"{name} (all)")
            continue
        single = sum(point.verified == 1 for point in profile.points)
        if single:
            found.append(f"{name} ({single} of {len(profile.points)} points)")
    return found


def _bus(bus: BusForecast) -> Iterator[str]:
    yield f"meters {bus.meters}"
    for cycle in bus.cycles:
        yield (
            f"{cycle.schedule} every {_period(cycle)}: predicted cycle {_seconds(cycle.seconds)}, load {cycle.load:.2%}"
        )
    if bus.costliest:
        yield f"load in all {bus.load:.2%}; {bus.costliest} costs most, {bus.share:.0%} of it"


def _log(site: SiteFile) -> Iterator[str]:
    log = forecast_log(site)
    settings = site.gateway.log
    yield f"a day brings {log.readings:,.0f} readings, {log.bytes / (1 << 20):,.1f} MiB in {log.commits:,.0f} commits"
    if any(meter.topic is not None for meter in site.meter):
        yield f"(meters that publish by themselves are taken to do so every {PUBLISH_S:.0f} s)"
    days = days_of_autonomy(site, log)
    by_age = bool(settings.max_age) and days >= settings.max_age / 86_400
    bound = "max_age" if by_age else f"max_size {settings.max_size / GIB:.3g} GiB"
    short = ""
    if days < AUTONOMY_DAYS:
        more = "" if by_age else f": give it {log.bytes * AUTONOMY_DAYS / GIB:.2g} GiB"
        short = f"; short of the {AUTONOMY_DAYS} days to aim at{more}"
    yield f"autonomy {days:,.1f} days, bounded by {bound}{short}"
    stored = ", log and embedded store" if isinstance(site.store, EmbeddedSettings) else ", log alone"
    yield f"flash writes about {flash_bytes_per_year(site, log) / GIB:,.1f} GiB a year{stored}"


def _period(cycle: Cycle) -> str:
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60)):
        if cycle.period_s % seconds == 0:
            return f"{cycle.period_s / seconds:g}{unit}"
    return f"{cycle.period_s:g}s"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
