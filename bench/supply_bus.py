"""A command on a serial line that is busy with other meters' profiles, beside the least time that the wire leaves it.

The line is a pseudo-terminal in a process of its own that keeps the time of every character: DL/T 645 and Modbus RTU,
each at 9600 and at 2400 baud. The real guard, record and executor; the relay moves at once.
"""

import asyncio
import logging
import math
import multiprocessing
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import structlog
import uvloop

from bench.row import Row
from bench.supply_site import Heard, Site
from collector.bus import Lane, cycle_time
from collector.capabilities import Talk
from collector.dlt645_profile import load_dlt645_profile
from gateway.meters import BusMeter
from metering import timing
from metering.errors import MeterError
from metering.model import SECOND, Block, Source
from metering.supply import Action
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_serial import Dlt645SerialLine
from simulators.meter import Meter, MeterSettings
from simulators.modbus_rtu import RtuLine
from simulators.modbus_switch import SwitchedRegisters
from simulators.models import load_model
from simulators.registers import MeterRegisters
from simulators.unit import Unit
from trust.document import Binding

BAR = 0.9
TURNAROUND_S = 0.05  # of every meter on the line
OTHERS = 3  # meters whose profiles are read meanwhile
ROUNDS = 2  # of a disconnect and a reconnect each
START_S = 20.0
MARGIN_S = 0.05  # of the first frame: for the signatures and the record on disk
DAY = 86_400 * SECOND
PASSWORD = bytes.fromhex("123456")


class _Line(NamedTuple):
    protocol: str
    baud: int


class _Measured(NamedTuple):
    """One command: seconds to verified, seconds to its first frame, and the wire's least for both."""

    ours_s: float
    bound_s: float
    first_s: float
    in_flight_s: float
    others: int  # exchanges of other meters between its own


LINES = [_Line("dlt645", 9600), _Line("dlt645", 2400), _Line("modbus", 9600), _Line("modbus", 2400)]


