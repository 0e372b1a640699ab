"""The account of one of a meter's profiles: which intervals are expected, held, without supply, lost. It reads nothing.

Intervals are numbered by the profile's grid. What nothing accounts for is a hole. Losing an account loses no data: its
rows are read once more.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from gateway.grid import Grid
from metering.ranges import Ranges

MAX_INTERVALS = 100_000  # that one account looks back: 69 days of minutes, 1,041 days of quarter hours

Span = tuple[int, int]  # numbers of intervals, half-open
_Spans = list[Span]


class Counts(NamedTuple):
    """expected = held + no_supply + lost + missing, in intervals."""

    expected: int
    held: int
    no_supply: int
    lost: int

    @property
    def missing(self) -> int:
        """Return how many intervals nothing accounts for."""
        return self.expected - self.held - self.no_supply - self.lost


class Verdict(NamedTuple):
    """What became known by an answer of the meter: intervals without supply, and intervals that it does not have."""

    no_supply: Sequence[Span] = ()
    lost: Sequence[Span] = ()


class Kept(msgspec.Struct, array_like=True):
    """An account as it is stored."""

    interval: int
    zone: str
    since: int
    first: int
    held: _Spans
    no_supply: _Spans
    lost: _Spans
    blank: _Spans
    doubted: _Spans
    power_fail: _Spans


class Account:
    """One profile of one device.

    `since` is the first interval that somebody was promised: what the meter does not have from before is left blank
    and is not lost. `first` is the first that is asked for.
    """

    def __init__(self, grid: Grid, since: int, first: int) -> None:
        self.grid = grid
        self.since = since
        self.first = first
        self.held = Ranges()
        self.no_supply = Ranges()
        self.lost = Ranges()
        self.blank = Ranges()  # not in the meter, and never promised
        self.recovered = 0  # rows that filled holes, since the start of this process
        self._doubted = Ranges()  # absent in the answer of an earlier attempt
        self._doubted_now = Ranges()  # absent in an answer of this one
        self._asked = Ranges()  # answered in this attempt, with whatever
        self._underway: dict[int, int] = {}  # rows that came -> how many of their blocks the log does not have yet
        self._power_fail = Ranges()  # rows that the meter marked so, and gaps beside them

    # --- asking -------------------------------------------------------------------------------------------------------

    def open_attempt(self, *, dropped: bool = False, soon: bool = False) -> None:
        """Begin a new attempt: holes are asked for once more, and all that came where some of it was dropped.

        `soon`: it follows so soon after the last one that what is absent again proves nothing new.
        """
        if not soon:
            self._doubted.update(self._doubted_now)
            self._doubted_now = Ranges()
        self._asked = Ranges()
        if dropped:
            self._underway = {}

    def piece(self, newest: int, rows: int, oldest: int | None = None, *, again: bool = False) -> Span | None:
        """Return the newest run of at most `rows` intervals that holds all its holes; None where there is none.

        `newest` and `oldest` (None: as far as the account reaches) are the bounds, inclusive. `again`: also what was
        answered in this attempt.
        """
        holes = self.holes(newest, oldest, again=again)
        if not holes:
            return None
        high = holes[-1][1]
        floor = high - rows
        low = next(max(start, floor) for start, end in holes if end > floor)
        return low, high

    def holes(self, newest: int, oldest: int | None = None, *, again: bool = False) -> _Spans:
        """Return the runs that are to be asked for in this attempt, in order, within the bounds (inclusive)."""
        known = self._known()
        if not again:
            known.update(self._asked)
        return list(known.gaps(max(self.first, oldest if oldest is not None else self.first), newest + 1))

    @property
    def newest(self) -> int | None:
        """Return the newest row that is held or on its way into the log; None where there is none."""
        held = self.held.last
        return max(self._underway if held is None else (held, *self._underway), default=None)

    def has(self, number: int) -> bool:
        """Tell whether an interval's row is held or on its way into the log."""
        return number in self.held or number in self._underway

    def counts(self, newest: int) -> Counts:
        """Return the counts up to the interval `newest`, inclusive."""
        end = max(newest + 1, self.first)
        return Counts(
            end - self.first - self.blank.count(self.first, end),
            self.held.count(self.first, end),
            self.no_supply.count(self.first, end),
            self.lost.count(self.first, end),
        )

    # --- learning -----------------------------------------------------------------------------------------------------

    def came(self, rows: Mapping[int, int], power_fail: Iterable[int] = ()) -> None:
        """Note rows that are on their way into the log, each with the number of its blocks.

        `power_fail` are those that the meter marked so.
        """
        self._underway.update(rows)
        for number in power_fail:
            self._power_fail.add(number, number + 1)

    def committed(self, number: int) -> None:
        """Note that the log has one block of a row that came; it is held once the log has all of them."""
        left = self._underway.get(number, 0) - 1
        if left > 0:
            self._underway[number] = left
        elif left == 0:
            self.hold([number])

    def hold(self, numbers: Iterable[int]) -> None:
        """Note rows that the log has. A row that came late outdoes what was said of its interval before."""
        for number in numbers:
            if number < self.first:
                continue
            if number < (self.held.last or number):
                self.recovered += number not in self.held
            self.held.add(number, number + 1)
            for other in (self.no_supply, self.lost, self.blank, self._doubted, self._doubted_now):
                other.remove(number, number + 1)
            self._underway.pop(number, None)

    def reopen(self, low: int, high: int) -> None:
        """Ask once more for low <= n < high, whatever is known of them: the meter writes them anew."""
        for each in (self.held, self.no_supply, self.lost, self._doubted, self._doubted_now, self._asked):
            each.remove(low, high)

    def asked(self, low: int, high: int) -> None:
        """Note a whole, successful answer about low <= n < high: in this attempt it is not asked for again."""
        self._asked.add(low, high)

    def answered(self, low: int, high: int, present: Iterable[int], failures: Iterable[Span] = ()) -> Verdict:
        """Judge what a whole, successful answer about low <= n < high did not have.

        `present` are the rows that it had, `failures` the intervals that recorded power failures touch. What is absent
        there is without supply at once; elsewhere the meter is asked a second time, in another attempt, before it is
        lost. A gap beside a row that the meter marked for a power failure is without supply too.
        """
        known = self._known()
        known.update(Ranges((number, number + 1) for number in present))
        no_supply, lost = Ranges(), Ranges()
        without = Ranges(failures)
        for start, end in known.gaps(max(low, self.first), high):
            no_supply.update(Ranges(without.inside(start, end)))
            for one, other in list(without.gaps(start, end)):
                for again in list(self._doubted.inside(one, other)):
                    (no_supply if self._beside_power_fail(again) else lost).add(*again)
                for fresh in list(self._doubted.gaps(one, other)):
                    self._doubted_now.add(*fresh)
        return self._settle(no_supply, lost)

    def expire(self, before: int) -> Verdict:
        """Give up what is still a hole before an interval: the meter answers, and its memory does not reach there."""
        lost = Ranges(self._known().gaps(self.first, before))
        return self._settle(Ranges(), lost)

    def forget(self, before: int) -> None:
        """Drop all that lies before an interval: it is no longer asked for or counted."""
        if before <= self.first:
            return
        for each in (self.held, self.no_supply, self.lost, self.blank, self._power_fail):
            each.remove(self.first, before)
        for each in (self._doubted, self._doubted_now, self._asked):
            each.remove(self.first, before)
        self._underway = {number: left for number, left in self._underway.items() if number >= before}
        self.first = before

    def bound(self, newest: int) -> None:
        """Keep the account within its limit."""
        self.forget(newest + 1 - MAX_INTERVALS)

    # --- keeping ------------------------------------------------------------------------------------------------------

    def kept(self) -> Kept:
        """Return the account as it is stored; what this attempt found absent counts as found."""
        doubted = Ranges(self._doubted)
        doubted.update(self._doubted_now)
        sets = (self.held, self.no_supply, self.lost, self.blank, doubted, self._power_fail)
        return Kept(self.grid.interval, self.grid.zone, self.since, self.first, *(list(each) for each in sets))

    @classmethod
    def restored(cls, kept: Kept) -> "Account":
        """Return the account that was stored."""
        account = cls(Grid(kept.interval, kept.zone), kept.since, kept.first)
        account.held, account.no_supply, account.lost = Ranges(kept.held), Ranges(kept.no_supply), Ranges(kept.lost)
        account.blank = Ranges(kept.blank)
        account._doubted = Ranges(kept.doubted)
        account._power_fail = Ranges(kept.power_fail)
        return account

    # --- inside -------------------------------------------------------------------------------------------------------

    def _settle(self, no_supply: Ranges, lost: Ranges) -> Verdict:
        blank = list(lost.inside(self.first, self.since)) if self.since > self.first else []
        for span in blank:
            lost.remove(*span)
            self.blank.add(*span)
        self.no_supply.update(no_supply)
        self.lost.update(lost)
        for span in [*no_supply, *lost, *blank]:
            self._doubted.remove(*span)
            self._doubted_now.remove(*span)
        return Verdict(list(no_supply), list(lost))

    def _beside_power_fail(self, span: Span) -> bool:
        start, end = span
        if start - 1 not in self._power_fail and end not in self._power_fail:
            return False
        self._power_fail.add(start, end)
        return True

    def _known(self) -> Ranges:
        """Return what needs no asking: accounted for, or on its way into the log."""
        known = Ranges(self.held)
        for each in (self.no_supply, self.lost, self.blank):
            known.update(each)
        for number in self._underway:
            known.add(number, number + 1)
        return known


class Irregular:
    """A profile whose rows come when the meter makes them (a month's end, a reset): the newest that the log has."""

    def __init__(self, newest: int = 0) -> None:
        self.newest = newest  # instant of the newest row (us UTC) before which the log has all that came
        self._underway: dict[int, int] = {}
        self._highest = newest

    def came(self, rows: Mapping[int, int]) -> None:
        """Note rows (their instants) that are on their way into the log, each with the number of its blocks."""
        self._underway.update(rows)

    def committed(self, instant: int) -> None:
        """Note that the log has one block of a row that came."""
        left = self._underway.get(instant, 0) - 1
        if left > 0:
            self._underway[instant] = left
            return
        if left == 0:
            del self._underway[instant]
            self._highest = max(self._highest, instant)
        if not self._underway:
            self.newest = self._highest

    def open_attempt(self, *, dropped: bool = False) -> None:
        """Begin a new attempt; where some of what came was dropped, it is asked for once more."""
        if dropped:
            self._underway = {}
            self._highest = self.newest
