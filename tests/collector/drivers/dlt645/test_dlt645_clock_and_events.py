"""The meter's clock and its events, against a simulated meter."""

from datetime import datetime
from itertools import pairwise

import pytest

from collector.dlt645_profile import Dlt645Profile, load_dlt645_profile
from collector.drivers.dlt645_clock import Dlt645Clock
from collector.drivers.dlt645_events import Dlt645Events
from collector.keys import MeterKeys
from collector.protocols.dlt645.frame import BROADCAST, build_frame
from collector.protocols.dlt645.writes import Switch, control_request
from metering.errors import AuthError, RefusedError
from metering.model import SECOND, Event
from metering.timing import from_rfc3339, to_rfc3339
from simulators.dlt645_history import Happening
from simulators.dlt645_line import Dlt645Line
from tests.collector.drivers.dlt645.simulated_line import Site

ADDRESS = "000000004321"
PASSWORD = bytes.fromhex("123456")
DAY = 86_400 * SECOND
MIDNIGHT = from_rfc3339("2026-11-24T16:00:00Z")
PROFILE = load_dlt645_profile("dlt645_2007_3p")


def clock(site: Site, *, password: bytes = b"", profile: Dlt645Profile = PROFILE) -> Dlt645Clock:
    keys = MeterKeys(password=password, operator=bytes(4)) if password else None
    return Dlt645Clock(profile, "m1", profile.clock, keys, now=lambda: site.now)


@pytest.mark.parametrize("offset_s", [0, 40, -200, 5000])
async def test_the_offset_is_measured_to_a_second(site: Site, offset_s: int):
    site.add(offset_s=offset_s)
    reading = await clock(site).get(site.talk())
    assert abs(reading.offset - offset_s * SECOND) <= reading.uncertainty <= SECOND
    assert reading.trusted


async def test_a_midnight_between_date_and_time_is_not_mistaken(site: Site):
    site.add()
    site.step = SECOND
    for tenth in range(-40, 40):
        site.now = MIDNIGHT + tenth * SECOND // 10
        reading = await clock(site).get(site.talk())
        assert abs(reading.offset) <= reading.uncertainty


async def test_a_clock_is_set_by_password_once_and_to_the_second(site: Site):
    meter = site.add(offset_s=5000, made={"password": PASSWORD})
    mine = clock(site, password=PASSWORD)
    assert mine.shift_limit_s == 300
    await mine.set(site.talk(), site.now)
    assert abs(meter.meter.clock(site.now) - site.now) <= 2 * SECOND
    writes = [exchange for exchange, frame in zip(site.exchanges, site.asked, strict=True) if frame.control == 0x14]
    assert len(writes) == 2
    assert all(exchange.once for exchange in writes)


async def test_a_clock_is_shifted_by_what_is_asked_and_no_more(site: Site):
    meter = site.add(offset_s=50, made={"password": PASSWORD})
    mine = clock(site, password=PASSWORD)
    await mine.shift(site.talk(), -20)
    assert abs(meter.meter.clock(site.now) - site.now - 30 * SECOND) <= 2 * SECOND
    with pytest.raises(RefusedError, match="a shift by 301 s; the limit is 300 s"):
        await mine.shift(site.talk(), 301)


async def test_a_broadcast_shifts_only_where_it_goes_to_the_meter_alone(site: Site):
    assert clock(site).shift_limit_s == 0
    alone = PROFILE.clock.model_copy(update={"broadcast_to": "meter"})
    meter = site.add(offset_s=50)
    mine = clock(site, profile=PROFILE.model_copy(update={"clock": alone}))
    assert mine.shift_limit_s == 300
    await mine.shift(site.talk(), -50)
    assert abs(meter.meter.clock(site.now) - site.now) <= 2 * SECOND
    assert [frame.address for frame in site.asked if frame.control == 8] == [ADDRESS]


async def test_a_wrong_password_is_told_as_such_after_one_attempt(site: Site):
    meter = site.add(made={"password": PASSWORD})
    with pytest.raises(AuthError, match="wrong password") as caught:
        await clock(site, password=bytes.fromhex("987654")).set(site.talk(), site.now)
    assert meter.wrong_passwords == 1
    assert "987654" not in str(caught.value) + repr(caught.value) + repr(site.exchanges) + repr(site.asked)
    assert not any(shown in repr(site.exchanges[-1]) for shown in ("987654", "547698", "pdu"))


