"""Carries out one supply command at its meter: who it is, how it stands, the intent, the order, and what came of it.

The intent is durable before a frame leaves. What verifies is the meter's own state, read back; an answer proves
nothing. Nothing is sent twice: what is not known afterwards is settled by reading.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from collector.bus import Lane
from collector.capabilities import Limits, Order, SentFrame, SupplySwitch, Talk
from collector.supply_rules import Do, Done, Outcome, outcome
from gateway.identity import same_serial
from gateway.meters import BusMeter
from gateway.supply.guard import Refusal
from gateway.supply.record import KeptLimit
from gateway.work import MeterWork, WrongMeterError
from metering.errors import AuthError, MeterError, RefusedError
from metering.model import Block
from metering.supply import Action, SupplyCommand, SupplyState
from metering.supply_states import Cause
from trust.document import Binding

VERIFY_S = 30.0  # how long a relay may take until it is as asked
POLL_S = 2.0  # between two looks; the bus is free meanwhile
BACK_FEED_V = 50.0  # at the load side of an open switch: above it nothing is closed
MAX_WHY = 300  # characters

LastWord = Callable[[], Awaitable[Refusal | None]]


class Result(NamedTuple):
    """What became of a command. `detail` has plain strings: states before and after, frames as they may be kept."""

    cause: Cause
    why: str
    detail: dict[str, str]


class Intent(NamedTuple):
    """What is about to leave: the order's action, and what the limiter was set to where it is changed."""

    action: Action
    kept: Limits | None


class _Asked(NamedTuple):
    """What one conversation with the meter has come to; `result` None: it has to be looked at again."""

    result: Result | None
    before: SupplyState


Intend = Callable[[Intent], Awaitable[None]]


class Executor:
    """Speaks to meters for supply commands. `digest_key` gives the gateway's own: frames are told by a keyed digest.

    `take` is given the registers before and after. `on_step` is told each step by its name.
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
        """Carry a command out; None: the meter could not be asked, and nothing was sent.

        `last_word` is asked when it is certain that something is to be sent, `intend` makes that durable. `back` is
        what an unlimit gives back.
        """
        switch = _switch_of(meter)
        if switch is None:
            return Result(Cause.METER_REFUSED, "its model has no supply that could be switched", {})
        sent: list[SentFrame] = []
        intended = False

        async def job(talk: Talk) -> _Asked:
            nonlocal intended
            before = await self._look(talk, switch, binding)
            step = switch.plan(command.action, before, _target(command, back))
            if not isinstance(step, Do):
                return _Asked(_at_rest(step, before), before)
            refused = _back_feed(step.action, before) or await last_word()
            if refused is not None:
                return _Asked(Result(Cause.GUARD_REFUSED, refused.why, _states(before)), before)
            kept = await switch.settings(talk) if step.action is Action.LIMIT else None
            await intend(Intent(step.action, kept))
            intended = True
            self._step("intended")
            limits = back.limits if back is not None else None
            await switch.act(talk, Order(step.action, command.expires_at, command.limit_w, limits), sent)
            self._step("sent")
            return _Asked(None, before)

        try:
            asked = await self._work.work_on(meter, Lane.COMMAND, job, keyed=True)
        except MeterError as error:
            return self._broken(error, sent, intended=intended)
        if asked.result is not None:
            return asked.result
        return await self._read_back(meter, switch, command, back, asked.before, sent)

    async def settle(self, meter: BusMeter, command: SupplyCommand, back: KeptLimit | None) -> Result | None:
        """Read how the supply stands after an order whose outcome is not known; None: it could not be asked."""
        switch = _switch_of(meter)
        if switch is None:
            return Result(Cause.NOT_AS_ASKED, "its model has no supply any more", {})
        try:
            state, found = await self._after(meter, switch, command, back)
        except MeterError:
            return None
        return _result(found, state, {"after": _text(state)})

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _look(self, talk: Talk, switch: SupplySwitch, binding: Binding) -> SupplyState:
        """Make sure of the meter (DOMAIN 16), read its state, and its registers as readings of their own kind."""
        shown = await switch.identities(talk)
        serials = [each.removeprefix("serial:") for each in shown if each.startswith("serial:")]
        if binding.identity not in shown or not all(same_serial(each, binding.serial) for each in serials):
            raise WrongMeterError(
                f"another meter answers: {', '.join(sorted(shown))}; bound is {binding.identity}, serial number "
                f"{binding.serial}"
            )
        self._step("identified")
        state = await switch.state(talk)
        self._step("state-read")
        await self._registers(talk, switch)
        self._step("registers-read")
        return state

    async def _registers(self, talk: Talk, switch: SupplySwitch) -> None:
        blocks: list[Block] = []
        try:
            await switch.registers(talk, into=blocks)
        finally:
            self._take(blocks)

    async def _read_back(
        self,
        meter: BusMeter,
        switch: SupplySwitch,
        command: SupplyCommand,
        back: KeptLimit | None,
        before: SupplyState,
        sent: list[SentFrame],
    ) -> Result:
        """Look again and again until the meter is as asked, or the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._verify_s
        detail = self._frames(sent) | {"before": _text(before)}
        state: SupplyState | None = None
        error: MeterError | None = None
        while True:
            try:
                state, found = await self._after(meter, switch, command, back)
                error = None
            except MeterError as failure:
                error, found = failure, "not-yet"
            if found != "not-yet" or loop.time() + self._poll_s > end:
                break
            await asyncio.sleep(self._poll_s)
        self._step("read-back")
        if state is None or error is not None:
            return Result(Cause.OUTCOME_LOST, _why(error), detail)
        return _result(found, state, detail | {"after": _text(state)})

    async def _after(
        self, meter: BusMeter, switch: SupplySwitch, command: SupplyCommand, back: KeptLimit | None
    ) -> tuple[SupplyState, Outcome]:
        async def job(talk: Talk) -> tuple[SupplyState, Outcome]:
            state = await switch.state(talk)
            found = _found(command, state, back)
            if found != "not-yet":
                await self._registers(talk, switch)
                self._step("registers-after")
            return state, found

        return await self._work.work_on(meter, Lane.COMMAND, job, keyed=True)

    def _broken(self, error: MeterError, sent: list[SentFrame], *, intended: bool) -> Result | None:
        """Return what an error means: nothing was sent, the meter said no, or nobody knows."""
        detail = self._frames(sent)
        if isinstance(error, WrongMeterError):
            return Result(Cause.GUARD_REFUSED, _why(error), detail)
        if isinstance(error, RefusedError | AuthError):
            return Result(Cause.METER_REFUSED, _why(error), detail)
        return Result(Cause.OUTCOME_LOST, _why(error), detail) if intended else None

    def _frames(self, sent: list[SentFrame]) -> dict[str, str]:
        if not sent:
            return {}
        whole = b"".join(each.whole for each in sent)
        return {
            "frames": " ".join(each.masked.hex() for each in sent),
            "digest": hmac.digest(self._digest_key(), whole, "sha256").hex(),
        }


