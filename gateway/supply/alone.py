"""A gateway's supply control by itself: its wires, meters, keys, log and clock, without schedule and uplink.

It is what a bench and tests measure and try; a gateway at work has its own (`gateway.app`).
"""

import asyncio
from collections.abc import Callable
from typing import Self

from collector.links import Link
from gateway.clock import Clock
from gateway.lines import make_bus_meters, make_buses, make_link, open_keys
from gateway.recorder import Recorder
from gateway.settings import GatewayFile
from gateway.settings_bus import BusSettings
from gateway.supply.executor import POLL_S, VERIFY_S
from gateway.supply.make import make_supply, told
from gateway.work import MeterWork
from metering.model import Block
from storage.log import Log

COMMIT_S = 0.2


class SupplyAlone:
    """One run of it, from `async with` to its end. The rest as of `Executor`; `blocks` are the registers it took."""

    def __init__(
        self,
        file: GatewayFile,
        *,
        clock: Clock | None = None,
        link: Callable[[BusSettings], Link] = make_link,
        verify_s: float = VERIFY_S,
        poll_s: float = POLL_S,
        on_step: Callable[[str], None] = told,
    ) -> None:
        self.clock = clock or Clock()
        self.log = Log.open(file.gateway.data / "log")
        self.recorder = Recorder(self.log, self.clock, f"gateway:{file.gateway.id}", commit_every_s=COMMIT_S)
        self.buses = make_buses(file, self.clock.now, lambda *_: None, link)
        self.keys = open_keys(file, self.log.epoch)
        self.meters = make_bus_meters(file, lambda *_: None, self.keys)
        self.work = MeterWork(self.buses, self.recorder.raise_event, self.keys)
        self.blocks: list[Block] = []
        self.service = make_supply(
            file.gateway,
            file.supply,
            self.recorder,
            self.clock,
            self.work,
            self.blocks.extend,
            lambda: self.meters,
            verify_s=verify_s,
            poll_s=poll_s,
            on_step=on_step,
        )
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.service.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task
        for bus in self.buses.values():
            await bus.close()
        if self.keys is not None:
            self.keys.close()
        await self.recorder.commit()
        self.log.close()
