"""A worker process of a simulated fleet: some 250 gateways on one event loop. It serves a parent, by lines of JSON.

Called with the fleet and the first and last of its gateways. It reports on standard output. On standard input the line
`count` begins the count of delays anew and `stop` ends the reading of meters; the input's end ends everything.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable

import msgspec
import uvloop

from metergate.fleet.edge import FleetGateway
from metergate.fleet.machine import allow_open_files
from metergate.fleet.plan import Fleet
from metergate.fleet.report import Delays, Report, total
from metergate.logging import configure_logging

REPORT_S = 2.0
OPENING = 8  # gateways that are opened at once: each makes a dozen files durable
DELIVERY_S = 120.0  # for the receipts of all that is in the logs, after the last read
LOOK_S = 0.1
FILES = 12  # descriptors of one gateway at most: log, lock, socket, and a file that is being replaced
MORE_FILES = 200


class Work(msgspec.Struct, frozen=True):
    """What a worker is told: the fleet, and its own gateways from `first` to before `end`."""

    fleet: Fleet
    first: int
    end: int


async def serve(work: Work) -> None:
    """Run the gateways until the parent says stop, then bring in what is in their logs."""
    delays = Delays()
    gateways: list[FleetGateway] = []
    stop, gone = asyncio.Event(), asyncio.Event()
    _listen({b"count": delays.clear, b"stop": stop.set}, stop, gone)
    opening = asyncio.Semaphore(OPENING)

    async def begin(number: int) -> None:
        async with opening:
            if stop.is_set():
                return
            made = await asyncio.to_thread(FleetGateway, work.fleet, number, delays)
            made.start()
            gateways.append(made)

    async with asyncio.TaskGroup() as group:
        reporter = group.create_task(_report_on(gateways, delays))
        starts = [group.create_task(begin(number)) for number in range(work.first, work.end)]
        await stop.wait()
        await asyncio.gather(*starts)
        await asyncio.gather(*(each.end_reading() for each in gateways))
        await _deliver(gateways, gone)
        reporter.cancel()
    say(_sum(gateways, delays, final=True))
    await asyncio.gather(*(each.close() for each in gateways))
    await gone.wait()  # until then the parent looks at what we cost


async def _report_on(gateways: list[FleetGateway], delays: Delays) -> None:
    while True:
        for each in gateways:
            if (error := each.failed()) is not None:
                raise error
        say(_sum(gateways, delays))
        await asyncio.sleep(REPORT_S)


async def _deliver(gateways: list[FleetGateway], gone: asyncio.Event) -> None:
    until = asyncio.get_running_loop().time() + DELIVERY_S
    while not gone.is_set() and asyncio.get_running_loop().time() < until:
        if all(each.delivered() for each in gateways):
            return
        await asyncio.sleep(LOOK_S)


def _sum(gateways: list[FleetGateway], delays: Delays, *, final: bool = False) -> Report:
    summed = total(each.report(final=final) for each in gateways)
    return msgspec.structs.replace(summed, delays=delays.counts(), final=final)


def _listen(orders: dict[bytes, Callable[[], None]], stop: asyncio.Event, gone: asyncio.Event) -> None:
    """Follow the parent's orders, a word on each line; set `stop` and `gone` when the parent ends."""
    loop = asyncio.get_running_loop()
    source = sys.stdin.fileno()

    def heard() -> None:
        words = os.read(source, 1024)
        for word in words.split():
            orders[word]()
        if not words:
            gone.set()
            stop.set()
            loop.remove_reader(source)

    loop.add_reader(source, heard)


def say(report: Report) -> None:
    """Tell the parent, if it is still there."""
    with contextlib.suppress(BrokenPipeError):
        print(msgspec.json.encode(report).decode(), flush=True)


def main() -> None:
    """Run as a process of its own."""
    work = msgspec.json.decode(sys.argv[1], type=Work)
    allow_open_files((work.end - work.first) * FILES + MORE_FILES, f"{work.end - work.first} gateways")
    configure_logging(quiet=True)
    uvloop.run(serve(work))


if __name__ == "__main__":
    main()
