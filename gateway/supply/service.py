"""Supply commands at the gateway: gives each its turn, and settles by reading what a crash or a silence left open.

The record is written before anything follows from it. One command at a time for each meter.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from gateway.meters import BusMeter
from gateway.recorder import Recorder
from gateway.supply.account import Account
from gateway.supply.door import Door
from gateway.supply.executor import Executor, Intent, Result
from gateway.supply.guard import GO_S, Facts, Refusal, Wait, may_act, may_restore
from gateway.supply.record import Cut, Held, Item, KeptLimit, Opening, Record
from gateway.supply.trust_file import TrustFile
from metering.errors import ConfigError, StorageError
from metering.model import SECOND
from metering.supply import RESTORING, WITHHOLDING, Action, CommandMessage, Go, SupplyCommand
from metering.supply_states import Cause, NoSuchTransitionError, State
from trust.authority import Authority

TICK_S = 1.0
IDLE_S = 10.0  # between two looks while no command is open: for a trust document that was installed meanwhile
AT_ONCE = 16  # commands that are being carried out together
AGAIN_S = (2.0, 5.0, 15.0, 60.0)  # pauses before a meter that could not be asked is asked again; the last one repeats
LOOK_AGAIN_S = 60.0  # what waits for its time is looked at no later: the clock may be set meanwhile
ASK_GO_S = 5.0  # a go that does not come is asked for again after this
ARMED_S = 86_400.0  # how long a customer may take, then it has lapsed
LOOK_ARMED_S = 60.0
TIDY_S = 3_600.0
MAX_GOES = 20_000
OPENS = frozenset({Action.DISCONNECT, Action.LIMIT})
GIVES_BACK = frozenset({Action.RESTORE, Action.RECONNECT, Action.ARM, Action.UNLIMIT})

logger = structlog.get_logger(__name__)


class Outside(NamedTuple):
    """What the service needs to know of the gateway around it. `lockout` says why nothing is withheld, if so."""

    meter: Callable[[str], BusMeter | None]
    meters: Callable[[], int]
    now: Callable[[], int]
    clock_trusted: Callable[[], bool]
    lockout: Callable[[], str]
    dry_run: bool = False


class SupplyService:
    """All supply commands of one gateway. `run` until told to stop; `take` and `go` at any time while it runs."""

    def __init__(
        self, record: Record, trust: TrustFile, executor: Executor, recorder: Recorder, outside: Outside
    ) -> None:
        self.account = Account(record, recorder)
        self.door = Door(self.account, recorder, outside.now, lambda device: outside.meter(device) is not None)
        self._record = record
        self._trust = trust
        self._executor = executor
        self._out = outside
        self._authority = Authority(trust.document) if trust.document is not None else None
        self._goes: dict[str, tuple[int, float]] = {}
        self._asked_go: dict[str, float] = {}
        self._again: dict[str, tuple[int, float]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by device
        self._wake = asyncio.Event()
        self._tidied = 0.0

    async def take(self, message: CommandMessage) -> None:
        """Take a command in: judged, durable, and reported. Raises `StorageError`."""
        if message.go is not None and message.go.command == message.id:
            self.go(message.go)
        self._renew_trust()
        await self.door.take(message, self._authority)
        self._wake.set()

    def go(self, given: Go) -> None:
        """Take up a go: it is as old as its own stamp says, and as the time since it came, whichever is more."""
        if len(self._goes) < MAX_GOES or given.command in self._goes:
            self._goes[given.command] = (given.at, asyncio.get_running_loop().time())
            self._again.pop(given.command, None)
        self._wake.set()

    # --- turns --------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Carry out what is due until `stop`."""
        while not stop.is_set():
            self._wake.clear()
            await self._turn()
            with contextlib.suppress(TimeoutError):
                busy = self._record.open_count or self._record.limits
                await asyncio.wait_for(self._wake.wait(), TICK_S if busy else IDLE_S)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _turn(self) -> None:
        self._tasks = {device: task for device, task in self._tasks.items() if not task.done()}
        self._renew_trust()
        clock = asyncio.get_running_loop().time()
        if clock - self._tidied > TIDY_S:
            self._tidied = clock
            self._start("", self.account.tidy(self._out.now()))
        for command, held in self.account.open_commands():
            if len(self._tasks) >= AT_ONCE:
                return
            if command.device not in self._tasks and self._is_due(command.id):
                self._start(command.device, self._do(held, command))
        for kept in list(self._record.limits.values()):
            if kept.until <= self._out.now() and kept.device not in self._tasks and self._is_due(f"back {kept.device}"):
                self._start(kept.device, self._give_back(kept))

    def _start(self, device: str, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except StorageError as error:
                logger.warning("a supply command waits for the disk", reason=str(error))
            except NoSuchTransitionError as error:
                logger.info("a supply command was moved meanwhile", reason=str(error))
            finally:
                self._wake.set()

        self._tasks[device] = asyncio.create_task(guarded())

    def _is_due(self, name: str) -> bool:
        return asyncio.get_running_loop().time() >= self._again.get(name, (0, 0.0))[1]

    def _later(self, name: str, seconds: float | None = None) -> None:
        """Look at it again after so long, or after a pause that grows with each time."""
        tries, _ = self._again.get(name, (0, 0.0))
        pause = AGAIN_S[min(tries, len(AGAIN_S) - 1)] if seconds is None else seconds
        self._again[name] = (tries + (seconds is None), asyncio.get_running_loop().time() + pause)

    async def _do(self, held: Held, command: SupplyCommand) -> None:
        match held.state:
            case State.ACCEPTED:
                await self._accepted(held, command)
            case State.EXECUTING:  # nobody is at it: a crash, or a disk that refused, left it so
                await self._move(command, Cause.OUTCOME_LOST, "the gateway lost it in the middle of the order")
            case State.UNKNOWN:
                await self._unknown(command)
            case State.ARMED:
                await self._armed(held, command)

    # --- one command --------------------------------------------------------------------------------------------------

    async def _accepted(self, held: Held, command: SupplyCommand) -> None:
        if self._out.now() >= command.expires_at:
            await self._move(command, Cause.TIME_OVER, "it expired before it could act")
            return
        if await self._held_up(held, command):
            return
        meter = self._out.meter(command.device)
        binding = self._authority.binding_of(command) if self._authority is not None else None
        if meter is None or binding is None:
            await self._move(command, Cause.GUARD_REFUSED, "the meter is not here, or not bound so, any more")
            return
        result = await self._executor.carry_out(
            meter,
            command,
            binding,
            self._record.limits.get(command.device),
            lambda: self._last_word(command),
            lambda what: self._intend(command, what),
        )
        if result is None:
            self._later(command.id)
        else:
            await self._finish(command, result)

    async def _held_up(self, held: Held, command: SupplyCommand) -> bool:
        """Judge before the meter is asked; a refusal is reported, a wait is waited for."""
        document = self._trust.document
        if document is None:
            self._later(command.id, TICK_S)
            return True
        verdict = may_act(held, document, self._record, self._facts(command))
        if isinstance(verdict, Refusal):
            await self._move(command, Cause.GUARD_REFUSED, verdict.why)
        elif isinstance(verdict, Wait):
            self._later(command.id, max(0.2, min(LOOK_AGAIN_S, (verdict.until - self._out.now()) / SECOND)))
            if verdict.needs_go:
                await self._ask_go(command.id)
        return verdict is not None

    async def _last_word(self, command: SupplyCommand) -> Refusal | None:
        """Judge once more, when it is certain that something is to be sent."""
        document, held = self._trust.document, self._record.held[command.id]
        if document is None or held.state is not State.ACCEPTED:
            return Refusal("it was superseded meanwhile")
        if self._out.now() >= command.expires_at:
            return Refusal("it expired while the meter was asked")
        verdict = may_act(held, document, self._record, self._facts(command)) or may_restore(
            held, document, self._record
        )
        if verdict is None and self._out.dry_run:
            return Refusal("dry run: all is as it must be, and nothing is sent")
        return Refusal(verdict.why) if verdict is not None else None

    async def _intend(self, command: SupplyCommand, what: Intent) -> None:
        """Make durable what is about to leave."""
        now = self._out.now()
        items: list[Item] = []
        if command.counts_as_disconnect:
            items.append(Cut(command.id, now))
        if what.action in OPENS and command.device not in self._record.openings:
            items.append(Opening(command.device, command.id, command.reason, now, what.action is Action.LIMIT))
        if what.kept is not None and command.limit_until is not None:
            first = self._record.limits.get(command.device)  # a limit upon a limit gives back what was before both
            values, watts = (what.kept.values, what.kept.limit_w) if first is None else (first.values, first.limit_w)
            items.append(KeptLimit(command.device, command.id, values, watts, command.limit_until))
        await self._move(command, Cause.BEGAN, "", *items, does=str(what.action))

    async def _unknown(self, command: SupplyCommand) -> None:
        meter = self._out.meter(command.device)
        back = self._record.limits.get(command.device)
        result = await self._executor.settle(meter, command, back) if meter is not None else None
        if result is None:
            self._later(command.id)
        elif result.cause is Cause.NOT_AS_ASKED and command.action in RESTORING:
            if self._out.now() >= command.expires_at:
                await self._move(command, Cause.TIME_OVER, "it was not as asked, and has expired")
            else:
                await self._move(command, Cause.GATEWAY_ACCEPTED, "it was not as asked: it is ordered again")
        else:
            await self._finish(command, result)

    async def _armed(self, held: Held, command: SupplyCommand) -> None:
        meter = self._out.meter(command.device)
        result = await self._executor.settle(meter, command, None) if meter is not None else None
        if result is not None and result.cause is Cause.AS_ASKED:
            await self._finish(command, result)
        elif self._out.now() >= held.changed_at + ARMED_S * SECOND:
            await self._move(command, Cause.TIME_OVER, "nobody closed it at the meter")
        else:
            self._later(command.id, LOOK_ARMED_S)

    async def _finish(self, command: SupplyCommand, result: Result) -> None:
        """Take up what became of a command, and what follows for the account of what is open."""
        items: list[Item] = []
        undone = result.cause in {Cause.NOT_AS_ASKED, Cause.METER_REFUSED, Cause.GUARD_REFUSED}
        given_back = result.cause is Cause.AS_ASKED and command.action in GIVES_BACK
        opening, kept = self._record.openings.get(command.device), self._record.limits.get(command.device)
        never_opened = undone and command.action in WITHHOLDING and opening is not None
        if given_back or (never_opened and opening is not None and opening.command == command.id):
            items.append(Opening(command.device, "", "", 0))
        if kept is not None and (
            (given_back and command.action is Action.UNLIMIT) or (undone and kept.command == command.id)
        ):
            items.append(KeptLimit(command.device, "", {}, None, 0))
        await self._move(command, result.cause, result.why, *items, **result.detail)
        for known in (self._again, self._goes, self._asked_go):
            known.pop(command.id, None)

    async def _give_back(self, kept: KeptLimit) -> None:
        """Give a limiter back what was set before, at the time that the signed command said: offline too."""
        meter, limit = self._out.meter(kept.device), self._record.held.get(kept.command)
        binding = self._authority.binding_of(limit.command) if self._authority and limit is not None else None
        result = None
        if meter is not None and limit is not None and binding is not None:
            result = await self._executor.carry_out(
                meter, _unlimit_of(limit.command), binding, kept, _nothing_against, _durable_already
            )
        if result is None or result.cause is not Cause.AS_ASKED:
            self._later(f"back {kept.device}")
            return
        await self.account.put(KeptLimit(kept.device, "", {}, None, 0), Opening(kept.device, "", "", 0))
        self._again.pop(f"back {kept.device}", None)
        await self.account.report(kept.command, State.VERIFIED, "limit-given-back", result.why, **result.detail)

    # --- for all of it ------------------------------------------------------------------------------------------------

    async def _move(
        self, command: SupplyCommand, cause: Cause, why: str, *items: Item, does: str = "", **detail: str
    ) -> None:
        await self.account.move(command.id, cause, why, self._out.now(), *items, does=does, **detail)

    async def _ask_go(self, name: str) -> None:
        clock = asyncio.get_running_loop().time()
        if clock - self._asked_go.get(name, -ASK_GO_S) >= ASK_GO_S:
            self._asked_go[name] = clock
            await self.account.ask_go(name)

    def _facts(self, command: SupplyCommand) -> Facts:
        now = self._out.now()
        given = self._goes.get(command.id)
        age = None
        if given is not None:
            told = (now - given[0]) / SECOND
            age = max(told, asyncio.get_running_loop().time() - given[1]) if told >= -GO_S else -1.0
        return Facts(now, self._out.clock_trusted(), self._out.lockout(), self._out.meters(), age)

    def _renew_trust(self) -> None:
        """Take up a document that was installed meanwhile; one that cannot be used leaves the last one in force."""
        try:
            changed = self._trust.renew()
        except ConfigError as error:
            logger.warning("the trust document on disk cannot be used: the last one stays", reason=str(error))
            return
        if changed and self._trust.document is not None:
            self._authority = Authority(self._trust.document)
            logger.info("a trust document is in force", version=self._trust.document.version)


async def _nothing_against() -> None:
    return None


async def _durable_already(_: Intent) -> None:
    return None


def _unlimit_of(limit: SupplyCommand) -> SupplyCommand:
    """Return the restoration that a signed limit contains."""
    fields = {name: getattr(limit, name) for name in limit.__struct_fields__}
    return SupplyCommand(**fields | {"action": Action.UNLIMIT, "limit_w": None, "limit_until": None})
