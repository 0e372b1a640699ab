from collections.abc import Iterable
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.grid import Grid
from gateway.ledger import MAX_INTERVALS, Account, Irregular, Kept
from gateway.statefile import StateFile

NEWEST = 40
SINCE, FIRST = 12, 3
NUMBERS = st.integers(0, NEWEST)
SPANS = st.tuples(NUMBERS, NUMBERS).map(sorted)


class AgainstAPlainModel(RuleBasedStateMachine):
    """Each interval's state in a plain dictionary, with the rules written out for one interval at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.account = Account(Grid(900), SINCE, FIRST)
        self.state: dict[int, str] = {}  # held, no_supply, lost, blank; nothing: a hole
        self.doubted: set[int] = set()
        self.doubted_now: set[int] = set()
        self.asked: set[int] = set()
        self.underway: set[int] = set()
        self.blocks: dict[int, int] = {}
        self.power_fail: set[int] = set()
        self.first = FIRST

    @rule(numbers=st.sets(NUMBERS), marked=st.sets(NUMBERS, max_size=2))
    def come(self, numbers: set[int], marked: set[int]) -> None:
        self.account.came(dict.fromkeys(sorted(numbers), 2), sorted(marked))
        self.underway |= numbers
        self.blocks.update(dict.fromkeys(numbers, 2))
        self.power_fail |= marked

    @rule(numbers=st.sets(NUMBERS))
    def hold(self, numbers: set[int]) -> None:
        self.account.hold(sorted(numbers))
        for number in numbers:
            if number >= self.first:
                self.state[number] = "held"
                for each in (self.doubted, self.doubted_now, self.underway):
                    each.discard(number)

    @rule(numbers=st.sets(NUMBERS))
    def commit_one_block_of_each(self, numbers: set[int]) -> None:
        for number in numbers:
            self.account.committed(number)
            if number in self.underway:
                self.blocks[number] -= 1
                if not self.blocks[number]:
                    self.underway.discard(number)
                    if number >= self.first:
                        self.state[number] = "held"
                        self.doubted.discard(number)
                        self.doubted_now.discard(number)

    @rule(span=SPANS, present=st.sets(NUMBERS), failure=SPANS)
    def answer(self, span: list[int], present: set[int], failure: list[int]) -> None:
        low, high = span
        verdict = self.account.answered(low, high, sorted(present), [(failure[0], failure[1])])
        absent = [
            number
            for number in range(max(low, self.first), high)
            if number not in self.state and number not in present | self.underway
        ]
        inside = [number for number in absent if failure[0] <= number < failure[1]]
        again = [number for number in absent if number in self.doubted and number not in inside]
        no_supply, lost = set(inside), set[int]()
        for run in runs(again):
            if run[0] - 1 in self.power_fail or run[-1] + 1 in self.power_fail:
                no_supply |= set(run)
                self.power_fail |= set(run)
            else:
                lost |= set(run)
        self.doubted_now |= set(absent) - no_supply - lost
        if low % 2:  # judged, but not the whole of what was asked
            self.account.asked(low, high)
            self.asked |= set(range(low, high))
        self.settle(no_supply, lost)
        assert flat(verdict.no_supply) == sorted(no_supply)
        assert flat(verdict.lost) == sorted(number for number in lost if number >= SINCE)

    @rule(before=NUMBERS)
    def expire(self, before: int) -> None:
        verdict = self.account.expire(before)
        lost = {n for n in range(self.first, before) if n not in self.state and n not in self.underway}
        self.settle(set(), lost)
        assert flat(verdict.lost) == sorted(number for number in lost if number >= SINCE)

    @rule(dropped=st.booleans(), soon=st.booleans())
    def open_attempt(self, *, dropped: bool, soon: bool) -> None:
        self.account.open_attempt(dropped=dropped, soon=soon)
        if not soon:
            self.doubted |= self.doubted_now
            self.doubted_now = set()
        self.asked = set()
        if dropped:
            self.underway = set()

    @rule(span=SPANS)
    def reopen(self, span: list[int]) -> None:
        self.account.reopen(*span)
        for number in range(*span):
            if self.state.get(number) not in {None, "blank"}:
                del self.state[number]
            self.asked.discard(number)
            self.doubted.discard(number)
            self.doubted_now.discard(number)

    @precondition(lambda self: self.first < SINCE)
    @rule()
    def forget(self) -> None:
        self.account.forget(self.first + 1)
        for each in (self.doubted, self.doubted_now, self.underway, self.power_fail):
            each.discard(self.first)
        self.state.pop(self.first, None)
        self.first += 1

    @rule()
    def restart(self) -> None:
        """A process that ends keeps all but what was on its way."""
        self.account = Account.restored(self.account.kept())
        self.doubted |= self.doubted_now
        self.doubted_now, self.underway, self.asked = set(), set(), set()

    def settle(self, no_supply: set[int], lost: set[int]) -> None:
        for number in no_supply:
            self.state[number] = "no_supply"
        for number in lost:
            self.state[number] = "lost" if number >= SINCE else "blank"
        self.doubted -= no_supply | lost
        self.doubted_now -= no_supply | lost

    @invariant()
    def the_counts_are_exact(self) -> None:
        counts = self.account.counts(NEWEST)
        states = list(self.state.values())
        assert counts.expected == NEWEST + 1 - self.first - states.count("blank")
        assert counts.held == states.count("held")
        assert counts.no_supply == states.count("no_supply")
        assert counts.lost == states.count("lost")
        assert counts.missing == sum(number not in self.state for number in range(self.first, NEWEST + 1))

    @invariant()
    def what_is_asked_for_is_what_nothing_accounts_for(self) -> None:
        holes = [
            number
            for number in range(self.first, NEWEST + 1)
            if number not in self.state and number not in self.asked | self.underway
        ]
        assert flat(self.account.holes(NEWEST)) == holes
        piece = self.account.piece(NEWEST, 7)
        assert (piece is None) == (not holes)
        if piece is not None:
            assert piece[1] == holes[-1] + 1
            assert piece[0] == min(number for number in holes if number >= piece[1] - 7)


TestAgainstAPlainModel = AgainstAPlainModel.TestCase


def flat(spans: Iterable[tuple[int, int]]) -> list[int]:
    return [number for low, high in spans for number in range(low, high)]


def runs(numbers: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def test_forty_days_of_holes_are_read_newest_first_and_each_interval_once():
    account = Account(Grid(900), 0, 0)
    newest = 40 * 96 - 1
    asked = []
    while (piece := account.piece(newest, 96)) is not None:
        asked.append(piece)
        account.hold(range(*piece))
    assert asked == [(day * 96, day * 96 + 96) for day in reversed(range(40))]
    assert account.counts(newest) == (3840, 3840, 0, 0)


def test_an_absent_row_is_lost_only_at_the_second_attempt():
    account = Account(Grid(900), 0, 0)
    account.hold([0, 1, 4])
    assert account.answered(0, 5, [0, 1, 4]).lost == []
    assert account.answered(0, 5, [0, 1, 4]).lost == []  # the same attempt
    account.open_attempt()
    assert account.answered(0, 5, [0, 1, 4]).lost == [(2, 4)]


def test_a_gap_before_a_row_marked_for_a_power_failure_is_without_supply():
    account = Account(Grid(900), 0, 0)
    account.hold([0, 1, 4])
    account.came({}, power_fail=[4])
    account.answered(0, 5, [0, 1, 4])
    account.open_attempt()
    verdict = account.answered(0, 5, [0, 1, 4])
    assert (verdict.no_supply, verdict.lost) == ([(2, 4)], [])


def test_an_account_is_bounded_however_long_it_runs():
    account = Account(Grid(60), 0, 0)
    for number in range(0, 3 * MAX_INTERVALS, 1000):
        account.hold([number])
        account.bound(number)
    assert account.counts(number).expected == MAX_INTERVALS
    assert len(account.held) <= MAX_INTERVALS // 1000 + 1


def test_irregular_rows_count_only_up_to_where_the_log_has_all_of_them():
    rows = Irregular(100)
    rows.came({200: 2, 300: 1})
    rows.committed(300)
    rows.committed(200)
    assert rows.newest == 100
    rows.committed(200)
    assert rows.newest == 300


def test_a_damaged_file_counts_as_none(tmp_path: Path):
    path = tmp_path / "ledger"
    StateFile(path, list[Kept]).save([Account(Grid(900), 5, 5).kept()])
    whole = path.read_bytes()
    assert StateFile(path, list[Kept]).load() is not None
    for damaged in (whole[:-1], whole[:3], b"", whole[:20] + b"\x00" + whole[21:]):
        path.write_bytes(damaged)
        assert StateFile(path, list[Kept]).load() is None
