"""A gateway's supply control in a time of its own that leaps instead of waiting, and meters that misbehave on demand.

Record, guard, executor, door, service and trust are the real ones, on the disk; the wire and the meters are not.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from collector.capabilities import Order
from gateway.supply.executor import Executor
from gateway.supply.outside import Outside
from gateway.supply.record import Record
from gateway.supply.service import SupplyService
from gateway.supply.trust_file import TrustFile
from metering.model import SECOND
from metering.supply import Go
from metering.supply_states import State
from tests.gateway.supply.sim_meter import MODES, Notes, SimMeter, Wire

VERIFY_S = 5.0
START = 1_795_000_000 * SECOND


class PowerCut(SystemExit):
    """The gateway is gone, between two lines: nothing of it runs any more."""


class Leaping(selectors.SelectSelector):
    """Does not wait: the world's time leaps to the next thing that is due."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world

    def select(self, timeout: float | None = None) -> list[Any]:
        self._world.idle = timeout is None or timeout > 0
        if timeout and not self._world.frozen:
            self._world.time += timeout
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    def __init__(self, world: "World") -> None:
        self._world = world
        super().__init__(Leaping(world))

    def time(self) -> float:
        return self._world.time


class World:
    """Time, meters and one gateway, which dies and comes back. `acts` of a subclass judges each order that leaves."""

    def __init__(self, folder: Path, install: Callable[[Path], TrustFile]) -> None:
        self.time = 1000.0
        self.frozen = False
        self.idle = False
        self.offset = 0  # of the gateway's clock, in us
        self.trusted = True
        self.lockout = ""
        self.dry_run = False
        self.errors: list[BaseException] = []  # what no part of the gateway caught
        self.told: list[tuple[str, str, dict[str, str]]] = []
        self.cut_at: tuple[str, int] = ("", 0)
        self.torn = False
        self.folder = folder
        self.meters = {device: SimMeter(self, device) for device in MODES}
        self._install = install
        self.open()

    def now(self) -> int:
        return START + round(self.time * SECOND) + self.offset

    def acts(self, meter: SimMeter, order: Order) -> None:
        """Judge an order that leaves."""

    # --- the gateway --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start a gateway on what lies on the disk."""
        self.cut_at = ("", 0)
        self.record = Record(self.folder / "record")
        self._put = self.record.put
        self.record.put = self._written  # type: ignore[method-assign]  # a crash lies before and after it
        executor = Executor(
            Wire(),  # type: ignore[arg-type]  # no wire is there: it gives each conversation its turn
            lambda _: None,
            lambda: b"digest",
            verify_s=VERIFY_S,
            poll_s=0.5,
            on_step=self.step,
        )
        known = {
            device: SimpleNamespace(id=device, make_switch=lambda meter=meter: meter)
            for device, meter in self.meters.items()
        }
        dry = self.dry_run
        self.service = SupplyService(
            self.record,
            self._install(self.folder),
            executor,
            Notes(self),  # type: ignore[arg-type]  # no log is there: it keeps what would be told
            Outside(known.get, lambda: 12, self.now, lambda: self.trusted, lambda: self.lockout, dry),  # type: ignore[arg-type]  # no buses either
        )
        self.loop = Loop(self)
        self.loop.set_exception_handler(self._failed)
        self._stop = asyncio.Event()
        self._run = self.loop.create_task(self.service.run(self._stop))

    def _failed(self, _: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, PowerCut):
            self.errors.append(error)

    def crash(self) -> None:
        """Drop the gateway as it is, perhaps in the middle of a write, and start another."""
        self.drop()
        if self.torn:
            self.torn = False
            with (self.folder / "record").open("ab") as file:
                file.write(bytes((40, 0, 0, 0, 1, 2, 3)))
        self.open()

    def drop(self) -> None:
        """End the gateway without a word: what it still held is closed, and none of it can write any more."""
        self.cut_at = ("", 0)
        self.loop.set_exception_handler(lambda *_: None)
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # its death is what is tested
            with contextlib.suppress(RuntimeError):
                task.get_coro().close()  # type: ignore[union-attr]  # a task that runs has one
        self.loop.close()

    def step(self, name: str) -> None:
        """Die here, if it is the turn of this place."""
        if self.cut_at[0] != name:
            return
        if self.cut_at[1] == 0:
            raise PowerCut(name)
        self.cut_at = (name, self.cut_at[1] - 1)

    def _written(self, *items: Any) -> None:  # noqa: ANN401 - any item
        self.step("before-put")
        self._put(*items)
        self.step("after-put")

    def executing(self, device: str) -> str:
        """Return the command that is being carried out at a device, as the disk has it."""
        found = [
            held.command.id
            for held in Record(self.folder / "record").held.values()
            if held.command.device == device and held.state in {State.EXECUTING, State.UNKNOWN}
        ]
        return found[0] if found else ""

    # --- time ---------------------------------------------------------------------------------------------------------

    def ticks(self, count: int) -> None:
        """Run the loop so many rounds; a death ends them, and another gateway starts."""
        try:
            for _ in range(count):
                self._round()
        except PowerCut:
            self.crash()

    def run(self, seconds: float) -> None:
        """Let time pass, and whatever is due then happen to its end."""
        end = self.time + seconds
        done = 0
        while self.time < end:
            self.ticks(1)
            done += 1
            if done > 100_000:
                raise AssertionError("the gateway goes round in circles")
        self.calm()

    def calm(self) -> None:
        """Run what can run without time passing."""
        self.frozen = True
        try:
            for _ in range(10_000):
                self.ticks(1)
                if self.idle:
                    break
            else:
                raise AssertionError("the gateway goes round in circles")
        finally:
            self.frozen = False
        for meter in self.meters.values():
            meter.settle()

    def give(self, work: Awaitable[object]) -> None:
        """Have the gateway do something that comes from outside."""
        self.loop.create_task(work)  # type: ignore[arg-type]  # a coroutine
        self.calm()

    async def hear(self, go: Go) -> None:
        """Give the gateway a go."""
        self.service.go(go)

    def _round(self) -> None:
        """Run one round of the loop: from one await to the next, for whatever can run."""
        asyncio._set_running_loop(self.loop)
        try:
            self.loop._run_once()  # type: ignore[attr-defined]  # nothing public stops between two rounds and waits for none
        finally:
            asyncio._set_running_loop(None)


async def inline(work: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - as `asyncio.to_thread`
    """Do in the loop what a thread would do: in this time nothing lasts."""
    await asyncio.sleep(0)
    result = work(*arguments)
    await asyncio.sleep(0)
    return result
