"""What becomes of a command that is due: its next steps, and whether it is sent with a go. It keeps and sends nothing.

A go only withholds: it is given after policy passed at that moment, and never replaces an approval.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headend.audit.chain import Entry
from headend.policy.facts import Known
from headend.supply.command import Command
from headend.supply.desk import SupplyDesk
from headend.supply.due import opens_at
from headend.supply.judging import digest, evidence, refusal
from headend.supply.steps import Step
from headend.supply.turns import Turn
from metering.supply import WITHHOLDING, Go
from metering.supply_states import Cause, State

MAX_TOLD = 20_000  # commands without a go, of which it is known that the audit was told

ACTOR = "head-end"
_LATE = {
    State.QUARANTINED: "it expired before it was approved",
    State.AWAITING_APPROVAL: "it expired before it was approved",
    State.APPROVED: "it expired before its window",
    State.WAITING_FOR_WINDOW: "it expired before its window",
    State.QUEUED: "it expired before it was sent",
    State.SENT: "it expired, and the gateway has not answered",
}


class Plan(NamedTuple):
    """A command's turn, and the go that it is sent with."""

    turn: Turn
    go: Go | None = None


class Now(NamedTuple):
    """An instant, what is kept of the meter points of some commands, and when their supply was asked back last."""

    at: int
    known: Known
    given_back: Mapping[str, int]


class Planner:
    """Plans what becomes of commands. Blocking: what withholds is judged. Safe in several threads."""

    def __init__(self, desk: SupplyDesk, clock: Callable[[], int]) -> None:
        self._desk = desk
        self._clock = clock
        self._told: dict[str, str] = {}  # why a command has no go: told to the audit once
        self._lock = threading.Lock()

    def now(self, commands: Sequence[Command]) -> Now:
        """Return what is known now of at most AT_ONCE commands. Raises `StorageError`."""
        at, some = self._clock(), [each for each in commands if each.action in WITHHOLDING]
        if not some:
            return Now(at, Known({}, {}), {})
        given_back = self._desk.book.given_back([each.point for each in some])
        return Now(at, self._desk.known(some, at), given_back)

    def plan(self, known: Now, command: Command) -> Plan:
        """Return what becomes of a command now.

        Raises `StorageError`; `ValueError`, `LookupError` or `OSError` where what is kept of it cannot be understood.
        """
        now = known.at
        if now >= command.expires_at and command.state in _LATE:
            return Plan(Turn(command, now, [Step(Cause.TIME_OVER, ACTOR, now, _LATE[command.state])]))
        match command.state:
            case State.APPROVED | State.WAITING_FOR_WINDOW | State.QUEUED:
                return self._first(command, known)
            case State.SENT:
                return self._again(command, known)
            case State.UNKNOWN | State.ACCEPTED | State.EXECUTING if now >= command.expires_at:
                return Plan(Turn(command, now, send=True))  # no gateway acts then: it tells what became of it
            case State.ACCEPTED | State.EXECUTING if command.gives_back:  # a gateway that lost it takes it anew
                return Plan(Turn(command, now, send=True))
        return Plan(Turn(command, now))

    def give(self, known: Now, command: Command) -> Entry | None:
        """Return the audit's entry of a go; None: something stands against one now. Raises `StorageError`."""
        now = known.at
        if now >= command.expires_at:
            return None
        if command.action not in WITHHOLDING:
            return Entry(now, ACTOR, "go", command.id, command.region, {})
        if known.given_back.get(command.point, -1) >= command.requested_at:
            return self._withhold(command, now, "the supply was asked back meanwhile", {})
        verdict = self._desk.judge(command, now, known.known)
        if not verdict.passed:
            return self._withhold(command, now, "; ".join(verdict.refusals()), evidence(verdict))
        return Entry(now, ACTOR, "go", command.id, command.region, digest(verdict))

    def _withhold(self, command: Command, now: int, why: str, found: dict[str, object]) -> Entry | None:
        """Tell the audit why a command has no go, once for each reason."""
        if self._is_news(command.id, why):
            body = {"why": why[:1000]} | found
            self._desk.book.tell(Entry(now, ACTOR, "go-withheld", command.id, command.region, body))
        return None

    def _first(self, command: Command, known: Now) -> Plan:
        now = known.at
        steps: list[Step] = []
        if command.state is not State.QUEUED:
            if opens_at(command, now) > now:
                ahead = [Step(Cause.WINDOW_AHEAD, ACTOR, now)] if command.state is State.APPROVED else []
                return Plan(Turn(command, now, ahead))
            steps.append(Step(Cause.WINDOW_OPEN, ACTOR, now))
        found: dict[str, object] = {}
        if command.action in WITHHOLDING:
            verdict = self._desk.judge(command, now, known.known)
            if not verdict.passed:
                return Plan(Turn(command, now, [*steps, refusal(verdict, now)]))
            found = evidence(verdict)
        return self._sent(command, now, [*steps, Step(Cause.DISPATCHED, ACTOR, now, evidence=found)])

    def _again(self, command: Command, known: Now) -> Plan:
        """Send what has no answer once more; what withholds and has no go stays."""
        given = self.give(known, command)
        if given is None:
            return Plan(Turn(command, known.at))
        return self._sent(command, known.at, [], [given] if command.action in WITHHOLDING else [])

    def _sent(self, command: Command, now: int, steps: list[Step], entries: Sequence[Entry] = ()) -> Plan:
        if (late := self._clock()) >= command.expires_at:  # judging took a while
            return Plan(Turn(command, late, [Step(Cause.TIME_OVER, ACTOR, late, _LATE[command.state])]))
        # A go is as old as what its verdict rests on.
        return Plan(Turn(command, now, steps, entries, send=True), Go(command.id, now))

    def _is_news(self, name: str, why: str) -> bool:
        with self._lock:
            if self._told.get(name) == why:
                return False
            if len(self._told) >= MAX_TOLD:
                self._told.clear()
            self._told[name] = why
            return True
