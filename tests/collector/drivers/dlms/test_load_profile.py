"""A meter's own profiles: by range, by number, in pieces, over the change of summer time, billing and daily."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from collector.dlms_profile import DlmsProfile, load_dlms_profile
from collector.drivers.dlms_load_profile import DlmsProfileReader
from collector.protocols.dlms.axdr import Data, array, enum_, i8, structure
from collector.protocols.dlms.references import CaptureObject, DataAccessResult
from metering.errors import MeterError, RefusedError
from metering.model import SECOND, Block, Kind, Source
from metering.quality import Quality
from simulators.dlms_clock import ClockSettings
from simulators.dlms_faults import DlmsFault, DlmsFaults
from simulators.dlms_meter import DlmsSettings, ProfileSettings
from simulators.dlms_objects import Ask, CosemObject, Denied
from simulators.dlms_profiles import LIFO

Open = Callable[..., Any]
QUARTER = 900 * SECOND
HOUR = 3600 * SECOND
ENERGY = "1-0:1.8.0*255"
DAY = 24 * HOUR


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def changed(profile: DlmsProfile, name: str, **update: object) -> DlmsProfile:
    specs = tuple(spec.model_copy(update=update) if spec.name == name else spec for spec in profile.profile)
    return profile.model_copy(update={"profile": specs})


def reader_of(driver: Any, name: str) -> DlmsProfileReader:  # noqa: ANN401 - of the fixture
    return DlmsProfileReader(driver, next(spec for spec in driver.profile.profile if spec.name == name))


async def rows(site: Any, driver: Any, reader: DlmsProfileReader, start: int, end: int) -> list[Block]:  # noqa: ANN401 - of the fixture
    blocks: list[Block] = []
    await site.work(driver, lambda talk: reader.read_profile(talk, start, end, into=blocks))
    return blocks


def check(site: Any, blocks: list[Block], start: int, end: int) -> None:  # noqa: ANN401 - of the fixture
    """All boundaries are there, in order, with what the meter's register showed then."""
    assert [block.slot for block in blocks] == list(range(start + QUARTER, end + 1, QUARTER))
    for block in blocks:
        assert block.layout.source is Source.PROFILE
        assert block.layout.kind is Kind.REGISTER
        energies = site.meter.meter.energies(block.slot)
        for column, value in zip(block.layout.columns, block.values, strict=True):
            assert (column.unit[0], column.scale) == ("k", -3)
            assert value == energies[column.obis] // 1_000_000


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("access", ["range", "entry", "all"])
async def test_a_piece_of_the_load_profile_is_what_the_meter_showed(open_site: Open, framing: str, access: str):
    profile = changed(load_dlms_profile("dlms_generic"), "load", access=access)
    settings = DlmsSettings(history=False, profile=ProfileSettings(days=5))
    async with open_site(settings, framing=framing) as site:
        driver = site.driver(profile)
        reader = reader_of(driver, "load")
        end = site.meter.now() // QUARTER * QUARTER
        for start, stop in ((end - 8 * HOUR, end), (end - 3 * DAY, end - 3 * DAY + 2 * HOUR)):
            check(site, await rows(site, driver, reader, start, stop), start, stop)


async def test_prepare_tells_interval_depth_and_channels(open_site: Open):
    async with open_site() as site:
        driver = site.driver()
        reader = reader_of(driver, "load")
        assert (reader.interval, reader.channels) == (0, ())
        await site.work(driver, reader.prepare)
        assert reader.interval == 900
        assert reader.depth.days == 60
        assert reader.depth.entries == 60 * 96
        assert [(kind, len(codes)) for kind, codes in reader.channels] == [(Kind.REGISTER, 4)]


@pytest.mark.parametrize("access", ["range", "entry"])
@pytest.mark.parametrize("days_back", [0, 3, 11, 23])
async def test_rows_that_are_missing_in_a_power_failure_are_not_made_up(open_site: Open, access: str, days_back: int):
    """Hours without power make the numbers of older rows smaller than counting back says."""
    now = us("2026-11-18T11:06:40")
    failures = tuple((now - d * DAY - 5 * HOUR, now - d * DAY - 3 * HOUR - 400 * SECOND) for d in (1, 4, 9, 16, 22))
    settings = DlmsSettings(history=False, failures=failures, profile=ProfileSettings(days=25))
    profile = changed(load_dlms_profile("dlms_idis"), "load", access=access)
    async with open_site(settings) as site:
        driver = site.driver(profile)
        reader = reader_of(driver, "load")
        end = now // QUARTER * QUARTER - days_back * DAY
        start = end - DAY
        blocks = await rows(site, driver, reader, start, end)
        slots = [block.slot for block in blocks if block.slot is not None]
        dark = {at for at in range(start + QUARTER, end + 1, QUARTER) for a, b in failures if a <= at < b}
        assert slots == [at for at in range(start + QUARTER, end + 1, QUARTER) if at not in dark]


