"""Takes one supply command a step further: judged, ordered, settled by reading, or ended. Whose turn it is others say.

The record is written before anything follows from it.
"""

from gateway.supply.account import Account
from gateway.supply.executor import VERIFY_S, Executor, Intent
from gateway.supply.goes import Goes
from gateway.supply.guard import Facts, Refusal, Wait, may_act, may_restore, withdrawn
from gateway.supply.items import Held, Item, KeptLimit
from gateway.supply.outcome import Result
from gateway.supply.outside import Outside
from gateway.supply.pauses import Pauses
from gateway.supply.trust import Trust
from gateway.supply.withheld import upon_end, upon_intent
from metering.model import SECOND
from metering.supply import RESTORING, WITHHOLDING, SupplyCommand
from metering.supply_states import Cause, State

NO_TRUST_S = 1.0  # without a trust document in force it is looked again after this
LOOK_AGAIN_S = 60.0  # what waits for its time is looked at no later: the clock may be set meanwhile
ARMED_S = 86_400.0  # how long a customer may take, then it has lapsed
LOOK_ARMED_S = 60.0


class Progress:
    """Steps of commands at one gateway."""

    def __init__(
        self, account: Account, trust: Trust, executor: Executor, outside: Outside, goes: Goes, pauses: Pauses
    ) -> None:
        self._account = account
        self._record = account.record
        self._trust = trust
        self._executor = executor
        self._out = outside
        self._goes = goes
        self._pauses = pauses

    async def advance(self, held: Held, command: SupplyCommand) -> None:
        """Do what comes next for a command that is not at its end.

        Raises:
            NoSuchTransitionError: it was moved elsewhere meanwhile.
            StorageError: the disk refused; it stays where it was.

        """
        match held.state:
            case State.ACCEPTED:
                await self._accepted(held, command)
            case State.EXECUTING:  # nobody is at it: a crash, or a disk that refused, left it so
                await self._move(command, Cause.OUTCOME_LOST, "the gateway lost it in the middle of the order")
            case State.UNKNOWN:
                await self._unknown(command)
            case State.ARMED:
                await self._armed(held, command)

    # --- before the order ---------------------------------------------------------------------------------------------

    async def _accepted(self, held: Held, command: SupplyCommand) -> None:
        if self._is_late(command):
            await self._move(command, Cause.TIME_OVER, "it expired before it could act")
            return
        if await self._held_up(held, command):
            return
        meter, binding = self._out.meter(command.device), self._trust.binding_of(command)
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
            self._pauses.later(command.id)
        else:
            await self._end(command, result)

    def _is_late(self, command: SupplyCommand) -> bool:
        now = self._out.now()
        return now >= command.expires_at or (command.limit_until is not None and now >= command.limit_until)

    async def _held_up(self, held: Held, command: SupplyCommand) -> bool:
        """Judge before the meter is asked; a refusal is reported, a wait is waited for."""
        document = self._trust.document
        if document is None:
            self._pauses.later(command.id, NO_TRUST_S)
            return True
        verdict = may_act(held, document, self._record, self._facts(command))
        if isinstance(verdict, Refusal):
            await self._move(command, Cause.GUARD_REFUSED, verdict.why)
        elif isinstance(verdict, Wait):
            self._pauses.later(command.id, max(0.2, min(LOOK_AGAIN_S, (verdict.until - self._out.now()) / SECOND)))
            if verdict.needs_go and self._goes.is_to_be_asked(command.id):
                await self._account.ask_go(command.id)
        return verdict is not None

    async def _last_word(self, command: SupplyCommand) -> Refusal | Wait | None:
        """Judge once more, when it is certain that something is to be sent."""
        document, held = self._trust.document, self._record.held[command.id]
        if document is None:
            return Wait("no trust document is in force", self._out.now())
        if held.state is not State.ACCEPTED:
            return Refusal("it was superseded meanwhile")
        if self._is_late(command):
            return Refusal("it expired while the meter was asked")
        if self._trust.binding_of(command) is None:
            return Refusal("the meter is not bound so any more")
        verdict = may_act(held, document, self._record, self._facts(command)) or may_restore(
            held, document, self._record
        )
        if verdict is None and self._out.dry_run:
            return Refusal("dry run: all is as it must be, and nothing is sent")
        return verdict

    async def _intend(self, command: SupplyCommand, what: Intent) -> Refusal | None:
        """Make durable what is about to leave; refuse it where its time ran out, or its word, while the disk wrote."""
        kept = None
        if what.kept is not None and command.limit_until is not None:
            kept = KeptLimit(command.device, command.id, what.kept.values, what.kept.limit_w, command.limit_until)
        items = upon_intent(command, what.action, kept, self._record, self._out.now())
        await self._move(command, Cause.BEGAN, "", *items, does=str(what.action))
        if self._is_late(command):
            return Refusal("it expired while its intent was written: nothing was sent")
        document, held = self._trust.document, self._record.held[command.id]
        if document is None or self._trust.binding_of(command) is None:
            return Refusal("the meter is not bound so any more: nothing was sent")
        return withdrawn(held, document, self._out.lockout())

    # --- after the order ----------------------------------------------------------------------------------------------

    async def _unknown(self, command: SupplyCommand) -> None:
        """Read what became of an order. What gives back is ordered again at once, unless it has no time for that."""
        ends = command.expires_at - self._out.now() <= VERIFY_S * SECOND
        patient = ends or command.action in WITHHOLDING
        result = await self._settled(command, self._record.limits.get(command.device), patient=patient)
        if result is None:
            self._pauses.later(command.id)
        elif result.cause is Cause.NOT_AS_ASKED and command.action in RESTORING:
            if self._out.now() >= command.expires_at:
                await self._move(command, Cause.TIME_OVER, "it was not as asked, and has expired")
            else:
                await self._move(command, Cause.GATEWAY_ACCEPTED, "it was not as asked: it is ordered again")
        else:
            await self._end(command, result)

    async def _armed(self, held: Held, command: SupplyCommand) -> None:
        result = await self._settled(command, None, patient=False)
        if result is not None and result.cause is Cause.AS_ASKED:
            await self._end(command, result)
        elif self._out.now() >= held.changed_at + ARMED_S * SECOND:
            await self._move(command, Cause.TIME_OVER, "nobody closed it at the meter")
        else:
            self._pauses.later(command.id, LOOK_ARMED_S)

    async def _settled(self, command: SupplyCommand, back: KeptLimit | None, *, patient: bool) -> Result | None:
        """Read what became of an order; a meter that hangs there no more cannot tell it."""
        if self._trust.document is None:
            return None
        meter, binding = self._out.meter(command.device), self._trust.binding_of(command)
        if binding is None:
            return Result(Cause.NOT_AS_ASKED, "another meter is bound now: what became of it cannot be read", {})
        if meter is None:
            return None
        return await self._executor.settle(meter, command, binding, back, patient=patient)

    async def _end(self, command: SupplyCommand, result: Result) -> None:
        """Take up what became of a command, and what follows for the account of what is withheld.

        What was to give back and is not as asked is not over: it is looked at again, and ordered again (DOMAIN 21).
        """
        if result.cause is Cause.NOT_AS_ASKED and self._goes_on(command):
            await self._move(command, Cause.OUTCOME_LOST, f"{result.why}; it is looked at again", **result.detail)
            self._pauses.later(command.id)
            return
        items = upon_end(command, result.cause, self._record, self._out.now())
        await self._move(command, result.cause, result.why, *items, **result.detail)
        self._pauses.end(command.id)
        self._goes.forget(command.id)

    def _goes_on(self, command: SupplyCommand) -> bool:
        return command.action in RESTORING and self._record.held[command.id].state is State.EXECUTING

    # --- for all of it ------------------------------------------------------------------------------------------------

    async def _move(
        self, command: SupplyCommand, cause: Cause, why: str, *items: Item, does: str = "", **detail: str
    ) -> None:
        await self._account.move(command.id, cause, why, self._out.now(), *items, does=does, **detail)

    def _facts(self, command: SupplyCommand) -> Facts:
        out, now = self._out, self._out.now()
        return Facts(now, out.clock_trusted(), out.lockout(), out.meters(), self._goes.age(command.id, now))
