"""Reads what a DL/T 645 meter froze at its settlement days: the legal figures of a month. Reads no daily freezes.

A settlement has no stamp: DI0 counts back from the newest, so which one it is follows from the meter's own time when
it is asked: one whose clock is slow settles later than we do.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from collector.capabilities import Depth, Talk
from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import Settlement
from collector.drivers.dlt645_plan import Holes, Stamp, Step, blocks_of, channels_of, decode, doubt, plan
from collector.drivers.dlt645_talk import Dlt645Talk, Reply, own, row_time
from collector.drivers.dlt645_time import read_clock
from collector.protocols.dlt645.errors import NO_DATA
from collector.protocols.dlt645.identifiers import back
from collector.protocols.dlt645.times import from_utc, to_utc
from metering.errors import MeterError, RefusedError
from metering.model import SECOND, Block, Source

GUARD_S = 600  # how near to a settlement, on the meter's clock, nothing is read: the numbers move there


class SettlementReader:
    """What a meter froze at its settlement days (capability `ProfileReader`); rows come when the meter makes them."""

    name = "settlement"
    interval = 0

    def __init__(self, profile: Dlt645Profile, device: str, settlement: Settlement) -> None:
        self.piece_rows = settlement.piece
        self._profile = profile
        self._device = device
        self._settlement = settlement
        self._zone = ZoneInfo(profile.zone)
        self._days: list[tuple[int, int]] = [_day_hour(settlement.day)]
        self._steps = plan(profile, tuple(settlement.points), Holes())
        self.channels = channels_of(tuple(point for step in self._steps for point in step.points))

    @property
    def depth(self) -> Depth:
        """Return how many settlements the meter keeps, and the days that they surely cover."""
        months = self._settlement.months
        return Depth(months, months * 28 // len(self._days))

    @property
    def row_s(self) -> float:
        """Return about how long one row takes on the wire."""
        return row_time(self._profile, len(self._steps), sum(step.size for step in self._steps))

    async def prepare(self, talk: Talk) -> None:
        """Ask the meter for its settlement days. Raises `MeterError`."""
        self._days = await settlement_days(own(talk), self._settlement)

    async def read_profile(self, talk: Talk, start: int, end: int, *, into: list[Block]) -> None:
        """Append the first rows with start < row's time <= end, oldest first.

        Raises:
            RefusedError: the meter settles just now, or its clock may be across it: which row is which is not sure.
            MeterError: the line or the meter.

        """
        mine = own(talk)
        try:
            ahead, asked_at = await self._meters_time(mine)
            times = settlement_times(self._days, from_utc(asked_at, self._zone), self._settlement.months)
            instants = [to_utc(moment, self._zone) for moment in times]
            wanted = [n for n, instant in enumerate(instants, 1) if start < instant.us <= end]
            for number in sorted(wanted, reverse=True)[: self.piece_rows]:
                instant = instants[number - 1]
                row: list[Block] = []
                answered_at = await self._row(mine, number, instant.us, doubt(doubtful=instant.doubtful), row)
                self._check_quiet(asked_at, answered_at + ahead)
                into += row
        except MeterError as error:
            error.meter = error.meter or self._device
            raise

    async def _meters_time(self, talk: Dlt645Talk) -> tuple[int, int]:
        """Return how far the meter's clock is ahead, and what it shows (us): by whose clock the settlements move."""
        clock = self._profile.clock
        if clock is not None:
            try:
                reading = await read_clock(talk, clock, self._zone)
            except RefusedError:
                pass  # it does not tell: ours holds
            else:
                return reading.offset, reading.shown
        return 0, (await talk.read(self._steps[0].di, self._steps[0].size)).asked_at

    async def _row(self, talk: Dlt645Talk, number: int, at: int, quality: int, row: list[Block]) -> int:
        answered_at = 0
        for step in self._steps:
            reply = await self._step(talk, step, number)
            if reply is None:
                continue
            answered_at = reply.answered_at
            stamp = Stamp(at, answered_at, at, quality)
            row += blocks_of(decode(step.items, reply.data, self._zone), self._device, Source.PROFILE, 0, stamp)
        return answered_at

    async def _step(self, talk: Dlt645Talk, step: Step, number: int) -> Reply | None:
        try:
            return await talk.read(back(step.di, number), step.size)
        except RefusedError as error:
            if not error.code & NO_DATA:
                raise
            return None

    def _check_quiet(self, first: int, last: int) -> None:
        guard = GUARD_S * SECOND
        before = settlement_times(self._days, from_utc(first - guard, self._zone), 1)
        after = settlement_times(self._days, from_utc(max(first, last) + guard, self._zone), 1)
        if before != after:
            raise RefusedError("the meter settles about now; its settlements are read later", code=0)


async def settlement_days(talk: Dlt645Talk, settlement: Settlement) -> list[tuple[int, int]]:
    """Return the days and hours at which the meter settles each month. Raises `MeterError`."""
    found = []
    for di in settlement.days:
        try:
            data = (await talk.read(di, 2)).data
        except RefusedError:
            continue  # it does not tell
        digits = data[::-1].hex()
        if digits.isdecimal() and 1 <= int(digits[:2]) <= 28 and int(digits[2:]) < 24:
            found.append(_day_hour(digits))
    return sorted(set(found)) or [_day_hour(settlement.day)]


def settlement_times(days: list[tuple[int, int]], before: datetime, count: int) -> list[datetime]:
    """Return the last `count` settlements at or before a civil time, the newest first."""
    found: list[datetime] = []
    month = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while len(found) < count:
        times = [month.replace(day=day, hour=hour) for day, hour in sorted(days, reverse=True)]
        found += [moment for moment in times if moment <= before]
        month = (month - timedelta(days=1)).replace(day=1)
    return found[:count]


def _day_hour(digits: str) -> tuple[int, int]:
    return int(digits[:2]), int(digits[2:4])
