"""A gateway's supply control in a time of its own that leaps instead of waiting, and meters that misbehave on demand.

Record, guard, executor, door, service and trust are the real ones, on the disk; the wire and the meters are not.
"""

import asyncio
import contextlib
import selectors
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from collector.capabilities import Limits, Order, SentFrame
from collector.supply_rules import Step, class70, limiter
from gateway.supply.executor import Executor
from gateway.supply.outside import Outside
from gateway.supply.record import Record
from gateway.supply.service import SupplyService
from gateway.supply.trust_file import TrustFile
from metering.errors import LinkDownError, NoAnswerError, RefusedError
from metering.model import SECOND
from metering.supply import Action, Go, SupplyState
from metering.supply_states import State
from simulators.dlms_supply import target

VERIFY_S = 5.0
LATE_S = 3.0  # how late a relay moves at most: sooner than the gateway gives it up
START = 1_795_000_000 * SECOND
MODES = {"m1": 4, "m2": 1, "m3": 6}


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


class SimMeter:
    """One meter with a switch of class 70 and a limiter, and what it does wrong next."""

    limits = True

    def __init__(self, world: "World", device: str) -> None:
        self._world = world
        self.device = device
        self.mode = MODES[device]
        self.control, self.output, self.normal = 1, True, 4600
        self.base = 4600  # the threshold without a limit of ours
        self.identity = f"serial:{device}"
        self.power = True
        self.silent = 0  # exchanges that nobody answers
        self.faults: deque[str] = deque()  # of the orders that come
        self.late: tuple[float, Order] | None = None
        self.read = True  # since the last order
        self.opened_by = ""  # the command that opened it; empty: it is closed, or a hand did it
        self.touched = False  # by hand, since the record was last true

    # --- what a switch is asked ---------------------------------------------------------------------------------------

    async def identities(self, talk: object) -> frozenset[str]:
        del talk
        await self._answer()
        return frozenset({self.identity})

    async def state(self, talk: object) -> SupplyState:
        del talk
        await self._answer()
        self.read = True
        return SupplyState(self.output, self.control, self.mode, limit_w=None if self.normal == 0 else self.normal)

    def plan(self, action: Action, state: SupplyState, limit_w: int | None = None) -> Step:
        if action in {Action.LIMIT, Action.UNLIMIT}:
            return limiter(action, state, limit_w)
        return class70(action, state)

    async def registers(self, talk: object, *, into: list[Any]) -> None:
        del talk, into
        await self._answer()

    async def settings(self, talk: object) -> Limits:
        del talk
        await self._answer()
        return Limits({4: self.normal}, self.normal or None)

    def at_trip(self, state: SupplyState, settings: Limits) -> str:
        del state, settings
        return ""

    async def act(self, talk: object, order: Order, sent: list[SentFrame]) -> None:
        del talk
        self._world.acts(self, order)
        sent.append(SentFrame(b"order"))
        self.read = False
        await asyncio.sleep(0)
        fault = self.faults.popleft() if self.faults else ""
        if not self.power:
            raise LinkDownError("no power", meter=self.device)
        if fault in {"late", "late-and-lost"}:
            self.late = (self._world.time + LATE_S, order)
        elif fault not in {"ignored", "dropped", "refused"}:
            self._do(order)
        await asyncio.sleep(0)
        if fault in {"lost", "late-and-lost", "dropped"}:
            raise NoAnswerError("no answer", meter=self.device)
        if fault in {"refused", "refused-and-done"}:
            raise RefusedError("no", code=250, meter=self.device)

    # --- what happens to it -------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        await asyncio.sleep(0.02)
        self.settle()
        if not self.power:
            raise LinkDownError("no power", meter=self.device)
        if self.silent:
            self.silent -= 1
            raise NoAnswerError("no answer", meter=self.device)

    def settle(self) -> None:
        if self.late is not None and self._world.time >= self.late[0]:
            order, self.late = self.late[1], None
            self._do(order)

    def _do(self, order: Order) -> None:
        if order.action is Action.LIMIT:
            self.normal = order.limit_w or 0
        elif order.action is Action.UNLIMIT:
            if order.back is None:  # k of n lifted what this gateway did not set
                self.base = 0
            self.normal = order.back.values[4] if order.back is not None else 0
        else:
            self.move("remote_disconnect" if order.action is Action.DISCONNECT else "remote_reconnect")
            self.opened_by = self.opened_by if self.control != 1 else ""
            if order.action is Action.DISCONNECT and not self.opened_by:
                self.opened_by = self._world.executing(self.device)

    def move(self, cause: str) -> None:
        after = target(self.control, self.mode, cause)
        if after is not None:
            self.control, self.output = after, after == 1

    def by_hand(self, cause: str) -> None:
        self.settle()
        was = self.control
        self.move(cause)
        if self.control != was:
            self.touched = True
            self.opened_by = "" if self.output else self.opened_by


class Wire:
    """In the place of `MeterWork`: one conversation with a meter at a time."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    async def work_on(
        self,
        meter: Any,  # noqa: ANN401 - all it has is a name and a switch
        lane: object,
        job: Callable[[Any], Awaitable[Any]],
        deadline: object = None,
        **_: object,
    ) -> object:
        del lane, deadline
        async with self._locks.setdefault(meter.id, asyncio.Lock()):
            return await job(None)


class Notes:
    """In the place of the recorder: what would be told."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def journal(self, kind: str, name: str, state: str, **detail: str) -> None:
        del kind
        self._world.told.append((name, str(state), detail))

    def raise_event(self, *_: object, **__: object) -> None: ...

    async def commit(self) -> None:
        await asyncio.sleep(0)


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
            Wire(),  # type: ignore[arg-type]
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
            Notes(self),  # type: ignore[arg-type]
            Outside(known.get, lambda: 12, self.now, lambda: self.trusted, lambda: self.lockout, dry),  # type: ignore[arg-type]
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
                task.get_coro().close()  # type: ignore[union-attr]
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
