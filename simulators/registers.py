"""What a meter's registers show: the model's values put into a profile's register map by the inverse of the codec.

The map is the one the collector reads by; the encoding is `collector.protocols`', so nothing is written twice.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from collector.protocols.modbus_values import ValueSpec, encode, encode_text
from metering.model import SECOND
from metering.obis import is_cumulative, parse_obis
from simulators.faults import VALUE_KINDS, Fault
from simulators.meter import CLOCK, MICRO, Meter
from simulators.unit import UnreadableError

REFRESH = 1 * SECOND  # a meter computes its registers about once a second
DEFAULT_BACKWARDS_WH = 1000
DEFAULT_MARGIN_WH = 10  # how near to its rollover a register is put
_FLOATS = ("float32", "float64")


class Entry(NamedTuple):
    """One value of the map: where it lies, how it is written, and what it shows in `unit` x 10^`scale`."""

    function: int
    address: int
    spec: ValueSpec
    quantity: str  # OBIS code, full form
    unit: str = ""
    scale: int = 0
    modulus: int | None = None  # the register begins again at this raw value (None: where its type ends)
    is_identity: bool = False

    @property
    def divisor(self) -> float:
        """Return how many millionths of the base unit one unit of the raw value is."""
        factor = 1000 if self.unit.startswith("k") else 1
        return 10.0**self.scale * factor * MICRO

    @property
    def end(self) -> int:
        """Return the address after the last register."""
        return self.address + self.spec.count

    def raw_limit(self) -> int:
        """Return the raw value at which the register begins again."""
        if self.modulus is not None:
            return self.modulus
        bits = 16 * self.spec.count
        if self.spec.type.startswith("bcd"):
            limit = 10 ** (bits // 4)
        elif self.spec.type == "bits":
            limit = 1 << self.spec.width
        else:
            limit = 1 << (bits - 1 if self.spec.type.startswith("int") else bits)
        return int(limit) * self.spec.multiplier


@dataclass(frozen=True)
class RegisterMap:
    """A model's map and its manners: `gaps` is what registers without a value meet, zeros or exception 2.

    `holes` are ranges (function, first, last) that cannot be read even where gaps can.
    """

    entries: tuple[Entry, ...]
    max_registers: int = 125
    gaps: Literal["zero", "refuse"] = "zero"
    holes: tuple[tuple[int, int, int], ...] = ()
    starts: dict[int, list[Entry]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts: dict[int, list[Entry]] = {}
        for entry in sorted(self.entries, key=lambda entry: entry.address):
            starts.setdefault(entry.function, []).append(entry)
        object.__setattr__(self, "starts", starts)

    def touched(self, function: int, address: int, count: int) -> list[Entry]:
        """Return the entries that have a register in the range.

        Raises:
            UnreadableError: a register of the range is a hole, or is nobody's and gaps are refused.

        """
        end = address + count
        for hole_function, first, last in self.holes:
            if function == hole_function and first < end and address <= last:
                raise UnreadableError
        entries = self.starts.get(function, [])
        after = bisect_right(entries, end - 1, key=lambda entry: entry.address)
        found = [entry for entry in entries[:after] if entry.end > address]
        if self.gaps == "refuse":
            owned = {register for entry in found for register in range(entry.address, entry.end)}
            if not owned.issuperset(range(address, end)):
                raise UnreadableError
        return found


class MeterRegisters:
    """The registers of one meter as of an instant, computed anew each `refresh` us (`simulators.unit.Registers`)."""

    def __init__(self, meter: Meter, layout: RegisterMap, *, refresh: int = REFRESH) -> None:
        self.meter = meter
        self.layout = layout
        self.max_registers = layout.max_registers
        self._refresh = refresh
        self._tick = -1
        self._values: dict[str, int] = {}
        self._known: dict[tuple[int, int, int], bytes] = {}

    def read(self, function: int, address: int, count: int, now: int, fault: Fault | None) -> bytes:
        """Return the registers' bytes at `now`; a fault of `VALUE_KINDS` spoils the values, not the frame.

        Raises:
            UnreadableError: a register of the range cannot be read.

        """
        tick = now // self._refresh
        if tick != self._tick:
            self._tick = tick
            self._values = self.meter.values(tick * self._refresh)
            self._known.clear()
        if fault is not None and fault.kind in VALUE_KINDS:
            return self._build(function, address, count, fault)
        key = (function, address, count)
        data = self._known.get(key)
        if data is None:
            data = self._known[key] = self._build(function, address, count, None)
        return data

    def befall(self, fault: Fault, now: int) -> None:
        """Let a fault of `METER_KINDS` happen: the meter is swapped, jumps before its rollover, or its clock goes."""
        meter = self.meter
        if fault.kind == "swap":
            number = "".join(letter for letter in meter.serial if letter.isdigit()) or "0"
            meter.swap(str(int(number) + 1).zfill(len(number)), now, fault.count)
        elif fault.kind == "clock_drift":
            meter.set_clock(offset_s=fault.seconds, drift_ppm=float(fault.count))
        elif fault.kind == "rollover":
            entry = self._import_register()
            if entry is not None:
                limit = round(entry.raw_limit() * entry.divisor / MICRO)
                shown = meter.values(now)[entry.quantity] // MICRO
                meter.jump((limit - (fault.count or DEFAULT_MARGIN_WH) - shown) % limit)
        self._tick = -1

    def _import_register(self) -> Entry | None:
        totals = [entry for entry in self.layout.entries if entry.quantity == "1-0:1.8.0*255"]
        return next((entry for entry in totals if entry.modulus or entry.spec.type not in _FLOATS), None)

    def _build(self, function: int, address: int, count: int, fault: Fault | None) -> bytes:
        entries = self.layout.touched(function, address, count)
        first = min((entry.address for entry in entries), default=address)
        last = max((entry.end for entry in entries), default=address)
        first, last = min(first, address), max(last, address + count)
        data = bytearray(2 * (last - first))
        for entry in entries:
            at = 2 * (entry.address - first)
            data[at : at + 2 * entry.spec.count] = self._encode(entry, fault)
        return bytes(data[2 * (address - first) : 2 * (address - first + count)])

    def _encode(self, entry: Entry, fault: Fault | None) -> bytes:
        if entry.is_identity:
            return encode_text(entry.spec, self.meter.serial)
        if entry.spec.type == "ascii":
            return encode_text(entry.spec, "")
        value = self._values.get(entry.quantity, 0)
        if fault is not None:
            if fault.kind == "backwards" and is_cumulative(entry.quantity):
                value -= (fault.count or DEFAULT_BACKWARDS_WH) * MICRO
            elif fault.kind != "backwards":
                return _spoilt(entry.spec, fault)
        return shown(entry, value)


def shown(entry: Entry, value: int) -> bytes:
    """Return the register bytes for a value in millionths of the base unit, as the meter would show it.

    Running totals are cut to the last digit and begin again at their limit; other values are rounded and stay within
    what the type can show.
    """
    spec = entry.spec
    if spec.type in _FLOATS:
        if entry.modulus is not None and _is_total(entry):
            value %= round(entry.modulus * entry.divisor)
        return encode(spec, value / entry.divisor)
    limit = entry.raw_limit()
    if _is_total(entry):
        raw = _floor(value, entry) % limit
    else:
        lowest = -limit if spec.type.startswith("int") else 0
        raw = min(max(round(value / entry.divisor), lowest), limit - 1)
    return encode(spec, raw - raw % spec.multiplier)


def _is_total(entry: Entry) -> bool:
    # Net totals (16, 36, 56, 76) may be negative and never roll over.
    return is_cumulative(entry.quantity) and parse_obis(entry.quantity)[2] not in (16, 36, 56, 76)


def _floor(value: int, entry: Entry) -> int:
    exponent = entry.scale + 6 + (3 if entry.unit.startswith("k") else 0)
    return value // int(10**exponent) if exponent >= 0 else value * int(10**-exponent)


def _spoilt(spec: ValueSpec, fault: Fault) -> bytes:
    """Return NaN, an infinity or the sentinel; where the type has none of its own, all bits set."""
    if fault.kind == "sentinel" and (spec.not_available or spec.nan_not_available):
        return encode(spec, None)
    if spec.type in _FLOATS:
        return encode(spec, math.inf if fault.kind == "infinity" else math.nan)
    return encode(spec, None) if spec.not_available else b"\xff" * (2 * spec.count)


def clock_entry(function: int, address: int) -> Entry:
    """Return the entry of a register pair that shows the meter's clock: seconds since 1970 UTC."""
    return Entry(function, address, ValueSpec("uint32", 2), CLOCK, "s")


def with_entries(layout: RegisterMap, more: Sequence[Entry]) -> RegisterMap:
    """Return the map with more entries."""
    return replace(layout, entries=(*layout.entries, *more))
