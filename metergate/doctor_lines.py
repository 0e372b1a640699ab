"""What can be wrong at the lines: buses, their meters, the broker, the meters that publish. Each probe has a limit."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from collector.bus import Bus
from collector.exchange import Exchange
from collector.links import Link
from collector.profile import Profile
from gateway.lines import make_link, open_keys
from gateway.meters import BusMeter
from gateway.secrets import Keys
from gateway.settings_bus import SERIAL_BUSES, BusSettings
from metergate.findings import Finding, State
from metergate.probe import Ear, advice, gateway_runs, meter_on_bus, owned_by_gateway, read_meter
from metergate.site import SiteFile
from metergate.site_keys import lacking
from metering.errors import MeterError, NoAnswerError, RefusedError

CONNECT_S = 5.0
LISTEN_S = 30.0  # for the next message of each meter that publishes by itself
SCAN_S = 10.0  # for units that the file does not know, once a bus
SILENT_IN_A_ROW = 4  # meters; when none answers from the first on, the others are not asked
LIKELY_UNITS = (*range(1, 11), 100, 247)


async def look(site: SiteFile, bus: BusSettings) -> AsyncIterator[Finding]:
    """Yield how a bus is, then each of its meters."""
    if isinstance(bus, SERIAL_BUSES) and gateway_runs(site.gateway.data):
        yield Finding(State.NOTE, f"bus {bus.id}", "the running gateway owns the line; its /metrics say how it fares")
        return
    fault = _serial_fault(bus.port) if isinstance(bus, SERIAL_BUSES) else await _network_fault(bus.host, bus.port)
    if fault is not None:
        yield Finding(State.WRONG, f"bus {bus.id}", *fault)
        return
    link = make_link(bus)
    yield Finding(State.OK, f"bus {bus.id}", f"{link.name} is there")
    line = Bus(link)
    try:
        async for finding in _meters(site, bus, line, link):
            yield finding
    finally:
        await line.close()


def _serial_fault(port: str) -> tuple[str, str] | None:
    path = Path(port)
    if not path.exists():
        known = sorted(str(each) for pattern in ("ttyUSB*", "ttyACM*", "ttyS*") for each in Path("/dev").glob(pattern))
        there = ", ".join(known[:8]) or "no serial port"
        return f"{port} is not there", f"plug the adapter in or correct port; this machine has {there}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{port}: no permission", "add the user who runs metergate to the group: usermod -aG dialout USER"
    return None


async def _network_fault(host: str, port: int) -> tuple[str, str] | None:
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return (
            f"{host}:{port} does not answer within {CONNECT_S:.0f} s",
            "is it on, is the network up, a firewall between?",
        )
    except socket.gaierror:
        return f"the name {host} is not known", "correct host, or write its address"
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            return f"{host} is up but refuses port {port}", "correct port, or switch the service on at the device"
        return f"{host}:{port} cannot be reached: {error.strerror}", "check address, cable and routes"
    writer.close()
    return None


async def _meters(site: SiteFile, bus: BusSettings, line: Bus, link: Link) -> AsyncIterator[Finding]:
    keys = open_keys(site)
    try:
        meters: list[BusMeter] = []
        for each in site.meter:
            if each.bus != bus.id or each.removed is not None:
                continue
            owned = owned_by_gateway(site, each) if gateway_runs(site.gateway.data) else ""
            if owned:
                yield Finding(State.NOTE, f"meter {each.id}", f"not asked: the running gateway owns {owned}")
            elif not lacking(site, each, keys):  # what a meter lacks is told with the keys
                meters.append(meter_on_bus(site, each, keys))
        async for finding in _ask(bus, line, link, meters, keys):
            yield finding
    finally:
        if keys is not None:
            keys.close()


async def _ask(
    bus: BusSettings, line: Bus, link: Link, meters: Sequence[BusMeter], keys: Keys | None
) -> AsyncIterator[Finding]:
    silent: list[BusMeter] = []
    for number, meter in enumerate(meters):
        if len(silent) == number == SILENT_IN_A_ROW:
            yield Finding(
                State.WRONG, f"bus {bus.id}", f"{len(meters) - number} further meters not asked: nobody answers"
            )
            break
        try:
            blocks = await read_meter(line, meter, keys)
        except MeterError as error:
            if isinstance(error, NoAnswerError):
                silent.append(meter)
            yield Finding(State.WRONG, f"meter {meter.id}", str(error), advice(error, meter, bus))
        else:
            yield _answered(meter, sum(len(block.values) for block in blocks))
    if silent and isinstance(silent[0].profile, Profile):
        found = await _scan(link, silent[0], {meter.settings.unit for meter in meters})
        if found:
            units = ", ".join(map(str, found))
            todo = "if it is the silent one, correct its unit address"
            yield Finding(State.NOTE, f"bus {bus.id}", f"unit {units} answers, which the file does not know", todo)


def _answered(meter: BusMeter, values: int) -> Finding:
    refused = str(meter.everything.holes)
    if meter.everything.holes and refused:
        what = f"answers, {values} values; it refuses {refused}"
        todo = "another variant or firmware of the model; name the wanted points with `only`"
        return Finding(State.NOTE, f"meter {meter.id}", what, todo)
    return Finding(State.OK, f"meter {meter.id}", f"answers, {values} values")


async def _scan(link: Link, meter: BusMeter, known: set[int | None]) -> list[int]:
    """Return unknown units that answer the first request of a meter's plan, with values or with an exception."""
    found = []
    asked = meter.everything.exchanges()[0]
    usual = [meter.profile.serial.unit] if isinstance(meter.profile, Profile) else []
    try:
        async with asyncio.timeout(SCAN_S):
            for unit in dict.fromkeys((*usual, *LIKELY_UNITS)):
                if unit not in known and await _answers(link, asked._replace(unit=unit)):
                    found.append(unit)  # noqa: PERF401 - what was found stays when the time is up
    except TimeoutError:
        return found
    return found


async def _answers(link: Link, exchange: Exchange) -> bool:
    try:
        await link.exchange(exchange, link.timeout(exchange))
    except RefusedError as error:
        return error.code < 10  # 10 and 11 are a TCP gateway's own words for a unit that it does not reach
    except MeterError:
        return False
    return True


# --- meters that publish by themselves --------------------------------------------------------------------------------


async def listen(site: SiteFile) -> AsyncIterator[Finding]:
    """Yield how the broker is, then each meter that publishes."""
    names = [meter.id for meter in site.meter if meter.topic is not None and meter.removed is None]
    if site.mqtt is None or not names:
        return
    ear = Ear(site, site.mqtt)
    await ear.listen(LISTEN_S, CONNECT_S)
    for finding in _heard(ear, names):
        yield finding


def _heard(ear: Ear, names: Sequence[str]) -> Iterable[Finding]:
    fault = ear.broker_fault()
    if fault:
        yield Finding(State.WRONG, "broker", fault)
        return
    yield Finding(State.OK, "broker", f"{ear.broker.host}:{ear.broker.port} is there")
    for name in names:
        if name in ear.heard:
            values = sum(len(block.values) for block in ear.heard[name])
            yield Finding(State.OK, f"meter {name}", f"published {values} values")
        else:
            yield Finding(State.WRONG, f"meter {name}", ear.silence(name, LISTEN_S))
