"""A gateway's supply control in a process of its own that dies at a step: killed as by a power cut, without a word.

Called with: data folder, the street's ports, the commands' file, the step at which it dies (empty: it does not), and
how often it passes that step before. It says "ended" when every command has come to rest.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec

from gateway.supply.service import SupplyService
from gateway.supply.trust_file import TrustFile
from metering import timing
from metering.supply import CommandMessage, Go
from metering.supply_states import FINAL, State
from tests.gateway.supply.edge import Edge


class _Street:
    """What an `Edge` needs of a street that runs in another process."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports


class _Desk:
    """The trust document is on the disk already."""

    def install(self, data: Path) -> TrustFile:
        return TrustFile(data, "gw1")


class Killer:
    """Kills this very process at a step."""

    def __init__(self, step: str, passes: int) -> None:
        self._step = step
        self._passes = passes

    def __call__(self, step: str) -> None:
        if step != self._step:
            return
        if not self._passes:
            os.kill(os.getpid(), signal.SIGKILL)
        self._passes -= 1


async def at_rest(service: SupplyService, names: list[str]) -> None:
    record = service.account.record
    rest = FINAL | {State.ARMED}
    while any(name not in record.held or record.held[name].state not in rest for name in names):
        for name in names:
            service.go(Go(name, timing.now()))
        await asyncio.sleep(0.05)


async def main(data: Path, ports: list[int], messages: list[CommandMessage], killer: Killer) -> None:
    async with Edge(data, _Street(ports), _Desk(), on_step=killer, verify_s=2.0) as edge:
        put = edge.service.account.record.put

        def put_and_tell(*items: object) -> None:
            killer("before-put")
            put(*items)
            killer("after-put")

        edge.service.account.record.put = put_and_tell
        for message in messages:
            await edge.service.take(message)
        await at_rest(edge.service, [each.id for each in messages])
    print("ended", flush=True)  # noqa: T201 - what its caller reads


if __name__ == "__main__":
    asyncio.run(
        main(
            Path(sys.argv[1]),
            [int(port) for port in sys.argv[2].split(",")],
            msgspec.msgpack.decode(Path(sys.argv[3]).read_bytes(), type=list[CommandMessage]),
            Killer(sys.argv[4], int(sys.argv[5])),
        )
    )
