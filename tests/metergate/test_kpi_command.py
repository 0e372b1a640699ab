"""`metergate kpi` prints what the state holds, for a site as for a head-end."""

import contextlib
from pathlib import Path

import pytest

from headend.kpi.figures import DAY, Buckets
from headend.state.collection import CollectionDays, DayRow, Progress, Result
from headend.state.gaps import Gap, Gaps
from headend.state.store import State
from metergate.commands.kpi import run_kpi
from metering.errors import ConfigError

TODAY = 20_000


def fill(state: State) -> None:
    results = []
    for day in (TODAY - 2, TODAY - 1):
        for device, held in (("m1", 96), ("m2", 95)):
            buckets = Buckets()
            for name, count in (("expected", 96), ("held", held), ("first_try", held - 1), ("within_3600", held)):
                buckets.count(name, range(count), 1)
            region = f"js/{device}"
            row = DayRow(
                day, device, "p", region, "g1", buckets.sum(), buckets.packed(), "", -2500 if held < 96 else None
            )
            results.append(Result(row, lambda _known: []))
    CollectionDays(state).record(results, Progress(TODAY))
    Gaps(state).put([Gap("m2", "p", 1, 2, TODAY - 1), Gap("m2", "p", 3, 4, TODAY - 1, state="lost")])


def headend(folder: Path) -> Path:
    file = folder / "headend.toml"
    file.write_text(f'[headend]\ndata = "{folder}"\n[broker]\nhost = "127.0.0.1"\n')
    return file


def site(folder: Path) -> Path:
    file = folder / "site.toml"
    file.write_text(f'[gateway]\nid = "gw1"\ndata = "{folder}"\n')
    return file


@pytest.mark.parametrize("make", [headend, site], ids=["headend", "site"])
def test_the_table_says_what_was_collected(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object) -> None:
    assert callable(make)
    with contextlib.closing(State.open(tmp_path / "state.db")) as state:
        fill(state)
    run_kpi(make(tmp_path), "gateway", 2, each_day=False)
    title, head, row, gaps = capsys.readouterr().out.splitlines()
    assert title.startswith("2024-10-02 to 2024-10-03")
    assert TODAY * DAY == 1_728_000_000_000_000
    assert head.split()[:3] == ["gateway", "meters", "expected"]
    assert row.split() == ["g1", "2", "384", "99.47", "%", "99.47", "%", "98.43", "%", "4", "0", "0", "2", "-2.5"]
    assert gaps == "gaps: 1 lost, 1 open"


def test_days_and_regions_have_rows_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(State.open(tmp_path / "state.db")) as state:
        fill(state)
    run_kpi(headend(tmp_path), "region", 1, each_day=True)
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[2:4]]
    assert rows == [["js/m1", "2024-10-03", "1", "96"], ["js/m2", "2024-10-03", "1", "96"]]


def test_before_a_day_was_judged_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no day was judged yet"):
        run_kpi(headend(tmp_path), "gateway", 7, each_day=False)
    (tmp_path / "state.db").unlink()
    with pytest.raises(ConfigError, match="is not there"):
        run_kpi(site(tmp_path), "gateway", 7, each_day=False)
