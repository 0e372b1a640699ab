"""What can be wrong at the lines: ports, endpoints, who answers there, and who does not. Each probe has a limit."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from collector.bus import Bus
from collector.links import Link
from gateway.lines import make_link
from gateway.meters import BusMeter
from gateway.settings_bus import SERIAL_BUSES, BusSettings, HdlcBus
from metergate.doctor_meters import examine
from metergate.doctor_search import search
from metergate.findings import Case, Finding, State
from metergate.probe import meter_on_bus, owned_by_gateway
from metergate.site_keys import lacking
from metering.errors import FrameError, LinkDownError, NoAnswerError, StorageError

CONNECT_S = 5.0
SILENT_IN_A_ROW = 4  # meters; when none answers from the first on, the others are not asked

LOST = (NoAnswerError, FrameError, LinkDownError)  # nobody was understood: a search may tell more


async def look(case: Case, bus: BusSettings) -> AsyncIterator[Finding]:
    """Yield how a bus is, then each of its meters, then who else answers there where some do not."""
    if isinstance(bus, SERIAL_BUSES) and case.running:
        todo = "its /metrics say how it fares, and its API reads its meters: POST /v1/devices/METER/reads"
        yield Finding(State.NOTE, f"bus {bus.id}", "the running gateway owns the line", todo)
        return
    fault = _serial_fault(bus.port) if isinstance(bus, SERIAL_BUSES) else await _network_fault(bus.host, bus.port)
    if fault is not None:
        yield Finding(State.WRONG, f"bus {bus.id}", *fault)
        return
    link = make_link(bus)
    yield Finding(State.OK, f"bus {bus.id}", f"{link.name} is there")
    line = Bus(link)
    try:
        async for finding in _meters(case, bus, line, link):
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


async def _meters(case: Case, bus: BusSettings, line: Bus, link: Link) -> AsyncIterator[Finding]:
    meters: list[BusMeter] = []
    for each in case.site.meter:
        if each.bus != bus.id or each.removed is not None:
            continue
        where = f"meter {each.id}"
        owned = owned_by_gateway(case.site, each) if case.running else ""
        try:
            if owned:
                todo = f"its API reads it: POST /v1/devices/{each.id}/reads"
                yield Finding(State.NOTE, where, f"not asked: the running gateway owns {owned}", todo)
            elif lacking(case.site, each, case.keys):
                yield Finding(State.NOTE, where, "not asked: its secrets are not there, see keys above")
            else:
                meters.append(meter_on_bus(case.site, each, case.keys))
        except StorageError as error:
            yield Finding(State.WRONG, where, f"not asked: {error}", "see keys above, or wait until that has ended")
    async for finding in _ask(case, bus, line, link, meters):
        yield finding


async def _ask(
    case: Case, bus: BusSettings, line: Bus, link: Link, meters: Sequence[BusMeter]
) -> AsyncIterator[Finding]:
    lost: list[BusMeter] = []
    asked = len(meters)
    for number, meter in enumerate(meters):
        if len(lost) == number == SILENT_IN_A_ROW:
            asked = number
            further = f"{len(meters) - number} further meters not asked: nobody answers"
            yield Finding(State.WRONG, f"bus {bus.id}", further)
            break
        examined = await examine(case, bus, line, meter)
        if isinstance(examined.error, LOST) and not _heard(bus, line, meter):
            lost.append(meter)
        for finding in examined.findings:
            yield finding
    if lost:
        async for finding in search(case, bus, link, lost, meters, nobody=len(lost) == asked):
            yield finding


def _heard(bus: BusSettings, line: Bus, meter: BusMeter) -> bool:
    """Tell whether a meter was understood at all: then it is there, whatever became of the rest."""
    status = line.status().meters.get(meter.id)
    sign_on = int(isinstance(bus, HdlcBus) and bus.start == "mode-e")  # which tells nothing of the address behind it
    return status is not None and status.ok > sign_on