def _switch_of(meter: BusMeter) -> SupplySwitch | None:
    return meter.make_switch() if meter.make_switch is not None else None


def _target(command: SupplyCommand, back: KeptLimit | None) -> int | None:
    if command.action is Action.UNLIMIT:
        return back.limit_w if back is not None else None
    return command.limit_w


def _found(command: SupplyCommand, state: SupplyState, back: KeptLimit | None) -> Outcome:
    if command.action in {Action.LIMIT, Action.UNLIMIT}:
        return "as-asked" if state.limit_w == _target(command, back) else "not-yet"
    return outcome(command.action, state)


def _at_rest(step: object, state: SupplyState) -> Result:
    """Return what a command comes to for which nothing is sent."""
    if isinstance(step, Done):
        why = step.why or "it was so already: no action"
        return Result(Cause.READY if step.armed else Cause.AS_ASKED, why, _states(state))
    return Result(Cause.METER_REFUSED, str(getattr(step, "why", "")), _states(state))


def _back_feed(action: Action, state: SupplyState) -> Refusal | None:
    if action in {Action.RECONNECT, Action.ARM} and (state.load_side_v or 0.0) > BACK_FEED_V:
        return Refusal(
            f"{state.load_side_v:.0f} V stand on the load side of the open switch: it is not closed onto that"
        )
    return None


def _result(found: Outcome, state: SupplyState, detail: dict[str, str]) -> Result:
    if found == "not-yet":
        return Result(Cause.NOT_AS_ASKED, f"it is not as asked: {_text(state)}", detail)
    if found == "armed":
        return Result(Cause.READY, "it waits for the customer at the meter", detail)
    return Result(Cause.AS_ASKED, "the meter says so itself", detail)


def _states(before: SupplyState) -> dict[str, str]:
    return {"before": _text(before)}


def _text(state: SupplyState) -> str:
    return msgspec.json.encode(state).decode()


def _why(error: BaseException | None) -> str:
    return (str(error) or type(error).__name__)[:MAX_WHY]
