"""What a person sees of the demo: a live table on a terminal, a plain line now and then elsewhere, and curl lines."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from shutil import which

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.last import Shown
from gateway.settings import MeterSettings
from headend.tokens import SCOPES
from metergate.demo_supply import supply_lines, switched
from metergate.parts import Parts
from metering import timing
from metering.model import SECOND
from metering.quality import is_valid

REFRESH_S = 1.0
PLAIN_S = 5.0
ROOM_FOR_THE_REST = 6  # lines of a terminal besides meters, buses and hints: headings, and the line below the tables
ENERGY = ("1-0:1.8.0*255", "1-0:1.8.1*255", "1-0:15.8.0*255", "1-0:21.8.0*255")
POWER = ("1-0:16.7.0*255", "1-0:1.7.0*255", "1-0:36.7.0*255")


class DemoView:
    """Shows the parts of a running demo until told to stop."""

    def __init__(self, parts: Parts, broker: str, tokens: dict[str, str]) -> None:
        self._parts = parts
        self._broker = broker
        self._site_meters = parts.site.meter
        self._tokens = tokens
        self._console = Console()
        self._began = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Show until `stop`: on a terminal the table with the hints below it, elsewhere the hints and then plain lines.

        A terminal too low for both shows the hints first, and then as much of the table as it has room for.
        """
        hints = "\n".join(self._hints())
        fits = self._console.is_terminal and self._has_room(hints.splitlines())
        if not fits:
            print(hints, flush=True)
        if not self._console.is_terminal:
            while not await _stopped(stop, PLAIN_S):
                print(self._line(), flush=True)
            return
        with Live(console=self._console, auto_refresh=False) as live:
            while not await _stopped(stop, REFRESH_S):
                live.update(self._picture(with_hints=fits), refresh=True)

    def _has_room(self, hints: Sequence[str]) -> bool:
        """Tell whether the terminal has room for tables and hints, and no line of the hints is cut in the middle."""
        lines = len(self._site_meters) + len(self._parts.site.bus) + len(hints) + ROOM_FOR_THE_REST
        return self._console.height >= lines and self._console.width > max(map(len, hints))

    def _hints(self) -> list[str]:
        meters = f"{len(self._site_meters)} meters, broker {self._broker or 'none'}"
        meter = self._parts.site.meter[0]
        readings = f"/v1/meter-points/{meter.point}/readings?kind=register&obis=1-0:1.8.0*255"
        return [
            f"metergate demo: {meters}, API http://{self._parts.site.api.listen}",
            f"data in {self._parts.site.gateway.data}; Ctrl-C ends it, a second start goes on with the same data",
            "",
            "a token of each kind:",
            *(f"  {scope:<18} {token}" for scope, token in self._tokens.items() if scope in SCOPES),
            "",
            "to copy and paste:",
            self._curl("/v1/meter-points"),
            self._curl("/v1/readings/latest?kind=register"),
            self._curl(readings),
            self._curl(readings, "-H 'Accept: text/csv'"),
            self._curl(f"/v1/devices/{meter.id}/reads", "-X POST"),
            self._curl("/v1/changes"),
            "",
            *self._supply_hints(),
            "",
        ]

    def _supply_hints(self) -> list[str]:
        """Return how to see a meter go dark: what collections, two approvers and the payment desk would do."""
        meter = switched(self._parts.site)
        program = "metergate" if which("metergate") else f"'{sys.executable}' -m metergate"
        lines = supply_lines(self._parts.site, meter, self._tokens, program)
        return [
            f"to see {meter.id} go dark and come back: a request with its debt, two approvals (--yes: they have read",
            "what is shown), and after them a payment, for which a service key signs; meanwhile its power is 0:",
            *(self._fitted(line) for line in lines),
        ]

    def _curl(self, path: str, option: str = "") -> str:
        head = f"curl -s -H 'Authorization: Bearer {self._tokens['readings:read']}'"
        return self._fitted([head, *([option] if option else []), f"'http://{self._parts.site.api.listen}{path}'"])

    def _fitted(self, parts: Sequence[str]) -> str:
        """Return a line for the shell, broken where a narrow terminal would break it: so that the shell can join it."""
        parts = [f"  {parts[0]}", *parts[1:]]
        line = " ".join(parts)
        if self._console.is_terminal and len(line) > self._console.width:
            return " \\\n      ".join(parts)
        return line

    def _line(self) -> str:
        gateway = self._parts.gateway.status()
        log = self._parts.log.status()
        busiest = max((bus.load for bus in gateway.buses.values()), default=0.0)
        silent = sum(m.circuit != "closed" for bus in gateway.buses.values() for m in bus.meters.values())
        return (
            f"{time.monotonic() - self._began:5.0f} s  readings={gateway.recorder.readings} meters={gateway.meters} "
            f"silent={silent} busiest bus={busiest:.0%} log={log.records} records, {log.bytes / 1024:.0f} KiB, "
            f"store behind by {self._parts.projection.status().lag}"
        )

    def _picture(self, *, with_hints: bool) -> Group:
        hints = [Text("\n".join(["", *self._hints()]))] if with_hints else []
        return Group(self._meters(), self._buses(), Text(self._line()), *hints)

    def _meters(self) -> Table:
        table = Table("meter", "model", "at", "energy", "power", "measured", box=None, header_style="bold")
        now = timing.now()
        for meter in self._site_meters:
            last = self._parts.gateway.last.of(meter.id)
            seen = self._parts.gateway.last.seen_at(meter.id)
            age = f"{(now - seen) / SECOND:4.0f} s ago" if seen else "not yet"
            table.add_row(meter.id, meter.profile, _place(meter), _shown(last, ENERGY), _shown(last, POWER), age)
        return table

    def _buses(self) -> Table:
        table = Table("bus", "load", "waiting", "exchanges", "no answer", "bad frames", box=None, header_style="bold")
        for name, bus in self._parts.gateway.status().buses.items():
            meters = bus.meters.values()
            table.add_row(
                name,
                f"{bus.load:.1%}",
                str(sum(bus.waiting.values())),
                str(sum(meter.ok for meter in meters)),
                str(sum(meter.no_answer for meter in meters)),
                str(sum(meter.frame_errors for meter in meters)),
            )
        return table


def _place(meter: MeterSettings) -> str:
    if meter.bus is None:
        return "mqtt"
    if meter.dlms is not None:
        return f"{meter.bus} client {meter.dlms.client} server {meter.dlms.server}"
    return f"{meter.bus} {meter.address or f'unit {meter.unit}'}"


def _shown(last: dict[str, Shown], codes: tuple[str, ...]) -> str:
    shown = next((last[code] for code in codes if code in last), None)
    if shown is None or shown.value is None:
        return "-"
    mark = "" if is_valid(shown.quality) else " ?"
    return f"{shown.value} {shown.unit}{mark}"


async def _stopped(stop: asyncio.Event, delay: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), delay)
    return stop.is_set()
