"""`metergate kpi`: prints the figures of collection that a head-end or a site keeps. It judges nothing itself."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from headend.kpi.figures import DAY, Figures
from headend.state.collection import CollectionDays
from headend.state.collection_report import By, Per, ReportQuery, ReportRow, report
from headend.state.gaps import Gaps
from headend.state.store import State
from metergate.headend_file import is_headend, load_headend, open_state
from metergate.site import load_site
from metering.errors import ConfigError
from metering.timing import to_rfc3339

MAX_ROWS = 1_000  # of one table
ON_TIME_S = 3_600
NUMBERS = (
    *("meters", "expected", "success", "on time (1 h)", "first try"),
    *("backfilled", "no supply", "lost", "missing", "clock s"),
)


def run_kpi(file: Path, by: By, days: int, *, each_day: bool) -> None:
    """Print the figures of the last judged days, and how many gaps there are.

    Raises:
        ConfigError: the file is wrong, or nothing was judged yet.
        StorageError: the state cannot be read.

    """
    with contextlib.closing(_state(file)) as state:
        progress = CollectionDays(state).progress()
        if progress is None:
            raise ConfigError("no day was judged yet: the figures of a day are there two hours after its end (UTC)")
        per: Per = "day" if each_day else "range"
        rows = report(state, ReportQuery(by, progress.day - days, progress.day, MAX_ROWS + 1, per))
        gaps = _gaps(Gaps(state).counts())
    first, last = (to_rfc3339(day * DAY)[:10] for day in (progress.day - days, progress.day - 1))
    print(f"{first} to {last}, days of UTC; rates are of what could come")
    for line in _table(by, rows[:MAX_ROWS]):
        print(line)
    if len(rows) > MAX_ROWS:
        print(f"more than {MAX_ROWS} rows: the API gives them page by page")
    print(f"gaps: {gaps or 'none'}")


def _state(file: Path) -> State:
    if is_headend(file):
        return open_state(load_headend(file))
    path = load_site(file).gateway.data / "state.db"
    if not path.exists():
        raise ConfigError(f"{path} is not there: the figures are kept by metergate site")
    return State.open(path)


def _table(by: By, rows: Sequence[ReportRow]) -> Iterator[str]:
    """Yield the lines of the table: names to the left, numbers to the right."""
    days = any(row.day is not None for row in rows)
    lines = [[by, *(["day"] if days else []), *NUMBERS]]
    for row in rows:
        day = [to_rfc3339(row.day * DAY)[:10]] if row.day is not None else []
        clock = f"{row.clock_ms / 1000:+.1f}" if row.clock_ms is not None else ""
        lines.append([row.key, *day, str(row.devices), *_cells(row.figures), clock])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    names = 2 if days else 1
    for line in lines:
        cells = [f"{cell:<{width}}" for cell, width in zip(line[:names], widths, strict=False)]
        cells += [f"{cell:>{width}}" for cell, width in zip(line[names:], widths[names:], strict=True)]
        yield "  ".join(cells).rstrip()


def _cells(figures: Figures) -> list[str]:
    counts = (figures.backfilled, figures.no_supply, figures.lost, figures.missing)
    rates = (figures.success_rate, figures.on_time_rate(ON_TIME_S), figures.first_try_rate)
    return [str(figures.expected), *(_percent(each) for each in rates), *map(str, counts)]


def _percent(rate: float | None) -> str:
    """Return a rate in per cent, cut and not rounded: 100.00 % is all of it."""
    return f"{int(rate * 10_000) / 100:.2f} %" if rate is not None else ""


def _gaps(counts: Sequence[tuple[str, str, int]]) -> str:
    sums: dict[str, int] = {}
    for _, state, count in counts:
        sums[state] = sums.get(state, 0) + count
    return ", ".join(f"{count} {state}" for state, count in sorted(sums.items()))
