"""Keeps the figures of collection and the gap ledger: judges closed days, and has gateways asked for what is missing.

Each device's day is judged once, CLOSE_S after its end, and again when more of it came. A tick does a bounded piece of
that work, however much there is; what it did stands in the state. The API reads from there and judges nothing. A state
that is new begins with yesterday, and with the days that are brought from then on. Days before a device's first promise
are not judged: nothing was expected then.
"""

import asyncio
import random
import secrets
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import msgspec

from headend import steps
from headend.kpi.figures import DAY
from headend.kpi.gaps import MEMORY_DAYS, settled
from headend.kpi.judge import judge
from headend.kpi.late import answers, late_days, seq_gaps
from headend.registry import EVERYWHERE
from headend.state.collection import CollectionDays, DayRow, Progress, Result
from headend.state.gaps import Gap, Gaps, SeqGaps
from headend.state.store import State
from metering import timing
from metering.errors import LinkDownError
from metering.model import SECOND, Device, Installation
from metering.ports import ReadingsStore, Registry
from metering.wire import Control
from storage.projection import Stored

CLOSE_S = 7_200  # after a day's end its profiles of up to an hour have been read
BACK_DAYS = 31  # so far back late rows open their day again
KEEP_DAYS = 100
SETTLE_S = 30.0  # after a late row: more of the same day follow soon
TICK_S = 10.0
WORK_S = 2.0  # of a tick: the rest waits for the next one,
BUSY_CPU_S = 0.3  # of CPU where readings came in since the last one
DAYS_AT_ONCE = 50  # device days that one transaction takes
FORGET_AT_ONCE = 500
ASKS_OF_A_GATEWAY = 8  # gaps that one gateway is asked for in a tick
ASKS_AT_ONCE = 200
ASK_AGAIN_S = 120.0  # without an answer; doubled each time
ANSWERED_S = 21_600.0  # after an answer, where it is missing still
LONGEST_S = 86_400.0
SPREAD = 0.3  # a pause is longer by up to this part, by chance
MAX_MARKED = 100_000  # marks that are remembered, so as not to be written twice

Ask = Callable[[str, Control], Awaitable[None]]  # gateway, what is asked of it


