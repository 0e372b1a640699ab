"""Sends approved commands to their gateways until they answer, and gives each go anew. It judges nothing itself.

Who waits for what, with one head-end and the state at hand:
- What gives back is looked at five times a second by a task of its own, and before each batch of the rest: it waits
  for nothing that withholds, and leaves within a second of its approval behind at most what was asked back before.
- What withholds is taken AT_ONCE at a time, the longest due first, and judged by JUDGES threads: it waits for at most
  what was due before it, where one that policy cannot judge takes up a thread for as long as collections is waited for.
- What is not due is not looked at: what waits for a window until that opens, what was sent until its pause is over.
- What fails is due again after pauses that grow to LONGEST_WAIT_S, and those behind it go on; what a head-end took and
  did not end, as it died, after HOLD_BACK_S or HOLD_S, by any other.
- A gateway that does not answer is asked after pauses that grow to LONGEST_WAIT_S, or LONGEST_LOOK_S after the
  command's end; what it accepted, too, and of what gives back every LONGEST_LOOK_S before its end as well: it may have
  been exchanged. One that comes back is asked at once.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from headend import steps
from headend.audit.chain import Entry
from headend.journal import Handler
from headend.key_floors import Publish
from headend.supply.command import Command
from headend.supply.desk import SupplyDesk
from headend.supply.due import wait_s
from headend.supply.hearing import Hearing
from headend.supply.planning import Now, Plan, Planner
from headend.supply.turns import Turn
from metering import timing, wire
from metering.errors import LinkDownError, StorageError
from metering.model import SECOND
from metering.supply import Go
from metering.supply_states import State
from metering.wire import Control

TICK_S = 0.5
BACK_TICK_S = 0.2  # the same for what gives back
AT_ONCE = 120  # commands that are taken, judged and moved together: all are judged within HOLD_S
BATCHES = 500  # of one tick
JUDGES = 24  # threads that ask policy, which may ask collections: what gives back never needs one
HOLD_S = 60  # until what was taken and not ended is due again
HOLD_BACK_S = 5  # the same for what gives back
LINK_S = 5  # until what could not be published is tried again
MAX_FAILING = 20_000  # commands of which it is known how often they failed in a row
MAX_HERE = 20_000  # gateways that said that they are there, within one tick

_FAULTS = (
    StorageError,
    ValueError,
    LookupError,
    OSError,
)  # of one command: a zone that is none, a campaign that is gone
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Dispatch:
    """Carries commands to gateways. `run` until told to stop."""

    def __init__(self, desk: SupplyDesk, publish: Publish, clock: Callable[[], int] = timing.now) -> None:
        self._desk = desk
        self._turns = desk.book.turns
        self._publish = publish
        self._clock = clock
        self._planner = Planner(desk, clock)
        self._hearing = Hearing(desk, clock)
        self._here: set[str] = set()  # gateways that have just said that they are there
        self._failing: dict[str, int] = {}
        self._judges = ThreadPoolExecutor(JUDGES, "supply-judge")
        self._giving_back = asyncio.Lock()

    def handlers(self) -> dict[str, Handler]:
        """Return what takes which kind of journal entries."""
        return {"supply": self._hearing.heard}

    def here(self, gateway: str) -> None:
        """Take note, on the loop, that a gateway is there: what waits for its answer is sent again at once."""
        if len(self._here) < MAX_HERE:
            self._here.add(gateway)

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is due until `stop`."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(steps.repeat(self.give_back, BACK_TICK_S, stop, "what gives back waits"))
                group.create_task(steps.repeat(self.step, TICK_S, stop, "supply commands wait"))
        finally:
            self._judges.shutdown(wait=False, cancel_futures=True)

    async def step(self) -> None:
        """Do what is due, what gives back before each batch of the rest. Raises `StorageError`, `LinkDownError`."""
        for _ in range(BATCHES):
            await self.give_back()
            asked = self._hearing.take_asked(AT_ONCE)
            await self._answer(asked)
            taken = await self._take(HOLD_S, gives_back=False)
            await self._carry(taken)
            if not taken and not asked:
                return

    async def give_back(self) -> None:
        """Send what gives back and is due. Raises `StorageError`, `LinkDownError`."""
        async with self._giving_back:
            await self._send_kept()
            if self._here:
                here, self._here = self._here, set()
                await asyncio.to_thread(self._turns.wake, here, self._clock())
            for _ in range(BATCHES):
                taken = await self._take(HOLD_BACK_S, gives_back=True)
                await self._carry(taken)
                if not taken:
                    break
            await asyncio.to_thread(self._desk.join)
            await asyncio.to_thread(self._desk.renew)
            await asyncio.to_thread(self._desk.remind)

    async def _send_kept(self) -> None:
        """Send what gives back and went ahead without the state; it needs nothing of it."""
        outage = self._desk.outage
        for kept in outage.all() if outage is not None else ():
            now, command = self._clock(), kept.command
            wait = wait_s(kept.sent) if kept.sent else 0
            if outage is None or not kept.approved_by or now - kept.sent_at < wait * SECOND:
                continue
            message = self._desk.signatures.message(command)
            await self._publish(wire.topic(command.gateway, "commands"), wire.encode(message), retain=False)
            outage.sent(command.id, now)

    # --- a batch ------------------------------------------------------------------------------------------------------

    async def _take(self, hold_s: int, *, gives_back: bool) -> list[Command]:
        return await asyncio.to_thread(self._turns.take, self._clock(), AT_ONCE, hold_s, gives_back=gives_back)

    async def _carry(self, taken: Sequence[Command]) -> None:
        """Take each command's next steps and send it; one that fails is put off and holds up no other."""
        if not taken:
            return
        known = await self._known(taken)
        plans: dict[str, Plan] = {}
        failed: dict[str, BaseException] = {}
        for command, found in zip(taken, await self._each(partial(self._planner.plan, known), taken), strict=True):
            if isinstance(found, BaseException):
                failed[command.id] = found
            else:
                plans[command.id] = found
        moved = await self._move([each.turn for each in plans.values()], failed)
        for command in moved:
            self._failing.pop(command.id, None)
        sent = [each for each in moved if plans[each.id].turn.send]
        try:
            await self._send(sent, plans, failed)
        finally:
            await self._put_off(failed)

    async def _known(self, taken: Sequence[Command]) -> Now:
        return await asyncio.to_thread(self._planner.now, taken)

    async def _each(self, do: Callable[[Command], _T], taken: Sequence[Command]) -> list[_T | BaseException]:
        """Do the same with each command; in the threads of the judges where one of them withholds."""
        if all(each.gives_back for each in taken):
            return _each_alone(do, taken)
        loop, share = asyncio.get_running_loop(), -(-len(taken) // JUDGES)
        some = [taken[start : start + share] for start in range(0, len(taken), share)]
        done = [loop.run_in_executor(self._judges, _each_alone, do, each) for each in some]
        return [found for each in await asyncio.gather(*done) for found in each]

    async def _move(self, turns: Sequence[Turn], failed: dict[str, BaseException]) -> list[Command]:
        """Move a batch in one transaction; where that cannot be kept, each alone. The audit knows before it is sent."""
        try:
            return await asyncio.to_thread(self._turns.move, turns) if turns else []
        except StorageError as error:
            if error.retry:
                raise
        except ValueError:
            pass
        moved: list[Command] = []
        for turn in turns:
            try:
                moved += await asyncio.to_thread(self._turns.move, [turn])
            except (StorageError, ValueError) as error:
                failed[turn.command.id] = error
        return moved

    async def _send(self, moved: Sequence[Command], plans: dict[str, Plan], failed: dict[str, BaseException]) -> None:
        signed = await asyncio.to_thread(partial(_each_alone, self._desk.signatures.message, moved))
        for index, (command, message) in enumerate(zip(moved, signed, strict=True)):
            if isinstance(message, BaseException):
                failed[command.id] = message
                continue
            whole = msgspec.structs.replace(message, go=plans[command.id].go)
            try:
                await self._publish(wire.topic(command.gateway, "commands"), wire.encode(whole), retain=False)
            except LinkDownError:
                until = self._clock() + LINK_S * SECOND
                await asyncio.to_thread(self._turns.put_off, {each.id: until for each in moved[index:]})
                raise

    async def _put_off(self, failed: dict[str, BaseException]) -> None:
        until: dict[str, int] = {}
        for name, error in failed.items():
            times = self._failing.pop(name, 0)
            if len(self._failing) < MAX_FAILING:
                self._failing[name] = times + 1
            until[name] = self._clock() + wait_s(times) * SECOND
            _log.warning("a supply command cannot go on now", command=name, times=times + 1, reason=str(error)[:1000])
        if until:
            await asyncio.to_thread(self._turns.put_off, until)

    # --- goes ---------------------------------------------------------------------------------------------------------

    async def _answer(self, names: Sequence[str]) -> None:
        """Give the gateways that ask a go, where nothing stands against it; who gets none asks again."""
        if not names:
            return
        kept = await asyncio.to_thread(self._desk.book.all, names)
        asks = [each for each in kept if each.state in {State.SENT, State.ACCEPTED}]
        found = await self._each(partial(self._planner.give, await self._known(asks)), asks)
        given = [(each, entry) for each, entry in zip(asks, found, strict=True) if isinstance(entry, Entry)]
        if given:
            await asyncio.to_thread(self._desk.book.tell, *(entry for _, entry in given))
        for command, entry in given:
            body = msgspec.msgpack.encode(Go(command.id, entry.at))
            control = Control(f"go-{command.id}"[:64], "go", body=body)
            await self._publish(wire.topic(command.gateway, "control"), wire.encode(control), retain=False)
        for command, error in zip(asks, found, strict=True):
            if isinstance(error, BaseException):
                _log.warning("a go cannot be given now", command=command.id, reason=str(error)[:1000])


def _tried(do: Callable[[Command], _T], command: Command) -> _T | BaseException:
    try:
        return do(command)
    except _FAULTS as error:
        return error


def _each_alone(do: Callable[[Command], _T], commands: Sequence[Command]) -> list[_T | BaseException]:
    return [_tried(do, each) for each in commands]
