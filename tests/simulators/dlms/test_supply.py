"""The switch, its control modes and the limiter of a simulated DLMS meter."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.protocols.dlms.axdr import array, enum_, i8, octets, structure, u16, u32
from collector.protocols.dlms.references import DataAccessResult, logical_name
from metering.model import SECOND
from simulators.dlms_events import DISCONNECTOR, Code
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_objects import Ask, Denied, Role
from simulators.dlms_supply import CONNECTED, DISCONNECTED, READY, TRANSITIONS, target

SWITCH, LIMITER = "0-0:96.3.10*255", "0-0:17.0.0*255"
HOUR = 3600 * SECOND
CAUSES = (
    "remote_disconnect",
    "manual_disconnect",
    "local_disconnect",
    "remote_reconnect",
    "manual_reconnect",
    "local_reconnect",
)

Bench = Any
Make = Callable[..., Any]
# Where each cause leads from disconnected, connected and ready, by mode (- no transition): Blue Book class 70.
TABLE = {
    0: ("---", "---", "---", "---", "---", "---"),
    1: ("-00", "-2-", "-2-", "2--", "--1", "---"),
    2: ("-00", "-2-", "-2-", "1--", "--1", "---"),
    3: ("-00", "---", "-2-", "2--", "--1", "---"),
    4: ("-00", "---", "-2-", "1--", "--1", "---"),
    5: ("-00", "-2-", "-2-", "2--", "--1", "--1"),
    6: ("-00", "---", "-2-", "2--", "--1", "--1"),
}


@pytest.mark.parametrize("mode", TRANSITIONS)
def test_each_mode_has_the_transitions_of_the_table(mode: int):
    for cause, row in zip(CAUSES, TABLE[mode], strict=True):
        found = [target(state, mode, cause) for state in (DISCONNECTED, CONNECTED, READY)]
        assert found == [None if letter == "-" else int(letter) for letter in row], cause


@pytest.mark.parametrize("mode", TRANSITIONS)
def test_the_output_is_closed_when_and_only_when_the_state_is_connected(make: Make, mode: int):
    bench = make(DlmsSettings(history=False, control_mode=mode))
    switch, meter = bench.meter.switch, bench.meter.meter
    for cause in (*CAUSES, *reversed(CAUSES), *CAUSES[::2], *CAUSES[1::2]):
        bench.clock.now += HOUR
        switch.operate(cause, bench.clock.now)
        assert meter.supply_on == (switch.state == CONNECTED)
        shown = bench.meter.objects[SWITCH]
        assert [shown.get(k, Ask(bench.clock.now)).value for k in (2, 3, 4)] == [meter.supply_on, switch.state, mode]


def test_without_supply_the_registers_stand_and_the_profile_goes_on(quiet: Bench):
    meter, ask = quiet.meter, Ask(quiet.clock.now)
    meter.objects[SWITCH].do(1, i8(0), ask)
    before = meter.registers.value("1-0:1.8.0*255", quiet.clock.now).value
    quiet.clock.now += 5 * HOUR
    assert meter.registers.value("1-0:1.8.0*255", quiet.clock.now).value == before
    rows = meter.load_profile.buffer(Ask(quiet.clock.now)).value[-18:]
    assert {row.value[2].value for row in rows} == {before}
    meter.objects[SWITCH].do(2, i8(0), Ask(quiet.clock.now))
    assert meter.registers.value("1-0:1.8.0*255", quiet.clock.now + HOUR).value > before
    codes = [row.value[1].value for row in meter.objects["0-0:99.98.2*255"].get(2, Ask(quiet.clock.now)).value]
    assert codes == [Code.REMOTE_DISCONNECT, Code.REMOTE_CONNECT]


def test_a_meter_that_is_armed_waits_for_its_button(make: Make):
    bench = make(DlmsSettings(history=False, control_mode=3))
    switch = bench.meter.switch
    assert not switch.push_button(bench.clock.now)
    bench.meter.objects[SWITCH].do(1, i8(0), Ask(bench.clock.now))
    bench.meter.objects[SWITCH].do(2, i8(0), Ask(bench.clock.now))
    assert (switch.state, bench.meter.meter.supply_on) == (READY, False)
    assert switch.push_button(bench.clock.now)
    assert (switch.state, bench.meter.meter.supply_on) == (CONNECTED, True)
    assert bench.meter.logs.logs[DISCONNECTOR].last(bench.clock.now) == Code.MANUAL_CONNECT


def test_a_stuck_contact_says_disconnected_and_still_carries_current(quiet: Bench):
    quiet.meter.switch.stuck = True
    quiet.meter.objects[SWITCH].do(1, i8(0), Ask(quiet.clock.now))
    shown = [quiet.meter.objects[SWITCH].get(k, Ask(quiet.clock.now)).value for k in (2, 3)]
    assert shown == [True, DISCONNECTED]


@pytest.mark.parametrize(
    ("act", "role", "result"),
    [
        (lambda meter, ask: meter.objects[SWITCH].do(2, i8(0), ask), Role.MANAGER, "TEMPORARY_FAILURE"),
        (lambda meter, ask: meter.objects[SWITCH].do(1, i8(0), ask), Role.READER, "READ_WRITE_DENIED"),
        (lambda meter, ask: meter.objects[SWITCH].do(1, u32(0), ask), Role.MANAGER, "TYPE_UNMATCHED"),
        (lambda meter, ask: meter.objects[SWITCH].do(3, i8(0), ask), Role.MANAGER, "OBJECT_UNDEFINED"),
        (lambda meter, ask: meter.objects[SWITCH].set(4, enum_(7), ask), Role.MANAGER, "OTHER_REASON"),
        (lambda meter, ask: meter.objects[SWITCH].set(3, enum_(1), ask), Role.MANAGER, "READ_WRITE_DENIED"),
    ],
)
def test_what_the_switch_does_not_do_is_refused(quiet: Bench, act: Make, role: Role, result: str):
    with pytest.raises(Denied) as caught:
        act(quiet.meter, Ask(quiet.clock.now, role))
    assert caught.value.result is DataAccessResult[result]


def test_scripts_disconnect_and_reconnect(quiet: Bench):
    scripts = quiet.meter.objects["0-0:10.0.106*255"]
    assert [script.value[0].value for script in scripts.get(2, Ask(quiet.clock.now)).value] == [1, 2]
    for number, state in ((1, DISCONNECTED), (2, CONNECTED)):
        scripts.do(1, u16(number), Ask(quiet.clock.now))
        assert quiet.meter.switch.state == state
    with pytest.raises(Denied):
        scripts.do(1, u16(3), Ask(quiet.clock.now))


def limited(make: Make, mode: int, threshold: int, *, over: int = 60, under: int = 60):
    bench = make(DlmsSettings(history=False, control_mode=mode))
    limiter = bench.meter.objects[LIMITER]
    for attribute, value in ((4, threshold), (6, over), (7, under)):
        limiter.set(attribute, u32(value), Ask(bench.clock.now))
    scripts = octets(logical_name("0-0:10.0.106*255"))
    limiter.set(11, structure(structure(scripts, u16(1)), structure(scripts, u16(2))), Ask(bench.clock.now))
    bench.meter.settle(bench.clock.now)
    return bench


def test_the_limiter_trips_after_its_time_over_the_threshold_and_not_before(make: Make):
    bench = limited(make, 4, 1, over=300)
    start = bench.clock.now
    bench.meter.settle(start + 290 * SECOND)
    assert bench.meter.switch.state == CONNECTED
    bench.meter.settle(start + 310 * SECOND)
    assert bench.meter.switch.state == READY
    assert not bench.meter.meter.supply_on
    assert Code.LIMIT_EXCEEDED in [event[1] for event in bench.meter.logs.logs[DISCONNECTOR].events]


@pytest.mark.parametrize(("mode", "state"), [(4, READY), (5, CONNECTED)])
def test_under_the_threshold_only_modes_with_a_local_reconnection_close_again(make: Make, mode: int, state: int):
    bench = limited(make, mode, 1)
    bench.meter.settle(bench.clock.now + 70 * SECOND)
    assert bench.meter.switch.state == READY
    bench.meter.settle(bench.clock.now + 140 * SECOND)  # nothing flows: under the threshold
    assert bench.meter.switch.state == state


def test_a_limit_above_the_load_does_nothing_over_a_week(make: Make):
    bench = limited(make, 4, 99_999)
    bench.meter.settle(bench.clock.now + 7 * 24 * HOUR)
    assert bench.meter.switch.state == CONNECTED


def test_an_emergency_profile_rules_while_it_runs_for_its_group(make: Make):
    bench = limited(make, 4, 99_999)
    meter, now = bench.meter, bench.clock.now
    limiter = meter.objects[LIMITER]
    limiter.set(5, u32(10), Ask(now))
    limiter.set(8, structure(u16(7), octets(meter.clock.stamp(now + HOUR)), u32(1800)), Ask(now))
    times = (now, now + HOUR, now + HOUR + HOUR // 2)
    assert [limiter.get(10, Ask(at)).value for at in times] == [False, False, False]
    limiter.set(9, array(u16(3), u16(7)), Ask(now))
    assert [limiter.get(10, Ask(at)).value for at in times] == [False, True, False]
    assert [limiter.get(3, Ask(at)).value for at in times] == [99_999, 10, 99_999]
    meter.settle(now + 3 * HOUR)
    assert meter.switch.state == READY