async def test_without_a_password_the_time_is_broadcast_once_a_day(site: Site):
    meter = site.add(offset_s=100)
    mine = clock(site)
    await mine.set(site.talk(), site.now)
    assert abs(meter.meter.clock(site.now) - site.now) <= 2 * SECOND
    assert [frame.address for frame in site.asked if frame.control == 8] == [BROADCAST]
    with pytest.raises(RefusedError, match="once a day"):
        await mine.set(site.talk(), site.now)
    site.now += DAY
    await mine.set(site.talk(), site.now)


@pytest.mark.parametrize(
    ("now", "offset_s", "message"),
    [
        ("2026-11-24T04:00:00Z", 400, "400 s off; a broadcast sets 300 s"),
        ("2026-11-24T15:55:00Z", 10, "near to midnight"),
        ("2026-11-24T16:05:00Z", 10, "near to midnight"),
        ("2026-11-24T15:48:00Z", 200, "near to midnight"),
    ],
)
async def test_a_broadcast_keeps_its_rules(site: Site, now: str, offset_s: int, message: str):
    meter = site.add(offset_s=offset_s)
    site.now = from_rfc3339(now)
    before = meter.meter.settings.offset_s
    with pytest.raises(RefusedError, match=message):
        await clock(site).set(site.talk(), site.now)
    assert meter.meter.settings.offset_s == before
    assert not any(frame.control == 8 for frame in site.asked)


async def test_no_time_is_broadcast_near_a_settlement(site: Site):
    noon = PROFILE.settlement.model_copy(update={"day": "2412", "days": ()})
    profile = PROFILE.model_copy(update={"settlement": noon})
    site.add(profile, offset_s=20)
    site.now = from_rfc3339("2026-11-24T04:07:00Z")
    with pytest.raises(RefusedError, match="near to a settlement"):
        await clock(site, profile=profile).set(site.talk(), site.now)


async def test_a_meter_that_takes_another_byte_order_is_noticed(site: Site):
    site.add(offset_s=100)
    other = PROFILE.model_copy(update={"clock": PROFILE.clock.model_copy(update={"broadcast": "high-first"})})
    with pytest.raises(RefusedError, match=r"did not take the time: it is \+100"):
        await clock(site, profile=other).set(site.talk(), site.now)


async def test_a_clock_cannot_be_shifted_and_some_not_even_set(site: Site):
    site.add("dlt645_1997")
    profile = load_dlt645_profile("dlt645_1997")
    mine = clock(site, profile=profile)
    assert mine.shift_limit_s == -1
    reading = await mine.get(site.talk())
    assert abs(reading.offset) <= reading.uncertainty
    with pytest.raises(RefusedError, match="cannot be set"):
        await mine.set(site.talk(), site.now)
    with pytest.raises(RefusedError, match="the limit is 0 s"):
        await mine.shift(site.talk(), 5)


async def test_no_clock_is_written_at_midnight(site: Site):
    site.add(made={"password": PASSWORD})
    site.now = MIDNIGHT - 30 * SECOND
    with pytest.raises(RefusedError, match="so near to midnight"):
        await clock(site, password=PASSWORD).set(site.talk(), site.now)


# --- events


async def events(site: Site, reader: Dlt645Events, since: int = 0) -> list[Event]:
    found: list[Event] = []
    await reader.read_events(site.talk(), since, into=found)
    return found


async def test_records_become_events_in_the_shared_words(site: Site):
    start = from_rfc3339("2026-11-20T01:02:03Z")
    happenings = [Happening("cover", start, start + 60 * SECOND), Happening("programming", start + DAY)]
    meter = site.add(happenings=happenings)
    meter.meter.interrupt(start + 2 * DAY, start + 2 * DAY + 600 * SECOND)
    found = await events(site, Dlt645Events(PROFILE, "m1"))
    shown = sorted((to_rfc3339(event.time), event.name, event.code) for event in found)
    assert shown == [
        ("2026-11-20T01:02:03Z", "cover-opened", "3.12.141.212"),
        ("2026-11-20T01:03:03Z", "cover-closed", "3.12.141.0"),
        ("2026-11-21T01:02:03Z", "programmed", "3.7.0.24"),
        ("2026-11-22T01:02:03Z", "power-down", "3.26.0.85"),
        ("2026-11-22T01:12:03Z", "power-up", "3.26.0.216"),
    ]
    assert {event.device for event in found} == {"m1"}


