"""Load profiles of a simulated DLMS meter: rows from any past day, selections, packings, and clocks that were set."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.clock import parse_datetime, to_utc
from collector.protocols.dlms.references import (
    Access,
    Attribute,
    CaptureObject,
    DataAccessResult,
    entry_access,
    range_access,
)
from metering.model import SECOND
from simulators.dlms_clock import ClockSettings
from simulators.dlms_meter import DlmsMeter, DlmsSettings, ProfileSettings
from simulators.dlms_objects import Ask, Denied
from simulators.dlms_profiles import (
    CLOCK_ADJUSTED,
    CLOCK_COLUMN,
    DAYLIGHT_SAVING,
    LIFO,
    POWER_DOWN,
    Packing,
)
from simulators.meter import Meter, MeterSettings

Bench = Any
Make = Callable[..., Any]
Profile = Any

NOW = 1_795_000_000 * SECOND
QUARTER = 900 * SECOND
HOUR = 4 * QUARTER
DAY = 24 * HOUR
OPEN = b"\xff" * 12
LAST = NOW - NOW % QUARTER


def buffer(meter: DlmsMeter, access: Access | None = None, now: int = NOW) -> list[tuple[Data, ...]]:
    found = meter.objects["1-0:99.1.0*255"].get(2, Ask(now, access=access))
    return [row.value for row in axdr.decode_all(axdr.encode(found)).value]


def times(rows: list[tuple[Data, ...]]) -> list[int]:
    return [to_utc(parse_datetime(row[0].value)) for row in rows]


def made(**profile: Profile) -> DlmsMeter:
    return DlmsMeter(
        Meter(MeterSettings(seed=3)), DlmsSettings(history=False, profile=ProfileSettings(**profile)), now=lambda: NOW
    )


def test_sixty_days_of_quarters_end_with_the_last_one_and_agree_with_the_registers(quiet: Bench):
    rows = buffer(quiet.meter)
    assert len(rows) == 60 * 96
    assert times(rows) == list(range(LAST - 60 * DAY + QUARTER, LAST + 1, QUARTER))
    for row, at in zip(rows[::500], times(rows)[::500], strict=True):
        totals = quiet.meter.meter.energies(at)
        assert [value.value for value in row[2:]] == [totals[f"1-0:{c}.8.0*255"] // 1_000_000 for c in (1, 2, 3, 4)]
    objects = quiet.meter.objects["1-0:99.1.0*255"]
    columns = [CaptureObject.of(column) for column in objects.get(3, Ask(NOW)).value]
    assert columns[:3] == [CLOCK_COLUMN, (1, "0-0:96.10.1*255", 2, 0), (3, "1-0:1.8.0*255", 2, 0)]
    assert [objects.get(number, Ask(NOW)).value for number in (4, 5, 7, 8)] == [900, 1, 5760, 5760]


@given(st.integers(-3, 5800), st.integers(-3, 5800))
def test_a_range_has_the_rows_from_its_first_to_its_last_instant(first: int, last: int):
    meter = made(days=1)
    start, end = LAST - DAY + QUARTER * first, LAST - DAY + QUARTER * last
    wanted = [at for at in range(LAST - DAY + QUARTER, LAST + 1, QUARTER) if start <= at <= end]
    access = range_access(CLOCK_COLUMN, meter.clock.stamp(start), meter.clock.stamp(end))
    assert times(buffer(meter, access)) == wanted


def test_a_range_picks_columns_and_takes_dates_without_deviation_and_open_ends():
    meter = made(days=1)
    column = CaptureObject(3, "1-0:2.8.0*255", 2)
    open_end = b"\xff" * 12
    unspecified = bytes.fromhex("07EA0B12030A0000008000FF")  # 2026-11-18 10:00, no deviation
    rows = buffer(meter, range_access(CLOCK_COLUMN, unspecified, open_end, (CLOCK_COLUMN, column)))
    assert times(rows) == [LAST - HOUR + k * QUARTER for k in range(5)]
    assert all(len(row) == 2 for row in rows)
    as_date_time = range_access(CLOCK_COLUMN, Data(Tag.DATE_TIME, unspecified), Data(Tag.DATE_TIME, open_end))
    assert times(buffer(meter, as_date_time)) == times(rows)


@pytest.mark.parametrize(
    ("access", "result"),
    [
        (range_access(Attribute(3, "1-0:1.8.0*255", 2), b"\xff" * 12, b"\xff" * 12), "SCOPE_OF_ACCESS_VIOLATED"),
        (
            range_access(CLOCK_COLUMN, b"\xff" * 12, b"\xff" * 12, [Attribute(3, "1-0:9.8.0*255", 2)]),
            "SCOPE_OF_ACCESS_VIOLATED",
        ),
        (range_access(CLOCK_COLUMN, b"\x07", b"\xff" * 12), "TYPE_UNMATCHED"),
        (range_access(CLOCK_COLUMN, axdr.u32(4), b"\xff" * 12), "TYPE_UNMATCHED"),
        (entry_access(1, 2)._replace(selector=3), "SCOPE_OF_ACCESS_VIOLATED"),
        (entry_access(1, 2)._replace(parameter=axdr.u8(1)), "TYPE_UNMATCHED"),
    ],
)
def test_a_selection_that_the_meter_does_not_have_is_refused(access: Access, result: str):
    with pytest.raises(Denied) as caught:
        buffer(made(days=1), access)
    assert caught.value.result is DataAccessResult[result]


def test_entries_are_counted_from_one_in_the_buffers_order():
    oldest, newest = made(days=1), made(days=1, sort=LIFO)
    assert buffer(newest) == buffer(oldest)[::-1]
    for meter in (oldest, newest):
        whole = buffer(meter)
        assert buffer(meter, entry_access(1, 3)) == whole[:3]
        assert buffer(meter, entry_access(95, 0)) == whole[94:]
        assert buffer(meter, entry_access(2, 2, 3, 4)) == [whole[1][2:4]]
        assert buffer(meter, entry_access(97, 0)) == []


@pytest.mark.parametrize(
    "packing",
    [
        Packing(null_clock=True),
        Packing(null_same=True),
        Packing(delta=True),
        Packing(null_clock=True, null_same=True, delta=True),
        Packing(compact=True),
    ],
)
def test_a_packed_buffer_is_smaller_and_says_the_same(packing: Packing):
    plain, packed = made(days=3), made(days=3, packing=packing)
    raw = [axdr.encode(meter.load_profile.buffer(Ask(NOW))) for meter in (plain, packed)]
    assert len(raw[1]) < len(raw[0])
    rows: list[list[object]] = []
    for row in axdr.decode_all(raw[1]).value:
        before = rows[-1] if rows else None
        rows.append([unpacked(value, before[k] if before else None, k) for k, value in enumerate(row.value)])
    assert [row[1:] for row in rows] == [[value.value for value in row[1:]] for row in buffer(plain)]
    assert [row[0] for row in rows] == times(buffer(plain))


def unpacked(value: Data, before: object, column: int) -> object:
    if value.tag is Tag.NULL:
        return before + QUARTER if column == 0 else before  # type: ignore[operator] # the time before
    if column == 0:
        return to_utc(parse_datetime(value.value))
    return value.value + before if "DELTA" in value.tag.name else value.value


def test_rows_inside_a_power_failure_are_missing_and_the_next_one_says_so():
    start, end = LAST - 5 * HOUR - 60 * SECOND, LAST - 3 * HOUR - 60 * SECOND
    meter = DlmsMeter(
        Meter(MeterSettings(seed=3)), DlmsSettings(history=False, failures=((start, end),)), now=lambda: NOW
    )
    rows = {at: row for at, row in zip(times(buffer(meter)), buffer(meter), strict=True) if at > LAST - 6 * HOUR}
    missing = set(range(LAST - 5 * HOUR, LAST - 3 * HOUR, QUARTER))
    assert not missing & set(rows)
    assert len(rows) == 24 - len(missing)
    marked = [at for at, row in rows.items() if row[1].value & POWER_DOWN]
    assert marked == [LAST - 3 * HOUR]
    before, after = rows[LAST - 5 * HOUR - QUARTER], rows[LAST - 3 * HOUR]
    flowed = after[2].value - before[2].value
    assert flowed <= 4 * max(b[2].value - a[2].value for a, b in zip(buffer(meter), buffer(meter)[1:], strict=False))


def test_a_clock_put_forward_leaves_rows_out_and_put_back_has_them_twice():
    for by in (2 * HOUR, -2 * HOUR):
        meter = made(days=1)
        at = LAST - 3 * HOUR + 60 * SECOND
        meter.clock.set(at, at + by)
        found = [capture for capture in meter.load_profile.captures(NOW) if capture.at > LAST - 6 * HOUR]
        assert len(found) == 24
        shown = [capture.shown for capture in found]
        assert len(set(shown)) == (24 if by > 0 else 24 - 8)
        adjusted = [capture.at for capture in found if capture.code & CLOCK_ADJUSTED]
        assert adjusted == [LAST - 3 * HOUR + QUARTER]
        codes = [row.value[1].value for row in meter.objects["0-0:99.98.0*255"].get(2, Ask(NOW)).value]
        assert codes == [4, 5]


def test_a_drifting_clock_captures_at_its_own_boundaries():
    meter = DlmsMeter(
        Meter(MeterSettings(seed=3, drift_ppm=20, offset_s=7)), DlmsSettings(history=False), now=lambda: NOW
    )
    captures = meter.load_profile.captures(NOW)
    for capture in captures[::700]:
        assert meter.clock.shown(capture.at) >= capture.shown > meter.clock.shown(capture.at - 1)
        assert capture.shown % QUARTER == 0
        assert 7 * SECOND < capture.shown - capture.at < 700 * SECOND


def test_summer_time_is_in_the_stamp_and_in_the_status_and_october_has_an_hour_twice():
    settings = DlmsSettings(history=False, clock=ClockSettings("Europe/Berlin"), profile=ProfileSettings(days=2))
    now = 1_792_900_800 * SECOND  # 2026-10-25T04:00:00Z
    meter = DlmsMeter(Meter(MeterSettings(seed=3)), settings, now=lambda: now)
    rows = buffer(meter, now=now)
    assert times(rows) == list(range(now - 2 * DAY + QUARTER, now + 1, QUARTER))
    local = [parse_datetime(row[0].value) for row in rows]
    twice = [(time.hour, time.minute) for time in local if time.day == 25].count((2, 0))
    assert twice == 2
    assert [bool(row[1].value & DAYLIGHT_SAVING) for row in rows] == [time.deviation == -120 for time in local]


def test_averages_and_voltages_may_stand_in_the_profile():
    meter = made(days=1, columns=("1-0:1.8.0*255", "1-0:1.5.0*255", "1-0:32.7.0*255"), period_s=1800)
    rows = buffer(meter)
    assert len(rows) == 48
    assert all(2200 < row[4].value < 2400 for row in rows)
    assert rows[9][3].value == (meter.meter.demand(times(rows)[9]) + 500_000) // 1_000_000


def test_daily_values_are_of_local_midnight(make: Make):
    bench = make(DlmsSettings(history=False, clock=ClockSettings("Asia/Shanghai")))
    rows = [row.value for row in bench.meter.daily_profile.buffer(Ask(NOW)).value]
    assert len(rows) == 60
    assert all((time.hour, time.minute) == (0, 0) for time in (parse_datetime(row[0].value) for row in rows))
    assert all(row[2].value - 1 <= row[3].value + row[4].value <= row[2].value for row in rows)
