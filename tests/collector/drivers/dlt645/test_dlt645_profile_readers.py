"""What a meter recorded: load records in follow-up frames, daily freezes, settlements, all as its registers were."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from collector.dlt645_profile import Dlt645Profile, load_dlt645_profile
from collector.drivers.dlt645_freezes import DailyFreezeReader
from collector.drivers.dlt645_records import LoadRecordReader
from collector.drivers.dlt645_settlements import SettlementReader, settlement_times
from collector.drivers.dlt645_talk import Dlt645Talk
from collector.exchange import Answer, Exchange
from collector.protocols.dlt645.frame import build_frame, parse_frame
from collector.protocols.dlt645.load_record import Record, build_record
from metering.errors import FrameError, MeterError, RefusedError
from metering.model import SECOND, Block, Kind, Source
from metering.quality import Quality
from metering.timing import from_rfc3339, to_rfc3339
from simulators.dlt645_faults import Dlt645Fault
from tests.collector.drivers.dlt645.simulated_line import Site

QUARTER = 900 * SECOND
DAY = 86_400 * SECOND
SHANGHAI = ZoneInfo("Asia/Shanghai")


def profile(**changes: dict) -> Dlt645Profile:
    """Return the three-phase profile with changes to its tables."""
    made = load_dlt645_profile("dlt645_2007_3p")
    tables = {name: getattr(made, name).model_copy(update=change) for name, change in changes.items()}
    return made.model_copy(update=tables)


def records(made: Dlt645Profile, number: int = 4) -> LoadRecordReader:
    return LoadRecordReader(
        made, "m1", made.load_record, next(each for each in made.load_record.classes if each.number == number)
    )


def column(blocks: list[Block], obis: str) -> dict[int, int]:
    """Return a channel's values by time."""
    return {
        block.slot: block.values[[each.obis for each in block.layout.columns].index(obis)]
        for block in blocks
        if obis in [each.obis for each in block.layout.columns]
    }


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
async def test_a_piece_of_each_class_of_load_records_is_read(site: Site, number: int):
    meter = site.add()
    reader = records(meter.profile, number)
    talk = site.talk()
    await reader.prepare(talk)
    blocks: list[Block] = []
    start = from_rfc3339("2026-11-23T04:00:00Z")
    await reader.read_profile(talk, start, start + 20 * QUARTER, into=blocks)
    slots = sorted({block.slot for block in blocks})
    assert slots == [start + n * QUARTER for n in range(1, reader.piece_rows + 1)]
    assert {block.layout.source for block in blocks} == {Source.PROFILE}
    assert {block.layout.interval for block in blocks} == {900}
    assert all(block.measured_at == block.slot for block in blocks)
    got = {kind: tuple(c.obis for c in block.layout.columns) for block in blocks for kind in [block.layout.kind]}
    assert got == dict(reader.channels)


async def test_load_records_agree_with_the_registers_and_come_in_follow_up_frames(site: Site):
    made = profile(load_record={"piece": 24})
    meter = site.add(made)
    reader = records(made)
    blocks: list[Block] = []
    start = from_rfc3339("2026-11-23T12:00:00Z")
    await reader.read_profile(site.talk(), start, start + 20 * QUARTER, into=blocks)
    assert len(blocks) == 20
    shown = column(blocks, "1-0:1.8.0*255")
    for at, value in shown.items():
        assert value == meter.meter.values(at)["1-0:1.8.0*255"] // 10_000_000
    assert [frame.control for frame in site.asked] == [0x11, *([0x12] * (len(site.asked) - 1))]
    assert len(site.asked) > 3


async def test_newest_and_oldest_records_are_read_by_themselves(site: Site):
    made = profile(load_record={"days": 2})
    site.add(made)
    reader = records(made)
    newest: list[Block] = []
    oldest: list[Block] = []
    await reader.read_newest(site.talk(), 3, into=newest)
    await reader.read_oldest(site.talk(), into=oldest)
    assert [to_rfc3339(block.slot) for block in newest] == [
        "2026-11-24T03:30:00Z",
        "2026-11-24T03:45:00Z",
        "2026-11-24T04:00:00Z",
    ]
    assert newest[-1].slot - oldest[0].slot == 2 * DAY - QUARTER


