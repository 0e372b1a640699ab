"""The objects of a simulated DLMS meter: all there, all readable, and all of one mind about what flowed."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Tag
from collector.protocols.dlms.clock import parse_datetime, to_utc
from collector.protocols.dlms.references import DataAccessResult, logical_name
from metering.model import SECOND
from simulators.dlms_events import FRAUD, Code
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_objects import Ask, Denied, Role, find
from simulators.meter import DEMAND_PERIOD

Bench = Any
Make = Callable[..., Any]

HOUR = 3600 * SECOND
INSTANT = 1_795_000_000 * SECOND


def read(bench: Bench, obis: str, attribute: int = 2, role: Role = Role.MANAGER):
    return bench.meter.objects[obis].get(attribute, Ask(bench.clock.now, role))


def test_every_attribute_of_every_object_can_be_read_and_encoded(bench: Bench):
    for found in bench.meter.objects.values():
        assert found.get(1, Ask(bench.clock.now)).value == logical_name(found.obis)
        for attribute in found.read:
            value = found.get(attribute, Ask(bench.clock.now))
            assert axdr.decode_all(axdr.encode(value)) == value


@pytest.mark.parametrize(
    "obis",
    ["0-0:42.0.0*255", "0-0:96.1.0*255", "1-0:0.2.0*255", "0-0:1.0.0*255", "0-0:43.1.0*255", "0-0:40.0.0*255"],
)
def test_the_public_client_reads_who_the_meter_is_and_what_time_it_has(bench: Bench, obis: str):
    assert read(bench, obis, role=Role.PUBLIC).tag is not Tag.NULL


@pytest.mark.parametrize("obis", ["1-0:1.8.0*255", "1-0:99.1.0*255", "0-0:96.3.10*255", "0-0:43.0.0*255"])
def test_the_public_client_reads_nothing_else(bench: Bench, obis: str):
    with pytest.raises(Denied) as caught:
        read(bench, obis, role=Role.PUBLIC)
    assert caught.value.result is DataAccessResult.READ_WRITE_DENIED


def test_an_object_that_is_not_there_and_one_of_another_class_are_told_apart(bench: Bench):
    for class_id, obis, result in [
        (3, "1-0:99.8.0*255", DataAccessResult.OBJECT_UNDEFINED),
        (1, "1-0:1.8.0*255", DataAccessResult.OBJECT_CLASS_INCONSISTENT),
    ]:
        with pytest.raises(Denied) as caught:
            find(bench.meter.objects, class_id, obis)
        assert caught.value.result is result


def test_the_object_list_names_every_object_with_the_rights_of_who_asks(bench: Bench):
    for role, writable in ((Role.READER, 0), (Role.MANAGER, 1)):
        entries = read(bench, "0-0:40.0.0*255", role=role).value
        assert {entry.value[2].value for entry in entries} == {logical_name(obis) for obis in bench.meter.objects}
        switch = next(entry for entry in entries if entry.value[2].value == logical_name("0-0:96.3.10*255"))
        methods = [method.value[1].value for method in switch.value[3].value[1].value]
        assert methods == [writable, writable]


def test_registers_show_what_the_meter_shows_in_their_own_digits(bench: Bench):
    shown = bench.meter.meter.values(bench.clock.now)
    for obis, digits in [("1-0:1.8.0*255", 6), ("1-0:32.7.0*255", 5), ("1-0:31.7.0*255", 4), ("1-0:14.7.0*255", 4)]:
        scaler = read(bench, obis, 3).value[0].value
        assert scaler == digits - 6
        assert abs(read(bench, obis).value - shown[obis] / 10**digits) <= 1


def test_the_tariffs_add_up_to_the_total(bench: Bench):
    for c in (1, 2):
        total, day, night = (read(bench, f"1-0:{c}.8.{tariff}*255").value for tariff in (0, 1, 2))
        assert total - 1 <= day + night <= total
    assert day or c == 2


def test_maximum_demand_is_the_highest_of_its_month_with_the_time_it_ended(bench: Bench):
    highest, at = read(bench, "1-0:1.6.0*255").value, to_utc(parse_datetime(read(bench, "1-0:1.6.0*255", 5).value))
    month = 1_793_491_200 * SECOND  # 2026-11-01
    demands = {end: bench.meter.meter.demand(end) for end in range(month + DEMAND_PERIOD, INSTANT, DEMAND_PERIOD)}
    assert at == max(demands, key=lambda end: (demands[end], -end))
    assert highest == (demands[at] + 500_000) // 1_000_000


def test_the_end_of_billing_is_captured_and_begins_maxima_anew(bench: Bench):
    meter, now = bench.meter, bench.clock.now
    before = len(meter.billing_profile.captures(now))
    meter.objects["0-0:10.0.1*255"].do(1, axdr.u16(1), Ask(now))
    bench.clock.now += HOUR
    rows = meter.billing_profile.captures(bench.clock.now)
    assert len(rows) == before + 1
    assert rows[-1].at == now
    assert meter.registers.maximum(bench.clock.now)[1] > now


def test_monthly_values_stand_in_the_billing_profile(bench: Bench):
    rows = bench.meter.billing_profile.buffer(Ask(bench.clock.now)).value
    times = [parse_datetime(row.value[0].value) for row in rows]
    assert [(time.month, time.day, time.hour) for time in times] == [(month, 1, 0) for month in range(2, 12)]
    energies = [row.value[1].value for row in rows]
    assert energies == sorted(energies)


def test_a_meter_made_again_has_the_same_history(bench: Bench, make: Make):
    again = make()
    for obis in ("0-0:99.98.0*255", "0-0:99.98.1*255", "1-0:99.97.0*255", "1-0:99.1.0*255"):
        assert read(bench, obis) == read(again, obis)
    assert bench.meter.meter.failures
    assert len(read(bench, "0-0:99.98.1*255").value) >= 2


def test_event_logs_can_be_read_by_range_and_cleared(bench: Bench):
    meter, now = bench.meter, bench.clock.now
    meter.logs.add(FRAUD, now - HOUR, Code.COVER_OPENED)
    assert read(bench, "0-0:96.11.1*255").value == Code.COVER_OPENED
    meter.objects["0-0:99.98.1*255"].do(1, axdr.i8(0), Ask(now))
    rows = read(bench, "0-0:99.98.1*255").value
    assert [row.value[1].value for row in rows] == [Code.LOG_CLEARED]


def test_a_power_failure_is_in_both_logs_and_the_meter_is_dead_meanwhile(make: Make):
    start, end = INSTANT - 3 * HOUR, INSTANT - HOUR
    bench = make(DlmsSettings(history=False, failures=((start, end),)))
    codes = [(row.value[1].value) for row in read(bench, "0-0:99.98.0*255").value]
    assert codes == [Code.POWER_DOWN, Code.POWER_UP]
    (row,) = read(bench, "1-0:99.97.0*255").value
    assert to_utc(parse_datetime(row.value[0].value)) == end
    assert row.value[1].value == 7200 == read(bench, "0-0:96.7.19*255").value
    assert [bench.meter.has_power(at) for at in (start - 1, start, end - 1, end)] == [True, False, False, True]
