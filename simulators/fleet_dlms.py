"""The DLMS meters of a fleet, built from their tables, and the endpoints behind which they are reached."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from metering.model import SECOND
from simulators.dlms_faults import DlmsFaults
from simulators.dlms_meter import DlmsMeter
from simulators.dlms_push import Pusher
from simulators.dlms_serial import DlmsLine
from simulators.dlms_tcp import DlmsTcpServer
from simulators.fleet_dlms_file import DlmsMeterTable, DlmsTable
from simulators.meter import MONTH_START, Meter, MeterSettings


class DlmsSite:
    """The DLMS meters of a fleet and where they are reached. `meters` are by id."""

    def __init__(self, tables: Sequence[DlmsTable], *, seed: int, directory: Path, now: Callable[[], int]) -> None:
        self.meters: dict[str, DlmsMeter] = {}
        self._seed = seed
        self._now = now
        self.servers: dict[str, DlmsTcpServer] = {}
        self.lines: dict[str, DlmsLine] = {}
        for table in tables:
            meters = {(meter.server, meter.physical): self._meter(meter) for meter in table.meter}
            if table.transport == "serial":
                self.lines[table.id] = DlmsLine(
                    meters,
                    path=directory / (table.path or table.id),
                    baud=table.baud,
                    line_format=table.format,
                    mode_e=table.mode_e,
                    turnaround_s=table.turnaround_ms / 1000,
                    max_info=table.max_info,
                    window=table.window,
                )
            else:
                self.servers[table.id] = DlmsTcpServer(
                    meters,
                    host=table.host,
                    port=table.port,
                    framing=table.transport,
                    links=(table.max_info, table.window),
                )
        self.pusher = Pusher(list(self.meters.values()))

    def _meter(self, table: DlmsMeterTable) -> DlmsMeter:
        seed = table.seed if table.seed is not None else zlib.crc32(f"{self._seed}/{table.id}".encode())
        settings = MeterSettings(
            seed=seed,
            load=table.load,
            phases=table.phases,
            serial=table.serial or str(10_000_000 + seed % 90_000_000),
            size=table.size,
            installed_at=round(table.installed.timestamp()) * SECOND if table.installed else MONTH_START,
            start_wh=round(table.start_kwh * 1000),
            drift_ppm=table.drift_ppm,
            offset_s=table.offset_s,
        )
        faults = DlmsFaults([fault.fault() for fault in table.fault], seed=seed)
        made = DlmsMeter(Meter(settings), table.settings(), faults=faults, now=self._now)
        self.meters[table.id] = made
        return made

    async def start(self) -> dict[str, tuple[str, int] | Path]:
        """Open every endpoint and return where each listens, by endpoint id."""
        places: dict[str, tuple[str, int] | Path] = {}
        for name, server in self.servers.items():
            places[name] = await server.start()
        for name, line in self.lines.items():
            places[name] = line.start()
        self.pusher.start()
        return places

    async def close(self) -> None:
        """Close every endpoint."""
        await self.pusher.close()
        for server in self.servers.values():
            await server.close()
        for line in self.lines.values():
            line.close()