@pytest.mark.parametrize(
    "change",
    [
        {"stamps": "begin"},
        {"sections": "own"},
        {"stamp_order": "high-first"},
        {"length_counts": "tail"},
        {"checksum": False},
        {"trailer": ""},
        {"header": "A5"},
    ],
)
async def test_every_part_of_a_records_layout_is_a_parameter(site: Site, change: dict):
    made = profile(load_record=change)
    meter = site.add(made)
    blocks: list[Block] = []
    start = from_rfc3339("2026-11-23T12:00:00Z")
    await records(made).read_profile(site.talk(), start, start + 3 * QUARTER, into=blocks)
    shown = column(blocks, "1-0:1.8.0*255")
    assert list(shown) == [start + n * QUARTER for n in (1, 2, 3)]
    for at, value in shown.items():
        assert value == meter.meter.values(at)["1-0:1.8.0*255"] // 10_000_000


async def test_another_layout_than_the_meters_is_a_named_error(site: Site):
    site.add()
    made = profile(load_record={"trailer": "E6"})
    with pytest.raises(FrameError, match="does not end as its layout says"):
        await records(made).read_newest(site.talk(), 2, into=[])


@pytest.mark.parametrize("kind", ["lost_follow_up", "wrong_sequence", "endless"])
async def test_a_broken_row_of_follow_up_frames_is_a_named_error(site: Site, kind: str):
    made = profile(load_record={"piece": 24})
    site.add(made, faults=[Dlt645Fault(kind)])
    with pytest.raises(MeterError) as caught:
        await records(made).read_newest(site.talk(), 24, into=[])
    assert caught.value.kind in ("frame", "no-answer")
    assert len(site.asked) <= 300


async def test_rows_inside_a_power_failure_are_not_there(site: Site):
    meter = site.add()
    start = from_rfc3339("2026-11-23T04:00:00Z")
    meter.meter.interrupt(start + 20 * 60 * SECOND, start + 40 * 60 * SECOND)
    blocks: list[Block] = []
    await records(meter.profile).read_profile(site.talk(), start, start + 4 * QUARTER, into=blocks)
    assert list(column(blocks, "1-0:1.8.0*255")) == [start + QUARTER, start + 3 * QUARTER, start + 4 * QUARTER]


async def test_what_the_meter_no_longer_has_gives_no_row(site: Site):
    meter = site.add()
    blocks: list[Block] = []
    long_ago = site.now - 300 * DAY
    await records(meter.profile).read_profile(site.talk(), long_ago, long_ago + DAY, into=blocks)
    assert blocks == []


async def test_the_meters_own_interval_wins(site: Site):
    made = profile()
    hourly = tuple(each.model_copy(update={"interval": 3600.0}) for each in made.load_record.classes)
    site.add(profile(load_record={"classes": hourly}))
    reader = records(made)
    assert reader.interval == 900
    talk = site.talk()
    await reader.prepare(talk)
    assert reader.interval == 3600
    assert reader.depth == (1440, 60)
    blocks: list[Block] = []
    start = from_rfc3339("2026-11-23T04:00:00Z")
    await reader.read_profile(talk, start, start + 2 * 3600 * SECOND, into=blocks)
    assert list(column(blocks, "1-0:1.8.0*255")) == [start + 3600 * SECOND, start + 7200 * SECOND]


async def test_the_hour_that_comes_twice_is_told_apart_by_the_order_of_its_rows(site: Site):
    made = profile(load_record={"piece": 20}).model_copy(update={"zone": "Europe/Berlin"})
    reader, layout = records(made), made.record_layout(4)
    stamps = ["01:45", "02:00", "02:15", "02:30", "02:45", "02:00", "02:15", "02:30", "02:45", "03:00"]
    moments = [datetime.fromisoformat(f"2026-10-25T{stamp}:00") for stamp in stamps]
    rows = [build_record(layout, Record(moment, {4: bytes(16)})) for moment in moments]
    asked: list[bytes] = []

    async def transact(exchange: Exchange) -> Answer:
        request = parse_frame(exchange.pdu)
        asked.append(request.data)
        rest = rows[5 * (len(asked) - 1) :]
        more = 0xB1 if len(asked) == 1 else 0x92
        data = request.data[:4] + b"".join(rest[:5]) + (b"\x01" if more == 0x92 else b"")
        return Answer(build_frame(request.address, more, data), site.now, site.now)

    blocks: list[Block] = []
    start = from_rfc3339("2026-10-24T23:30:00Z")
    talk = Dlt645Talk(transact, made, "000000004321", "m1")
    await reader.read_profile(talk, start, start + 20 * QUARTER, into=blocks)
    assert [block.slot for block in blocks] == [start + n * QUARTER for n in range(1, 11)]
    suspect = [any(quality & Quality.CLOCK_SUSPECT for quality in block.quality) for block in blocks]
    assert suspect == [False, *[True] * 8, False]
    assert asked[0][4:].hex() == "204501251026"