async def test_a_profile_that_gives_its_newest_row_first_is_read_the_same(open_site: Open):
    for access in ("range", "entry"):
        profile = changed(load_dlms_profile("dlms_generic"), "load", access=access)
        settings = DlmsSettings(history=False, profile=ProfileSettings(days=5, sort=LIFO))
        async with open_site(settings) as site:
            driver = site.driver(profile)
            end = site.meter.now() // QUARTER * QUARTER - DAY
            check(site, await rows(site, driver, reader_of(driver, "load"), end - DAY, end), end - DAY, end)


@pytest.mark.parametrize("deviation", [True, False])
async def test_the_night_when_summer_time_ends_is_whole(open_site: Open, deviation: bool):  # noqa: FBT001 - a parameter
    clock = ClockSettings(zone="Europe/Berlin", deviation=deviation)
    settings = DlmsSettings(history=False, clock=clock)
    async with open_site(settings) as site:
        driver = site.driver("dlms_idis", zone="Europe/Berlin")
        start, end = us("2026-10-24T22:00:00"), us("2026-10-25T06:00:00")
        blocks = await rows(site, driver, reader_of(driver, "load"), start, end)
        check(site, blocks, start, end)
        assert not any(flag & Quality.CLOCK_SUSPECT for block in blocks for flag in block.quality)


async def test_days_end_at_the_meters_midnight_and_months_at_their_end(open_site: Open):
    clock = ClockSettings(zone="Europe/Berlin")
    async with open_site(DlmsSettings(history=False, clock=clock)) as site:
        driver = site.driver("dlms_idis", zone="Europe/Berlin")
        daily = reader_of(driver, "daily")
        blocks = await rows(site, driver, daily, us("2026-10-23T22:00:00"), us("2026-10-26T23:00:00"))
        assert daily.interval == 86400
        assert [block.slot for block in blocks] == [
            us("2026-10-24T22:00:00"),
            us("2026-10-25T23:00:00"),
            us("2026-10-26T23:00:00"),
        ]
        billing = reader_of(driver, "billing")
        blocks = await rows(site, driver, billing, us("2026-09-01T00:00:00"), us("2026-11-10T00:00:00"))
        assert billing.interval == 0
        assert sorted({block.measured_at for block in blocks}) == [
            us("2026-09-30T22:00:00"),
            us("2026-10-31T23:00:00"),
        ]
        assert {block.layout.kind for block in blocks} == {Kind.REGISTER, Kind.MAXIMUM_DEMAND, Kind.INSTANTANEOUS}


async def test_a_profile_that_the_meter_has_not_is_refused(open_site: Open):
    profile = changed(load_dlms_profile("dlms_generic"), "load", obis="1-0:99.77.0*255")
    async with open_site() as site:
        driver = site.driver(profile)
        with pytest.raises(RefusedError) as caught:
            await site.work(driver, reader_of(driver, "load").prepare)
        assert (caught.value.code, caught.value.meter) == (4, "m1")


async def test_a_meter_that_refuses_ranges_is_read_by_number_from_then_on(open_site: Open):
    settings = DlmsSettings(history=False, profile=ProfileSettings(days=5))
    async with open_site(settings) as site:
        load = site.meter.objects["1-0:99.1.0*255"]
        buffer = load.read[2]

        def no_ranges(ask: Ask) -> Data:
            if ask.access is not None and ask.access.selector == 1:
                raise Denied(DataAccessResult.OTHER_REASON)
            return buffer(ask)

        site.meter.add([replace(load, read={**load.read, 2: no_ranges})])
        driver = site.driver()
        reader = reader_of(driver, "load")
        end = site.meter.now() // QUARTER * QUARTER - DAY
        for _ in range(2):
            check(site, await rows(site, driver, reader, end - 6 * HOUR, end), end - 6 * HOUR, end)


