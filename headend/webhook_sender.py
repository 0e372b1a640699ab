"""Sends what waits in the outbox to each webhook: signed, in order, tried again until it is taken or too old.

A webhook that does not answer keeps nobody else waiting. A message that a server refuses for what it says is tried
alone, and given up after some tries: it must not stop all others for days.
"""

import asyncio
import hashlib
import hmac
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import structlog

from headend.measures import Measure
from headend.posting import PostError, Target, post
from headend.webhooks import TRIED_S, Message, Outbox
from metering import timing
from metering.errors import StorageError
from metering.model import SECOND
from metering.timing import to_rfc3339

AT_ONCE = 100  # messages in one request
LOOK_S = 1.0  # between two looks at an outbox that had nothing
FIRST_PAUSE_S = 1.0  # after a failure; doubled each time, with jitter
LONGEST_PAUSE_S = 300.0
MAX_REFUSALS = 12  # of one message: some 20 minutes
TRIM_S = 3600.0
REFUSALS = frozenset((400, 413, 415, 422))  # "not like this": the same message will not do later either
TIMESTAMP = "Metergate-Timestamp"
SIGNATURE = "Metergate-Signature"

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
            tasks = [group.create_task(self._serve(hook)) for hook in self._hooks]
            tasks.append(group.create_task(self._trim()))
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
                depth = self._outbox.depth(hook.name)
            except StorageError:
                continue
            yield Measure("webhook_waiting", "gauge", "Messages that wait", depth, label)

    async def _serve(self, hook: Webhook) -> None:
        begun, tries, said = False, 0, ""
        while True:
            pause, problem = LOOK_S, ""
            try:
                if not begun:
                    await asyncio.to_thread(self._outbox.subscribe, hook.name)
                    begun = True
                if await self._step(hook, tries):
                    pause = 0.0
                tries, said = 0, ""
            except _Gone:
                pass
            except (PostError, StorageError) as error:
                problem = str(error)
            if problem:
                tries += 1
                pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries - 1, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - only spreads tries
                if problem != said:
                    _log.warning(
                        "a webhook does not take what it is told; it is tried again", webhook=hook.name, reason=problem
                    )
                said = problem
            await asyncio.sleep(pause)

    async def _step(self, hook: Webhook, tries: int) -> bool:
        """Send what is next; tell whether there was anything. Raises `PostError`, `StorageError`, `_Gone`."""
        if not await asyncio.to_thread(self._outbox.waiting, hook.name, 1):
            return False
        if not await asyncio.to_thread(self._outbox.lease, hook.name, self._owner, self._clock()):
            raise _Gone
        waiting = await asyncio.to_thread(self._outbox.waiting, hook.name, AT_ONCE if not tries else 1)
        if not waiting:
            return False
        if missed := await asyncio.to_thread(self._outbox.missed, hook.name):
            self.given_up[hook.name] += missed
            _log.error("messages were removed before a webhook took them", webhook=hook.name, messages=missed)
        limit = self._clock() - TRIED_S * SECOND
        wanted = [each for each in waiting if each.event in hook.events]
        fresh = [each for each in wanted if each.at >= limit]
        self._give_up(hook, [each for each in wanted if each.at < limit], "too old")
        if fresh:
            status = await post(hook.target, *self._request(hook, fresh))
            if status in REFUSALS and len(fresh) == 1 and tries >= MAX_REFUSALS - 1:
                self._give_up(hook, fresh, f"refused with {status}")
            elif not 200 <= status < 300:
                raise PostError(f"answered {status}")
        await asyncio.to_thread(self._outbox.passed, hook.name, self._owner, waiting[-1].seq)
        return True

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

    async def _trim(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._outbox.trim, self._clock())
            except StorageError as error:
                _log.warning("the outbox cannot be trimmed", reason=str(error))
            await asyncio.sleep(TRIM_S)
