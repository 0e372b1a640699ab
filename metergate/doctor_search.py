"""Looks for who answers on a line where a known meter does not: other addresses, speeds, framings. It is bounded.

Nothing that it sends needs a secret or changes a meter: a first read, a link that is opened and closed, a wildcard.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from collector.links import Link
from gateway.dlms_meters import dlms_line
from gateway.lines import make_link
from gateway.meters import BusMeter
from gateway.settings_bus import (
    PROTOCOLS,
    SERIAL_BUSES,
    BusSettings,
    Dlt645Bus,
    HdlcBus,
    HdlcTcpBus,
    Protocol,
    RtuOverTcpBus,
    SerialBus,
    TcpBus,
    WrapperBus,
)
from metergate import doctor_dlms, doctor_dlt645, doctor_modbus
from metergate.findings import Case, Finding, State

ADDRESSES_S = 20.0  # for other addresses, once a bus
COLLISIONS_S = 150.0  # for DL/T 645 meters that answer the wildcard at once: a hundred requests tell them apart
SPEEDS_S = 45.0  # for other speeds and formats, or another framing

USUAL_BAUDS: dict[Protocol, tuple[int, ...]] = {
    "modbus": (9600, 19200, 2400, 4800, 38400, 57600, 115200, 1200),
    "dlms": (9600, 115200, 19200, 57600, 38400, 4800, 2400, 1200, 600, 300),
    "dlt645": (2400, 9600, 1200, 4800, 600),
}
USUAL_FORMATS: dict[Protocol, tuple[str, ...]] = {
    "modbus": ("8N1", "8E1"),
    "dlms": ("8N1",),
    "dlt645": ("8E1", "8N1"),
}
ADDRESS_KEYS: dict[Protocol, str] = {
    "modbus": "unit address",
    "dlms": "server, physical and address_bytes",
    "dlt645": "address",
}

_OTHER_FRAMINGS: dict[str, tuple[str, Callable[..., BusSettings]]] = {
    "tcp": ("rtu-over-tcp", RtuOverTcpBus),
    "rtu-over-tcp": ("tcp", TcpBus),
    "wrapper": ("hdlc-tcp", HdlcTcpBus),
    "hdlc-tcp": ("wrapper", WrapperBus),
}


async def search(
    case: Case, bus: BusSettings, link: Link, lost: Sequence[BusMeter], known: Sequence[BusMeter], *, nobody: bool
) -> AsyncIterator[Finding]:
    """Yield who else answers on a bus where the meters `lost` do not (`nobody`: not one does)."""
    where = f"bus {bus.id}"
    if case.running and bus.kind != "tcp":
        yield Finding(State.NOTE, where, "who else is there was not looked for: the running gateway speaks on it")
        return
    strangers = await _within(ADDRESSES_S, _others(bus, link, lost[0], known))
    other: list[str] = []
    if nobody and not strangers:
        await link.close()  # a port has one owner
        other = await _within(SPEEDS_S, _otherwise(bus, lost[0]))
    if not strangers and not other and PROTOCOLS[bus.kind] == "dlt645":
        strangers = await _within(COLLISIONS_S, doctor_dlt645.others(link, lost[0], known, collided=True))
    if strangers:
        todo = f"if it is the silent one, correct its {ADDRESS_KEYS[PROTOCOLS[bus.kind]]}"
        yield Finding(State.NOTE, where, f"{', '.join(strangers)} answers, which the file does not know", todo)
    elif other:
        yield Finding(State.WRONG, where, other[0], other[1])
    elif nobody:
        what = "nobody answers, in no other way either that was tried"
        yield Finding(State.NOTE, where, f"{what} ({_tried(bus)})", "check the meters' power, and the wiring")


async def _within(seconds: float, source: AsyncIterator[str]) -> list[str]:
    """Return what comes before the time is up."""
    found: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            async for each in source:
                found.append(each)  # noqa: PERF401 - what was found stays when the time is up
    except TimeoutError:
        return found
    return found


def _others(bus: BusSettings, link: Link, missed: BusMeter, known: Sequence[BusMeter]) -> AsyncIterator[str]:
    match PROTOCOLS[bus.kind]:
        case "dlms":
            return doctor_dlms.others(link, missed, known)
        case "dlt645":
            return doctor_dlt645.others(link, missed, known)
        case _:
            return doctor_modbus.others(link, missed, known)


async def _otherwise(bus: BusSettings, missed: BusMeter) -> AsyncIterator[str]:
    """Yield, where somebody answers when the line is spoken to in another way, who does it, and what to correct."""
    for other in _ways(bus):
        link = make_link(other)
        try:
            who = await _here(other, link, missed)
        finally:
            await link.close()
        if who:
            was, now = _said(bus), _said(other)
            yield f"{who} answers with {now}, the file says {was}"
            yield f"say {now} for the bus"
            return


async def _here(bus: BusSettings, link: Link, missed: BusMeter) -> str:
    match PROTOCOLS[bus.kind]:
        case "dlms":
            return await doctor_dlms.here(link, missed, dlms_line(bus))
        case "dlt645":
            return await doctor_dlt645.here(link, missed)
        case _:
            return await doctor_modbus.here(link, missed)


def _ways(bus: BusSettings) -> Iterator[BusSettings]:
    """Yield other ways to speak on this line, likely ones first."""
    if isinstance(bus, SERIAL_BUSES):
        yield from _serial_ways(bus)
        return
    other = _OTHER_FRAMINGS.get(bus.kind)
    if other is not None:
        kind, make = other
        yield make(kind=kind, id=bus.id, host=bus.host, port=bus.port)


def _serial_ways(bus: SerialBus | HdlcBus | Dlt645Bus) -> Iterator[BusSettings]:
    direct = {}
    if isinstance(bus, HdlcBus):
        direct = {"start": "direct"}
        begun = "mode-e" if bus.start == "direct" else "direct"
        yield bus.model_copy(update={"start": begun, "format": "8N1"})
    protocol = PROTOCOLS[bus.kind]
    # A port that is opened in another format than its line's (a pseudo-terminal) has but that one.
    formats = (bus.format,) if bus.open_as else tuple(dict.fromkeys((bus.format, *USUAL_FORMATS[protocol])))
    for baud in dict.fromkeys((bus.baud, *USUAL_BAUDS[protocol])):
        for line_format in formats:
            if (baud, line_format) != (bus.baud, bus.format):
                yield bus.model_copy(update={"baud": baud, "format": line_format, **direct})


def _tried(bus: BusSettings) -> str:
    if isinstance(bus, SERIAL_BUSES):
        return "addresses, speeds, formats"
    return "addresses, framings" if bus.kind in _OTHER_FRAMINGS else "addresses"


def _said(bus: BusSettings) -> str:
    """Return what a bus's settings say of how it is spoken to."""
    if not isinstance(bus, SERIAL_BUSES):
        return f"kind = {bus.kind!r}"
    speed = f"baud = {bus.baud}, format = {bus.format!r}"
    return f"{speed}, start = {bus.start!r}" if isinstance(bus, HdlcBus) else speed
