"""Carries out one supply command at its meter: who it is, how it stands, the intent, the order, and what came of it.

The intent is durable before a frame leaves. What verifies is the meter's own state, read back; an answer proves
nothing. Nothing is sent twice: what is not known afterwards is settled by reading.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import NamedTuple

from collector.bus import Lane
from collector.capabilities import Limits, Order, SentFrame, SupplySwitch, Talk
from collector.supply_rules import Do, Outcome
from gateway.identity import same_serial
from gateway.meters import BusMeter
from gateway.supply.guard import Refusal, Wait
from gateway.supply.items import KeptLimit
from gateway.supply.outcome import Result, at_rest, back_feed, found, result_of, states, target, text_of, why_of
from gateway.work import MeterWork, WrongMeterError
from metering.errors import AuthError, MeterError, RefusedError
from metering.model import Block
from metering.supply import Action, SupplyCommand, SupplyState
from metering.supply_states import Cause
from trust.document import Binding

VERIFY_S = 30.0  # how long a relay may take until it is as asked
POLL_S = 2.0  # between two looks at most; the bus is free meanwhile
FIRST_POLL_S = 0.2  # between the first two; then twice as long each time, as most relays are quick


class Step(StrEnum):
    """The steps of a command at its meter, in their order; a crash can come after each of them."""

    IDENTIFIED = "identified"
    STATE_READ = "state-read"
    REGISTERS_READ = "registers-read"
    INTENDED = "intended"
    SENT = "sent"
    READ_BACK = "read-back"
    REGISTERS_AFTER = "registers-after"


class Intent(NamedTuple):
    """What is about to leave: the order's action, and what the limiter was set to where it is changed."""

    action: Action
    kept: Limits | None


LastWord = Callable[[], Awaitable[Refusal | Wait | None]]
Intend = Callable[[Intent], Awaitable[Refusal | None]]


class _Attempt:
    """What one command has come to at its meter. `result` None: it has to be looked at again."""

    def __init__(
        self, meter: BusMeter, switch: SupplySwitch, command: SupplyCommand, binding: Binding, back: KeptLimit | None
    ) -> None:
        self.meter = meter
        self.switch = switch
        self.command = command
        self.binding = binding
        self.back = back
        self.before = SupplyState()
        self.settings = back.limits if back is not None else None  # of the limiter, before it was changed
        self.sent: list[SentFrame] = []
        self.intended = False
        self.waits = False
        self.result: Result | None = None


