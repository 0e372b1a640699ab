"""A late row opens the very day in which it counts; what is of today opens none."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from headend.kpi.figures import DAY
from headend.kpi.judge import judge
from headend.kpi.late import late_days
from metering import events
from metering.batch import Batch
from metering.model import SECOND, Event
from metering.timing import to_rfc3339
from storage.embedded import EmbeddedStore
from tests.headend.kpi.test_judge import FAR, LAYOUTS, START, absence, promise, row

FIRST = START // DAY


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(LAYOUTS), st.integers(-8, 200), st.integers(0, 200_000))
def test_a_late_row_opens_the_day_in_which_it_counts(layout: object, number: int, late: int) -> None:
    assert layout in LAYOUTS
    layout = LAYOUTS[LAYOUTS.index(layout)]  # type: ignore[arg-type]  # it is one of them
    block = row(layout, START + number * layout.interval * SECOND, late)
    days = {day for day, _ in late_days(Batch(0, [block]), FIRST - 3, FIRST + 3)}
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder) / "readings.db")
        store.write([Batch(0, [block], expectations=[promise(layout, START - 9 * DAY)])])
        held = {
            day for day in range(FIRST - 3, FIRST + 3) if judge(store, "m", day * DAY, FAR + 4 * DAY).buckets.sum().held
        }
        store.close()
    assert days == held


def test_rows_of_today_open_no_day() -> None:
    rows = [row(layout, START + 40 * layout.interval * SECOND) for layout in LAYOUTS if layout.interval < 86_400]
    assert late_days(Batch(0, rows), FIRST - 3, FIRST) == set()


def test_events_and_promises_open_the_days_of_which_they_tell() -> None:
    off = Event("m", START + 5, events.METER_CLOCK_OFF.code, events.METER_CLOCK_OFF.name, 0)
    other = Event("m", START - DAY, events.POWER_UP.code, events.POWER_UP.name, 0)
    broken = Event("m", START - DAY, events.NO_SUPPLY.code, events.NO_SUPPLY.name, 0, {"from": "yesterday"})
    gone = absence(events.INTERVALS_LOST, START + DAY, START + DAY)
    assert gone.detail["from"] == to_rfc3339(START + DAY)
    found = late_days(Batch(0, (), [off, other, broken, gone]), FIRST - 3, FIRST + 3)
    assert found == {(FIRST, "m"), (FIRST + 1, "m")}
    promises = [promise(LAYOUTS[0], START - 9 * DAY), promise(LAYOUTS[0], START + 2 * DAY)]
    assert late_days(Batch(0, expectations=promises[1:]), FIRST - 3, FIRST + 4) == {(FIRST + 2, "m"), (FIRST + 3, "m")}
    assert len(late_days(Batch(0, expectations=promises), FIRST - 3, FIRST + 4)) == 7
