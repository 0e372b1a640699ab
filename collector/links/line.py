"""A wire whose answers carry no transaction, so that a late one must never meet the next request. It knows no frames.

A unit that did not answer in time is heard out before anybody else is asked, and a request waits for silence.
"""

import asyncio
import time
from functools import partial

from collector.links.connection import Connection, MakeWire
from collector.links.link import LinkParameters, character_time, silence, turnaround_limit
from metering.errors import MeterError, RefusedError

# How long after its time a unit is heard out: its model's turnaround limit once more, within these bounds.
LATE_S = 0.7
LATE_LIMIT_S = 2.0
APART_S = 1.0  # how long a unit that babbles, or whose exchange was cancelled, is left alone
DRAIN_LIMIT_S = 2.0  # a line that is not silent by then is babbling and is not waited for
LOOK_S = 0.002  # until the event loop has read once more


class Line(Connection):
    """What links share that tell answers apart by their time. All times are those of the line's own speed."""

    def __init__(self, name: str, parameters: LinkParameters, margin_s: float, make_wire: MakeWire) -> None:
        super().__init__(name, parameters, make_wire)
        self._character_s = character_time(parameters)
        self._silence_s = silence(parameters)
        self._margin_s = margin_s
        self._due = 0.0
        self._quiet_since = 0.0  # when the last character, theirs or ours, was over
        self._not_before = 0.0  # an exchange that was cancelled may still be answered
        self._apart: dict[int, float] = {}

    def ready_at(self, unit: int) -> float:
        """Return when this unit may be asked again."""
        return self._apart.get(unit, 0.0)

    def _opened(self) -> None:
        self._quiet_since = time.monotonic()  # what was on the line before is unknown: keep a silent interval

    def _deadline(self) -> float:
        """Return when waiting is over as things stand: `_due`, sooner or later by what has come."""
        raise NotImplementedError

    def _complaint(self) -> MeterError:
        """Return the error that an exchange ends with when its time is over."""
        raise NotImplementedError

    async def _silent(self, not_before: float, longest_s: float) -> bool:
        """Wait until the line was silent for a silent interval, but no longer than `longest_s` past `not_before`."""
        now = time.monotonic()
        give_up = max(now, not_before) + longest_s
        while (wait := max(not_before, self._quiet_since + self._silence_s) - now) > 0:
            if now >= give_up:
                return False
            await asyncio.sleep(min(wait, give_up - now))
            now = time.monotonic()
        return True

    async def _answer(self, future: asyncio.Future[bytes], timeout_s: float) -> bytes:
        """Wait for the answer that `_received` puts into the future, or for its time to be over."""
        self._due = time.monotonic() + timeout_s
        tick = self._loop.call_later(timeout_s, self._tick, future)
        try:
            return await future
        except asyncio.CancelledError:
            if (asked := self._asked) is not None:
                self._not_before = self._due
                self._apart[asked.unit] = self._due + APART_S
            raise
        finally:
            tick.cancel()

    async def _hear_out(self, turnaround_s: float, answer_s: float) -> bool:
        """Let the unit that did not answer in time answer now, to nobody. Tell whether it did."""
        late_s = min(LATE_LIMIT_S, max(LATE_S, turnaround_limit(turnaround_s)))
        future = self._waiting = self._loop.create_future()
        try:
            await self._answer(future, late_s + answer_s)
        except RefusedError:  # an answer, too
            return True
        except MeterError:
            return False
        return True

    def _tick(self, future: asyncio.Future[bytes], *, looked: bool = False) -> None:
        """End an exchange whose time is over, having read all that is there.

        uvloop runs timers before it reads: after a stall of ours the answer may have come and lie unread.
        """
        if future.done():
            return
        left = self._deadline() - time.monotonic()
        if left > 0:
            self._loop.call_later(left, self._tick, future)
        elif not looked:
            self._loop.call_later(LOOK_S, partial(self._tick, future, looked=True))
        else:
            future.set_exception(self._complaint())
