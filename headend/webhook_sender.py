"""Sends what waits in the outbox to each webhook: signed, in order, tried again until it is taken or too old.

A webhook that does not answer keeps nobody else waiting. A message that fails alone puts its meter point aside, which
is tried by itself from then on: it holds up no other. One that a server refuses for what it says is given up after some
tries: it must not stop what is told of its own meter point for days.
"""

import asyncio
import contextlib
import hashlib
import hmac
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import structlog

from headend.measures import Measure
from headend.posting import PostError, Target, post
from headend.webhooks import TRIED_S, Message, Outbox, Outgoing
from metering import timing
from metering.errors import StorageError
from metering.model import SECOND
from metering.timing import to_rfc3339

AT_ONCE = 100  # messages in one request
LOOK_S = 1.0  # between two looks at an outbox that had nothing
FIRST_PAUSE_S = 1.0  # after a failure; doubled each time, with jitter
LONGEST_PAUSE_S = 300.0
FREE_FAILURES = 4  # in a row, of different meter points, before the receiver counts as down and the pauses grow
MAX_REFUSALS = 12  # of one message: some 20 minutes
TRIM_S = 3600.0
REFUSALS = frozenset((400, 413, 415, 422))  # "not like this": the same message will not do later either
TIMESTAMP = "Metergate-Timestamp"
SIGNATURE = "Metergate-Signature"
AHEAD, ASIDE = "ahead", "aside"  # the two lanes of a webhook: behind its cursor, and what was put aside
TOO_OLD = "too old"

_log = structlog.get_logger(__name__)


class Webhook(NamedTuple):
    """Who is told what. Never shown: its `repr` is its name."""

    name: str
    target: Target
    secret: bytes
    events: frozenset[str]

    def __repr__(self) -> str:
        return f"Webhook({self.name})"


