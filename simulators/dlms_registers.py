"""The registers of a simulated meter (classes 3, 4 and 5): which there are, in which digits, and what they show."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from collector.protocols.dlms.axdr import Data, i16, i32, octets, u8, u16, u32
from metering.model import SECOND
from simulators.dlms_clock import MeterClock
from simulators.dlms_demand import Peaks, Tariffs
from simulators.dlms_objects import Ask, CosemObject, register, scaler_unit
from simulators.meter import DEMAND_PERIOD, Meter

# Units (Blue Book table of enumerated values for physical units).
W, VA, VAR, WH, VARH, AMPERE, VOLT, HERTZ, PLAIN_NUMBER = 27, 28, 29, 30, 32, 33, 35, 44, 255
_LARGEST = 1 << 32


class Shape(NamedTuple):
    """How a quantity is shown: raw value x 10^scaler in `unit`, as `make` writes it."""

    scaler: int
    unit: int
    make: Callable[[int], Data]

    def raw(self, micro: int) -> int:
        """Return the raw value of millionths of the base unit; running totals are cut, all others rounded."""
        divisor = int(10 ** (self.scaler + 6))
        if self.unit in (WH, VARH):
            return micro // divisor % _LARGEST
        return (micro + divisor // 2) // divisor


# By value groups C and D.
_SHAPES: dict[tuple[int, int], Shape] = {
    **{(c, 8): Shape(0, WH, u32) for c in (1, 2, 21, 22, 41, 42, 61, 62)},
    **{(c, 8): Shape(0, VARH, u32) for c in (3, 4)},
    **{(c, 7): Shape(0, W, u32) for c in (1, 2, 21, 22, 41, 42, 61, 62)},
    (16, 7): Shape(0, W, i32),
    **{(c, 7): Shape(0, VAR, u32) for c in (3, 4)},
    (9, 7): Shape(0, VA, u32),
    **{(c, 7): Shape(-1, VOLT, u16) for c in (32, 52, 72)},
    **{(c, 7): Shape(-2, AMPERE, u16) for c in (31, 51, 71, 91)},
    **{(c, 7): Shape(-3, PLAIN_NUMBER, i16) for c in (13, 33, 53, 73)},
    (14, 7): Shape(-2, HERTZ, u16),
    **{(c, d): Shape(0, W, u32) for c in (1, 2) for d in (4, 5, 6)},
}
TARIFFS = (1, 2)


def shape_of(obis: str) -> Shape:
    """Return how the quantity is shown. Raises `KeyError` where this meter has no such register."""
    _, rest = obis.split(":")
    c, d, _ = rest.split(".")
    return _SHAPES[int(c), int(d)]


class Registers:
    """What the registers of one meter show at any instant since its installation. `begun` is when maxima began anew."""

    def __init__(self, meter: Meter, clock: MeterClock) -> None:
        self.peaks = Peaks(meter)
        self.begun: list[int] = [meter.settings.installed_at]
        self._meter = meter
        self._clock = clock
        self._tariffs = Tariffs(meter, clock.zone)
        self.ends: Callable[[int], Sequence[int]] = lambda _: ()  # true instants of ends of billing before another
        self._tick: tuple[int, dict[str, int]] = (-1, {})
        self._total: tuple[int, dict[str, int]] = (-1, {})

    def value(self, obis: str, at: int) -> Data:
        """Return the raw value at `at` (us). Raises `KeyError`: no such quantity."""
        shape = shape_of(obis)
        return shape.make(shape.raw(self._micro(obis, at)))

    def _micro(self, obis: str, at: int) -> int:
        head, d, tail = obis.split(".")
        if d == "8":
            tariff = int(tail.split("*")[0])
            total = f"{head}.8.0*255"
            return self._tariffs.energy(total, tariff, at) if tariff else self._energies(at)[total]
        if d == "6":
            return self.maximum(at)[0] if head == "1-0:1" else 0
        if d in "45":
            return self._demand(at, last=d == "5") if head == "1-0:1" else 0
        if at != self._tick[0]:
            self._tick = (at, self._meter.values(at))
        return self._tick[1][obis]

    def _energies(self, at: int) -> dict[str, int]:
        if at != self._total[0]:
            self._total = (at, self._meter.energies(at))
        return self._total[1]

    def maximum(self, at: int) -> tuple[int, int]:
        """Return the highest demand since the maxima began anew before `at`: uW, and when its period ended."""
        begun = max(instant for instant in (*self.begun, *self.ends(at)) if instant < at)
        return self.peaks.highest(begun, at)

    def _demand(self, at: int, *, last: bool) -> int:
        begin = at - at % DEMAND_PERIOD
        if last:
            return self._meter.demand(begin)
        taken = self._meter.energies(at)["1-0:1.8.0*255"] - self._meter.energies(begin)["1-0:1.8.0*255"]
        return taken * 3600 * SECOND // DEMAND_PERIOD  # current average: over the whole period, rising to its end

    def has(self, obis: str) -> bool:
        """Tell whether this meter shows the quantity (a single-phase one has no L2 and L3)."""
        try:
            shape_of(obis)
        except (KeyError, ValueError):
            return False
        return obis.split(".")[1] != "7" or obis in self._meter.values(self.begun[0])

    # -- objects

    def objects(self) -> list[CosemObject]:
        """Return all registers."""
        every = [f"1-0:{c}.{d}.0*255" for c, d in _SHAPES if d in (7, 8)]
        known = self._meter.values(self.begun[0])
        found = [self._register(obis) for obis in every if obis in known]
        found += [self._register(f"1-0:{c}.8.{tariff}*255") for c in (1, 2) for tariff in TARIFFS]
        found += [self._extended(f"1-0:{c}.6.0*255") for c in (1, 2)]
        return [*found, self._demand_register()]

    def _register(self, obis: str) -> CosemObject:
        shape = shape_of(obis)
        return register(obis, lambda ask: self.value(obis, ask.now), shape.scaler, shape.unit)

    def _extended(self, obis: str) -> CosemObject:
        return CosemObject(
            4,
            obis,
            {
                2: lambda ask: self.value(obis, ask.now),
                3: scaler_unit(0, W),
                4: u8(0),
                5: lambda ask: self.stamp(self.maximum(ask.now)[1]),
            },
            act={1: lambda ask, _: self.begun.append(ask.now)},
        )

    def _demand_register(self) -> CosemObject:
        obis = "1-0:1.4.0*255"
        return CosemObject(
            5,
            obis,
            {
                2: lambda ask: self.value(obis, ask.now),
                3: lambda ask: self.value("1-0:1.5.0*255", ask.now),
                4: scaler_unit(0, W),
                5: u8(0),
                6: lambda ask: self.stamp(_period_begin(ask)),
                7: lambda ask: self.stamp(_period_begin(ask)),
                8: u32(DEMAND_PERIOD // SECOND),
                9: u16(1),
            },
            act={1: lambda _, __: None, 2: lambda _, __: None},
        )

    def stamp(self, at: int) -> Data:
        """Return the time that the meter's clock showed at a true instant."""
        return octets(self._clock.stamp(self._clock.shown(at)))


def _period_begin(ask: Ask) -> int:
    return ask.now - ask.now % DEMAND_PERIOD
