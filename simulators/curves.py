"""Load curves: power over a week as straight lines between knots, so that energy is an exact integer; no registers.

A curve repeats each week of UTC (from Monday). Between two knots the power is a straight line, its integral a parabola:
both are integers of (mW) and (mW x us), so energy is a pure function of time that never goes back and never drifts.
"""

import math
import random
from array import array
from functools import cache
from itertools import accumulate
from typing import Literal, NamedTuple

from metering.model import SECOND

Load = Literal["household", "shop", "pv"]

WEEK = 7 * 86400 * SECOND  # us
MONDAY = 4 * 86400 * SECOND  # 1970-01-05T00:00:00Z, the first Monday
STEP = 300 * SECOND  # us between two knots
KNOTS = WEEK // STEP
SHAPES = 16  # different curves of each kind; meters beyond that share one and differ in size


class Curve:
    """One phase's power over a week, without sign: `power(t)` in mW, `energy(t)` in mW x us since the first Monday."""

    def __init__(self, knots: list[int]) -> None:
        self._knots = array("q", [*knots, knots[0]])
        pairs = (self._knots[index] + self._knots[index + 1] for index in range(len(knots)))
        self._sums = array("q", accumulate(pairs, initial=0))  # twice the area of the steps before, in knots
        self._week = self._sums[-1] * STEP  # twice the energy of a week

    def power(self, instant: int) -> int:
        """Return the power at `instant` (us since 1970) in mW."""
        index, rest = divmod((instant - MONDAY) % WEEK, STEP)
        first = self._knots[index]
        return first + (self._knots[index + 1] - first) * rest // STEP

    def energy(self, instant: int) -> int:
        """Return the energy from the first Monday to `instant` in mW x us, rounded down."""
        weeks, rest = divmod(instant - MONDAY, WEEK)
        index, rest = divmod(rest, STEP)
        first = self._knots[index]
        slope = self._knots[index + 1] - first
        twice = weeks * self._week + self._sums[index] * STEP
        return (twice * STEP + 2 * first * rest * STEP + slope * rest * rest) // (2 * STEP)


class Phase(NamedTuple):
    """One phase: active and reactive power, each as what flows in and what flows out."""

    active_in: Curve
    active_out: Curve
    reactive_in: Curve
    reactive_out: Curve


@cache
def phase(load: Load, shape: int) -> Phase:
    """Return the curves of one phase of a household, a shop, or a household with a PV roof."""
    chance = random.Random(f"{load}/{shape}")
    active: list[int] = []
    reactive: list[int] = []
    size = chance.uniform(0.7, 1.3)
    lag = chance.uniform(-0.75, 0.75)  # hours by which these people are early or late
    boost = 0.0
    for index in range(KNOTS):
        hour = index * STEP / SECOND / 3600
        day, hour_of_day = divmod(hour + lag, 24)
        boost = boost * 0.7 if chance.random() > 0.02 else chance.uniform(500, 2200)  # a kettle, a compressor
        used = size * (_shop(hour_of_day, int(day)) if load == "shop" else _household(hour_of_day)) + boost
        made = size * _sun(hour % 24) * chance.uniform(0.85, 1.0) if load == "pv" else 0.0
        active.append(round((used - made) * 1000))
        # Motors lag; at night the filters of lamps and chargers lead.
        reactive.append(round(used * 1000 * (0.35 if used > 250 * size else -0.2) * chance.uniform(0.8, 1.2)))
    return Phase(*_split(active), *_split(reactive))


def _split(signed: list[int]) -> tuple[Curve, Curve]:
    return Curve([max(value, 0) for value in signed]), Curve([max(-value, 0) for value in signed])


def _household(hour: float) -> float:
    """Return W: a base, a morning and a higher evening."""
    return 140 + 420 * _bell(hour, 7.5, 1.2) + 150 * _bell(hour, 12.5, 1.5) + 900 * _bell(hour, 19.5, 2.0)


def _shop(hour: float, day: int) -> float:
    """Return W: open from 8 to 20 on six days, refrigerators always."""
    is_open = day % 7 != 6
    ramp = 1 / (1 + math.exp(-4 * (hour - 8))) - 1 / (1 + math.exp(-4 * (hour - 20)))
    return 600 + (4200 * ramp if is_open else 0.0)


def _sun(hour: float) -> float:
    """Return W of a roof: half a sine from 6 to 18 UTC."""
    return max(0.0, 3200 * math.sin((hour - 6) / 12 * math.pi))


def _bell(hour: float, middle: float, width: float) -> float:
    distance = (hour - middle + 12) % 24 - 12
    return math.exp(-0.5 * (distance / width) ** 2)