async def test_a_piece_that_begins_where_the_hour_comes_again_takes_no_row_of_its_first_pass(site: Site):
    made = profile().model_copy(update={"zone": "Europe/Berlin"})
    reader, layout = records(made), made.record_layout(4)
    stamps = ["02:15", "02:30", "02:45", "02:00", "02:15", "02:30", "02:45", "03:00"]
    moments = [datetime.fromisoformat(f"2026-10-25T{stamp}:00") for stamp in stamps]
    rows = [build_record(layout, Record(moment, {4: bytes(16)})) for moment in moments]
    asked: list[bytes] = []

    async def transact(exchange: Exchange) -> Answer:
        request = parse_frame(exchange.pdu)
        asked.append(request.data)
        return Answer(build_frame(request.address, 0x91, request.data[:4] + b"".join(rows[:6])), site.now, site.now)

    blocks: list[Block] = []
    start = from_rfc3339("2026-10-25T01:00:00Z")
    talk = Dlt645Talk(transact, made, "000000004321", "m1")
    await reader.read_profile(talk, start, start + 2 * QUARTER, into=blocks)
    assert [block.slot for block in blocks] == [start + QUARTER, start + 2 * QUARTER]
    assert asked[0][4:].hex() == "061502251026"  # four rows of the first pass and the two that are wanted


# --- daily freezes


async def days(site: Site, made: Dlt645Profile, start: int, end: int) -> list[Block]:
    blocks: list[Block] = []
    await DailyFreezeReader(made, "m1", made.daily_freeze).read_profile(site.talk(), start, end, into=blocks)
    return blocks


@pytest.mark.parametrize("whole", [False, True])
async def test_daily_freezes_are_the_registers_at_the_meters_midnights(site: Site, whole: bool):  # noqa: FBT001 - a table
    made = profile(daily_freeze={"whole": whole, "piece": 3})
    meter = site.add(made)
    start = from_rfc3339("2026-11-10T00:00:00Z")
    blocks = await days(site, made, start, site.now)
    midnights = [from_rfc3339(f"2026-11-{day}T16:00:00Z") for day in (10, 11, 12)]
    assert [block.slot for block in blocks] == midnights
    for at, value in column(blocks, "1-0:1.8.2*255").items():
        tariff = meter._shown.stored(made.point("active_import_t2"), meter.meter.values(at))
        assert value == tariff
    assert len(site.asked) == (4 if whole else 10)
    assert blocks[0].layout.kind is Kind.REGISTER
    assert blocks[0].layout.interval == 86_400


async def test_all_days_of_a_meters_memory_are_read_piece_by_piece(site: Site):
    made = profile(daily_freeze={"whole": True, "piece": 10})
    site.add(made)
    start, slots = site.now - 100 * DAY, []
    for _ in range(10):
        blocks = await days(site, made, start, site.now)
        if not blocks:
            break
        slots += [block.slot for block in blocks]
        start = slots[-1]
    assert len(slots) == 62
    assert all(b - a == DAY for a, b in pairwise(slots))
    assert to_rfc3339(slots[-1]) == "2026-11-23T16:00:00Z"


async def test_a_day_that_was_not_frozen_is_left_out(site: Site):
    made = profile()
    meter = site.add(made)
    midnight = from_rfc3339("2026-11-20T16:00:00Z")
    meter.meter.interrupt(midnight - SECOND, midnight + SECOND)
    blocks = await days(site, made, midnight - DAY - SECOND, midnight + DAY)
    assert [block.slot for block in blocks] == [midnight - DAY, midnight + DAY]


