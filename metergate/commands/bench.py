"""`metergate bench`: runs the bars and prints a row for each. It measures nothing itself."""

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.row import Row
from metering.errors import ConfigError

# Name of a bar -> the module in `bench` and the function that measures it; modules load when they are asked for.
BARS: dict[str, tuple[str, str]] = {
    "rtu-bus": ("rtu_bus", "run"),
    "modbus-tcp": ("modbus_tcp", "run_paced"),
    "modbus-tcp-max": ("modbus_tcp", "run_max"),
    "dlms-profile": ("dlms_profile", "run_plain"),
    "dlms-profile-glo": ("dlms_profile", "run_ciphered"),
    "dlms-day-range": ("dlms_day_range", "run"),
    "hdlc-check": ("hdlc_check", "run"),
    "log-append": ("log_append", "run"),
    "inbox": ("inbox", "run"),
    "influxdb-write": ("influxdb_write", "run"),
    "month-read": ("month_read", "run"),
    "gateway-memory": ("gateway_memory", "run"),
    "growth": ("growth", "run"),
    "whole-way": ("whole_way", "run"),
    "receipt-delay": ("receipt_delay", "run"),
    "campaign": ("campaign", "run"),
    "drain": ("drain", "run"),
    "headend-memory": ("headend_memory", "run"),
    "supply-tcp": ("supply_tcp", "run"),
    "supply-bus": ("supply_bus", "run"),
}


def run_bench(names: list[str], json_file: Path | None) -> int:
    """Run the named bars, all without a name; return 0 when each holds, 1 when one falls short."""
    unknown = [name for name in names if name not in BARS]
    if unknown:
        raise ConfigError(f"there is no bar {unknown[0]!r}; known are {', '.join(BARS)}")
    console = Console()
    rows: list[Row] = []
    for name in names or list(BARS):
        if console.is_terminal:
            with console.status(f"measuring {name}"):
                measured = _bar(name)()
        else:
            print(f"measuring {name}", flush=True)
            measured = _bar(name)()
        rows.extend(measured)
        if not console.is_terminal:
            for row in measured:
                print(_line(row), flush=True)
    if console.is_terminal:
        console.print(_table(rows))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.holds for row in rows) else 1


def _bar(name: str) -> Callable[[], list[Row]]:
    module, function = BARS[name]
    bar: Callable[[], list[Row]] = getattr(importlib.import_module(f"bench.{module}"), function)
    return bar


def _verdict(row: Row) -> str:
    return "holds" if row.holds else "falls short"


def _line(row: Row) -> str:
    note = f" ({row.note})" if row.note else ""
    return (
        f"{row.name}: ours {row.ours:.4g} {row.unit}, {row.against} {row.other:.4g} {row.unit}, "
        f"ratio {row.ratio:.3g}, bar {row.bar}: {_verdict(row)}{note}"
    )


def _table(rows: list[Row]) -> Table:
    table = Table("name", "ours", "compared with", "ratio", "bar", "verdict", "note")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.ours:.4g} {row.unit}",
            f"{row.against}: {row.other:.4g} {row.unit}",
            f"{row.ratio:.3g}",
            row.bar,
            f"[{'green' if row.holds else 'red'}]{_verdict(row)}[/]",
            row.note,
        )
    return table
