"""Takes rows of meters' profiles: judges and marks them, puts them into the log, and keeps their accounts.

It asks no meter. What a meter turned out not to have is told as events, which completeness counts.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from collector.capabilities import ProfileReader
from gateway.accounts import Accounts, Rows
from gateway.clock import Clock
from gateway.clocks import Clocks
from gateway.compare import Compare
from gateway.grid import DAY_S, Grid
from gateway.ledger import Account, Span, Verdict
from gateway.meters import BusMeter
from gateway.recorder import Recorder
from metering import events
from metering.batch import Batch
from metering.model import SECOND, Block, Event, Layout
from metering.quality import Quality
from metering.ranges import Ranges
from metering.timing import to_rfc3339
from storage.codec import pack
from storage.quarantine import Quarantine

FUTURE_S = 300  # rows stamped further ahead of us than this are not taken for true
LOOKBACK_DAYS = 62  # how far back a profile is read at first where its depth is not known
MAX_LAYOUTS = 4_096
DAY = DAY_S * SECOND

CLOCK_SET = "the meter's clock was set over it"
OTHER_METER = "before this meter was installed"
TOO_OLD = "older than the meter's memory"
NOT_THERE = "not in the meter's profile, asked twice"

logger = structlog.get_logger(__name__)


@dataclass(eq=False)
class ProfileTask:
    """One profile of one meter, as it is read again and again."""

    meter: BusMeter
    reader: ProfileReader
    due: bool = True  # nothing was read since the last time that something should have come
    aside: int = 0  # up to which instant rows from the future were put aside
    rows: Rows | None = None
    absent: bool = False  # the meter says that it has no such profile
    day: int = 0  # on which it was read last, where it is read once a day

    @property
    def name(self) -> str:
        """Return meter and profile, for schedules and messages."""
        return f"{self.meter.id}/{self.reader.name}"


class Intake:
    """Where rows of profiles end up. `since` tells from when a profile's rows were promised (None: not yet)."""

    def __init__(
        self,
        accounts: Accounts,
        clocks: Clocks,
        compare: Compare,
        recorder: Recorder,
        quarantine: Quarantine,
        clock: Clock,
        since: Callable[[str, int], int | None] = lambda _device, _interval: None,
    ) -> None:
        self._accounts = accounts
        self._clocks = clocks
        self._compare = compare
        self._recorder = recorder
        self._quarantine = quarantine
        self._clock = clock
        self._since = since
        self._layouts: dict[Layout, Layout] = {}

    # --- accounts -----------------------------------------------------------------------------------------------------

    def rows_of(self, task: ProfileTask) -> Rows:
        """Return the account of a profile, with the interval that its reader knows now."""
        rows = task.rows
        if rows is None or (rows.grid.interval if isinstance(rows, Account) else 0) != task.reader.interval:
            rows = task.rows = self._account(task)
        return rows

    def _account(self, task: ProfileTask) -> Rows:
        meter, reader = task.meter.id, task.reader
        if not reader.interval:
            return self._accounts.irregular(meter, reader.name)
        grid = Grid(reader.interval, task.meter.settings.zone)

        def fresh() -> Account:
            now = self._clock.now()
            known = self._since(meter, reader.interval)
            if known is None:
                known = now if reader.depth == (0, 0) else 0
            first = grid.at_or_before(max(task.meter.settings.installed, now - depth_s(reader) * SECOND)) + 1
            return Account(grid, grid.at_or_before(known) + 1, first)

        rows = self._accounts.regular(meter, reader.name, grid, fresh)
        # Where another meter hung before, this one's rows of that time are not of this place.
        installed = grid.at_or_before(task.meter.settings.installed) + 1
        self._tell(task, rows, rows.expire(installed), OTHER_METER)
        return rows

    def end(self, device: str) -> int:
        """Return up to where rows may be there by now, on the meter's clock."""
        return self._clock.now() + max(0, self._clocks.offset(device) or 0)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def take(self, task: ProfileTask, blocks: Iterable[Block]) -> None:
        """Put the rows of one read into the log, those that are new, each judged and marked."""
        rows = self.rows_of(task)
        sound, ahead = self._apart(blocks)
        if ahead:
            self._put_aside(task, [block for block in ahead if block.measured_at > task.aside])
        fresh = [self._judge(task, block) for block in sound if not _is_held(rows, block)]
        if not fresh:
            return
        marked = {
            block.slot
            for block in fresh
            if block.slot is not None and any(flags & Quality.POWER_FAIL for flags in block.quality)
        }
        self._accounts.came(rows, fresh, marked)
        self._recorder.add(fresh)

    def answered(self, task: ProfileTask, low: int, high: int, blocks: Iterable[Block]) -> None:
        """Judge what a whole, successful answer about the intervals low <= n < high did not have.

        Only what lies before the newest row that the meter has shown is judged: there it would have been.
        """
        rows = self.rows_of(task)
        if not isinstance(rows, Account):
            return
        slots = (block.slot for block in blocks if block.slot is not None)
        present = {number for slot in slots if (number := rows.grid.index(slot)) is not None}
        rows.asked(low, high)
        newest = max([*present, low if rows.newest is None else rows.newest])
        failures = self._accounts.failures(task.meter.id)
        verdict = rows.answered(low, min(high, newest), sorted(present), failures.touched(rows.grid))
        self._tell(task, rows, verdict, NOT_THERE)
        reach = rows.grid.at_or_before(self._clock.now() - (depth_s(task.reader) + DAY_S) * SECOND)
        self._tell(task, rows, rows.expire(reach), TOO_OLD)
        rows.bound(rows.grid.at_or_before(self._clock.now()))

    def reopen(self, task: ProfileTask, low: int, high: int) -> None:
        """Ask once more for the intervals that touch the instants `low` to `high`: the meter writes them anew."""
        task.aside = 0
        rows = self.rows_of(task)
        if isinstance(rows, Account):
            rows.reopen(rows.grid.at_or_before(low) + 1, rows.grid.at_or_before(high) + 2)

    async def flush(self) -> bool:
        """Put all that came into the log now; tell whether it has it."""
        await self._recorder.commit()
        return not self._recorder.status().refusal

    # --- events -------------------------------------------------------------------------------------------------------

    def events_since(self, device: str) -> int:
        """Return from when on a meter's events are new."""
        return self._accounts.failures(device).since

    def words_of(self, device: str) -> dict[str, int]:
        """Return a meter's status words as they were read last; whoever reads them changes what is returned."""
        return self._accounts.failures(device).words

    def take_events(self, device: str, found: Sequence[Event], *, whole: bool) -> None:
        """Put the new ones of a meter's own events into the log; `whole`: all of its logs were read."""
        for event in self._accounts.failures(device).fresh(found, self._clock.now(), whole=whole):
            self._recorder.note(event)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _apart(self, blocks: Iterable[Block]) -> tuple[list[Block], list[Block]]:
        limit = self._clock.now() + FUTURE_S * SECOND
        sound: list[Block] = []
        ahead: list[Block] = []
        for block in blocks:
            (sound if block.measured_at <= limit else ahead).append(block)
        return sound, ahead

    def _put_aside(self, task: ProfileTask, blocks: list[Block]) -> None:
        if not blocks:
            return
        task.aside = max(block.measured_at for block in blocks)
        offset = self._clocks.offset(task.meter.id)
        known = "not known" if offset is None else f"{offset / SECOND:+.0f} s"
        reason = f"{len(blocks)} rows of {task.name} lie in the future; the meter's clock is {known} beside ours"
        logger.warning("rows from the future are put aside", meter=task.meter.id, rows=len(blocks), offset=known)
        self._quarantine.put(f"profile:{task.name}", reason, pack(Batch(self._clock.now(), blocks)))

    def _judge(self, task: ProfileTask, block: Block) -> Block:
        layout = self._layouts.get(block.layout)
        if layout is None:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[block.layout] = block.layout
        if layout is not block.layout:
            block = Block(layout, *(getattr(block, name) for name in Block.__struct_fields__[1:]))
        if task.reader.interval:
            begin = block.measured_at - task.reader.interval * SECOND
            block = self._clocks.mark(block, begin, block.measured_at)
        block, differences = self._compare.check(block, self._clocks.offset(block.device))
        for each in differences:
            self._recorder.raise_event(
                events.PROFILE_DIFFERS,
                task.meter.id,
                profile=task.reader.name,
                slot=to_rfc3339(each.slot),
                obis=each.obis,
                row=f"{each.row:f}",
                poll=f"{each.poll:f}",
                unit=each.unit,
            )
        return block

    def _tell(self, task: ProfileTask, rows: Account, verdict: Verdict, reason: str) -> None:
        """Note events about what will not come, with the nearest reason for each interval."""
        for span in verdict.no_supply:
            self._note(task, rows, events.NO_SUPPLY, span, "no power")
        if not verdict.lost:
            return
        over = Ranges(
            (rows.grid.at_or_before(low) + 1, rows.grid.at_or_before(high) + 2)
            for low, high in (correction.span for correction in self._clocks.corrections(task.meter.id))
        )
        for low, high in verdict.lost:
            for span in over.inside(low, high):
                self._note(task, rows, events.INTERVALS_LOST, span, CLOCK_SET)
            for span in over.gaps(low, high):
                self._note(task, rows, events.INTERVALS_LOST, span, reason)

    def _note(self, task: ProfileTask, rows: Account, kind: events.EventType, span: Span, reason: str) -> None:
        obis = sorted({obis for _, codes in task.reader.channels for obis in codes})
        now = self._clock.now()
        for low, high in _days(rows.grid, span):
            detail = {
                "from": to_rfc3339(rows.grid.slot(low)),
                "to": to_rfc3339(rows.grid.slot(high - 1)),
                "interval": str(rows.grid.interval),
                "count": str(high - low),
                "reason": reason,
                "profile": task.reader.name,
                "obis": " ".join(obis),
            }
            self._recorder.note(Event(task.meter.id, rows.grid.slot(low), kind.code, kind.name, now, detail))


def depth_s(reader: ProfileReader) -> int:
    """Return how far back a profile is asked for, in seconds: what its meter keeps, or a fixed time if unknown."""
    depth = reader.depth
    known = [seconds for seconds in (depth.days * DAY_S, depth.entries * reader.interval) if seconds]
    return min(known, default=LOOKBACK_DAYS * DAY_S)


def _is_held(rows: Rows, block: Block) -> bool:
    if not isinstance(rows, Account):
        return block.measured_at <= rows.newest
    number = rows.grid.index(block.slot) if block.slot is not None else None
    return number is not None and rows.has(number)


def _days(grid: Grid, span: Span) -> Iterator[Span]:
    """Yield the parts of a span whose slots lie in one day of UTC each."""
    low, end = span
    while low < end:
        day_ends = grid.slot(low) // DAY * DAY + DAY
        high = min(end, max(low + 1, grid.at_or_before(day_ends - 1) + 1))
        yield low, high
        low = high
