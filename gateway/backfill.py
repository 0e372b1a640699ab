"""Fills holes from the meters' own memories: behind all other work, newest first, one piece at a time on each bus.

It begins at the start, when a meter answers again, and each hour. It goes on until nothing is left that the meters
could have.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import NamedTuple

import structlog

from collector.bus import GaveWayError, Lane
from gateway.clock import Clock
from gateway.intake import Intake, ProfileTask
from gateway.ledger import Account, Counts
from gateway.profiles import ProfileReads
from gateway.recorder import Recorder
from metering.errors import LinkDownError, MeterError
from metering.model import SECOND

HOUR_S = 3_600.0
FIRST_S = 10.0  # after the start: the scheduled reads go first
ABSENT_AFTER_S = 3_600  # a row that is younger is the schedule's business
LINK_S = 60.0  # how long to wait where the line is down
MAX_PENDING = 20_000  # readings that may wait for the log before the next piece is asked for
PAUSE_S = 1.0  # how long to wait while the log does not keep up

logger = structlog.get_logger(__name__)


class BackfillStatus(NamedTuple):
    """One meter's own profiles together, in intervals. `recovered` counts since the gateway's start."""

    missing: int
    recovered: int
    lost: int
    no_supply: int


class Backfill:
    """The filler of one bus."""

    def __init__(self, bus: str, reads: ProfileReads, intake: Intake, recorder: Recorder, clock: Clock) -> None:
        self.bus = bus
        self._reads = reads
        self._intake = intake
        self._recorder = recorder
        self._clock = clock
        self._tasks = reads.tasks(bus)
        self._wanted: set[ProfileTask] = set()
        self._awake = asyncio.Event()
        self._dropped = 0

    def wake(self, device: str = "") -> None:
        """Begin a new attempt for a meter, or for all of the bus."""
        dropped = self._recorder.status().dropped
        for task in self._tasks:
            if device in {"", task.meter.id}:
                rows = self._intake.rows_of(task)
                if isinstance(rows, Account):
                    rows.open_attempt(dropped=dropped != self._dropped, soon=bool(device))
                else:
                    rows.open_attempt(dropped=dropped != self._dropped)
                self._wanted.add(task)
        if not device:
            self._dropped = dropped
        self._awake.set()

    def reopen(self, device: str, start: int, end: int) -> bool:
        """Ask a meter once more for its intervals with start < end of interval <= end (us), whatever is known of them.

        False where none of its profiles has such intervals.
        """
        found = False
        for task in self._tasks:
            rows = self._intake.rows_of(task) if task.meter.id == device else None
            if isinstance(rows, Account) and not task.absent:
                low = max(rows.grid.at_or_before(start) + 1, rows.first)
                high = min(rows.grid.at_or_before(end), self._newest(rows)) + 1
                if low < high:
                    rows.reopen(low, high)
                    found = True
        if found:
            self.wake(device)
        return found

    async def run(self, stop: asyncio.Event) -> None:
        """Fill holes until `stop`."""
        if not self._tasks:
            return
        await _wait(stop, FIRST_S)
        while not stop.is_set():
            self.wake()
            until = asyncio.get_running_loop().time() + HOUR_S
            while not stop.is_set() and (left := until - asyncio.get_running_loop().time()) > 0:
                self._awake.clear()
                await self.fill(stop)
                await _wait_for_either(stop, self._awake, left)

    async def fill(self, stop: asyncio.Event) -> None:
        """Read pieces, one after another, each time of the next profile in turn, until none is wanted any more."""
        while self._wanted and not stop.is_set():
            for task in [task for task in self._tasks if task in self._wanted]:
                if stop.is_set():
                    return
                await self._room(stop)
                if not await self._step(task):
                    await _wait(stop, LINK_S)

    def status(self) -> dict[str, BackfillStatus]:
        """Return how each meter's profiles stand."""
        found: dict[str, BackfillStatus] = {}
        for task in self._tasks:
            rows = self._intake.rows_of(task)
            if isinstance(rows, Account) and not task.absent:
                counts = rows.counts(self._newest(rows))
                known = found.get(task.meter.id, BackfillStatus(0, 0, 0, 0))
                found[task.meter.id] = _added(known, counts, rows.recovered)
        return found

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _step(self, task: ProfileTask) -> bool:
        """Read one piece of a profile; one that fails waits for the next attempt and holds nobody up.

        Return False where the line itself is down: then nobody's piece can be read, and none is given up.
        """
        try:
            rows = self._intake.rows_of(task)
            piece = rows.piece(self._newest(rows), task.reader.piece_rows) if isinstance(rows, Account) else None
            if piece is not None:
                await self._reads.read_piece(task, piece)
            elif task.due:
                await self._reads.read(task, Lane.BACKFILL)
            else:
                self._wanted.discard(task)
        except LinkDownError:
            return False
        except GaveWayError:  # to a command: it comes again, behind it
            pass
        except MeterError as error:
            self._wanted.discard(task)
            logger.debug("not filled", profile=task.name, kind=error.kind, reason=str(error))
        except Exception:  # the supervisor of the filling: a fault of a driver must not end the gateway
            self._wanted.discard(task)
            logger.exception("a fault while holes were filled", profile=task.name)
        return True

    def _newest(self, rows: Account) -> int:
        return rows.grid.at_or_before(self._clock.now() - ABSENT_AFTER_S * SECOND)

    async def _room(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            status = self._recorder.status()
            if status.pending < MAX_PENDING and not status.refusal:
                return
            await _wait(stop, PAUSE_S)


def total(statuses: Iterable[BackfillStatus]) -> BackfillStatus:
    """Return the sums."""
    return BackfillStatus(*map(sum, zip((0, 0, 0, 0), *statuses, strict=True)))


def _added(known: BackfillStatus, counts: Counts, recovered: int) -> BackfillStatus:
    return BackfillStatus(
        known.missing + counts.missing,
        known.recovered + recovered,
        known.lost + counts.lost,
        known.no_supply + counts.no_supply,
    )


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _wait_for_either(one: asyncio.Event, other: asyncio.Event, seconds: float) -> None:
    waits = [asyncio.ensure_future(one.wait()), asyncio.ensure_future(other.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