class Collection:
    """The figures and gaps of one state. `ask` None: nobody can be asked; `leads` tells whether the work is ours."""

    def __init__(
        self,
        state: State,
        store: ReadingsStore,
        registry: Registry,
        ask: Ask | None,
        here: tuple[str, str],
        clock: Callable[[], int] = timing.now,
    ) -> None:
        self.days = CollectionDays(state)
        self.gaps = Gaps(state)
        self.seq_gaps = SeqGaps(state)
        self._store = store
        self._registry = registry
        self._ask = ask
        self._here = here
        self._clock = clock
        self._marked: dict[tuple[int, str], int] = {}
        self._busy = False  # readings came in since the last tick
        self.leads: Callable[[], bool] = lambda: True  # `stored` is everyone's: only its own log brought that
        self._devices: list[str] = []  # all ids in order, read once for a tick: the registry may change between two

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`. A state or a store that is away is tried again at the next tick."""
        await steps.repeat(self._step, TICK_S, stop, "the figures of collection wait")

    async def _step(self) -> None:
        await asyncio.to_thread(self.tick)
        await self.ask()

    # --- judging ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do a piece of the work: days to be judged again first, then days that have closed. Blocking."""
        if not self.leads():
            return
        until = time.monotonic() + WORK_S
        cpu_until = time.thread_time() + (BUSY_CPU_S if self._busy else WORK_S)
        self._busy = False
        self._devices = []
        for work in (self._again, self._next):
            while time.monotonic() < until and time.thread_time() < cpu_until and work():
                pass
        self.days.forget(self._closed() - KEEP_DAYS, FORGET_AT_ONCE)

    def stored(self, found: Stored) -> None:
        """Take up what the store was just brought: late rows, answers, seqs that never come. Raises `StorageError`."""
        now, end = self._clock(), self._closed()
        days: set[tuple[int, str]] = set()
        promised: set[str] = set()  # just now: days of these may have been passed over a moment ago
        for _, batch in found.batches:
            self._busy = self._busy or bool(batch.blocks)
            days |= late_days(batch, end - BACK_DAYS, end)
            promised.update(each.device for each in batch.expectations)
        fresh = {each for each in days if each[1] in promised or self._marked.get(each, 0) <= now}
        if fresh:
            due = now + round(SETTLE_S * SECOND)
            self.days.mark(self._promised(fresh), now, due)
            if len(self._marked) > MAX_MARKED:
                self._marked.clear()
            self._marked.update(dict.fromkeys(fresh, due))
        if told := answers(found):
            self.gaps.answered(told, now + _spread(ANSWERED_S))
        if gone := seq_gaps(found, self._here):
            self.seq_gaps.put(gone)

    def _promised(self, days: set[tuple[int, str]]) -> set[tuple[int, str]]:
        """Return those of the days in which, or before which, something was promised of their device."""
        begins = {
            device: min((each.since for each in self._store.expectations(device)), default=None)
            for device in {device for _, device in days}
        }
        return {
            (day, device) for day, device in days if (first := begins[device]) is not None and first < (day + 1) * DAY
        }

    def _closed(self) -> int:
        """Return the first day that has not closed yet."""
        return (self._clock() - CLOSE_S * SECOND) // DAY

    def _again(self) -> bool:
        """Judge some days again; False where none is due."""
        due = self.days.due(self._clock(), DAYS_AT_ONCE)
        self.days.record([self._judge(device, day, was) for day, device, was in due])
        return len(due) == DAYS_AT_ONCE

    def _next(self) -> bool:
        """Judge a day of some devices for the first time; False where all closed days are judged."""
        closed = self._closed()
        at = self.days.progress() or Progress(closed - 1)
        if at.day >= closed:
            return False
        if not self._devices:
            self._devices = [each.id for each in self._registry.devices((EVERYWHERE,))]
        place = bisect_right(self._devices, at.after)
        now = self._devices[place : place + DAYS_AT_ONCE]
        more = place + len(now) < len(self._devices)
        further = Progress(at.day, now[-1]) if more else Progress(at.day + 1)
        results = [self._judge(device, at.day, None) for device in now]
        told = [each for each in results if each.row.figures.expected or each.row.due is not None]
        self.days.record(told, further)  # what nothing was promised of has no row
        return True

    def _judge(self, device: str, day: int, was_due: int | None) -> Result:
        now, start = self._clock(), day * DAY
        known = self._registry.device(device) or Device(device, "", "")
        found = judge(self._store, device, start, now)
        at = _installed(self._registry.installations_of(device), start)
        point = self._registry.point(at.point) if at is not None else None
        row = DayRow(
            day,
            device,
            point.id if point is not None else "",
            point.region if point is not None else "",
            known.gateway,
            found.buckets.sum(),
            found.buckets.packed(),
            msgspec.json.encode(found.reasons, order="sorted").decode() if found.reasons else "",
            found.clock_ms,
            found.due,
        )
        return Result(row, partial(settled, holes=found.holes, device=known, day=day, now=now), was_due)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def ask(self) -> None:
        """Have gateways asked for gaps whose time has come. What cannot be sent now is asked for later."""
        if self._ask is None or not self.leads():
            return
        now = self._clock()
        due = await asyncio.to_thread(self.gaps.to_ask, now, ASKS_OF_A_GATEWAY, ASKS_AT_ONCE)
        for gaps in _alike(due):
            device = self._registry.device(gaps[0].device)
            if device is None or gaps[0].end < now - (device.memory_days or MEMORY_DAYS) * DAY:
                await asyncio.to_thread(self._give_up, gaps, now)
                continue
            asked = [_asked(gap, device.gateway, gaps[0].ask or secrets.token_hex(12), now) for gap in gaps]
            await asyncio.to_thread(self.gaps.put, asked)  # first: the answer may come at once
            first = asked[0]
            control = Control(first.ask, "backfill", device=first.device, start=first.start, end=first.end)
            try:
                await self._ask(device.gateway, control)
            except LinkDownError:
                return

    def _give_up(self, gaps: Sequence[Gap], now: int) -> None:
        """Ask no more for what no memory reaches: the day is judged again, and says so."""
        self.gaps.put([msgspec.structs.replace(gap, next_at=None) for gap in gaps])
        self.days.mark({(gap.day, gap.device) for gap in gaps}, now, now)


def _installed(installations: Sequence[Installation], start: int) -> Installation | None:
    """Return the last installation that held in a day: on the day of a swap each meter counts for its own point."""
    held = [
        each
        for each in installations
        if each.valid_from < start + DAY and (each.valid_to is None or each.valid_to > start)
    ]
    return held[-1] if held else None


def _alike(gaps: Sequence[Gap]) -> Iterator[list[Gap]]:
    """Yield gaps of the same device and time together: several kinds of read lack them, and one question is enough."""
    found: dict[tuple[str, int, int], list[Gap]] = defaultdict(list)
    for gap in gaps:
        found[gap.device, gap.start, gap.end].append(gap)
    yield from found.values()


def _asked(gap: Gap, gateway: str, ask: str, now: int) -> Gap:
    pause = _spread(min(LONGEST_S, ASK_AGAIN_S * 2.0 ** min(gap.tries, 16)))
    return msgspec.structs.replace(
        gap, gateway=gateway, state="asked", ask=ask, tries=gap.tries + 1, asked_at=now, next_at=now + pause
    )


def _spread(seconds: float) -> int:
    return round(seconds * (1 + SPREAD * random.random()) * SECOND)  # noqa: S311 - spreads a fleet
