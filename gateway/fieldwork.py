"""What one version of a gateway's configuration has it do: its meters, listeners, promises and schedule.

The wires, the recorder and what is known of meters outlive it (`Lasting`). It decides nothing itself.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from collector.bus import Bus
from collector.dlms_push import DlmsPushListener
from collector.drivers.dlms_push import Pushed
from collector.mqtt import MqttListener, MqttMeter
from gateway.changes import Changes, differences
from gateway.clock import Clock
from gateway.dlms_pushes import make_push_listener
from gateway.keystore import KeyStore
from gateway.lines import make_bus_meters, make_mqtt_meters, make_mqtt_settings
from gateway.memories import Kept, Memories
from gateway.meters import BusMeter
from gateway.promised import Promised
from gateway.reading import Reading
from gateway.recorder import Recorder
from gateway.schedule import Schedule, ScheduledRead, spread_offset
from gateway.settings import GatewayFile
from gateway.work import MeterWork
from metering.model import Block
from storage.quarantine import Quarantine

AFRESH_S = 86400  # how often registers that a meter refused are asked for once more
END_S = 10.0  # for what is under way in the meters' memories when they give way; then it is broken off and read again


@dataclass(frozen=True)
class Lasting:
    """What every version of the configuration works with. `buses` are those of the version that is at work."""

    clock: Clock
    recorder: Recorder
    quarantine: Quarantine
    keys: KeyStore | None
    kept: Kept
    buses: dict[str, Bus]
    work: MeterWork
    reading: Reading
    take: Callable[[Sequence[Block]], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    learned: Callable[[], None]
    holes: Callable[[str, object], None]
    published: Callable[[Block], None]


@dataclass
class _Part:
    """Something that runs until its own `stop`."""

    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]
    stop: asyncio.Event
    task: asyncio.Task[None] | None = None


class Fieldwork:
    """One version at work. `begin` once; `give_way` ends it.

    Made after another one, it takes over from it the meters and listeners that did not change.

    Raises:
        ConfigError: a meter's model is unknown or wrong.
        StorageError: the key store cannot be used.

    """

    def __init__(self, file: GatewayFile, lasting: Lasting, before: "Fieldwork | None" = None) -> None:
        self.file = file
        self._lasting = lasting
        self.changes = differences(before.file, file) if before is not None else _all_new(file)
        known = before.meters if before is not None else {}
        reused = {name: known[name] for name in self.changes.kept if name in known}
        self.meters: dict[str, BusMeter] = make_bus_meters(file, lasting.holes, lasting.keys, reused)
        mqtt = make_mqtt_meters(file)
        self.periods = {m.id: int((m.schedule or file.schedule).registers or 0) for m in file.meter if m.topic}
        self.listener, self.pushes = self._listeners(mqtt, before)
        self.promised = Promised(file.gateway.data / "promises.json", self.meters.values(), mqtt, dict(self.periods))
        self.schedule = Schedule(lasting.clock)
        self.memories = Memories(
            file,
            lasting.kept,
            self.meters.values(),
            lasting.work,
            lasting.recorder,
            lasting.clock,
            lasting.quarantine,
            self.promised,
            take=lasting.take,
            spawn=lasting.spawn,
            learned=lasting.learned,
        )
        self._parts: dict[object, _Part] = {}

    def plan(self) -> None:
        """Plan all reads, from now on.

        What is promised is promised after this: a boundary that passes until the schedule runs is then due, and read.
        """
        gateway = self.file.gateway
        self._lasting.reading.plan(self.schedule, self.meters.values(), gateway.id, gateway.jitter)
        self.memories.plan(self.schedule)
        at = spread_offset(gateway.id, AFRESH_S)
        self.schedule.add(ScheduledRead("refused registers", AFRESH_S, at, self._ask_afresh))

    def begin(self, group: asyncio.TaskGroup, before: "Fieldwork | None" = None) -> None:
        """Start what was planned; an earlier version's schedule is taken over, and ends."""
        if before is not None:
            self.schedule.take_over(before.schedule)
            before.hand_over(before.schedule, to_end=True)
        for part in (self.schedule, self.memories, self.listener, self.pushes):
            if part is None:
                continue
            kept = before.hand_over(part) if before is not None else None
            made = self._parts[part] = kept or _Part(part.run, asyncio.Event())
            if made.task is None:
                made.task = group.create_task(made.run(made.stop))

    def hand_over(self, part: object, *, to_end: bool = False) -> _Part | None:
        """Let go of a part that runs on under another version, or have it end; None: it is not one of these."""
        found = self._parts.pop(part, None)
        if found is not None and to_end:
            found.stop.set()
        return found

    async def give_way(self, after: "Fieldwork | None" = None) -> None:
        """End what `after` does not take over; without one, all. The schedule goes on until `after` begins."""
        spared = (self.schedule, after.listener, after.pushes) if after is not None else ()
        ending = [part for key, part in self._parts.items() if not any(key is each for each in spared)]
        for part in ending:
            part.stop.set()
        tasks = [part.task for part in ending if part.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.memories.keep()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _listeners(
        self, mqtt: list[MqttMeter], before: "Fieldwork | None"
    ) -> tuple[MqttListener | None, DlmsPushListener | None]:
        """Return who listens to what meters send by themselves: those of before where nothing changed for them."""
        if before is not None and (before.file.mqtt, make_mqtt_meters(before.file)) == (self.file.mqtt, mqtt):
            listener = before.listener
        else:
            listener = self._listener(mqtt)
        if before is not None and before.file.push == self.file.push and before.meters == self.meters:
            return listener, before.pushes
        return listener, make_push_listener(
            self.file, self.meters.values(), self._pushed, self._bad_push, clock=self._lasting.clock.now
        )

    def _listener(self, meters: Sequence[MqttMeter]) -> MqttListener | None:
        if not meters or self.file.mqtt is None:
            return None
        settings = make_mqtt_settings(self.file.mqtt, self.file.gateway.id)
        lasting = self._lasting
        return MqttListener(settings, meters, lasting.published, self._malformed, clock=lasting.clock.now)

    def _malformed(self, topic: str, payload: bytes, reason: str) -> None:
        self._lasting.quarantine.put(f"mqtt:{topic}", reason, payload)

    def _pushed(self, pushed: Pushed) -> None:
        self._lasting.take(pushed.blocks)
        for event in pushed.events:
            self._lasting.recorder.note(event)

    def _bad_push(self, source: str, payload: bytes, reason: str) -> None:
        self._lasting.quarantine.put(f"push:{source}", reason, payload)

    def _ask_afresh(self, slot: int) -> None:
        del slot
        for meter in self.meters.values():
            meter.ask_afresh()
        self._lasting.recorder.promise(self.promised.open)  # an eviction may have taken the record that told them


def _all_new(file: GatewayFile) -> Changes:
    return Changes(frozenset(bus.id for bus in file.bus), frozenset(), frozenset(), frozenset())