@pytest.mark.parametrize("whole", [False, True])
async def test_a_midnight_amid_the_reading_mixes_no_days(site: Site, whole: bool):  # noqa: FBT001 - a table
    made = profile(daily_freeze={"whole": whole, "piece": 8})
    meter = site.add(made)
    site.step = SECOND
    for second in range(1, 20):
        site.now = from_rfc3339("2026-11-24T16:00:00Z") - second * SECOND
        for block in await days(site, made, site.now - 5 * DAY, site.now + DAY):
            for each, value in zip(block.layout.columns, block.values, strict=True):
                point = next(p for p in made.points if p.obis == each.obis)
                assert value == meter._shown.stored(point, meter.meter.values(block.slot))


async def test_a_meter_that_keeps_fewer_days_gives_what_it_has(site: Site):
    meter = site.add(profile(daily_freeze={"days": 5}))
    blocks = await days(site, profile(), site.now - 8 * DAY, site.now)
    assert len(blocks) == 5
    assert meter.asked > 5


# --- settlements


async def test_settlements_are_the_registers_at_the_months_beginnings(site: Site):
    made = profile()
    meter = site.add(made)
    reader = SettlementReader(made, "m1", made.settlement)
    talk = site.talk()
    await reader.prepare(talk)
    blocks: list[Block] = []
    await reader.read_profile(talk, from_rfc3339("2026-08-01T00:00:00Z"), site.now, into=blocks)
    shown = column(blocks, "1-0:1.8.0*255")
    assert [to_rfc3339(at) for at in shown] == ["2026-08-31T16:00:00Z", "2026-09-30T16:00:00Z", "2026-10-31T16:00:00Z"]
    for at, value in shown.items():
        assert value == meter.meter.values(at)["1-0:1.8.0*255"] // 10_000_000
    assert {block.layout.interval for block in blocks} == {0}
    assert list(column(blocks, "1-0:1.6.0*255")) == list(shown)
    assert Kind.MAXIMUM_DEMAND in dict(reader.channels)
    captured = {b.slot: b.values[0] for b in blocks if b.layout.columns[0].unit == "s"}
    assert list(captured) == list(shown)
    for at, second in captured.items():
        assert 0 < at - second * SECOND < 31 * DAY
    assert reader.depth == (12, 336)


async def test_nothing_is_read_about_a_settlement_while_it_happens(site: Site):
    made = profile()
    site.add(made)
    site.now = from_rfc3339("2026-10-31T15:58:00Z")
    blocks: list[Block] = []
    with pytest.raises(RefusedError, match="settles about now"):
        await SettlementReader(made, "m1", made.settlement).read_profile(
            site.talk(), site.now - 60 * DAY, site.now + DAY, into=blocks
        )
    assert blocks == []


@pytest.mark.parametrize(
    ("now", "offset_s", "newest"),
    [
        ("2026-10-31T16:30:00Z", -3600, "2026-09-30T16:00:00Z"),  # we are past the settlement, the meter is not
        ("2026-10-31T15:30:00Z", 3600, "2026-10-31T16:00:00Z"),  # and the other way round
    ],
)
async def test_which_settlement_is_the_newest_follows_from_the_meters_own_clock(
    site: Site, now: str, offset_s: float, newest: str
):
    made = profile()
    meter = site.add(made, offset_s=offset_s)
    site.now = from_rfc3339(now)
    blocks: list[Block] = []
    reader = SettlementReader(made, "m1", made.settlement)
    await reader.read_profile(site.talk(), site.now - 60 * DAY, site.now + DAY, into=blocks)
    shown = column(blocks, "1-0:1.8.0*255")
    assert to_rfc3339(max(shown)) == newest
    for at, value in shown.items():
        assert value == meter.meter.values(at)["1-0:1.8.0*255"] // 10_000_000


def test_several_settlement_days_of_a_month_are_counted_back():
    before = datetime(2026, 3, 10, 12, tzinfo=SHANGHAI).replace(tzinfo=None)
    times = settlement_times([(1, 0), (15, 12)], before, 4)
    assert [moment.isoformat()[:13] for moment in times] == [
        "2026-03-01T00",
        "2026-02-15T12",
        "2026-02-01T00",
        "2026-01-15T12",
    ]