async def test_scalers_of_an_indian_meter_stand_in_a_profile_of_their_own(open_site: Open):
    """The registers' own scalers are not there; the row of scalers says 10 Wh."""
    clock = ClockSettings(zone="Asia/Kolkata", deviation=False)
    made = ProfileSettings(days=5, period_s=1800, columns=("1-0:1.8.0*255",), status=False)
    async with open_site(DlmsSettings(history=False, clock=clock, profile=made)) as site:
        energy = CaptureObject(3, "1-0:1.8.0*255", 3)
        row = structure(structure(i8(1), enum_(30)))
        scalers = {3: array(energy.to_data()), 2: array(row)}
        site.meter.add([CosemObject(7, "1-0:94.91.4*255", scalers)])
        driver = site.driver("dlms_is15959", zone="Asia/Kolkata")
        reader = reader_of(driver, "load")
        start = us("2026-11-16T18:30:00")
        blocks = await rows(site, driver, reader, start, start + 2 * HOUR)
        assert [block.slot for block in blocks] == [start + (i + 1) * 1800 * SECOND for i in range(4)]
        assert {(c.unit, c.scale) for block in blocks for c in block.layout.columns} == {("kWh", -2)}


async def test_a_transfer_that_breaks_off_leaves_what_came_before_it(open_site: Open):
    quick = load_dlms_profile("dlms_generic").model_copy(update={"profile_turnaround": 0.05})
    profile = changed(quick, "load", access="entry", piece_rows=8)
    faults = DlmsFaults((DlmsFault("lost", every=20, times=1),))
    settings = DlmsSettings(history=False, profile=ProfileSettings(days=5))
    async with open_site(settings, faults=faults) as site:
        driver = site.driver(profile)
        reader = reader_of(driver, "load")
        end = site.meter.now() // QUARTER * QUARTER
        blocks: list[Block] = []
        with pytest.raises(MeterError) as caught:
            await site.work(driver, lambda talk: reader.read_profile(talk, end - DAY, end, into=blocks))
        assert caught.value.meter == "m1"
        came = len(blocks)
        assert 0 < came < 96
        check(site, await rows(site, driver, reader, end - DAY, end), end - DAY, end)


async def test_a_scaler_that_somebody_programmed_counts_from_the_next_association(open_site: Open):
    """And in the same one for all that is read in it: nothing is ten times too high."""
    async with open_site(DlmsSettings(history=False, profile=ProfileSettings(days=5, columns=(ENERGY,)))) as site:
        driver = site.driver()
        reader = reader_of(driver, "load")
        end = site.meter.now() // QUARTER * QUARTER
        scales = []
        for scaler in (0, -1, 1):
            site.meter.objects[ENERGY].read[3] = structure(i8(scaler), enum_(30))
            scales += [block.layout.columns[0].scale for block in await rows(site, driver, reader, end - HOUR, end)]
        assert scales == [-3] * 4 + [-4] * 4 + [-2] * 4


async def test_a_scaler_refused_for_a_moment_is_no_reason_to_go_without_its_column(open_site: Open):
    async with open_site(DlmsSettings(history=False, profile=ProfileSettings(days=5, columns=(ENERGY,)))) as site:
        driver = site.driver()
        reader = reader_of(driver, "load")
        end = site.meter.now() // QUARTER * QUARTER
        check(site, await rows(site, driver, reader, end - HOUR, end), end - HOUR, end)

        def refuse(_: Ask) -> Data:
            raise Denied(DataAccessResult.HARDWARE_FAULT)

        kept = site.meter.objects[ENERGY].read[3]
        site.meter.objects[ENERGY].read[3] = refuse
        with pytest.raises(RefusedError):
            await rows(site, driver, reader, end - HOUR, end)
        site.meter.objects[ENERGY].read[3] = kept
        check(site, await rows(site, driver, reader, end - HOUR, end), end - HOUR, end)


async def test_columns_that_somebody_programmed_are_noticed_in_the_next_association(open_site: Open):
    """Their number, or only their order: with four-byte counters the buffer does not tell."""
    before, after = ("1-0:1.8.0*255", "1-0:2.8.0*255"), ("1-0:2.8.0*255", "1-0:1.8.0*255")
    async with open_site(DlmsSettings(history=False, profile=ProfileSettings(days=5, columns=before))) as site:
        driver = site.driver()
        reader = reader_of(driver, "load")
        end = site.meter.now() // QUARTER * QUARTER
        check(site, await rows(site, driver, reader, end - HOUR, end), end - HOUR, end)
        for columns in (after, (*after, "1-0:3.8.0*255")):
            site.meter._build_profiles(ProfileSettings(days=5, columns=columns))
            site.meter.add(site.meter._objects())
            found = await rows(site, driver, reader, end - HOUR, end)
            assert [column.obis for column in found[0].layout.columns] == list(columns)
            check(site, found, end - HOUR, end)
