"""The edge process: reads meters on schedule and on demand, takes in what they publish, and hands all to the log."""

import asyncio
import gc
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import structlog

from collector.bus import Bus
from collector.capabilities import ClockReading
from collector.links import Link
from gateway.changes import Changes
from gateway.clock import Clock
from gateway.epoch import FILE as EPOCH_FILE
from gateway.epoch import load_epoch
from gateway.fieldwork import Fieldwork, Lasting
from gateway.flow import Flow
from gateway.key_desk import KeyDesk
from gateway.lines import make_buses, make_link, open_keys
from gateway.memories import Kept
from gateway.meters import BusMeter
from gateway.orders import Orders
from gateway.past import newest_at
from gateway.promised import PromiseTeller
from gateway.reading import Reading
from gateway.recorder import Recorder, RecorderStatus
from gateway.settings import GatewayFile
from gateway.settings_bus import BusSettings
from gateway.status import GatewayStatus
from gateway.supply.make import make_supply
from gateway.work import MeterWork
from metering import events
from metering.errors import ConfigError, RefusedError
from metering.model import Block
from storage.log import Log
from storage.quarantine import Quarantine
from storage.trimming import trim_until

CLOCK_CHECK_S = 1.0

logger = structlog.get_logger(__name__)


class Gateway:
    """One gateway. `run` until told to stop; `read_now` at any time while it runs. `link_of` makes a bus's wire."""

    def __init__(
        self, file: GatewayFile, log: Log, quarantine: Quarantine, link_of: Callable[[BusSettings], Link] = make_link
    ) -> None:
        gateway = file.gateway
        self._log = log
        self.source = f"gateway:{gateway.id}"
        self.clock = Clock(newest_at(log))
        kept = Kept.of(file)
        self._recorder = Recorder(
            log,
            self.clock,
            self.source,
            commit_every_s=gateway.log.commit_every,
            on_committed=kept.accounts.committed,
        )
        self._flow = Flow(self.clock, self._recorder, lambda: self._field, self._learned)
        self.last = self._flow.last
        self._link_of = link_of
        self._buses = make_buses(file, self.clock.now, self._circuit, link_of)
        self._keys = open_keys(file, load_epoch(gateway.data / EPOCH_FILE, log.epoch))
        self._work = MeterWork(self._buses, self._raise_event, self._keys)
        self._reading = Reading(self._work, self.clock, self._flow.take, self._spawn, self._learned)
        self._lasting = self._make_lasting(quarantine, kept)
        self._field = Fieldwork(file, self._lasting)
        self._flow.go_by(self._field)
        self.supply = make_supply(
            gateway, file.supply, self._recorder, self.clock, self._work, self._flow.take, lambda: self._field.meters
        )
        self.orders = Orders(self._recorder, self.supply, lambda: self._field.memories, self._spawn)
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._promises = PromiseTeller(self._recorder, self.clock, lambda: self._field.promised)
        self._changing = asyncio.Lock()

    def _make_lasting(self, quarantine: Quarantine, kept: Kept) -> Lasting:
        return Lasting(
            self.clock,
            self._recorder,
            quarantine,
            self._keys,
            kept,
            self._buses,
            self._work,
            self._reading,
            take=self._flow.take,
            spawn=self._spawn,
            learned=self._learned,
            holes=self._holes,
            published=self._flow.published,
        )

    # --- for the wiring -----------------------------------------------------------------------------------------------

    def key_desk(self, boot: Callable[[], str]) -> KeyDesk | None:
        """Return what answers a head-end about meter keys; None where there is no key store."""
        return (
            KeyDesk(self._field.file.gateway.id, self._keys, self._recorder, boot) if self._keys is not None else None
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Read and record until `stop`; then end the reads on their way and commit what is there."""
        self._flow.remember(self._log)
        self._recorder.raise_event(events.GATEWAY_STARTED, log_epoch=self._log.epoch)
        self._field.plan()
        await self._promises.tell()
        recording_ends = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            recorder = group.create_task(self._recorder.run(recording_ends))
            self._field.begin(group)
            self._group = group
            # Meters, plans and settings live until the end: the collector of cycles need not walk them again and
            # again, which at 20,000 meters took half as much time as reading them.
            gc.collect()
            gc.freeze()
            group.create_task(self._watch_clock(stop))
            group.create_task(trim_until(stop, self._log))
            group.create_task(self.supply.run(stop))
            await stop.wait()
            async with self._changing:
                self._group = None
                await self._end_tasks()
                for bus in self._buses.values():
                    await bus.close()
                await self._field.give_way()
            self._recorder.raise_event(events.GATEWAY_STOPPED)
            recording_ends.set()
            await recorder
        await self._field.memories.keep()
        gc.unfreeze()
        if self._keys is not None:
            self._keys.close()

    async def change(self, file: GatewayFile) -> Changes:
        """Go over to another configuration while running, and return what changed.

        Buses whose own table is the same keep their connections, circuits and queues, meters that are the same what
        is known of them; what is on its way from any meter still goes into the log.

        Raises:
            ConfigError, StorageError: it cannot be used; everything goes on as before.

        """
        async with self._changing:
            if self._group is None:
                raise ConfigError("the gateway does not run")
            before, after = self._field, Fieldwork(file, self._lasting, self._field)
            opened = {bus.id: bus for bus in file.bus if bus.id in after.changes.opened}
            made = {
                name: Bus(self._link_of(bus), clock=self.clock.now, on_circuit=self._circuit)
                for name, bus in opened.items()
            }
            await before.give_way(after)
            closing = [self._buses.pop(name) for name in after.changes.closed]
            self._buses.update(made)
            self._forget(before, after)
            self._field = after
            after.plan()
            after.begin(self._group, before)
            for bus in closing:
                await bus.close()
        await self._promises.tell()
        return after.changes

    def _forget(self, before: Fieldwork, after: Fieldwork) -> None:
        """Let go what was known of meters that are gone or changed, and learn what is to be known of the new ones."""
        for meter in before.meters.values():
            if meter.id not in after.changes.kept:
                self._work.forget(meter.id)
                bus = self._buses.get(meter.settings.bus or "")
                if bus is not None:
                    bus.forget(meter.id)
        self._flow.go_by(after)

    def answering(self, buses: Collection[str]) -> dict[str, list[str]]:
        """Return, for each of these buses, the meters that have answered there and whose circuit is closed."""
        return {
            name: [
                meter
                for meter, each in self._buses[name].status().meters.items()
                if each.ok and each.circuit == "closed"
            ]
            for name in buses
            if name in self._buses
        }

    async def journal(self, kind: str, name: str, state: str, **detail: str) -> int:
        """Write what became of something that a head-end asked for; return a seq of the log not below its own."""
        self._recorder.journal(kind, name, state, **detail)
        await self._recorder.commit()
        return self._log.next_seq - (0 if self._recorder.status().refusal else 1)

    async def read_now(self, device: str) -> list[Block]:
        """Read one meter on demand: all its values, recorded as such, and returned.

        Raises:
            RefusedError: the device cannot be asked: it publishes by itself, or it was removed.
            MeterError: it could not be read; says whose fault it is.

        """
        return await self._reading.read_now(self._meter(device))

    async def read_clock(self, device: str) -> ClockReading:
        """Read a meter's clock now. Raises `MeterError`; `RefusedError` where it has none that can be read."""
        return await self._field.memories.read_clock(self._meter(device))

    async def set_clock(self, device: str, by: str) -> tuple[ClockReading, ClockReading]:
        """Set a meter's clock on a person's order, after the rows that it touches were read; how it was, and is.

        `by` says who ordered it, for the event.

        Raises:
            RefusedError: it has no clock that can be set, or not now.
            MeterError: it could not be done; says whose fault it is.

        """
        return await self._field.memories.set_clock(self._meter(device), by)

    async def end(self) -> None:
        """End a gateway that does not run: what it was asked for goes into the log, and its wires are closed."""
        await self._end_tasks()
        for bus in self._buses.values():
            await bus.close()
        await self._field.memories.keep()
        if self._keys is not None:
            self._keys.close()

    def recorded(self) -> RecorderStatus:
        """Return what went into the log: the part of `status` that costs the same however many meters there are."""
        return self._recorder.status()

    def status(self) -> GatewayStatus:
        """Return how everything fares."""
        return GatewayStatus(
            self._field.file.gateway.id,
            len(self._field.meters) + (len(self._field.listener.status().meters) if self._field.listener else 0),
            {name: bus.status() for name, bus in self._buses.items()},
            self._field.listener.status() if self._field.listener else None,
            self._recorder.status(),
            self.clock.suspect,
            self.clock.steps,
            self._work.refused,
            self._field.memories.status(),
        )

    def _meter(self, device: str) -> BusMeter:
        meter = self._field.meters.get(device)
        if meter is None:
            raise RefusedError("it cannot be asked: it publishes by itself, or it was removed", code=0, meter=device)
        return meter

    # --- inside -------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what happens by itself ---------------------------------------------------------------------------------------

    def _raise_event(self, kind: events.EventType, device: str = "", **detail: str) -> None:
        logger.error("a meter is not read", meter=device, kind=kind.name, **detail)
        self._recorder.raise_event(kind, device, **detail)

    def _circuit(self, meter: str, opened: bool, reason: str) -> None:  # noqa: FBT001 - the bus's own signature
        kind = events.METER_SILENT if opened else events.METER_BACK
        self._recorder.raise_event(kind, meter, reason=reason)
        if not opened and meter in self._field.meters:
            self._field.meters[meter].ask_afresh()
            self._field.memories.back(self._field.meters[meter])

    def _holes(self, meter: str, holes: object) -> None:
        registers = str(holes)
        if registers:
            self._recorder.raise_event(events.REGISTERS_UNREADABLE, meter, registers=registers)
            self._learned()

    def _learned(self) -> None:
        """Settle the promises anew: it is now better known what a meter has."""
        self._spawn(self._promises.tell())

    async def _watch_clock(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(CLOCK_CHECK_S)
            step = self.clock.check()
            if step is not None:
                logger.error("the clock stepped", seconds=round(step.seconds, 3))
                self._recorder.raise_event(events.CLOCK_STEPPED, seconds=f"{step.seconds:.3f}")
                self._field.schedule.restart()