async def test_reading_twice_gives_the_same_events_and_since_leaves_out_what_is_older(site: Site):
    start = site.now - 9 * DAY
    site.add(happenings=[Happening("trip", start - start % SECOND + n * DAY) for n in range(9)])
    first = await events(site, Dlt645Events(PROFILE, "m1"))
    assert len({event.id for event in first}) == 9
    assert {event.id for event in await events(site, Dlt645Events(PROFILE, "m1"))} == {event.id for event in first}
    asked = len(site.asked)
    late = await events(site, Dlt645Events(PROFILE, "m1"), site.now - 5 * DAY // 2)
    assert len(late) == 2
    assert len(site.asked) - asked < asked
    assert all(a.time >= b.time for a, b in pairwise(late))


async def test_status_bits_are_events_when_they_change(site: Site):
    site.add(made={"battery_low": True})
    reader = Dlt645Events(PROFILE, "m1")
    first = [event for event in await events(site, reader) if "status" in event.detail]
    assert ("battery-low", {"status": "04000501", "bit": "2"}) in [(event.name, event.detail) for event in first]
    assert all(event.time % DAY == 0 for event in first)
    again = [event for event in await events(site, Dlt645Events(PROFILE, "m1")) if "status" in event.detail]
    assert {event.id for event in again} == {event.id for event in first}
    assert [event for event in await events(site, reader) if "status" in event.detail] == []
    restarted = Dlt645Events(PROFILE, "m1")
    restarted.words = dict(reader.words)
    site.now += 3 * DAY
    assert [event for event in await events(site, restarted) if "status" in event.detail] == []


@pytest.mark.parametrize("logs", [True, False])
async def test_a_trip_is_one_event_by_its_record_or_else_by_the_status_word(site: Site, *, logs: bool):
    absent = frozenset() if logs else frozenset(log.count for log in PROFILE.event)
    meter = site.add(made={"absent": absent})
    reader = Dlt645Events(PROFILE, "m1")
    await events(site, reader)
    meter.relay.operate(Switch.TRIP, site.now)
    tripped = [event for event in await events(site, reader, site.now - DAY) if event.name == "relay-opened"]
    assert ["log" in event.detail for event in tripped] == [logs]


async def test_logs_that_a_meter_lacks_are_asked_for_once(site: Site):
    absent = {log.count for log in PROFILE.event}
    site.add(made={"absent": frozenset(absent)})
    reader = Dlt645Events(PROFILE, "m1")
    await events(site, reader)
    asked = len(site.asked)
    await events(site, reader)
    assert len(site.asked) - asked == asked - len(PROFILE.event)


# --- the simulated switch, worked by frames


async def test_the_simulated_switch_trips_closes_and_keeps_power(site: Site):
    meter = site.add(made={"password": PASSWORD})
    line = Dlt645Line({ADDRESS: meter}, 0.001)
    keys = MeterKeys(password=PASSWORD, operator=bytes(4))
    until = meter._shown.civil(site.now + 600 * SECOND)

    def order(switch: Switch, keys: MeterKeys = keys, until: datetime = until) -> bytes:
        frame = control_request(ADDRESS, switch, until, keys, 2).request.to_bytes()
        return line.hear(line.scanner(), frame)[0].data[4:]

    accepted = build_frame(ADDRESS, 0x9C)
    assert order(Switch.TRIP, MeterKeys(password=bytes(3))) == build_frame(ADDRESS, 0xDC, b"\x04")
    assert order(Switch.TRIP, until=meter._shown.civil(site.now - SECOND)) == build_frame(ADDRESS, 0xDC, b"\x01")
    assert order(Switch.TRIP) == accepted
    assert (meter.relay.word, meter.meter.supply_on) == (0x50, False)
    assert order(Switch.PERMIT_CLOSE) == accepted
    assert (meter.relay.word, meter.meter.supply_on) == (0x10, False)
    meter.press()
    assert (meter.relay.word, meter.meter.supply_on) == (0, True)
    assert order(Switch.KEEP_POWER) == accepted
    assert order(Switch.TRIP) == build_frame(ADDRESS, 0xDC, b"\x01")
    assert order(Switch.KEEP_POWER_OFF) == accepted
    assert order(Switch.TRIP) == accepted
    assert order(Switch.CLOSE) == accepted
    assert meter.meter.supply_on
