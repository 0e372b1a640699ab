from gateway.backfill import BackfillStatus
from gateway.clocks import ClockStatus
from gateway.memories import MemoryStatus
from metergate import health


def test_each_meters_memory_and_clock_has_its_numbers() -> None:
    memories = {
        "m": MemoryStatus(BackfillStatus(1, 2, 3, 4), ClockStatus(-1.5, 0.25)),
        "n": MemoryStatus(None, ClockStatus(None, None)),
    }
    shown = {(each.name, each.labels["meter"]): each.value for each in health._memories(memories)}
    assert shown == {
        ("profile_missing", "m"): 1,
        ("profile_recovered", "m"): 2,
        ("profile_lost", "m"): 3,
        ("profile_no_supply", "m"): 4,
        ("meter_clock_offset_seconds", "m"): -1.5,
        ("meter_clock_drift_seconds", "m"): 0.25,
    }


def test_many_meters_are_summed_up() -> None:
    count = health.METERS_SHOWN + 1
    one = MemoryStatus(BackfillStatus(1, 0, 0, 0), ClockStatus(1.0, None))
    shown = {each.name: each for each in health._memories({str(number): one for number in range(count)})}
    assert set(shown) == {"profile_missing", "profile_recovered", "profile_lost", "profile_no_supply"}
    assert (shown["profile_missing"].value, shown["profile_missing"].labels) == (count, {})
