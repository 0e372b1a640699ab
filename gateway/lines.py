"""Makes the wires and the readers of a gateway from its settings. It starts nothing."""

from collections.abc import Callable

from collector.bus import Bus
from collector.drivers.modbus import ModbusDriver, ModbusReader
from collector.links import Link, RtuLink, RtuOverTcpLink, SerialStreamLink, TcpLink, TcpStreamLink
from collector.mqtt import MqttMeter
from collector.mqtt_client import MqttSettings
from collector.mqtt_profile import load_mqtt_profile
from collector.plan import TCP_MAX_GAP, rtu_max_gap
from collector.profile import Profile, load_profile
from collector.protocols.modbus_times import parse_format
from gateway.meters import BusMeter
from gateway.settings import BrokerSettings, GatewayFile, MeterSettings
from gateway.settings_bus import BusSettings, Dlt645Bus, HdlcBus, RtuOverTcpBus, SerialBus, TcpBus
from metering.model import Kind
from metering.secret import resolve_secret

BOUNDARY_KINDS = frozenset({Kind.REGISTER, Kind.MAXIMUM_DEMAND})  # read at each boundary
MOMENT_KINDS = frozenset({Kind.INSTANTANEOUS, Kind.AVERAGE})  # read at their own period

# Told what a meter was found not to have: its id, and what says so as text (empty: only how it may be asked).
OnHoles = Callable[[str, object], None]


def make_link(settings: BusSettings) -> Link:
    """Return the wire of a bus."""
    if isinstance(settings, TcpBus):
        return TcpLink(settings.host, settings.port)
    if isinstance(settings, RtuOverTcpBus):
        return RtuOverTcpLink(settings.host, settings.port, settings.baud, settings.format)
    if isinstance(settings, SerialBus):
        return RtuLink(settings.port, settings.baud, settings.format, settings.open_as)
    if isinstance(settings, HdlcBus | Dlt645Bus):
        return SerialStreamLink(settings.port, settings.baud, settings.format, settings.open_as)
    return TcpStreamLink(settings.host, settings.port)


def make_buses(
    file: GatewayFile, clock: Callable[[], int], on_circuit: Callable[[str, bool, str], None]
) -> dict[str, Bus]:
    """Return a bus for each that is configured, by id."""
    return {settings.id: Bus(make_link(settings), clock=clock, on_circuit=on_circuit) for settings in file.bus}


def make_bus_meters(file: GatewayFile, on_holes: OnHoles) -> dict[str, BusMeter]:
    """Return the meters that are read over a bus and not removed, by id."""
    buses = {settings.id: settings for settings in file.bus}
    return {
        meter.id: make_bus_meter(file, meter, buses[meter.bus], on_holes)
        for meter in file.meter
        if meter.bus is not None and meter.removed is None
    }


def make_bus_meter(file: GatewayFile, meter: MeterSettings, bus: BusSettings, on_holes: OnHoles) -> BusMeter:
    """Return one meter with its driver and readers.

    Raises:
        ConfigError: its profile is unknown or wrong, or it names a point that the profile has not.

    """
    return _modbus_meter(file, meter, bus, on_holes)


def _modbus_meter(file: GatewayFile, meter: MeterSettings, bus: BusSettings, on_holes: OnHoles) -> BusMeter:
    profile = load_profile(meter.profile, file.gateway.profiles)
    schedule = meter.schedule or file.schedule
    points = profile.select(tuple(meter.only))
    unit = meter.unit or 0
    gap = max_gap(bus, profile)

    def reader(kinds: frozenset[Kind], period: float | None) -> ModbusReader | None:
        names = [point.name for point in points if point.what in kinds]
        if not names or period is None:
            return None
        return ModbusReader(profile, meter.id, unit, names, max_gap=gap, interval=int(period), on_holes=on_holes)

    return BusMeter(
        meter,
        profile,
        f"unit {unit}",
        schedule,
        ModbusDriver(profile, meter.id, unit),
        reader(BOUNDARY_KINDS, schedule.registers),
        reader(MOMENT_KINDS, schedule.instantaneous),
        ModbusReader(profile, meter.id, unit, [point.name for point in points], max_gap=gap),
    )


def max_gap(bus: BusSettings, profile: Profile) -> int:
    """Return how many unwanted registers are cheaper to read over than to ask once more, on this bus."""
    if not isinstance(bus, SerialBus | RtuOverTcpBus):
        return TCP_MAX_GAP
    return rtu_max_gap(bus.baud, parse_format(bus.format).bits, profile.turnaround)


def make_mqtt_meters(file: GatewayFile) -> list[MqttMeter]:
    """Return the meters that publish by themselves and are not removed."""
    return [
        MqttMeter(
            meter.id,
            load_mqtt_profile(meter.profile, file.gateway.profiles),
            meter.topic,
            {"zone": meter.zone, **meter.parameters},
            meter.serial,
        )
        for meter in file.meter
        if meter.topic is not None and meter.removed is None
    ]


def make_mqtt_settings(broker: BrokerSettings, gateway: str) -> MqttSettings:
    """Return the broker's address and credentials, secrets resolved."""
    return MqttSettings(
        host=broker.host,
        port=broker.port,
        client_id=broker.client_id or f"metergate-{gateway}",
        username=broker.username,
        password=resolve_secret(broker.password) if broker.password else None,
        tls=broker.tls,
        ca_file=broker.ca_file,
        cert_file=broker.cert_file,
        key_file=broker.key_file,
    )
