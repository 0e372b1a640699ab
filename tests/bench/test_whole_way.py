"""The benches of the whole way, small: true gateways, Mosquitto, head-end and InfluxDB. Nothing about their speed."""

import os
from pathlib import Path

import pytest

from bench import drain
from bench.headend_memory import BAR_MB, MB, Watched, watch
from bench.load import Load, begin_now, percentile
from bench.whole_centre import centre, sender
from bench.whole_way import wrong

SOAK_S = float(os.environ.get("SOAK_SECONDS", "1800"))
WAIT_S = 60.0  # a busy machine takes its time; nothing is asserted about how long


@pytest.mark.real
async def test_what_gateways_hold_and_what_comes_in_live_is_stored_and_read_back_value_for_value(
    tmp_path: Path,
) -> None:
    wide = Load("wide", 2, 40, 25, begin_now(), fill=20, rate=10.0, live_s=1.0)
    single = Load("single", 1, 200, 1, begin_now(), fill=5)
    async with centre(tmp_path, [wide, single]) as made, sender(made, wide) as some, sender(made, single) as others:
        some.go()
        others.go()
        seen = await some.seen()
        assert len(seen.delays) == 2 * wide.live
        await made.stored(wide.readings + single.readings, WAIT_S)
        assert made.points() == (wide.readings // 25 + single.readings, wide.readings + single.readings)
        assert [wrong(made, load) for load in (wide, single)] == ["", ""]
        more = Load("wide", 2, 40, 25, wide.begin, fill=25, rate=10.0, live_s=1.0)
        assert "wide-0-m0039" in wrong(made, more)


@pytest.mark.fault
@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_the_memory_of_a_headend_stays_flat(tmp_path: Path) -> None:
    seen = await watch(tmp_path, SOAK_S)
    assert seen.stored == seen.sent
    assert seen.growth() <= BAR_MB * MB, seen.samples


def test_growth_is_the_slope_after_the_warm_up() -> None:
    rising = [(float(at), 100 + at) for at in range(41)]
    assert Watched(rising, 0, 0).growth() == pytest.approx(24)  # the first 40 % left out
    settled = [(float(at), 100 if at < 10 else 150) for at in range(41)]
    assert Watched(settled, 0, 0).growth() == pytest.approx(0)


def test_a_percentile_is_the_value_that_so_many_do_not_exceed() -> None:
    assert percentile([], 0.99) == 0
    assert percentile([3.0], 0.99) == 3
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 100


def test_a_load_is_the_same_each_time_and_a_whole_number_of_batches() -> None:
    load = Load("g", 1, 200, 25, 0, fill=3)
    first, again = (next(load.batches("g-0")) for _ in range(2))
    assert first == again
    assert first.count() * load.fill == load.readings
    assert drain.DAYS * drain.DAY_S % drain.INTERVAL_S == 0
