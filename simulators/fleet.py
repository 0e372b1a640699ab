"""A simulated site that runs: the endpoints of a fleet file, their meters, and the faults one switches on them.

Modbus meters live here, others in `fleet_dlms` and `fleet_dlt645`; the meters that publish by MQTT are described in the
same file and run by `mqtt_meters`.
"""

import asyncio
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from metering import timing
from simulators.faults import Fault, Faults
from simulators.fleet_dlms import DlmsSite
from simulators.fleet_dlt645 import Dlt645Site
from simulators.fleet_file import Fleet, MeterTable, RtuTable, TcpTable, load_fleet
from simulators.meter import Meter, MeterSettings
from simulators.modbus_rtu import RtuLine
from simulators.modbus_switch import SwitchedRegisters
from simulators.modbus_tcp import ModbusTcpServer
from simulators.models import load_model
from simulators.registers import MeterRegisters, clock_entry, with_entries
from simulators.unit import Clock, Unit

Place = tuple[str, int] | Path  # host and port, or the path of a serial line


class Simulation:
    """The endpoints of a fleet. `start()` tells where each listens; `meters`, `units`, `dlms.meters` are by meter id.

    `directory` is where links of serial lines stand, `profiles` a folder with further meter models.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        directory: Path = Path(),
        profiles: Path | None = None,
        clock: Clock = timing.now,
    ) -> None:
        self.fleet = fleet
        self.meters: dict[str, Meter] = {}
        self.units: dict[str, Unit] = {}
        self.places: dict[str, Place] = {}
        self._directory = directory
        self._profiles = profiles
        self._clock = clock
        self.servers = {table.id: self._server(table) for table in fleet.tcp}
        self.lines = {table.id: self._line(table) for table in fleet.rtu}
        self.dlms = DlmsSite(fleet.dlms, seed=fleet.seed, directory=directory, now=clock)
        self.meters |= {name: made.meter for name, made in self.dlms.meters.items()}
        self.dlt645 = Dlt645Site(fleet.dlt645, seed=fleet.seed, directory=directory, now=clock)
        self.meters |= {name: made.meter for name, made in self.dlt645.meters.items()}

    @classmethod
    def load(
        cls, path: Path, *, directory: Path | None = None, profiles: Path | None = None, clock: Clock = timing.now
    ) -> Self:
        """Return the site of a fleet file; links of serial lines stand in `directory`, by default beside the file.

        Raises:
            ConfigError: something in the file is wrong; names file, line and key.

        """
        fleet = load_fleet(path, profiles)
        return cls(fleet, directory=directory or path.parent, profiles=profiles, clock=clock)

    async def start(self) -> dict[str, Place]:
        """Open every endpoint and return where each listens, by endpoint id."""
        for name, server in self.servers.items():
            self.places[name] = await server.start()
        for name, line in self.lines.items():
            self.places[name] = line.start()
        self.places |= await self.dlms.start()
        self.places |= await self.dlt645.start()
        return self.places

    async def close(self) -> None:
        """Close every endpoint."""
        for server in self.servers.values():
            await server.close()
        for line in self.lines.values():
            line.close()
        await self.dlms.close()
        await self.dlt645.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; starts what `start()` has not."""
        if not self.places:
            await self.start()
        try:
            await stop.wait()
        finally:
            await self.close()

    def set_faults(self, meter: str, standing: Sequence[Fault] = (), script: Sequence[Fault | None] = ()) -> None:
        """Put these faults in the place of a Modbus meter's present ones, from its next request on; none makes it good.

        A DLMS or DL/T 645 meter has faults of its own: `dlms.meters[meter].faults.replace`, `dlt645.meters`.

        Raises:
            KeyError: there is no such meter.

        """
        self.units[meter].faults.replace(standing, script)

    def _server(self, table: TcpTable) -> ModbusTcpServer:
        units = {meter.unit: self._unit(meter, on_line=False) for meter in table.meter}
        return ModbusTcpServer(
            units, host=table.host, port=table.port, framing=table.framing, unknown_unit=table.unknown_unit
        )

    def _line(self, table: RtuTable) -> RtuLine:
        units = {meter.unit: self._unit(meter, on_line=True) for meter in table.meter}
        path = self._directory / (table.path or table.id)
        return RtuLine(units, path=path, baud=table.baud, line_format=table.format)

    def _unit(self, table: MeterTable, *, on_line: bool) -> Unit:
        model = load_model(table.profile, self._profiles)
        layout = model.layout(gaps=table.gaps, holes=[(hole.function, hole.first, hole.last) for hole in table.hole])
        if table.clock is not None:
            layout = with_entries(layout, [clock_entry(table.clock.function, table.clock.address)])
        seed = table.seed if table.seed is not None else zlib.crc32(f"{self.fleet.seed}/{table.id}".encode())
        settings = MeterSettings(
            seed=seed,
            load=table.load,
            phases=model.phases,
            serial=table.serial or str(10_000_000 + seed % 90_000_000),
            size=table.size,
            installed_at=table.installed_at,
            start_wh=round(table.start_kwh * 1000),
            drift_ppm=table.clock.drift_ppm if table.clock else 0.0,
            offset_s=table.clock.offset_s if table.clock else 0.0,
        )
        meter = self.meters[table.id] = Meter(settings)
        turnaround = model.turnaround_s if on_line else 0.0
        registers = MeterRegisters(meter, layout)
        if model.profile.supply is not None:
            registers = SwitchedRegisters(registers, model.profile, model.load_side())
        unit = self.units[table.id] = Unit(
            table.unit,
            registers,
            turnaround_s=turnaround if table.turnaround_ms is None else table.turnaround_ms / 1000,
            faults=Faults([fault.fault() for fault in table.fault], seed=seed),
            clock=self._clock,
        )
        return unit
