"""Figures of collection in the state: what is judged, marked and reported, in SQLite and PostgreSQL."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headend.kpi.figures import Buckets, Figures, total
from headend.state.collection import CollectionDays, DayRow, Progress, Result
from headend.state.collection_report import By, ReportQuery, report
from headend.state.gaps import Gap, Gaps
from headend.state.store import State

_LIMITS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def nothing(_known: Sequence[Gap]) -> list[Gap]:
    return []


def day_row(day: int, device: str, slots: int, held: int, **more: object) -> DayRow:
    buckets = Buckets()
    buckets.count("expected", range(slots), 1)
    buckets.count("held", range(held), 1)
    rest = {"point": f"p-{device}", "region": "js/nj", "gateway": "g1"} | more
    return DayRow(day, device, figures=buckets.sum(), buckets=buckets.packed(), **rest)  # type: ignore[arg-type]  # by name


def record(state: State, *rows: DayRow) -> None:
    CollectionDays(state).record([Result(row, nothing) for row in rows])


def test_progress_and_results_are_kept_together(state: State) -> None:
    days = CollectionDays(state)
    assert days.progress() is None
    days.record([Result(day_row(5, "a", 4, 3), nothing)], Progress(5, "a"))
    days.record([], Progress(6))
    assert days.progress() == Progress(6)
    (row,) = report(state, ReportQuery("device", 0, 9, 9))
    assert (row.key, row.devices, row.figures) == ("a", 1, Figures(4, 3))


def test_a_day_that_nothing_was_promised_for_takes_no_room(state: State) -> None:
    record(state, day_row(5, "a", 0, 0))
    assert report(state, ReportQuery("device", 0, 9, 9)) == []


def test_a_marked_day_is_due_and_a_mark_while_it_is_judged_is_not_lost(state: State) -> None:
    days = CollectionDays(state)
    record(state, day_row(5, "a", 4, 3))
    days.mark({(5, "a"), (5, "b")}, now=100, due=130)
    assert days.due(129, 9) == []
    assert days.due(130, 9) == [(5, "a", 130), (5, "b", 130)]
    days.mark({(5, "a")}, now=131, due=161)  # somebody judges it now, as it was due at 130
    days.record([Result(day_row(5, "a", 4, 4), nothing, 130), Result(day_row(5, "b", 0, 0), nothing, 130)])
    assert days.due(200, 9) == [(5, "a", 161)]
    days.record([Result(day_row(5, "a", 4, 4), nothing, 161)])
    assert days.due(200, 9) == []


def test_a_day_stays_with_the_gateway_that_read_it(state: State) -> None:
    days = CollectionDays(state)
    record(state, day_row(5, "a", 4, 3))
    days.mark({(5, "a"), (5, "b")}, now=1, due=2)
    record(state, day_row(5, "a", 4, 4, gateway="g2"), day_row(5, "b", 4, 4, gateway="g2"))
    found = report(state, ReportQuery("gateway", 0, 9, 9))
    assert [(row.key, row.figures.held) for row in found] == [("g1", 4), ("g2", 4)]


def test_a_mark_does_not_put_off_what_is_due_before_it(state: State) -> None:
    days = CollectionDays(state)
    record(state, day_row(5, "a", 4, 3, due=50))
    days.mark({(5, "a")}, now=10, due=70)
    assert days.due(60, 9) == [(5, "a", 50)]


def test_gaps_are_settled_with_their_day(state: State) -> None:
    kept = Gap("a", "p", 1, 2, 5, state="asked", tries=1)
    Gaps(state).put([kept, Gap("a", "p", 7, 8, 6)])
    seen: list[Gap] = []

    def settle(known: Sequence[Gap]) -> list[Gap]:
        seen.extend(known)
        return [msgspec.structs.replace(kept, state="recovered")]

    CollectionDays(state).record([Result(day_row(5, "a", 4, 4), settle)])
    assert seen == [kept]
    assert [gap.state for gap in Gaps(state).of("a")] == ["recovered", "open"]


def test_old_days_and_their_gaps_are_forgotten(state: State) -> None:
    record(state, *(day_row(day, "a", 1, 1) for day in range(5)))
    Gaps(state).put([Gap("a", "p", 1, 2, 1), Gap("a", "p", 9, 10, 4)])
    CollectionDays(state).forget(3, 100)
    assert [row.day for row in report(state, ReportQuery("device", 0, 9, 9, "day"))] == [3, 4]
    assert [gap.day for gap in Gaps(state).of("a")] == [4]


def test_regions_hold_by_path_segment(state: State) -> None:
    regions = {"a": "js/nj", "b": "js/nj/st1", "c": "js/njx", "d": "js_nj/st1", "e": ""}
    record(state, *(day_row(5, device, 1, 1, region=region) for device, region in regions.items()))

    def seen(by: By, allowed: Sequence[str], wanted: str = "") -> list[str]:
        return [row.key for row in report(state, ReportQuery(by, 0, 9, 9, regions=allowed, region=wanted))]

    assert seen("device", [""]) == ["a", "b", "c", "d", "e"]
    assert seen("device", ["js/nj"]) == ["a", "b"]
    assert seen("device", ["js/nj", "js_nj"], "js/nj/st1") == ["b"]
    assert seen("device", []) == []
    assert seen("region", ["js"]) == ["js/nj", "js/nj/st1", "js/njx"]


def test_reasons_clocks_and_quarter_hours_are_brought_together(state: State) -> None:
    record(
        state,
        day_row(5, "a", 4, 4, reasons='{"x":2}', clock_ms=-900),
        day_row(5, "b", 4, 2, reasons='{"x":1,"y":5}', clock_ms=200),
        day_row(6, "a", 2, 2),
    )
    (row,) = report(state, ReportQuery("gateway", 5, 7, 9, "interval"))
    assert (row.reasons, row.clock_ms) == ({"x": 3, "y": 5}, -900)
    assert [each[:2] for each in row.buckets[:5]] == [(3, 3), (3, 3), (2, 1), (2, 1), (0, 0)]
    assert total(row.buckets) == row.figures


@_LIMITS
@given(
    st.dictionaries(
        st.tuples(st.integers(1, 3), st.sampled_from("abcdef")),
        st.tuples(
            st.integers(0, 96), st.integers(0, 96), st.sampled_from(("g1", "g2")), st.sampled_from(("n/1", "n/2"))
        ),
        max_size=12,
    ),
    st.integers(1, 4),
)
def test_the_figures_of_meters_add_up_to_those_of_gateways_and_regions(
    state: State, made: dict[tuple[int, str], tuple[int, int, str, str]], limit: int
) -> None:
    days = CollectionDays(state)
    days.forget(99, 100)
    record(
        state,
        *(
            day_row(day, device, slots, min(slots, held), gateway=gateway, region=region)
            for (day, device), (slots, held, gateway, region) in made.items()
        ),
    )
    sums = {}
    for by in ("gateway", "region", "device", "meter-point"):
        found, after = [], ("", -1)
        while page := report(state, ReportQuery(by, 1, 4, limit, "day", after=after)):
            found += page
            after = (page[-1].key, page[-1].day or 0)
        assert [(row.key, row.day) for row in found] == sorted({(row.key, row.day) for row in found})
        sums[by] = total(row.figures for row in found)
    assert len(set(sums.values())) == 1
    for gateway in ("g1", "g2"):
        mine = [row for key, row in made.items() if row[2] == gateway]
        rows = report(state, ReportQuery("gateway", 1, 4, 9, key=gateway))
        assert total(row.figures for row in rows)[:2] == (
            sum(slots for slots, *_ in mine),
            sum(min(slots, held) for slots, held, *_ in mine),
        )


@pytest.mark.parametrize("figures", [Figures(), Figures(5, 5, 0, 5)])
def test_where_nothing_could_come_there_is_no_rate(figures: Figures) -> None:
    assert figures.success_rate is None
