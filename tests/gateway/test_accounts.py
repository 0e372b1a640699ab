from pathlib import Path

from gateway.accounts import Accounts, PowerFailures
from gateway.grid import Grid
from gateway.ledger import Account
from metering import events
from metering.events import EventType
from metering.model import SECOND, Block, Column, Event, Kind, Layout, Source

STEP = 900 * SECOND
T0 = 2_000_000 * STEP
DAY = 86_400 * SECOND
NOW = T0 + DAY // 2


def event(kind: EventType, at: int, **detail: str) -> Event:
    return Event("m", at, kind.code, kind.name, at + 1, detail)


def test_an_event_is_new_once_even_where_it_comes_late() -> None:
    known = PowerFailures()
    first = [event(events.COVER_OPENED, T0), event(events.MAGNET_DETECTED, T0, code="40")]
    assert known.fresh(first, NOW) == first
    assert known.fresh(first, NOW) == []
    late = event(events.PHASE_FAILED, T0 - DAY // 2)  # written when it ended, with the time of its beginning
    assert known.fresh([late, *first], NOW) == [late]
    assert known.fresh([event(events.PHASE_FAILED, T0 - 2 * DAY)], NOW) == []
    assert known.since == T0 - DAY


def test_what_a_broken_read_did_not_reach_is_new_later_however_old_it_is() -> None:
    known = PowerFailures()
    young, old = event(events.POWER_UP, T0), event(events.COVER_OPENED, T0 - 20 * DAY)
    assert known.fresh([young], NOW, whole=False) == [young]
    assert known.fresh([young, old], NOW) == [old]
    assert known.fresh([young, old], NOW) == []


def test_an_event_stamped_years_ahead_does_not_hide_those_that_follow() -> None:
    known = PowerFailures()
    astray = event(events.CLOCK_SET, T0 + 400 * DAY)
    assert known.fresh([astray], NOW) == [astray]
    real = event(events.MAGNET_DETECTED, NOW + DAY)
    assert known.fresh([astray, real], NOW + DAY) == [real]
    assert known.fresh([astray, real], NOW + DAY) == []


def test_power_failures_are_pairs_of_events_and_touch_intervals() -> None:
    known = PowerFailures()
    known.fresh([event(events.POWER_DOWN, T0 + 300 * SECOND)], NOW)
    assert known.failures == []
    known.fresh([event(events.POWER_UP, T0 + 3 * STEP + 300 * SECOND)], NOW)
    grid = Grid(900)
    number = grid.at_or_before(T0)
    assert known.touched(grid) == [(number + 1, number + 5)]
    short = PowerFailures(failures=[(T0 + 60 * SECOND, T0 + 120 * SECOND)])
    assert short.touched(grid) == [(number + 1, number + 2)]
    edge = PowerFailures(failures=[(T0, T0 + STEP)])  # at the very boundaries: no row at the first, one at the second
    assert edge.touched(grid) == [(number, number + 2)]


def test_accounts_outlive_a_restart_and_another_interval_begins_anew(tmp_path: Path) -> None:
    def account(accounts: Accounts, interval: int = 900) -> Account:
        return accounts.regular("m", "load", Grid(interval), lambda: Account(Grid(interval), 0, 0))

    accounts = Accounts(tmp_path / "accounts")
    account(accounts).hold([5, 6])
    accounts.irregular("m", "billing").newest = T0
    accounts.failures("m").fresh([event(events.POWER_DOWN, T0)], NOW)
    accounts.failures("m").words["04000501"] = 4
    accounts.write(accounts.snapshot())
    again = Accounts(tmp_path / "accounts")
    assert list(account(again).held) == [(5, 7)]
    assert again.irregular("m", "billing").newest == T0
    assert again.failures("m").down == T0
    assert again.failures("m").words == {"04000501": 4}
    assert list(account(again, 1800).held) == []


def test_a_row_of_two_blocks_is_held_when_the_log_has_both(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts")
    rows = accounts.regular("m", "load", Grid(900), lambda: Account(Grid(900), 0, 0))
    layouts = [
        Layout(kind, Source.PROFILE, 900, (Column("1-0:1.8.0*255", "Wh", 0, "int"),))
        for kind in (Kind.REGISTER, Kind.AVERAGE)
    ]
    blocks = [Block(layout, "m", T0, T0, (1,), T0) for layout in layouts]
    accounts.came(rows, blocks)
    accounts.committed(blocks[:1])
    assert rows.held.total == 0
    accounts.committed(blocks[1:])
    assert rows.held.total == 1
    accounts.committed(blocks)  # what is no profile's row on its way is passed over
    assert rows.held.total == 1
