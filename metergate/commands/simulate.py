"""`metergate simulate`: a simulated site until a signal says stop. Run as a module it serves a parent: the demo."""

import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec
import uvloop

from metergate.logging import configure_logging
from metergate.relays import FILE
from metergate.signals import stop_on_signals
from metergate.world import Places, World, with_free_ports
from simulators.fleet_file import load_fleet

CHILD_PUBLISH_S = 2.0  # in the demo the publishing meters speak often enough to be watched


def run_simulation(file: Path, seconds: float | None) -> None:
    """Run the fleet of a file and print where each meter is."""
    fleet = load_fleet(file)
    configure_logging()

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, stop.set)
        with tempfile.TemporaryDirectory(prefix="metergate-lines-") as directory:
            async with World(fleet, Path(directory)) as world:
                _print(world.places())
                await world.run(stop)

    uvloop.run(run())


def run_child(file: Path, directory: Path) -> None:
    """Serve a parent: ports of the system's choice, one line of JSON when all listen, the end when the parent goes."""
    fleet = with_free_ports(load_fleet(file))
    configure_logging(quiet=True)

    async def run() -> None:
        stop = asyncio.Event()
        # A parent that was killed leaves a closed pipe: nothing simulated outlives it.
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
        async with World(fleet, directory, publish_s=CHILD_PUBLISH_S, relays=directory / FILE) as world:
            print(msgspec.json.encode(world.places()).decode(), flush=True)
            await world.run(stop)

    uvloop.run(run())


def _print(places: Places) -> None:
    for meter in places.meters:
        if meter.topic:
            broker = places.broker
            where = f"mqtt {broker.host}:{broker.port}, topic {meter.topic}" if broker else "no broker"
        elif meter.bus in places.tcp:
            where = f"tcp {places.tcp[meter.bus].host}:{places.tcp[meter.bus].port}, unit {meter.unit}"
        else:
            where = f"rtu {places.rtu[meter.bus]}, unit {meter.unit}"
        print(f"{meter.id:<16} {meter.profile:<28} {where}", flush=True)
    for hung in places.dlms:
        where = f"{hung.transport} {hung.path or f'{hung.host}:{hung.port}'}, server {hung.server}"
        address = "" if hung.transport == "wrapper" else f"/{hung.physical}"
        print(f"{hung.id:<16} {hung.profile:<28} {where}{address}", flush=True)
    for each in places.dlt645:
        where = f"serial {each.path}" if each.path else f"tcp {each.host}:{each.port}"
        print(f"{each.id:<16} {each.profile:<28} {where}, address {each.address}", flush=True)


if __name__ == "__main__":
    run_child(Path(sys.argv[1]), Path(sys.argv[2]))
