"""Model values in registers: what the codec reads back, how totals roll over, gaps, holes, and spoilt values."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.modbus_values import ValueSpec, decode, decode_text
from metering.model import SECOND
from metering.quality import Quality
from simulators.faults import Fault, Kind
from simulators.meter import MONTH_START, Meter, MeterSettings
from simulators.registers import Entry, MeterRegisters, RegisterMap, clock_entry, shown, with_entries
from simulators.unit import UnreadableError

NOW = MONTH_START + 86400 * SECOND
IMPORT = "1-0:1.8.0*255"
VOLTAGE = "1-0:32.7.0*255"
TOTAL = Entry(3, 0, ValueSpec("uint32", 2), IMPORT, "kWh", -2)
VOLTS = Entry(3, 4, ValueSpec("float32", 2), VOLTAGE, "V")
SERIAL = Entry(4, 64512, ValueSpec("uint32", 2), "0-0:96.1.0*255", is_identity=True)


def registers(*entries: Entry, start_wh: int = 0, **manners: Any) -> MeterRegisters:  # noqa: ANN401 - passed on
    meter = Meter(MeterSettings(seed=3, serial="21000003", start_wh=start_wh))
    return MeterRegisters(meter, RegisterMap(entries, **manners))


def read(source: MeterRegisters, entry: Entry, fault: Fault | None = None, now: int = NOW) -> tuple[float | None, int]:
    data = source.read(entry.function, entry.address, entry.spec.count, now, fault)
    return decode(entry.spec, data)


@pytest.mark.parametrize(
    ("spec", "unit", "scale", "value", "raw"),
    [
        (ValueSpec("uint32", 2), "kWh", -2, 12_345_678_900, 1234),  # 12.3456789 kWh, cut
        (ValueSpec("uint32", 2), "Wh", 0, 12_999_999, 12),
        (ValueSpec("int64", 4), "kWh", -3, 12_345_678_900, 12345),
        (ValueSpec("uint16", 1), "kWh", 0, 65_537_000_000_000, 1),  # rolled over at the end of its type
        (ValueSpec("bcd32", 2), "kWh", 0, 100_000_001 * 10**9, 1),
        (ValueSpec("uint32", 2, word_order="lsw_first"), "kWh", -1, 70_000 * 10**8, 70_000),
        (ValueSpec("uint32", 2, multiplier=40), "Wh", 0, 99_000_000, 80),
    ],
)
def test_a_total_is_cut_to_its_last_digit_and_begins_again_at_its_limit(
    spec: ValueSpec, unit: str, scale: int, value: int, raw: float
):
    entry = Entry(3, 0, spec, IMPORT, unit, scale)
    assert decode(spec, shown(entry, value)) == (raw, Quality.VALID)


def test_the_profiles_own_digits_decide_where_a_total_begins_again():
    entry = TOTAL._replace(modulus=1_000_000)
    assert decode(entry.spec, shown(entry, 10_000_010_000_000)) == (1, Quality.VALID)
    assert decode(entry.spec, shown(entry, 9_999_990_000_000)) == (999_999, Quality.VALID)


@pytest.mark.parametrize(
    ("spec", "unit", "scale", "value", "raw"),
    [
        (ValueSpec("int16", 1), "W", 0, -1_500_400, -2),
        (ValueSpec("int16", 1), "W", 0, 40_000_000_000, 32767),
        (ValueSpec("int16", 1), "W", 0, -40_000_000_000, -32768),
        (ValueSpec("uint16", 1), "V", -1, 230_260_000, 2303),
        (ValueSpec("uint16", 1), "W", 0, -5_000_000, 0),
        (ValueSpec("float32", 2), "W", 3, 1_500_000_000, 1.5),  # the register is in kW
        (ValueSpec("float64", 4), "kWh", -3, 1_234_500_000, 1234.5),  # the register is in Wh
    ],
)
def test_other_values_are_rounded_and_stay_within_their_type(
    spec: ValueSpec, unit: str, scale: int, value: int, raw: float
):
    quantity = IMPORT if unit == "kWh" else "1-0:16.7.0*255"
    entry = Entry(3, 0, spec, quantity, unit, scale)
    assert decode(spec, shown(entry, value)) == (raw, Quality.VALID)


@given(st.integers(0, 400), st.integers(1, 125))
def test_any_range_shows_each_register_at_its_place(address: int, count: int):
    source = registers(TOTAL, VOLTS, Entry(3, 200, ValueSpec("uint64", 4), IMPORT, "Wh"))
    whole = b"".join(source.read(3, at, 100, NOW, None) for at in range(0, 600, 100))
    assert source.read(3, address, count, NOW, None) == whole[2 * address : 2 * (address + count)]


def test_what_is_read_is_what_the_meter_shows():
    source = registers(TOTAL, VOLTS, SERIAL, start_wh=123_000)
    values = source.meter.values(NOW)
    assert read(source, TOTAL) == (values[IMPORT] // 10**7, Quality.VALID)
    volts, _ = read(source, VOLTS)
    assert volts == struct.unpack(">f", struct.pack(">f", values[VOLTAGE] / 1e6))[0]
    assert decode_text(SERIAL.spec, source.read(4, 64512, 2, NOW, None)) == "21000003"


def test_gaps_are_zeros_or_refused_and_holes_are_always_refused():
    assert registers(TOTAL, VOLTS).read(3, 2, 2, NOW, None) == bytes(4)
    with pytest.raises(UnreadableError):
        registers(TOTAL, VOLTS, gaps="refuse").read(3, 0, 6, NOW, None)
    assert registers(TOTAL, VOLTS, gaps="refuse").read(3, 4, 2, NOW, None) != bytes(4)
    holed = registers(TOTAL, VOLTS, holes=((3, 2, 3),))
    for address, count in ((0, 6), (2, 1), (3, 1), (1, 2)):
        with pytest.raises(UnreadableError):
            holed.read(3, address, count, NOW, None)
    holed.read(3, 0, 2, NOW, None)
    holed.read(3, 4, 2, NOW, None)
    holed.read(4, 2, 2, NOW, None)


@pytest.mark.parametrize(
    ("kind", "spec", "quality"),
    [
        ("nan", ValueSpec("float32", 2), Quality.NOT_A_NUMBER),
        ("nan", ValueSpec("float64", 4, nan_not_available=True), Quality.NOT_AVAILABLE),
        ("infinity", ValueSpec("float32", 2), Quality.NOT_A_NUMBER),
        ("sentinel", ValueSpec("float32", 2, nan_not_available=True), Quality.NOT_AVAILABLE),
        ("sentinel", ValueSpec("int16", 1, not_available=frozenset({0x7FFF})), Quality.NOT_AVAILABLE),
        ("nan", ValueSpec("int64", 4, not_available=frozenset({1 << 63})), Quality.NOT_AVAILABLE),
    ],
)
def test_a_spoilt_value_reads_as_no_value(kind: Kind, spec: ValueSpec, quality: Quality):
    entry = Entry(3, 0, spec, VOLTAGE, "V")
    source = registers(entry)
    assert read(source, entry, Fault(kind)) == (None, quality)
    value, good = read(source, entry)
    assert value is not None
    assert good == Quality.VALID


def test_a_type_without_a_sentinel_shows_all_bits_set():
    assert registers(TOTAL).read(3, 0, 2, NOW, Fault("sentinel")) == b"\xff" * 4


def test_a_backwards_register_shows_less_for_as_long_as_the_fault_stands():
    source = registers(TOTAL, VOLTS, start_wh=50_000)
    good, _ = read(source, TOTAL)
    bad, _ = read(source, TOTAL, Fault("backwards", count=3000))
    assert bad == good - 300
    assert read(source, VOLTS, Fault("backwards")) == read(source, VOLTS)
    assert read(source, TOTAL)[0] == good


def test_a_register_near_its_limit_rolls_over():
    source = registers(TOTAL._replace(modulus=1_000_000))
    source.befall(Fault("rollover", count=20), NOW)
    before, _ = read(source, TOTAL)
    assert before in (999_997, 999_998)
    after, _ = read(source, TOTAL, now=NOW + 3600 * SECOND)
    assert after < 1000


def test_a_swap_shows_the_next_serial_number_and_a_new_register():
    source = registers(TOTAL, SERIAL, start_wh=9_000_000)
    source.befall(Fault("swap", count=70), NOW)
    assert read(source, TOTAL) == (7, Quality.VALID)
    assert decode_text(SERIAL.spec, source.read(4, 64512, 2, NOW, None)) == "21000004"


def test_a_clock_that_drifts_is_seen_in_its_register():
    clock = clock_entry(3, 100)
    meter = Meter(MeterSettings())
    source = MeterRegisters(meter, with_entries(RegisterMap((TOTAL,)), [clock]))
    assert read(source, clock)[0] == NOW // SECOND
    source.befall(Fault("clock_drift", seconds=30), NOW)
    assert read(source, clock)[0] == NOW // SECOND + 30


def test_registers_are_computed_anew_each_second_and_not_between():
    source = registers(VOLTS)
    first = read(source, VOLTS, now=NOW)
    assert read(source, VOLTS, now=NOW + SECOND - 1) == first
    assert read(source, VOLTS, now=NOW + SECOND) != first
    assert not math.isnan(first[0] or math.nan)
