"""Makes Modbus and DL/T 645 meters: driver and readers from settings, profile and line. It speaks to none."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TypeVar

from collector.capabilities import PointLike, ProfileReader, Reader
from collector.dlt645_profile import Dlt645Profile, load_dlt645_profile
from collector.drivers.dlt645 import Dlt645Driver, Dlt645Reader
from collector.drivers.dlt645_clock import Dlt645Clock
from collector.drivers.dlt645_events import Dlt645Events
from collector.drivers.dlt645_freezes import DailyFreezeReader
from collector.drivers.dlt645_records import LoadRecordReader
from collector.drivers.dlt645_settlements import SettlementReader
from collector.drivers.dlt645_switch import Dlt645Switch
from collector.drivers.modbus import ModbusDriver, ModbusReader
from collector.drivers.modbus_switch import ModbusSwitch
from collector.plan import TCP_MAX_GAP, rtu_max_gap
from collector.profile import Profile, load_profile
from collector.protocols.modbus_times import parse_format
from gateway.meters import BusMeter
from gateway.secrets import Keys, Secrets
from gateway.settings import GatewayFile, MeterSettings
from gateway.settings_bus import BusSettings, RtuOverTcpBus, SerialBus
from metering.model import Kind

BOUNDARY_KINDS = frozenset({Kind.REGISTER, Kind.MAXIMUM_DEMAND})  # read at each boundary
MOMENT_KINDS = frozenset({Kind.INSTANTANEOUS, Kind.AVERAGE})  # read at their own period

_PROFILES = 64  # profiles kept, each for one zone

# Told what a meter was found not to have: its id, and what says so as text (empty: only how it may be asked).
OnHoles = Callable[[str, object], None]

R = TypeVar("R", bound=Reader)


def modbus_meter(file: GatewayFile, meter: MeterSettings, bus: BusSettings, on_holes: OnHoles) -> BusMeter:
    """Return a Modbus meter. Raises `ConfigError`."""
    profile = load_profile(meter.profile, file.gateway.profiles)
    unit = meter.unit or 0
    gap = max_gap(bus, profile)

    def reader(names: Sequence[str], interval: int, told: OnHoles | None) -> ModbusReader:
        return ModbusReader(profile, meter.id, unit, names, max_gap=gap, interval=interval, on_holes=told)

    registers, moments, everything = make_readers(file, meter, profile.select(tuple(meter.only)), reader, on_holes)
    return BusMeter(
        meter,
        profile,
        f"unit {unit}",
        meter.schedule or file.schedule,
        ModbusDriver(profile, meter.id, unit),
        registers,
        moments,
        everything,
        make_switch=partial(ModbusSwitch, profile, meter.id, unit) if profile.supply and profile.identity else None,
    )


def dlt645_meter(file: GatewayFile, meter: MeterSettings, on_holes: OnHoles, keys: Keys | None) -> BusMeter:
    """Return a DL/T 645 meter. Raises `ConfigError`."""
    profile = _in_zone(load_dlt645_profile(meter.profile, file.gateway.profiles), meter.zone)
    address = meter.address or ""
    secrets = Secrets(keys, meter.id)

    def reader(names: Sequence[str], interval: int, told: OnHoles | None) -> Dlt645Reader:
        return Dlt645Reader(profile, meter.id, address, names, interval=interval, on_holes=told)

    registers, moments, everything = make_readers(file, meter, profile.select(tuple(meter.only)), reader, on_holes)
    return BusMeter(
        meter,
        profile,
        f"address {address}",
        meter.schedule or file.schedule,
        Dlt645Driver(profile, meter.id, address),
        registers,
        moments,
        everything,
        profiles=_dlt645_profiles(profile, meter.id),
        clock=Dlt645Clock(profile, meter.id, profile.clock, secrets.keys) if profile.clock is not None else None,
        events=Dlt645Events(profile, meter.id) if profile.event or profile.status else None,
        make_switch=partial(Dlt645Switch, profile, meter.id, address, secrets.keys) if profile.supply else None,
        whole=True,
        renew=secrets.renew,
    )


@lru_cache(maxsize=_PROFILES)
def _in_zone(profile: Dlt645Profile, zone: str) -> Dlt645Profile:
    """Return the profile as of meters that keep this zone's time; one object for all of them."""
    return profile if profile.zone == zone else profile.model_copy(update={"zone": zone})


def _dlt645_profiles(profile: Dlt645Profile, device: str) -> list[ProfileReader]:
    readers: list[ProfileReader] = []
    if (records := profile.load_record) is not None:
        readers += [LoadRecordReader(profile, device, records, made) for made in records.classes]
    if profile.daily_freeze is not None:
        readers.append(DailyFreezeReader(profile, device, profile.daily_freeze))
    if profile.settlement is not None:
        readers.append(SettlementReader(profile, device, profile.settlement))
    return readers


def make_readers(
    file: GatewayFile,
    meter: MeterSettings,
    points: Sequence[PointLike],
    make: Callable[[Sequence[str], int, OnHoles | None], R],
    on_holes: OnHoles,
) -> tuple[R | None, R | None, R]:
    """Return what is read at boundaries, what at its own period (None: nothing), and what on demand: everything."""
    schedule = meter.schedule or file.schedule

    def of(kinds: frozenset[Kind], period: float | None) -> R | None:
        names = [point.name for point in points if point.what in kinds]
        return make(names, int(period), on_holes) if names and period is not None else None

    everything = make([point.name for point in points], 0, None)
    return of(BOUNDARY_KINDS, schedule.registers), of(MOMENT_KINDS, schedule.instantaneous), everything


def max_gap(bus: BusSettings, profile: Profile) -> int:
    """Return how many unwanted registers are cheaper to read over than to ask once more, on this bus."""
    if not isinstance(bus, SerialBus | RtuOverTcpBus):
        return TCP_MAX_GAP
    return rtu_max_gap(bus.baud, parse_format(bus.format).bits, profile.turnaround)
