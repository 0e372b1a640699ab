"""A simulated site with its broker, running: what `simulate` shows a person and what the demo starts as a child."""

import asyncio
from pathlib import Path
from typing import Self

import msgspec

from metergate.relays import Relays
from simulators.broker import Broker, find_broker
from simulators.fleet import Simulation
from simulators.fleet_file import Fleet, RtuTable, TcpTable
from simulators.mqtt_meters import MqttMeter, MqttMeters, make_meters


class TcpPlace(msgspec.Struct, frozen=True):
    """An endpoint on TCP; `rtu` where RTU frames pass through it."""

    host: str
    port: int
    rtu: bool = False


class SimulatedMeter(msgspec.Struct, frozen=True):
    """One meter as a site file would describe it: `bus` and `unit`, or `topic`."""

    id: str
    profile: str
    serial: str
    bus: str = ""
    unit: int = 0
    topic: str = ""


class DlmsPlace(msgspec.Struct, frozen=True):
    """One DLMS meter: `host` and `port` (wrapper, hdlc), or `path` (serial), its address there, its title in hex."""

    id: str
    serial: str
    transport: str
    server: int
    physical: int
    host: str = ""
    port: int = 0
    path: str = ""
    profile: str = ""
    bus: str = ""
    title: str = ""


class Dlt645Place(msgspec.Struct, frozen=True):
    """One DL/T 645 meter: its address on a serial line (`path`) or behind a device server (`host`, `port`)."""

    id: str
    address: str
    profile: str
    bus: str
    host: str = ""
    port: int = 0
    path: str = ""


class Places(msgspec.Struct, frozen=True):
    """Where everything listens."""

    tcp: dict[str, TcpPlace]
    rtu: dict[str, str]
    broker: TcpPlace | None
    broker_name: str
    meters: list[SimulatedMeter]
    dlms: list[DlmsPlace] = []
    dlt645: list[Dlt645Place] = []


class World:
    """The endpoints, the broker and the publishing meters of a fleet. `start`, then `run` until told to stop.

    `relays` is a file that keeps how the supplies of the DLMS meters stand for the next start.
    """

    def __init__(
        self, fleet: Fleet, directory: Path, *, publish_s: float | None = None, relays: Path | None = None
    ) -> None:
        self._fleet = fleet
        self._simulation = Simulation(fleet, directory=directory)
        meters = make_meters(fleet) if publish_s is None else make_meters(fleet, period_s=publish_s)
        self._mqtt: list[MqttMeter] = meters
        self._broker: Broker | None = find_broker() if meters else None
        self._relays = Relays(relays, self._simulation.dlms.meters) if relays is not None else None

    async def __aenter__(self) -> Self:
        if self._relays is not None:
            self._relays.load()
        if self._broker is not None:
            await self._broker.start()
        await self._simulation.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._simulation.close()
        if self._broker is not None:
            await self._broker.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`; the endpoints answer as long as the world is open. Raises `StorageError`."""
        async with asyncio.TaskGroup() as group:
            if self._relays is not None:
                group.create_task(self._relays.run(stop))
            group.create_task(self._publish(stop))

    async def _publish(self, stop: asyncio.Event) -> None:
        if self._broker is None:
            await stop.wait()
            return
        await MqttMeters(self._broker.host, self._broker.port, self._mqtt, seed=self._fleet.seed).run(stop)

    def places(self) -> Places:
        """Return where everything listens, once it does."""
        places = self._simulation.places
        framing = {table.id: table.framing for table in self._fleet.tcp}
        others = {table.id for table in self._fleet.dlms} | {table.id for table in self._fleet.dlt645}
        modbus = {name: place for name, place in places.items() if name not in others}
        tcp = {n: TcpPlace(*place, framing[n] == "rtu") for n, place in modbus.items() if isinstance(place, tuple)}
        rtu = {name: str(place) for name, place in modbus.items() if isinstance(place, Path)}
        broker = TcpPlace(self._broker.host, self._broker.port) if self._broker else None
        name = self._broker.name if self._broker else ""
        meters = [*self._modbus_meters(), *self._mqtt_meters()]
        return Places(tcp, rtu, broker, name, meters, self._dlms_meters(), self._dlt645_meters())

    def _dlt645_meters(self) -> list[Dlt645Place]:
        found = []
        for table in self._fleet.dlt645:
            place = self._simulation.places[table.id]
            host, port = ("", 0) if isinstance(place, Path) else place
            path = str(place) if isinstance(place, Path) else ""
            found += [Dlt645Place(m.id, m.address, m.model, table.id, host, port, path) for m in table.meter]
        return found

    def _dlms_meters(self) -> list[DlmsPlace]:
        found = []
        for table in self._fleet.dlms:
            place = self._simulation.places[table.id]
            where = {"path": str(place)} if isinstance(place, Path) else {"host": place[0], "port": place[1]}
            for m in table.meter:
                meter = self._simulation.dlms.meters[m.id]
                shown = DlmsPlace(m.id, meter.meter.serial, table.transport, m.server, m.physical, bus=table.id)
                found.append(msgspec.structs.replace(shown, profile=m.profile, title=meter.title.hex(), **where))
        return found

    def _modbus_meters(self) -> list[SimulatedMeter]:
        return [
            SimulatedMeter(m.id, m.profile, self._simulation.meters[m.id].serial, bus=table.id, unit=m.unit)
            for table in _tables(self._fleet)
            for m in table.meter
        ]

    def _mqtt_meters(self) -> list[SimulatedMeter]:
        return [SimulatedMeter(m.id, m.profile, "", topic=m.topic) for m in self._mqtt]


def _tables(fleet: Fleet) -> list[TcpTable | RtuTable]:
    return [*fleet.tcp, *fleet.rtu]


def with_free_ports(fleet: Fleet) -> Fleet:
    """Return the fleet with the choice of ports left to the system, so that it can always start."""
    tcp = tuple(table.model_copy(update={"port": 0}) for table in fleet.tcp)
    dlms = tuple(table.model_copy(update={"port": 0}) for table in fleet.dlms)
    dlt645 = tuple(table.model_copy(update={"port": 0}) for table in fleet.dlt645)
    return fleet.model_copy(update={"tcp": tcp, "dlms": dlms, "dlt645": dlt645})
