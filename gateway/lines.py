"""Makes the wires and the readers of a gateway from its settings. It starts nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path

from collector.bus import Bus
from collector.links import Link, RtuLink, RtuOverTcpLink, SerialStreamLink, TcpLink, TcpStreamLink
from collector.mqtt import MqttMeter
from collector.mqtt_profile import load_mqtt_profile
from gateway.dlms_meters import dlms_meter
from gateway.fields import split_address
from gateway.keystore import KeyStore
from gateway.meter_kinds import OnHoles, dlt645_meter, modbus_meter
from gateway.meters import BusMeter
from gateway.secrets import Keys
from gateway.settings import BrokerSettings, GatewayFile, MeterSettings
from gateway.settings_bus import PROTOCOLS, BusSettings, Dlt645Bus, HdlcBus, RtuOverTcpBus, SerialBus, TcpBus
from metering.secret import resolve_secret
from mqtt.client import MqttSettings


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
    file: GatewayFile,
    clock: Callable[[], int],
    on_circuit: Callable[[str, bool, str], None],
    link_of: Callable[[BusSettings], Link] = make_link,
) -> dict[str, Bus]:
    """Return a bus for each that is configured, by id."""
    return {settings.id: Bus(link_of(settings), clock=clock, on_circuit=on_circuit) for settings in file.bus}


def make_bus_meters(
    file: GatewayFile,
    on_holes: OnHoles,
    keys: Keys | None = None,
    known: Mapping[str, BusMeter] | None = None,
) -> dict[str, BusMeter]:
    """Return the meters that are read over a bus and not removed, by id; those of `known` are taken as they are."""
    buses = {settings.id: settings for settings in file.bus}
    return {
        meter.id: (known or {}).get(meter.id) or make_bus_meter(file, meter, buses[meter.bus], on_holes, keys)
        for meter in file.meter
        if meter.bus is not None and meter.removed is None
    }


def make_bus_meter(
    file: GatewayFile, meter: MeterSettings, bus: BusSettings, on_holes: OnHoles, keys: Keys | None = None
) -> BusMeter:
    """Return one meter with its driver and readers. `keys` is the key store, where there is one.

    Raises:
        ConfigError: its profile is unknown or wrong, or it names a point that the profile has not.
        StorageError: the key store cannot be used.

    """
    match PROTOCOLS[bus.kind]:
        case "dlms":
            return dlms_meter(file, meter, bus, on_holes, keys)
        case "dlt645":
            return dlt645_meter(file, meter, on_holes, keys)
        case _:
            return modbus_meter(file, meter, bus, on_holes)


def open_keys(file: GatewayFile, epoch: str = "") -> KeyStore | None:
    """Return the gateway's key store; None where the file names none. `epoch` is that under which the log goes up.

    Raises:
        ConfigError: the master key is missing, or not the one of this store.
        StorageError: the store is damaged.

    """
    if file.keys is None:
        return None
    return KeyStore(keys_directory(file), file.keys.master, epoch=epoch, headend=file.uplink is not None)


def keys_directory(file: GatewayFile) -> Path:
    """Return where the key store lives inside a gateway's data folder."""
    return file.gateway.data / "keys"


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
        others=tuple(map(split_address, broker.others)),
    )
