"""Sends approved commands to their gateways until they answer, gives each go anew, and takes up what gateways tell.

A go only withholds: it is given after policy passed at that moment, and never replaces an approval.
"""

import asyncio
import functools
import threading
from collections.abc import Callable, Collection
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import structlog

from headend import steps
from headend.audit.chain import Entry
from headend.journal import Entries, Handler
from headend.key_floors import Publish
from headend.supply.command import Command
from headend.supply.desk import SupplyDesk
from headend.supply.judging import refusal
from headend.supply.steps import Step
from headend.supply.strangers import Strangers, told_of
from metering import timing, wire
from metering.model import SECOND, JournalEntry
from metering.supply import WITHHOLDING, Action, Go, Hours
from metering.supply_states import FINAL, LIMIT_GIVEN_BACK, NOT_SENT, Cause, NoSuchTransitionError, State, after
from metering.wire import Control

TICK_S = 0.5
AT_ONCE = 500  # commands that are looked at together
FIRST_WAIT_S = 5.0  # until a command without an answer is sent again; doubled each time
LONGEST_WAIT_S = 300.0
MAX_ASKED = 20_000  # commands that ask for a go and wait for it

ACTOR = "head-end"
_log = structlog.get_logger(__name__)


class Dispatch:
    """Carries commands to gateways. `run` until told to stop."""

    def __init__(self, desk: SupplyDesk, publish: Publish, clock: Callable[[], int] = timing.now) -> None:
        self._desk = desk
        self._book = desk.book
        self._publish = publish
        self._clock = clock
        self._asked: set[str] = set()
        self._here: set[str] = set()  # gateways that have just said that they are there
        self._told: dict[str, str] = {}  # why a command has no go: told to the audit once
        self._lock = threading.Lock()
        self._strangers = Strangers(self._book, clock)

    def handlers(self) -> dict[str, Handler]:
        """Return what takes which kind of journal entries."""
        return {"supply": self._heard}

    def here(self, gateway: str) -> None:
        """Take note, on the loop, that a gateway is there: what waits for its answer is sent again at once."""
        if len(self._here) < MAX_ASKED:
            self._here.add(gateway)

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is due until `stop`."""
        await steps.repeat(self.step, TICK_S, stop, "supply commands wait")

    async def step(self) -> None:
        """Do what is due. Raises `StorageError`, `LinkDownError`."""
        await self._send_kept()
        await asyncio.to_thread(self._desk.join)
        for name in self._take_asked():
            await self._answer_go(name)
        await asyncio.to_thread(self._desk.renew)
        here, self._here = self._here, set()
        send_again = functools.partial(self._send_again, here)
        for state, do in (
            (State.QUARANTINED, self._wait),
            (State.AWAITING_APPROVAL, self._wait),
            (State.APPROVED, self._window),
            (State.WAITING_FOR_WINDOW, self._window),
            (State.QUEUED, self._send_first),
            (State.SENT, send_again),
            (State.UNKNOWN, send_again),
        ):
            for command in await asyncio.to_thread(self._book.waiting, [state], AT_ONCE):
                try:
                    await do(command)
                except NoSuchTransitionError as error:
                    _log.info("a supply command was moved meanwhile", command=command.id, reason=str(error))

    async def _send_kept(self) -> None:
        """Send what gives back and went ahead without the state; it needs nothing of it."""
        outage = self._desk.outage
        for kept in outage.all() if outage is not None else ():
            now, command = self._clock(), kept.command
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(kept.sent, 10)) if kept.sent else 0.0
            if outage is None or not kept.approved_by or now - kept.sent_at < wait * SECOND:
                continue
            message = self._desk.signatures.message(command)
            await self._publish(wire.topic(command.gateway, "commands"), wire.encode(message), retain=False)
            outage.sent(command.id, now)

    # --- towards the gateway ------------------------------------------------------------------------------------------

    async def _wait(self, command: Command) -> None:
        if self._clock() >= command.expires_at:
            await self._move(command, Cause.TIME_OVER, "it expired before it was approved")

    async def _window(self, command: Command) -> None:
        now = self._clock()
        if now >= command.expires_at:
            await self._move(command, Cause.TIME_OVER, "it expired before its window")
        elif now >= command.not_before and _inside(command.order.hours, now):
            await self._move(command, Cause.WINDOW_OPEN)
        elif command.state is State.APPROVED:
            await self._move(command, Cause.WINDOW_AHEAD)

    async def _send_first(self, command: Command) -> None:
        now = self._clock()
        if now >= command.expires_at:
            await self._move(command, Cause.TIME_OVER, "it expired before it was sent")
            return
        if command.order.action in WITHHOLDING:
            verdict = await asyncio.to_thread(self._desk.judge, command, now)
            if not verdict.passed:
                await asyncio.to_thread(self._book.move, command.id, refusal(verdict, now))
                return
        # The audit knows before anything leaves: without it nothing is sent.
        moved = await self._move(command, Cause.DISPATCHED)
        await self._send(moved, Go(command.id, now))

    async def _send_again(self, here: Collection[str], command: Command) -> None:
        """Send what has no answer once more; after its end it only asks what became of it: no gateway acts then."""
        now = self._clock()
        wait = 0.0 if command.gateway in here else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(command.sent, 10))
        over = now >= command.expires_at
        if over and command.state is State.SENT:
            await self._move(command, Cause.TIME_OVER, "it expired, and the gateway has not answered")
        elif now - command.sent_at >= wait * SECOND and (over or command.state is State.SENT):
            await self._send(command, None if over or await self._why_no_go(command, now) else Go(command.id, now))

    async def _send(self, command: Command, go: Go | None) -> None:
        """Publish a command; what withholds leaves with a go, or after its end, and otherwise stays."""
        now = self._clock()
        if go is None and command.order.action in WITHHOLDING and now < command.expires_at:
            return
        message = await asyncio.to_thread(self._desk.signatures.message, command)
        await asyncio.to_thread(self._book.sent, command.id, now)
        sent = msgspec.structs.replace(message, go=go)
        await self._publish(wire.topic(command.gateway, "commands"), wire.encode(sent), retain=False)

    async def _answer_go(self, name: str) -> None:
        command = await asyncio.to_thread(self._book.get, name)
        now = self._clock()
        if command is None or command.state not in {State.SENT, State.ACCEPTED} or now >= command.expires_at:
            return
        if await self._why_no_go(command, now):
            return
        await asyncio.to_thread(self._tell, command, now, "go", "")
        go = Control(f"go-{name}"[:64], "go", body=msgspec.msgpack.encode(Go(name, now)))
        await self._publish(wire.topic(command.gateway, "control"), wire.encode(go), retain=False)

    async def _why_no_go(self, command: Command, now: int) -> str:
        """Return what stands against a go now; empty: nothing."""
        if command.order.action not in WITHHOLDING:
            return ""
        why = ""
        if await asyncio.to_thread(self._book.given_back, command.point, command.requested_at):
            why = "the supply was asked back meanwhile"
        else:
            verdict = await asyncio.to_thread(self._desk.judge, command, now)
            why = "; ".join(verdict.refusals()) if not verdict.passed else ""
        if why and self._told.get(command.id) != why:
            if len(self._told) >= MAX_ASKED:
                self._told.clear()
            self._told[command.id] = why
            await asyncio.to_thread(self._tell, command, now, "go-withheld", why)
        return why

    def _tell(self, command: Command, now: int, kind: str, why: str) -> None:
        self._book.tell(Entry(now, ACTOR, kind, command.id, command.region, {"why": why[:1000]}))

    async def _move(self, command: Command, cause: Cause, why: str = "") -> Command:
        return await asyncio.to_thread(self._book.move, command.id, Step(cause, ACTOR, self._clock(), why))

    def _take_asked(self) -> set[str]:
        with self._lock:
            found, self._asked = self._asked, set()
        return found

    # --- from the gateway ---------------------------------------------------------------------------------------------

    def _heard(self, entries: Entries) -> None:
        self._desk.join()  # a gateway may tell of what the state does not know yet
        for gateway, entry in entries:
            command = self._book.get(entry.id)
            if command is None or command.gateway != gateway:
                self._strangers.heard(gateway, entry)
            elif entry.state == "asks-go":
                with self._lock:
                    self._asked.add(entry.id) if len(self._asked) < MAX_ASKED else None
            else:
                self._follow(command, entry)

    def _follow(self, command: Command, entry: JournalEntry) -> None:
        """Move a command as its gateway tells; what does not fit its state is kept as history."""
        actor = f"gateway:{command.gateway}"
        why, cause, detail = told_of(entry)
        try:
            if command.state in NOT_SENT or str(after(command.state, Cause(cause))) != entry.state:
                raise NoSuchTransitionError(f"{entry.state} does not follow {command.state}")
            self._book.move(command.id, Step(Cause(cause), actor, self._clock(), why, detail | {"at": entry.at}))
        except ValueError:  # no such transition, or a cause of another version
            replayed = "again" in detail and command.state in FINAL  # nobody sends here what is at its end
            body = {"state": entry.state[:64], "cause": cause[:64], "why": why, "at": entry.at} | detail
            told = Entry(self._clock(), actor, "command-told", command.id, command.region, body)
            if cause == LIMIT_GIVEN_BACK and command.order.action is Action.LIMIT:
                self._book.limit_ended(command.id, told)
            elif entry.state != command.state or replayed:
                self._book.tell(told)


def _inside(hours: Hours | None, now: int) -> bool:
    if hours is None:
        return True
    local = datetime.fromtimestamp(now / SECOND, ZoneInfo(hours.zone))
    return hours.first <= local.hour * 60 + local.minute < hours.last and local.weekday() in hours.weekdays
