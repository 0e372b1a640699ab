"""The edge process: reads meters on schedule and on demand, takes in what they publish, and hands all to the log."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from collector.bus import BusStatus
from collector.capabilities import ClockReading
from collector.drivers.dlms_push import Pushed
from collector.links import Link
from collector.mqtt import ListenerStatus, MqttListener
from gateway.checks import RegisterWatch, suspect_clock
from gateway.clock import Clock
from gateway.dlms_pushes import make_push_listener
from gateway.epoch import FILE as EPOCH_FILE
from gateway.epoch import load_epoch
from gateway.key_desk import KeyDesk
from gateway.last import LastValues
from gateway.lines import make_bus_meters, make_buses, make_link, make_mqtt_meters, make_mqtt_settings, open_keys
from gateway.memories import Kept, Memories, MemoryStatus
from gateway.meters import BusMeter
from gateway.past import newest_at, remember
from gateway.promised import Promised
from gateway.push import PushSlots
from gateway.reading import Reading
from gateway.recorder import Recorder, RecorderStatus
from gateway.schedule import Schedule, ScheduledRead, spread_offset
from gateway.settings import GatewayFile
from gateway.settings_bus import BusSettings
from gateway.work import MeterWork
from metering import events
from metering.errors import RefusedError
from metering.model import Block
from metering.wire import Control
from storage.log import Log
from storage.quarantine import Quarantine

CLOCK_CHECK_S = 1.0
TRIM_S = 60.0
AFRESH_S = 86400  # how often registers that a meter refused are asked for once more

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class GatewayStatus:
    """What a gateway tells about itself."""

    id: str
    meters: int
    buses: dict[str, BusStatus]
    listener: ListenerStatus | None
    recorder: RecorderStatus
    clock_suspect: bool
    clock_steps: int
    refused: dict[str, str]  # meters that are not read, with the reason
    memories: dict[str, MemoryStatus]  # meters that keep profiles of their own or have a clock


class Gateway:
    """One gateway. `run` until told to stop; `read_now` at any time while it runs. `link_of` makes a bus's wire."""

    def __init__(
        self, file: GatewayFile, log: Log, quarantine: Quarantine, link_of: Callable[[BusSettings], Link] = make_link
    ) -> None:
        gateway = file.gateway
        self._file = file
        self._log = log
        self._quarantine = quarantine
        self.source = f"gateway:{gateway.id}"
        self.clock = Clock(newest_at(log))
        self.last = LastValues()
        kept = Kept.of(file)
        self._recorder = Recorder(
            log,
            self.clock,
            self.source,
            commit_every_s=gateway.log.commit_every,
            on_committed=kept.accounts.committed,
        )
        self._buses = make_buses(file, self.clock.now, self._circuit, link_of)
        self._keys = open_keys(file, load_epoch(gateway.data / EPOCH_FILE, log.epoch))
        self._meters = make_bus_meters(file, self._holes, self._keys)
        mqtt = make_mqtt_meters(file)
        periods = {m.id: int((m.schedule or file.schedule).registers or 0) for m in file.meter if m.topic is not None}
        self._push = PushSlots(periods)
        self._listener = self._make_listener(mqtt)
        self._pushes = make_push_listener(
            file, self._meters.values(), self._pushed, self._bad_push, clock=self.clock.now
        )
        self._watch = RegisterWatch({meter.id: meter.profile.moduli() for meter in self._meters.values()})
        self._promised = Promised(gateway.data / "promises.json", self._meters.values(), mqtt, periods)
        self._schedule = Schedule(self.clock)
        self._work = MeterWork(self._buses, self._raise_event, self._keys)
        self._reading = Reading(self._work, self.clock, self._take, self._spawn, self._learned)
        self._memories = Memories(
            file,
            kept,
            self._meters.values(),
            self._work,
            self._recorder,
            self.clock,
            quarantine,
            self._promised,
            take=self._take,
            spawn=self._spawn,
            learned=self._learned,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._promising = asyncio.Lock()

    # --- for the wiring -----------------------------------------------------------------------------------------------

    def key_desk(self, boot: Callable[[], str]) -> KeyDesk | None:
        """Return what answers a head-end about meter keys; None where there is no key store."""
        return KeyDesk(self._file.gateway.id, self._keys, self._recorder, boot) if self._keys is not None else None

    async def run(self, stop: asyncio.Event) -> None:
        """Read and record until `stop`; then end the reads on their way and commit what is there."""
        remember(self._log, self._watch)
        gateway = self._file.gateway
        self._reading.plan(self._schedule, self._meters.values(), gateway.id, gateway.jitter)
        self._memories.plan(self._schedule)
        at = spread_offset(gateway.id, AFRESH_S)
        self._schedule.add(ScheduledRead("refused registers", AFRESH_S, at, self._ask_afresh))
        self._recorder.raise_event(events.GATEWAY_STARTED, log_epoch=self._log.epoch)
        await self._keep_promises()
        # Meters, plans and settings live until the end: the collector of cycles need not walk them again and again,
        # which at 20,000 meters took half as much time as reading them.
        gc.collect()
        gc.freeze()
        recording_ends = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            recorder = group.create_task(self._recorder.run(recording_ends))
            group.create_task(self._schedule.run(stop))
            group.create_task(self._watch_clock(stop))
            group.create_task(self._trim(stop))
            group.create_task(self._memories.run(stop))
            if self._listener is not None:
                group.create_task(self._listener.run(stop))
            if self._pushes is not None:
                group.create_task(self._pushes.run(stop))
            await stop.wait()
            await self._end_tasks()
            for bus in self._buses.values():
                await bus.close()
            self._recorder.raise_event(events.GATEWAY_STOPPED)
            recording_ends.set()
            await recorder
        await self._memories.keep()
        gc.unfreeze()
        if self._keys is not None:
            self._keys.close()

    async def read_now(self, device: str) -> list[Block]:
        """Read one meter on demand: all its values, recorded as such, and returned.

        Raises:
            RefusedError: the device cannot be asked: it publishes by itself, or it was removed.
            MeterError: it could not be read; says whose fault it is.

        """
        return await self._reading.read_now(self._meter(device))

    async def read_clock(self, device: str) -> ClockReading:
        """Read a meter's clock now. Raises `MeterError`; `RefusedError` where it has none that can be read."""
        return await self._memories.read_clock(self._meter(device))

    async def set_clock(self, device: str, by: str) -> tuple[ClockReading, ClockReading]:
        """Set a meter's clock on a person's order, after the rows that it touches were read; how it was, and is.

        `by` says who ordered it, for the event.

        Raises:
            RefusedError: it has no clock that can be set, or not now.
            MeterError: it could not be done; says whose fault it is.

        """
        return await self._memories.set_clock(self._meter(device), by)

    def backfill(self, control: Control) -> None:
        """Have intervals of a meter read anew from its own memory, as a head-end asks.

        The journal answers `taken`, or `refused` with the reason; the rows themselves say the rest.
        """
        refusal = self._memories.ask_again(control.device, control.start, control.end)
        detail = {"reason": refusal} if refusal else {}
        self._recorder.journal("backfill", control.id, "refused" if refusal else "taken", **detail)

    async def end(self) -> None:
        """End a gateway that does not run: what it was asked for goes into the log, and its wires are closed."""
        await self._end_tasks()
        for bus in self._buses.values():
            await bus.close()
        await self._memories.keep()
        if self._keys is not None:
            self._keys.close()

    def recorded(self) -> RecorderStatus:
        """Return what went into the log: the part of `status` that costs the same however many meters there are."""
        return self._recorder.status()

    def status(self) -> GatewayStatus:
        """Return how everything fares."""
        return GatewayStatus(
            self._file.gateway.id,
            len(self._meters) + (len(self._listener.status().meters) if self._listener else 0),
            {name: bus.status() for name, bus in self._buses.items()},
            self._listener.status() if self._listener else None,
            self._recorder.status(),
            self.clock.suspect,
            self.clock.steps,
            self._work.refused,
            self._memories.status(),
        )

    def _meter(self, device: str) -> BusMeter:
        meter = self._meters.get(device)
        if meter is None:
            raise RefusedError("it cannot be asked: it publishes by itself, or it was removed", code=0, meter=device)
        return meter

    # --- inside -------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, blocks: Sequence[Block]) -> None:
        """Flag what is to be flagged and hand blocks to the recorder."""
        if not blocks:
            return
        checked = [self._watch.check(block) for block in blocks]
        if self.clock.suspect:
            checked = [suspect_clock(block) for block in checked]
        for block in checked:
            self.last.take(block)
            self._memories.polled(block)
        self._recorder.add(checked)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what happens by itself ---------------------------------------------------------------------------------------

    def _make_listener(self, meters: Sequence[Any]) -> MqttListener | None:
        if not meters or self._file.mqtt is None:
            return None
        settings = make_mqtt_settings(self._file.mqtt, self._file.gateway.id)
        return MqttListener(settings, meters, self._published, self._malformed, clock=self.clock.now)

    def _published(self, block: Block) -> None:
        placed = self._push.place(block)
        if self._promised.is_new(placed):
            self._learned()
        self._take([placed])

    def _malformed(self, topic: str, payload: bytes, reason: str) -> None:
        self._quarantine.put(f"mqtt:{topic}", reason, payload)

    def _pushed(self, pushed: Pushed) -> None:
        self._take(pushed.blocks)
        for event in pushed.events:
            self._recorder.note(event)

    def _bad_push(self, source: str, payload: bytes, reason: str) -> None:
        self._quarantine.put(f"push:{source}", reason, payload)

    def _raise_event(self, kind: events.EventType, device: str = "", **detail: str) -> None:
        logger.error("a meter is not read", meter=device, kind=kind.name, **detail)
        self._recorder.raise_event(kind, device, **detail)

    def _circuit(self, meter: str, opened: bool, reason: str) -> None:  # noqa: FBT001 - the bus's own signature
        kind = events.METER_SILENT if opened else events.METER_BACK
        self._recorder.raise_event(kind, meter, reason=reason)
        if not opened and meter in self._meters:
            self._meters[meter].ask_afresh()
            self._memories.back(self._meters[meter])

    def _ask_afresh(self, slot: int) -> None:
        del slot
        for meter in self._meters.values():
            meter.ask_afresh()
        self._recorder.promise(self._promised.open)  # an eviction may have taken the record that told them

    def _holes(self, meter: str, holes: object) -> None:
        registers = str(holes)
        if registers:
            self._recorder.raise_event(events.REGISTERS_UNREADABLE, meter, registers=registers)
            self._learned()

    def _learned(self) -> None:
        """Settle the promises anew: it is now better known what a meter has."""
        self._spawn(self._keep_promises())

    async def _keep_promises(self) -> None:
        """Tell the log what is promised from now on, and only then write it down as told."""
        async with self._promising:
            self._recorder.promise(self._promised.settle(self.clock.now()))
            await self._recorder.commit()
            if self._recorder.status().refusal:
                return
            try:
                await asyncio.to_thread(self._promised.keep)
            except OSError as error:  # told again at the next change or start: the log takes it for the same promise
                logger.warning("the promises could not be written down", reason=str(error))

    async def _watch_clock(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(CLOCK_CHECK_S)
            step = self.clock.check()
            if step is not None:
                logger.error("the clock stepped", seconds=round(step.seconds, 3))
                self._recorder.raise_event(events.CLOCK_STEPPED, seconds=f"{step.seconds:.3f}")
                self._schedule.restart()

    async def _trim(self, stop: asyncio.Event) -> None:
        """Let the log give up what its limits no longer hold, now and then."""
        while not stop.is_set():
            await asyncio.to_thread(self._log.trim)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TRIM_S)