class _Gone(Exception):  # noqa: N818 - not an error: the webhook is another head-end's
    pass


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the header that proves who sends: `v1=` and HMAC-SHA256 over timestamp, a dot and the body, in hex."""
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class WebhookSender:
    """Sends for all webhooks of a head-end. `run` until told to stop."""

    def __init__(self, outbox: Outbox, hooks: Sequence[Webhook], clock: Callable[[], int] = timing.now) -> None:
        self._outbox = outbox
        self._hooks = hooks
        self._clock = clock
        self._owner = secrets.token_hex(8)  # of this run: a lease that a crash left ends by itself
        self.given_up = {hook.name: 0 for hook in hooks}

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`; a request that is under way then is sent again by the next run."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._trim())]
            for hook in self._hooks:
                reach = _Reach()
                tasks.append(group.create_task(self._serve(hook, reach, AHEAD, self._ahead)))
                tasks.append(group.create_task(self._serve(hook, reach, ASIDE, self._aside)))
            await stop.wait()
            for task in tasks:
                task.cancel()
        for hook in self._hooks:
            try:
                await asyncio.to_thread(self._outbox.release, hook.name, self._owner)
            except StorageError:
                return  # the lease ends by itself

    def measures(self) -> Iterator[Measure]:
        """Yield what waits for each webhook while the state can tell, and what was given up."""
        for hook in self._hooks:
            label = {"webhook": hook.name}
            given_up = self.given_up[hook.name]
            yield Measure("webhook_given_up", "counter", "Messages never taken", given_up, label)
            try:
                depth, aside = self._outbox.depth(hook.name), self._outbox.count_aside(hook.name)
            except StorageError:
                continue
            yield Measure("webhook_waiting", "gauge", "Messages that wait", depth, label)
            yield Measure("webhook_aside", "gauge", "Meter points whose next message failed", aside, label)

    async def _serve(self, hook: Webhook, reach: "_Reach", lane: str, step: "_Step") -> None:
        begun, said, stumbles = False, "", 0
        while True:
            pause, problem, back = LOOK_S, "", reach.back
            try:
                if not begun:
                    await asyncio.to_thread(self._outbox.subscribe, hook.name)
                    begun = True
                if await step(hook, reach):
                    pause = 0.0
                said, stumbles = said if reach.failures[lane] else "", 0
            except _Gone:
                pass
            except PostError as error:
                reach.failures[lane] += 1
                problem, pause = str(error), _pause(reach.failures[lane] - FREE_FAILURES)
            except StorageError as error:
                stumbles += 1
                problem, pause = str(error), _pause(stumbles)
            if problem and problem != said:
                _log.warning(
                    "a webhook does not take what it is told; it is tried again", webhook=hook.name, why=problem
                )
            said = problem or said
            with contextlib.suppress(TimeoutError):  # what the other lane brought through ends a pause
                async with asyncio.timeout(pause):  # `wait_for` can lose a cancellation that comes with it
                    await back.wait()

    async def _ahead(self, hook: Webhook, reach: "_Reach") -> bool:
        """Send what is next behind the cursor; tell whether there was anything. Raises `PostError`, `StorageError`."""
        if not (await asyncio.to_thread(self._outbox.waiting, hook.name, 1)).up_to:
            return False
        await self._lease(hook)
        batch = await asyncio.to_thread(self._outbox.waiting, hook.name, reach.size)
        if not batch.up_to:
            return False
        fresh, old = self._sorted(hook, batch.messages)
        try:
            await self._send(hook, fresh, reach)
        except PostError:
            reach.size = 1
            if len(fresh) == 1:
                until = self._clock() + int(_pause(1) * SECOND)
                await asyncio.to_thread(self._outbox.put_aside, hook.name, self._owner, fresh[0], until)
            raise
        reach.size = min(2 * reach.size, AT_ONCE)
        await asyncio.to_thread(self._outbox.passed, hook.name, self._owner, batch.up_to, *self._alerts(hook, old))
        self._give_up(hook, old, TOO_OLD)
        return True

    async def _aside(self, hook: Webhook, reach: "_Reach") -> bool:
        """Send what is due of a meter point put aside; tell whether there was anything. Raises as `_ahead`."""
        if not await asyncio.to_thread(self._outbox.aside, hook.name, self._clock(), 1):
            return False
        await self._lease(hook)
        due = await asyncio.to_thread(self._outbox.aside, hook.name, self._clock(), AT_ONCE)
        if due is None:
            return False
        fresh, gone = self._sorted(hook, due.messages)
        why = TOO_OLD
        try:
            await self._send(hook, fresh, reach)
        except PostError as error:
            if error.status not in REFUSALS or due.tries < MAX_REFUSALS - 1:
                until = self._clock() + int(_pause(due.tries + 1) * SECOND)
                await asyncio.to_thread(self._outbox.aside_failed, hook.name, self._owner, due.point, until)
                raise
            gone, why = fresh, str(error)
        last = due.messages[-1]
        await asyncio.to_thread(self._outbox.aside_passed, hook.name, self._owner, last, *self._alerts(hook, gone))
        self._give_up(hook, gone, why)
        return True

    async def _lease(self, hook: Webhook) -> None:
        if not await asyncio.to_thread(self._outbox.lease, hook.name, self._owner, self._clock()):
            raise _Gone

    def _sorted(self, hook: Webhook, messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
        """Return what the webhook wants, and what of that is too old."""
        limit = self._clock() - TRIED_S * SECOND
        wanted = [each for each in messages if each.event in hook.events]
        return [each for each in wanted if each.at >= limit], [each for each in wanted if each.at < limit]

    async def _send(self, hook: Webhook, messages: Sequence[Message], reach: "_Reach") -> None:
        if not messages:
            return
        status = await post(hook.target, *self._request(hook, messages))
        if not 200 <= status < 300:
            raise PostError(f"answered {status}", status)
        reach.works()

    def _request(self, hook: Webhook, messages: Sequence[Message]) -> tuple[dict[str, str], bytes]:
        events = [
            {
                "id": each.id,
                "event": each.event,
                "at": to_rfc3339(each.at),
                "point": each.point,
                "region": each.region,
                "body": msgspec.Raw(each.body.encode()),
            }
            for each in messages
        ]
        body = msgspec.json.encode({"webhook": hook.name, "events": events})
        timestamp = str(self._clock() // SECOND)
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: sign(hook.secret, timestamp, body),
        }
        return headers, body

    def _give_up(self, hook: Webhook, messages: Sequence[Message], why: str) -> None:
        for each in messages:
            self.given_up[hook.name] += 1
            _log.error("a webhook never took a message", webhook=hook.name, id=each.id, point=each.point, reason=why)

    def _alerts(self, hook: Webhook, given_up: Sequence[Message]) -> list[Outgoing]:
        """Return what tells of messages that are given up; of an alert that is itself, nothing is told."""
        lost = [each for each in given_up if each.event != "alert"]
        if not lost:
            return []
        first = lost[0]
        body = {"alert": "a webhook never took messages", "webhook": hook.name, "messages": len(lost)}
        return [Outgoing("alert", self._clock(), "", "", body | {"first": first.id, "point": first.point})]

    async def _trim(self) -> None:
        while True:
            try:
                missed = await asyncio.to_thread(self._outbox.trim, self._clock())
            except StorageError as error:
                _log.warning("the outbox cannot be trimmed", reason=str(error))
                missed = {}
            for name, count in missed.items():
                self.given_up[name] = self.given_up.get(name, 0) + count
                _log.error("messages were removed before a webhook took them", webhook=name, messages=count)
            await asyncio.sleep(TRIM_S)


class _Reach:
    """How far a receiver is within reach: failures in a row of each lane, and how much it took at once."""

    def __init__(self) -> None:
        self.size = AT_ONCE  # one after a failure, doubled by each success: what fails is soon alone
        self.failures = {AHEAD: 0, ASIDE: 0}
        self.back = asyncio.Event()

    def works(self) -> None:
        if any(self.failures.values()):
            self.failures = dict.fromkeys(self.failures, 0)
            self.back.set()
            self.back = asyncio.Event()


_Step = Callable[[Webhook, _Reach], Awaitable[bool]]


def _pause(failures: int) -> float:
    """Return how long to wait after so many failures in a row, in s."""
    doubled = FIRST_PAUSE_S * (1 << min(max(failures - 1, 0), 16))
    return min(LONGEST_PAUSE_S, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 - only spreads tries
