"""`metergate read`: one meter's values now, over its own connection or from its next message. It stores nothing."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from collector.bus import Bus
from collector.mqtt_profile import MqttProfile
from gateway.lines import make_link, open_keys
from gateway.models import load_any
from gateway.settings import MeterSettings
from metergate.advice import Place, advice
from metergate.probe import Ear, ReadError, bus_of, gateway_runs, meter_on_bus, owned_by_gateway, read_meter
from metergate.site import SiteFile, load_site
from metergate.site_keys import check_keys
from metering.errors import ConfigError, MeterError
from metering.model import Block
from metering.quality import codes
from metering.timing import to_rfc3339
from metering.values import to_text

LISTEN_S = 60.0  # how long to wait for the next message of a meter that publishes by itself
WIDTHS = (20, 28, 14, 6, 16, 0)  # of the columns, where there is no terminal


def run_read(file: Path, meter: str) -> None:
    """Read a meter and print its values as a table.

    Raises:
        ConfigError: the file is wrong or has no such meter.
        ReadError: it could not be read; says whose fault it is and what to do.

    """
    site = load_site(file)
    settings = meter_of(site, meter)
    if settings.topic is None:
        check_keys(file, site, meter)
        profile = load_any(settings.profile, site.gateway.profiles)
        points = () if isinstance(profile, MqttProfile) else profile.points
        _print(asyncio.run(_read(file, site, settings)), {f"{point.obis} {point.what}": point.name for point in points})
    else:
        print(f"waiting for the next message of {meter}, at most {LISTEN_S:.0f} s", file=sys.stderr, flush=True)
        _print(asyncio.run(_listen(site, settings)), {})


def meter_of(site: SiteFile, meter: str) -> MeterSettings:
    """Return a meter of the file that is not removed. Raises `ConfigError`."""
    found = next((each for each in site.meter if each.id == meter), None)
    if found is None:
        raise ConfigError(f"there is no meter {meter!r} in the file; there are {', '.join(m.id for m in site.meter)}")
    if found.removed is not None:
        raise ConfigError(f"the meter {meter!r} was removed at {to_rfc3339(found.removed)}")
    return found


async def _read(file: Path, site: SiteFile, settings: MeterSettings) -> list[Block]:
    place = bus_of(site, settings)
    owned = owned_by_gateway(site, settings)
    if owned and gateway_runs(site.gateway.data):
        instead = f"read by its API (POST /v1/devices/{settings.id}/reads), or stop it first"
        raise ReadError(f"the running gateway owns {owned}: {instead}")
    keys = open_keys(site)
    link = make_link(place)
    bus = Bus(link)
    try:
        meter = meter_on_bus(site, settings, keys)
        return await read_meter(bus, meter, keys)
    except MeterError as error:
        raise ReadError(f"{settings.id} on {link.name}: {error}; {advice(error, Place(meter, place, file))}") from None
    finally:
        await bus.close()
        if keys is not None:
            keys.close()


async def _listen(site: SiteFile, settings: MeterSettings) -> list[Block]:
    assert site.mqtt is not None  # noqa: S101 - a checked file with a topic has a broker
    ear = Ear(site, site.mqtt, [settings.id])
    await ear.listen(LISTEN_S, LISTEN_S)
    if settings.id not in ear.heard:
        raise ReadError(f"{settings.id}: {ear.broker_fault() or ear.silence(settings.id, LISTEN_S)}")
    return ear.heard[settings.id]


def _print(blocks: Sequence[Block], names: dict[str, str]) -> None:
    rows = [
        (
            column.obis,
            names.get(f"{column.obis} {block.layout.kind}", block.layout.kind),
            "-" if block.values[index] is None else to_text(block.values[index] or 0, column.scale, column.number),
            column.unit,
            ", ".join(code.name for code in codes(block.quality_of(index))),
            to_rfc3339(block.measured_at),
        )
        for block in blocks
        for index, column in enumerate(block.layout.columns)
    ]
    console = Console()
    if not console.is_terminal:
        for row in rows:
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, WIDTHS, strict=True)))
        return
    table = Table("obis", "name", "value", "unit", "quality", "time")
    for row in rows:
        table.add_row(*row)
    console.print(table)