class Executor:
    """Speaks to meters for supply commands. `digest_key` gives the gateway's own: frames are told by a keyed digest.

    `take` is given the registers before and after. `on_step` is told each step.
    """

    def __init__(
        self,
        work: MeterWork,
        take: Callable[[list[Block]], None],
        digest_key: Callable[[], bytes],
        *,
        verify_s: float = VERIFY_S,
        poll_s: float = POLL_S,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._work = work
        self._take = take
        self._deciding = asyncio.Lock()  # from the last word to the intent: else two would pass a cap together
        self._digest_key = digest_key
        self._verify_s = verify_s
        self._poll_s = poll_s
        self._step = on_step

    async def carry_out(
        self,
        meter: BusMeter,
        command: SupplyCommand,
        binding: Binding,
        back: KeptLimit | None,
        last_word: LastWord,
        intend: Intend,
    ) -> Result | None:
        """Carry a command out; None: it is to be tried again, and nothing was sent.

        `last_word` is asked when it is certain that something is to be sent, `intend` makes that durable and refuses
        what is too late by then. `back` is what an unlimit gives back.
        """
        switch = _switch_of(meter)
        if switch is None:
            return Result(Cause.METER_REFUSED, "its model has no supply that could be switched", {})
        attempt = _Attempt(meter, switch, command, binding, back)

        async def job(talk: Talk) -> None:
            await self._converse(talk, attempt, last_word, intend)

        try:
            await self._work.work_on(meter, Lane.COMMAND, job, keyed=True)
        except MeterError as error:
            return await self._broken(error, attempt)
        if attempt.result is not None or attempt.waits:
            return attempt.result
        return await self._read_back(attempt)

    async def settle(
        self, meter: BusMeter, command: SupplyCommand, binding: Binding, back: KeptLimit | None, *, patient: bool
    ) -> Result | None:
        """Read how the supply stands after an order whose outcome is not known; None: it could not be told.

        A relay may be slow, and an order may still be on its way: `patient` looks for as long as a relay may take
        before it counts as not done.
        """
        switch = _switch_of(meter)
        if switch is None:
            return Result(Cause.NOT_AS_ASKED, "its model has no supply any more", {})
        attempt = _Attempt(meter, switch, command, binding, back)
        try:
            state, seen = await self._until_as_asked(attempt, self._verify_s if patient else 0.0, settles=True)
        except MeterError:
            return None
        return result_of(seen, state, {"after": text_of(state)} | _at_trip(attempt, state))

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _converse(self, talk: Talk, attempt: _Attempt, last_word: LastWord, intend: Intend) -> None:
        """Look, judge, make the intent durable and send."""
        switch, command = attempt.switch, attempt.command
        await self._identify(talk, attempt)
        before = attempt.before = await switch.state(talk)
        self._step(Step.STATE_READ)
        await self._registers(talk, switch)
        self._step(Step.REGISTERS_READ)
        step = switch.plan(command.action, before, target(command, attempt.back))
        if not isinstance(step, Do):
            attempt.result = at_rest(command.action, step, before)
            return
        if step.action is Action.LIMIT:
            attempt.settings = await switch.settings(talk)
        async with self._deciding:
            verdict = back_feed(step.action, before) or await last_word()
            if isinstance(verdict, Wait):
                attempt.waits = True
                return
            if verdict is not None:
                attempt.result = Result(Cause.GUARD_REFUSED, verdict.why, states(before))
                return
            late = await intend(Intent(step.action, attempt.settings))
        if late is not None:
            attempt.result = Result(Cause.NOT_AS_ASKED, late.why, states(before))
            return
        attempt.intended = True
        self._step(Step.INTENDED)
        limits = attempt.back.limits if attempt.back is not None else None
        await switch.act(talk, Order(step.action, command.expires_at, command.limit_w, limits), attempt.sent)
        self._step(Step.SENT)

    async def _identify(self, talk: Talk, attempt: _Attempt) -> None:
        """Make sure of the meter (DOMAIN 16)."""
        binding, shown = attempt.binding, await attempt.switch.identities(talk)
        serials = [each.removeprefix("serial:") for each in shown if each.startswith("serial:")]
        if binding.identity not in shown or not all(same_serial(each, binding.serial) for each in serials):
            raise WrongMeterError(
                f"another meter answers: {', '.join(sorted(shown))}; bound is {binding.identity}, serial number "
                f"{binding.serial}"
            )
        self._step(Step.IDENTIFIED)

    async def _registers(self, talk: Talk, switch: SupplySwitch) -> None:
        """Take the registers as readings of their own kind."""
        blocks: list[Block] = []
        try:
            await switch.registers(talk, into=blocks)
        finally:
            self._take(blocks)

    async def _read_back(self, attempt: _Attempt) -> Result:
        """Look again and again until the meter is as asked, or the time is over."""
        detail = self._frames(attempt.sent) | states(attempt.before)
        try:
            state, seen = await self._until_as_asked(attempt, self._verify_s)
        except MeterError as error:
            return Result(Cause.OUTCOME_LOST, why_of(error), detail)
        finally:
            self._step(Step.READ_BACK)
        return result_of(seen, state, detail | {"after": text_of(state)} | _at_trip(attempt, state))

    async def _until_as_asked(
        self, attempt: _Attempt, patience_s: float, *, settles: bool = False
    ) -> tuple[SupplyState, Outcome]:
        """Return the last state that was seen. Raises `MeterError` where the last look failed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        pause = min(FIRST_POLL_S, self._poll_s)
        while True:
            last = loop.time() + pause > end
            try:
                state, seen = await self._look(attempt, identify=settles)
            except MeterError:
                if last or settles:
                    raise
            else:
                if last or seen != "not-yet":
                    return state, seen
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._poll_s)

    async def _look(self, attempt: _Attempt, *, identify: bool) -> tuple[SupplyState, Outcome]:
        async def job(talk: Talk) -> tuple[SupplyState, Outcome]:
            if identify:
                await self._identify(talk, attempt)
            state = await attempt.switch.state(talk)
            seen = found(attempt.command, state, attempt.back)
            if seen != "not-yet":
                await self._registers(talk, attempt.switch)
                self._step(Step.REGISTERS_AFTER)
            return state, seen

        return await self._work.work_on(attempt.meter, Lane.COMMAND, job)

    async def _broken(self, error: MeterError, attempt: _Attempt) -> Result | None:
        """Return what an error means: nothing was sent, the meter said no, or nobody knows.

        Once an order has left, a no is a word like any other: the state tells.
        """
        if isinstance(error, WrongMeterError):
            return Result(Cause.GUARD_REFUSED, why_of(error), {})
        detail = self._frames(attempt.sent)
        if not isinstance(error, RefusedError | AuthError):
            return Result(Cause.OUTCOME_LOST, why_of(error), detail) if attempt.intended else None
        no = Result(Cause.METER_REFUSED, why_of(error), detail)
        if not attempt.sent:
            return no
        try:
            state, seen = await self._look(attempt, identify=False)
        except MeterError as failure:
            return no._replace(cause=Cause.OUTCOME_LOST, why=f"it refused ({no.why}); then: {why_of(failure)}")
        detail |= states(attempt.before) | {"after": text_of(state)}
        return no if seen == "not-yet" else result_of(seen, state, detail)

    def _frames(self, sent: list[SentFrame]) -> dict[str, str]:
        if not sent:
            return {}
        whole = b"".join(each.whole for each in sent)
        return {
            "frames": " ".join(each.masked.hex() for each in sent),
            "digest": hmac.digest(self._digest_key(), whole, "sha256").hex(),
        }


def _at_trip(attempt: _Attempt, state: SupplyState) -> dict[str, str]:
    """Return what a limiter does when it trips, for the result of a limit (DOMAIN 22)."""
    if attempt.command.action is not Action.LIMIT or attempt.settings is None:
        return {}
    return {"at_trip": attempt.switch.at_trip(state, attempt.settings)}


def _switch_of(meter: BusMeter) -> SupplySwitch | None:
    return meter.make_switch() if meter.make_switch is not None else None