def run() -> list[Row]:
    """Measure for about two minutes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return [row for line in LINES for row in _run(line)]


def _run(line: _Line) -> list[Row]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, line), daemon=True)
    child.start()
    try:
        if not ours.poll(START_S):
            raise OSError("the simulated line did not start")
        with tempfile.TemporaryDirectory() as folder:
            measured = uvloop.run(_measure(Path(folder), line, ours.recv()))
        ours.send("stop")
    finally:
        child.join(0.0 if sys.exc_info()[0] else START_S)
        child.terminate()
        child.join()
    return _rows(line, measured)


def _rows(line: _Line, measured: list[_Measured]) -> list[Row]:
    name = f"supply-bus: {line.protocol} at {line.baud}"
    worst = min(measured, key=lambda each: each.bound_s / each.ours_s)
    first = max(measured, key=lambda each: each.first_s - each.in_flight_s)
    ratio = worst.bound_s / worst.ours_s
    return [
        Row(
            name,
            worst.ours_s,
            "s from last approval to verified",
            "its own frames and those in flight",
            worst.bound_s,
            ratio,
            f"ratio >= {BAR}",
            ratio >= BAR,
            f"the worst of {len(measured)} commands, {worst.others} exchanges of others between its own; "
            f"turnaround {TURNAROUND_S * 1000:.0f} ms",
        ),
        Row(
            f"{name}, first frame",
            first.first_s,
            "s",
            "the longest transaction of others",
            first.in_flight_s,
            first.first_s / first.in_flight_s,
            f"at most {MARGIN_S * 1000:.0f} ms more",
            first.first_s <= first.in_flight_s + MARGIN_S,
        ),
    ]


# --- the line ---------------------------------------------------------------------------------------------------------


def _serve(parent: Connection, line: _Line) -> None:
    """Be the line until the parent says stop (or is gone)."""
    served = _dlt645(line.baud) if line.protocol == "dlt645" else _modbus(line.baud)
    try:
        parent.send(str(served.start()))
        parent.recv()
    except EOFError:
        pass
    finally:
        served.close()


def _address(number: int) -> str:
    return f"{4320 + number:012d}"


def _dlt645(baud: int) -> RtuLine:
    profile = load_dlt645_profile("dlt645_2007_3p")
    meters = {
        address: Dlt645Meter(
            Meter(MeterSettings(serial=address)),
            profile,
            Dlt645Made(address, password=PASSWORD, turnaround_s=TURNAROUND_S),
        )
        for address in (_address(number) for number in range(1 + OTHERS))
    }
    return Dlt645SerialLine(meters, baud=baud)


def _modbus(baud: int) -> RtuLine:
    model = load_model("example_switched")
    units = {}
    for unit in range(1, 2 + OTHERS):
        registers = MeterRegisters(Meter(MeterSettings(serial=f"SW-{unit:06d}", phases=1)), model.layout())
        switched = SwitchedRegisters(registers, model.profile, model.load_side())
        units[unit] = Unit(unit, switched, turnaround_s=TURNAROUND_S)
    return RtuLine(units, baud=baud)


# --- the gateway ------------------------------------------------------------------------------------------------------


def _site(folder: Path, line: _Line, port: str) -> Site:
    bus: dict[str, object] = {"id": "b1", "port": port, "baud": line.baud, "format": "8E1", "open_as": "8N1"}
    meters: list[dict[str, object]] = [
        {"id": f"m{number}", "bus": "b1", "point": f"MP-{number}", "region": "xx/01"} for number in range(1 + OTHERS)
    ]
    if line.protocol == "dlt645":
        for number, meter in enumerate(meters):
            meter |= {"address": _address(number), "profile": "dlt645_2007_3p", "zone": "Asia/Shanghai"}
        bound = Binding("MP-0", "m0", _address(0), f"address:{_address(0)}", 0)
        secrets = {"m0": {"password": PASSWORD, "operator": bytes(4)}}
        return Site(folder, {"bus": [bus | {"kind": "dlt645"}], "meter": meters}, [bound], secrets)
    for number, meter in enumerate(meters):
        meter |= {"unit": number + 1, "profile": "example_switched"}
    bound = Binding("MP-0", "m0", "SW-000001", "serial:SW-000001", 0)
    return Site(folder, {"bus": [bus | {"kind": "rtu"}], "meter": meters}, [bound], {})


async def _measure(folder: Path, line: _Line, port: str) -> list[_Measured]:
    async with _site(folder, line, port) as site:
        await site.order("m0", Action.READ_STATE)
        mine = {heard.exchange.unit for heard in site.heard}
        load = [asyncio.create_task(_load(site, site.meters[f"m{number}"])) for number in range(1, 1 + OTHERS)]
        await asyncio.sleep(1.0)
        measured = []
        try:
            for _ in range(ROUNDS):
                for action in (Action.DISCONNECT, Action.RECONNECT):
                    times = await site.order("m0", action)
                    measured.append(_judge(site, mine, *times))
        finally:
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
    return measured


async def _load(site: Site, meter: BusMeter) -> None:
    """Read a meter's profile, or all of its registers where it has none, again and again."""
    blocks: list[Block] = []

    async def job(talk: Talk) -> None:
        now = timing.now()
        for profile in meter.profiles:
            await profile.prepare(talk)
            await profile.read_profile(talk, now - DAY, now, into=blocks)
        if not meter.profiles:
            await meter.everything.read(talk, slot=None, source=Source.POLL, into=blocks)

    while True:
        try:
            await site.work.work_on(meter, Lane.BACKFILL, job)
        except MeterError as error:
            raise OSError(f"the load on the line failed: {error}") from None
        blocks.clear()


def _judge(site: Site, mine: set[int], begun: float, verified: float) -> _Measured:
    """Compare a command with its own exchanges, and with others' that were in flight when it wanted the wire."""
    parameters = site.buses["b1"].link.parameters

    def least(heard: Heard) -> float:
        exchange = heard.exchange._replace(reply_length=heard.reply, turnaround_s=TURNAROUND_S)
        return cycle_time(parameters, [exchange])

    during = [heard for heard in site.heard if heard.ended > begun and heard.begun < verified]
    own = [heard for heard in during if heard.exchange.unit in mine]
    others = [heard for heard in during if heard.exchange.unit not in mine and heard.begun < own[-1].begun]
    longest = max((least(heard) for heard in site.heard if heard.exchange.unit not in mine), default=math.nan)
    conversations = 2  # the order, and the look back
    bound = sum(map(least, own)) + conversations * longest
    return _Measured(verified - begun, bound, own[0].begun - begun, longest, len(others))
