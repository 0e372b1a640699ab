"""The physical model of one electricity meter: what it would show at an instant. Knows no registers and no protocol.

All is a pure function of the settings and of time, so a simulator that starts again continues where it would have been.
Values are whole millionths of the base unit: uV, uA, uW, uvar, uVA, uWh, uvarh, uHz, udeg and 1e-6 of a power factor.
"""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, NamedTuple

from metering.model import SECOND
from simulators import curves
from simulators.curves import Load, Phase

MICRO = 1_000_000
MONTH_START = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z: when a meter is taken to have been installed
DEMAND_PERIOD = 900 * SECOND
NOMINAL_V = 230.0
_FOR_EVER = 1 << 62  # us: a switch that is still open
NOMINAL_HZ = 50.0

# Value group C of a quantity (IEC 62056-61) for the sum and for each phase.
_ACTIVE_IN = (1, 21, 41, 61)
_ACTIVE_OUT = (2, 22, 42, 62)
_REACTIVE_IN = (3, 23, 43, 63)
_REACTIVE_OUT = (4, 24, 44, 64)
_APPARENT = (9, 29, 49, 69)
_CURRENT = (11, 31, 51, 71)
_FACTOR = (13, 33, 53, 73)
_ACTIVE_ABS = (15, 35, 55, 75)
_ACTIVE_NET = (16, 36, 56, 76)
_REACTIVE_NET = (131, 151, 171, 191)
_VOLTAGE = (12, 32, 52, 72)
_NEUTRAL_CURRENT = 91
_FREQUENCY = 14
CLOCK = "0-0:1.0.0*255"
REACTIVE_ABS = "1-0:128.8.0*255"  # +R and -R added, as some meters show it


@dataclass(frozen=True)
class MeterSettings:
    """How one meter is made.

    `start_wh` is the register at `installed_at`; `drift_ppm` and `offset_s` are about its own clock.
    """

    seed: int = 0
    load: Load = "household"
    phases: Literal[1, 3] = 3
    serial: str = "10000001"
    size: float = 1.0  # factor on the power
    installed_at: int = MONTH_START
    start_wh: int = 0
    drift_ppm: float = 0.0
    offset_s: float = 0.0


