"""A meter's clock is read and moved, and its logs become events that are the same however often they are read."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.dlms_profile import load_dlms_profile
from collector.drivers.dlms_clock import DlmsClock
from collector.drivers.dlms_events import DlmsEvents
from metering.errors import RefusedError
from metering.model import SECOND, Event
from simulators.dlms_clock import ClockSettings
from simulators.dlms_meter import DlmsSettings
from simulators.meter import MeterSettings

Open = Callable[..., Any]
DAY = 86400 * SECOND


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
@pytest.mark.parametrize("deviation", [True, False])
async def test_an_offset_is_measured_in_every_zone(open_site: Open, zone: str, deviation: bool):  # noqa: FBT001 - a parameter
    settings = DlmsSettings(clock=ClockSettings(zone=zone, deviation=deviation))
    physical = MeterSettings(serial="70000123", offset_s=37)
    async with open_site(settings, physical=physical) as site:
        driver = site.driver(zone=zone)
        reading = await site.work(driver, DlmsClock(driver).get)
        assert abs(reading.offset - 37 * SECOND) <= SECOND
        assert reading.trusted
        assert 0 < reading.uncertainty < SECOND


async def test_a_meter_that_counts_its_deviation_the_other_way_is_understood(open_site: Open):
    settings = DlmsSettings(clock=ClockSettings(zone="Europe/Berlin", sign="utc=local-dev"))
    profile = load_dlms_profile("dlms_generic")
    assert profile.clock is not None
    other = profile.model_copy(update={"clock": profile.clock.model_copy(update={"deviation": "utc=local-dev"})})
    async with open_site(settings) as site:
        driver = site.driver(other, zone="Europe/Berlin")
        assert abs((await site.work(driver, DlmsClock(driver).get)).offset) <= SECOND


async def test_a_clock_that_calls_itself_invalid_is_not_trusted(open_site: Open):
    async with open_site(DlmsSettings(clock=ClockSettings(status=1))) as site:
        driver = site.driver()
        assert not (await site.work(driver, DlmsClock(driver).get)).trusted


async def test_a_clock_is_shifted_within_its_limit_and_set_by_hand(open_site: Open):
    physical = MeterSettings(serial="70000123", offset_s=37)
    async with open_site(physical=physical) as site:
        driver = site.driver()
        clock = DlmsClock(driver)
        assert clock.shift_limit_s == 900
        await site.work(driver, lambda talk: clock.shift(talk, -37))
        assert abs((await site.work(driver, clock.get)).offset) <= SECOND
        with pytest.raises(RefusedError, match="by 900 s at most"):
            await site.work(driver, lambda talk: clock.shift(talk, 901))
        await site.work(driver, lambda talk: clock.set(talk, site.meter.now() + 7200 * SECOND))
        assert abs((await site.work(driver, clock.get)).offset - 7200 * SECOND) <= SECOND


async def read(site: Any, driver: Any, events: DlmsEvents, since: int) -> list[Event]:  # noqa: ANN401 - of the fixture
    found: list[Event] = []
    await site.work(driver, lambda talk: events.read_events(talk, since, into=found))
    return found


async def test_logs_become_events_and_reading_twice_gives_the_same(open_site: Open):
    async with open_site(DlmsSettings(clock=ClockSettings(zone="Europe/Berlin"))) as site:
        driver = site.driver("dlms_idis", zone="Europe/Berlin")
        events = DlmsEvents(driver, now=site.meter.now)
        first = await read(site, driver, events, 0)
        names = {event.name for event in first}
        assert {"power-down", "power-up"} <= names
        assert "meter-event" not in names
        again = await read(site, driver, events, 0)
        assert [event.id for event in again] == [event.id for event in first]
        middle = sorted(event.time for event in first)[len(first) // 2]
        later = await read(site, driver, events, middle)
        assert sorted(event.id for event in later) == sorted(event.id for event in first if event.time >= middle)


async def test_a_log_that_the_meter_lacks_does_not_keep_the_others_from_being_read(open_site: Open):
    profile = load_dlms_profile("dlms_idis")
    specs = (profile.events[0].model_copy(update={"obis": "0-0:99.98.77*255"}), *profile.events[1:])
    async with open_site() as site:
        driver = site.driver(profile.model_copy(update={"events": specs}))
        events = DlmsEvents(driver, now=site.meter.now)
        assert await read(site, driver, events, 0)
        assert await read(site, driver, events, 0)


async def test_the_log_of_long_power_failures_says_how_long_they_were(open_site: Open):
    async with open_site() as site:
        driver = site.driver("dlms_dsmr5")
        found = await read(site, driver, DlmsEvents(driver, now=site.meter.now), 0)
        lasted = [event.detail["0-0:96.7.19*255"] for event in found if event.detail["log"] == "power_failures"]
        assert lasted
        assert all(int(seconds) > 0 for seconds in lasted)
