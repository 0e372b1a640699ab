"""A meter with a switch and a limiter that misbehaves on demand, and the wire to it: in a world's own time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from collector.capabilities import Limits, Order, SentFrame
from collector.supply_rules import Step, class70, limiter, relay645
from metering.errors import LinkDownError, NoAnswerError, RefusedError
from metering.supply import Action, SupplyState
from simulators.dlms_supply import target

if TYPE_CHECKING:
    from tests.gateway.supply.virtual import World

LATE_S = 3.0  # how late a relay moves at most: sooner than the gateway gives it up
MODES = {"m1": 4, "m2": 1, "m3": 6}
BASE_W = 4600  # the threshold without a limit of ours
KEEPS = frozenset({Action.KEEP_POWER_ON, Action.KEEP_POWER_OFF})


class SimMeter:
    """One meter with a switch of class 70, a limiter and a keep-power, and what it does wrong next.

    What is said to it is said to the meter that hung there as the conversation began (`talk`).
    """

    limits = True

    def __init__(self, world: "World", device: str) -> None:
        self._world = world
        self.device = device
        self.mode = MODES[device]
        self.serial = device
        self.control, self.output, self.keep_power, self.normal = 1, True, False, BASE_W
        self.base = BASE_W
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
        await self._answer(talk)
        return frozenset({self.identity})

    async def state(self, talk: object) -> SupplyState:
        await self._answer(talk)
        self.read = True
        limit_w = None if self.normal == 0 else self.normal
        return SupplyState(self.output, self.control, self.mode, keep_power=self.keep_power, limit_w=limit_w)

    def plan(self, action: Action, state: SupplyState, limit_w: int | None = None) -> Step:
        if action in {Action.LIMIT, Action.UNLIMIT}:
            return limiter(action, state, limit_w)
        if action in KEEPS or (action is Action.DISCONNECT and state.keep_power and state.output):
            return relay645(action, state, closes=frozenset({Action.RECONNECT}))
        return class70(action, state)

    async def registers(self, talk: object, *, into: list[Any]) -> None:
        del into
        await self._answer(talk)

    async def settings(self, talk: object) -> Limits:
        await self._answer(talk)
        return Limits({4: self.normal}, self.normal or None)

    def at_trip(self, state: SupplyState, settings: Limits) -> str:
        del state, settings
        return ""

    async def act(self, talk: object, order: Order, sent: list[SentFrame]) -> None:
        if talk != self.serial:
            raise LinkDownError("it was taken away", meter=self.device)
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

    async def _answer(self, talk: object) -> None:
        await asyncio.sleep(0.02)
        self.settle()
        if talk != self.serial:
            raise LinkDownError("it was taken away", meter=self.device)
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
        elif order.action in KEEPS:
            self.keep_power = order.action is Action.KEEP_POWER_ON
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

    def exchange(self, serial: str) -> None:
        """Hang another meter there: it is closed, without a limit, and knows nothing of what was said to the other."""
        self.serial, self.identity = serial, f"serial:{serial}"
        self.control, self.output, self.keep_power, self.normal = 1, True, False, BASE_W
        self.base = BASE_W
        self.late, self.read, self.opened_by, self.touched = None, True, "", True
        self.faults.clear()

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
            return await job(meter.make_switch().serial)


class Notes:
    """In the place of the recorder: what a head-end hears, which is what was committed before a crash."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._pending: list[tuple[str, str, dict[str, str]]] = []

    def journal(self, kind: str, name: str, state: str, **detail: str) -> None:
        del kind
        self._pending.append((name, str(state), detail))

    def raise_event(self, *_: object, **__: object) -> None: ...

    async def commit(self) -> None:
        await asyncio.sleep(0)
        self._world.told.extend(self._pending)
        self._pending.clear()