class Totals:
    """Running totals in mW x us (active in, active out, reactive in, reactive out) for each phase."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals([[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(self.rows, other.rows, strict=True)])

    def __add__(self, other: "Totals") -> "Totals":
        return Totals([[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(self.rows, other.rows, strict=True)])


class _Gap(NamedTuple):
    """When nothing flowed, and what would have flowed in all gaps up to its start, and up to its end."""

    start: int
    end: int
    before: Totals
    after: Totals


@dataclass
class Meter:
    """One meter. `values(now)` is what it shows; `swap` and `switch_supply` change it for good from an instant on."""

    settings: MeterSettings
    supply_on: bool = True
    _phases: list[Phase] = field(init=False)
    _base: Totals = field(init=False)  # subtracted: what flowed before the installation
    _switched: list[tuple[int, int]] = field(init=False, default_factory=list)  # when the supply was off: from, to
    _failed: list[tuple[int, int]] = field(init=False, default_factory=list)
    _merged: list["_Gap"] | None = field(init=False, default=None)  # both together, in order and apart
    _peak: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        made = self.settings
        self._phases = [curves.phase(made.load, (made.seed + 5 * k) % curves.SHAPES) for k in range(made.phases)]
        # A meter of the same shape still differs: its size varies with the seed.
        self._permille = round(made.size * (800 + (made.seed * 7919) % 400))
        self._base = self._flow(made.installed_at)
        if not self.supply_on:
            self._switched.append((made.installed_at, _FOR_EVER))

    # -- what changes it

    def swap(self, serial: str, at: int, start_wh: int = 0) -> None:
        """Replace the meter by a new one at `at` (us): another serial number, and a register that begins again."""
        self.settings = replace(self.settings, serial=serial, installed_at=at, start_wh=start_wh)
        self._base = self._flow(at)
        self._switched = [] if self.supply_on else [(at, _FOR_EVER)]
        self._failed = []
        self._merged = None
        self._peak = None

    def jump(self, by_wh: int) -> None:
        """Let the import register show `by_wh` more from now on, as after a faulty write to its memory."""
        self.settings = replace(self.settings, start_wh=self.settings.start_wh + by_wh)

    def switch_supply(self, *, on: bool, at: int) -> None:
        """Open or close the supply at `at` (us): without it nothing flows and the totals stand still."""
        if on == self.supply_on:
            return
        if on:
            since, _ = self._switched.pop()
            self._switched.append((since, at))
        else:
            self._switched.append((at, _FOR_EVER))
        self.supply_on = on
        self._merged = None

    def off_periods(self) -> list[tuple[int, int | None]]:
        """Return when the supply was open: from, to (us); the last has no end where it still is."""
        return [(start, end if end != _FOR_EVER else None) for start, end in self._switched]

    def interrupt(self, start: int, end: int) -> None:
        """Let the network fail from `start` to `end` (us), past or to come: nothing flows meanwhile."""
        self._failed = _union([*self._failed, (start, end)], self.settings.installed_at)
        self._merged = None

    def set_clock(self, *, offset_s: float, drift_ppm: float) -> None:
        """Let the meter's clock be wrong by `offset_s` at the installation, and run `drift_ppm` too fast since."""
        self.settings = replace(self.settings, offset_s=offset_s, drift_ppm=drift_ppm)

    # -- what it shows

    @property
    def failures(self) -> tuple[tuple[int, int], ...]:
        """Return when the network failed: from, to (us), in order and apart."""
        return tuple(self._failed)

    def failed(self, first: int, last: int) -> bool:
        """Tell whether the network was down at any instant from `first` to `last` (us), both included."""
        index = bisect_right(self._failed, last, key=lambda span: span[0]) - 1
        return index >= 0 and self._failed[index][1] > first

    @property
    def serial(self) -> str:
        """Return the serial number on the plate."""
        return self.settings.serial

    def clock(self, now: int) -> int:
        """Return what the meter's own clock shows at `now`, in us since 1970 UTC."""
        made = self.settings
        drift = (now - made.installed_at) * made.drift_ppm / MICRO
        return now + round(made.offset_s * SECOND + drift)

    def values(self, now: int) -> dict[str, int]:
        """Return every quantity by its OBIS code (full form) in millionths of the base unit, as of `now` (us)."""
        shown = {CLOCK: self.clock(now)}
        self._energies(now, shown)
        self._instantaneous(now, shown)
        block = now - now % DEMAND_PERIOD
        shown["1-0:1.4.0*255"] = self.demand(block) if self.supply_on else 0
        shown["1-0:1.6.0*255"] = self._peak_demand()
        return shown

    def energies(self, at: int) -> dict[str, int]:
        """Return the energy totals alone, by OBIS code in millionths, as of any instant since the installation (us)."""
        shown: dict[str, int] = {}
        self._energies(at, shown)
        return shown

    def has_supply(self, at: int) -> bool:
        """Tell whether power could flow at `at` (us): the switch was closed and the network there."""
        index = bisect_right(self._gaps, at, key=lambda gap: gap.start) - 1
        return index < 0 or at >= self._gaps[index].end

    def demand(self, end: int) -> int:
        """Return uW: the mean power taken in over the demand period that ended at `end` (us)."""
        if end - DEMAND_PERIOD < self.settings.installed_at:
            return 0
        begin = end - DEMAND_PERIOD
        index = bisect_left(self._gaps, end, key=lambda gap: gap.start) - 1
        if index >= 0 and self._gaps[index].end > begin:
            taken = sum(row[0] for row in (self._totals(end) - self._totals(begin)).rows)
        else:
            curves_in = [phase.active_in for phase in self._phases]
            taken = sum(self._scaled(curve.energy(end)) - self._scaled(curve.energy(begin)) for curve in curves_in)
        return taken * 1000 // DEMAND_PERIOD

    def _flow(self, at: int) -> Totals:
        return Totals([[self._scaled(curve.energy(at)) for curve in phase] for phase in self._phases])

    def _scaled(self, energy: int) -> int:
        return energy * self._permille // 1000

    def _totals(self, at: int) -> Totals:
        total = self._flow(max(at, self.settings.installed_at)) - self._base
        index = bisect_left(self._gaps, at, key=lambda gap: gap.start) - 1
        if index < 0:
            return total
        gap = self._gaps[index]
        if at >= gap.end:
            return total - gap.after
        return total - gap.before - (self._flow(at) - self._flow(gap.start))

    @property
    def _gaps(self) -> list["_Gap"]:
        if self._merged is None:
            gaps: list[_Gap] = []
            missed = Totals([[0] * 4 for _ in self._phases])
            for start, end in _union([*self._switched, *self._failed], self.settings.installed_at):
                after = missed if end == _FOR_EVER else missed + (self._flow(end) - self._flow(start))
                gaps.append(_Gap(start, end, missed, after))
                missed = after
            self._merged = gaps  # whole at once: a serial line asks from a thread of its own
            return gaps
        return self._merged

    def _energies(self, now: int, shown: dict[str, int]) -> None:
        # mW x us to uWh: 1 uWh = 3.6e6 mW x us. Phases are rounded down first, so that they add up to the sum exactly.
        phases = [[total // 3_600_000 for total in row] for row in self._totals(now).rows]
        start = self.settings.start_wh * MICRO
        for row in phases:
            row[0] += start // len(phases)
        phases[0][0] += start % len(phases)
        rows = [[sum(column) for column in zip(*phases, strict=True)], *phases]
        for index, (active_in, active_out, reactive_in, reactive_out) in enumerate(rows):
            shown[_code(_ACTIVE_IN[index], 8)] = active_in
            shown[_code(_ACTIVE_OUT[index], 8)] = active_out
            shown[_code(_REACTIVE_IN[index], 8)] = reactive_in
            shown[_code(_REACTIVE_OUT[index], 8)] = reactive_out
            shown[_code(_ACTIVE_ABS[index], 8)] = active_in + active_out
            shown[_code(_ACTIVE_NET[index], 8)] = active_in - active_out
        shown[REACTIVE_ABS] = rows[0][2] + rows[0][3]

    def _instantaneous(self, now: int, shown: dict[str, int]) -> None:
        seconds = (now - MONTH_START) / SECOND
        active_sum = reactive_sum = 0
        current_sum = 0.0
        neutral = complex(0)
        for index, phase in enumerate(self._phases, start=1):
            active, reactive = self._power(phase, now)
            apparent = math.hypot(active, reactive)
            volts = self._voltage(index, seconds)
            current = apparent / volts
            angle = math.atan2(reactive, active)
            neutral += current * complex(math.cos(math.tau * index / 3 + angle), math.sin(math.tau * index / 3 + angle))
            active_sum, reactive_sum, current_sum = active_sum + active, reactive_sum + reactive, current_sum + current
            shown[_code(_VOLTAGE[index], 7)] = round(volts * MICRO)
            shown[_code(_CURRENT[index], 7)] = round(current)
            _powers(shown, index, active, reactive)
        _powers(shown, 0, active_sum, reactive_sum)
        shown[_code(_VOLTAGE[0], 7)] = shown[_code(_VOLTAGE[1], 7)]
        shown[_code(_CURRENT[0], 7)] = round(current_sum)
        shown[_code(_NEUTRAL_CURRENT, 7)] = round(abs(neutral)) if len(self._phases) > 1 else round(current_sum)
        wave = 0.015 * math.sin(seconds / 17) + 0.01 * math.sin(seconds / 241)
        shown[_code(_FREQUENCY, 7)] = round((NOMINAL_HZ + wave) * MICRO)
        shown["1-0:81.7.4*255"] = round(math.degrees(math.atan2(reactive_sum, active_sum)) * MICRO)

    def _power(self, phase: Phase, now: int) -> tuple[int, int]:
        """Return uW and uvar of one phase, in minus out."""
        if not self.has_supply(now):
            return 0, 0
        active = phase.active_in.power(now) - phase.active_out.power(now)
        reactive = phase.reactive_in.power(now) - phase.reactive_out.power(now)
        return active * self._permille, reactive * self._permille

    def _voltage(self, index: int, seconds: float) -> float:
        """Return V: the day's wave of the street, and a quick one that differs from phase to phase."""
        turn = self.settings.seed + 2.1 * index
        day = 2.5 * math.sin(math.tau * seconds / 86400 + turn)
        quick = 0.6 * math.sin(seconds / 3.7 + turn) + 0.3 * math.sin(seconds / 29 + 2 * turn)
        return NOMINAL_V + day + quick

    def _peak_demand(self) -> int:
        """Return uW: the highest demand of a week, which by the curve is the highest there ever is."""
        if self._peak is None:
            starts = range(curves.MONDAY, curves.MONDAY + curves.WEEK + 1, DEMAND_PERIOD)
            totals = [sum(phase.active_in.energy(at) for phase in self._phases) for at in starts]
            steps = (b - a for a, b in pairwise(totals))
            self._peak = max(steps) * self._permille // DEMAND_PERIOD
        return self._peak


def _union(spans: list[tuple[int, int]], first: int) -> list[tuple[int, int]]:
    """Return the spans from `first` on, in order, those that touch as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((max(start, first), end) for start, end in spans if end > first):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _code(c: int, d: int) -> str:
    return f"1-0:{c}.{d}.0*255"


def _powers(shown: dict[str, int], index: int, active: int, reactive: int) -> None:
    apparent = math.hypot(active, reactive)
    shown[_code(_ACTIVE_NET[index], 7)] = active
    shown[_code(_ACTIVE_IN[index], 7)] = max(active, 0)
    shown[_code(_ACTIVE_OUT[index], 7)] = max(-active, 0)
    shown[_code(_REACTIVE_NET[index], 7)] = reactive
    shown[_code(_REACTIVE_IN[index], 7)] = max(reactive, 0)
    shown[_code(_REACTIVE_OUT[index], 7)] = max(-reactive, 0)
    shown[_code(_APPARENT[index], 7)] = round(apparent)
    shown[_code(_FACTOR[index], 7)] = round(active / apparent * MICRO) if apparent else MICRO
