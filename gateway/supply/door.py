"""Where supply commands come in: verified, judged, durable, and answered. It carries none out."""

import asyncio
import random
from collections import deque
from collections.abc import Callable

import structlog

from gateway.recorder import Recorder
from gateway.supply.account import Account
from gateway.supply.guard import GO_S, Refusal, act_at, at_the_door, superseded_by
from gateway.supply.items import Held, Refused, held_of
from metering import events
from metering.model import SECOND
from metering.supply import CommandMessage, canonical
from metering.supply_states import Cause, State
from trust.authority import Authorised, Authority, NotAuthorisedError

REFUSALS_A_MINUTE = 60  # told one by one; more are counted: a flood must not fill the log
ANSWER_AGAIN_S = 4.0  # for one command: a head-end repeats it after 5 s at the earliest, and more often nobody needs it
ANSWERS_A_MINUTE = 1_000  # of all commands: whoever replays many fills neither the log nor the audit with them
MAX_ANSWERED = 20_000  # commands whose last answer is remembered

logger = structlog.get_logger(__name__)


class Door:
    """Takes commands in for one gateway. `has_meter` tells whether a device hangs on one of its buses."""

    def __init__(
        self,
        account: Account,
        recorder: Recorder,
        now: Callable[[], int],
        clock_trusted: Callable[[], bool],
        has_meter: Callable[[str], bool],
    ) -> None:
        self._account = account
        self._recorder = recorder
        self._now = now
        self._clock_trusted = clock_trusted
        self._has_meter = has_meter
        self._told: deque[float] = deque(maxlen=REFUSALS_A_MINUTE)
        self._answered: dict[str, float] = {}
        self._answers: deque[float] = deque(maxlen=ANSWERS_A_MINUTE)
        self._chance = random.SystemRandom()
        self.refused = 0

    async def take(self, message: CommandMessage, authority: Authority | None) -> None:
        """Take a command in, or refuse it; a known one is answered as it stands. Raises `StorageError`."""
        held = self._account.record.held.get(message.id)
        if held is not None and held.body == message.body:
            if self._is_to_be_answered(message.id):  # it was not heard the first time, or somebody replays it
                await self._account.report(message.id, held.state, held.cause, held.why, again="it came again")
            return
        if authority is None:
            await self._refuse(message.id, "no trust document is installed here: metergate trust install")
            return
        try:
            found = await asyncio.to_thread(authority.authorise, message)
        except NotAuthorisedError as error:
            await self._refuse(message.id, str(error))
            return
        refused = await self._enter(found)
        if refused is not None:
            await self._refuse(message.id, refused.why)

    async def _enter(self, found: Authorised) -> Refusal | None:
        command, now = found.command, self._now()
        record = self._account.record
        async with self._account.writing:
            if not self._has_meter(command.device):
                return Refusal(f"this gateway has no meter {command.device} on a bus")
            known = record.held.get(command.id)
            if known is not None and known.body == canonical(command):
                return None  # it came twice at once: the other copy is the one that is told of
            if (refused := at_the_door(found, record, now, clock_trusted=self._clock_trusted())) is not None:
                return refused
            at = act_at(found, record, now, self._chance.random())
            service = found.service.name if found.service is not None and not found.persons else ""
            held = held_of(command, found.kids, service, now, at, State.ACCEPTED)
            gone = [_superseded(each, command.id, now) for each in superseded_by(record, found)]
            await self._account.durably(held, *gone)
        for each in gone:
            await self._account.report(each.command.id, each.state, each.cause, each.why)
        if service and at - now > GO_S * SECOND:
            self._recorder.raise_event(events.RESTORES_STAGGERED, command.device, command=command.id)
        await self._account.report(command.id, State.ACCEPTED, Cause.GATEWAY_ACCEPTED, "", act_at=str(at))
        return None

    def _is_to_be_answered(self, name: str) -> bool:
        clock = asyncio.get_running_loop().time()
        if clock - self._answered.get(name, -ANSWER_AGAIN_S) < ANSWER_AGAIN_S:
            return False
        if len(self._answers) == self._answers.maxlen and clock - self._answers[0] < 60.0:
            return False
        self._answers.append(clock)
        if len(self._answered) >= MAX_ANSWERED:
            self._answered.clear()
        self._answered[name] = clock
        return True

    async def _refuse(self, name: str, why: str) -> None:
        """Answer a command that is not taken in; of a flood only some.

        Whoever sent it may have used the id of another: one that is at work here is told as it stands, and one that is
        told as refused is not taken later, as its head-end holds it for ended.
        """
        self.refused += 1
        if (held := self._account.record.held.get(name)) is not None:
            await self._tell_held(held, name, why)
            return
        clock = asyncio.get_running_loop().time()
        if len(self._told) == REFUSALS_A_MINUTE and clock - self._told[0] < 60.0:
            return
        self._told.append(clock)
        logger.warning("a supply command is refused", command=name, reason=why)
        self._recorder.raise_event(events.SUPPLY_REFUSED, command=name, reason=why[:200])
        async with self._account.writing:
            held = self._account.record.held.get(name)  # it may have come in meanwhile
            if held is None:
                await self._account.durably(Refused(name, self._now()))
        if held is None:
            await self._account.report(name, State.REFUSED_BY_GUARD, Cause.GUARD_REFUSED, why)
        else:
            await self._tell_held(held, name, why)

    async def _tell_held(self, held: Held, name: str, why: str) -> None:
        if self._is_to_be_answered(name):
            again = f"another came under its id: {why}"
            await self._account.report(name, held.state, held.cause, held.why, again=again)


def _superseded(held: Held, by: str, now: int) -> Held:
    return Held(
        held.body,
        held.kids,
        held.service,
        State.SUPERSEDED,
        held.taken_at,
        held.act_at,
        Cause.SUPERSEDED,
        f"by {by}",
        changed_at=now,
    )
