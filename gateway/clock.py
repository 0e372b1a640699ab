"""Whether the gateway's own clock can be believed: it notices steps. It does not set the clock."""

import time
from collections.abc import Callable
from typing import NamedTuple

from metering.model import SECOND
from metering.timing import now

STEP_LIMIT_S = 1.0  # more than this between wall clock and monotonic clock is a step, not a slew
SETTLE_S = 60.0  # readings stay suspect until the clock was quiet for so long


class Step(NamedTuple):
    """The wall clock jumped by `seconds` (negative: back), noticed at `noticed_at` on the new clock."""

    seconds: float
    noticed_at: int


class Clock:
    """The wall clock, watched against the monotonic one.

    `floor` is an instant that is known to be past (the newest record of the log): a clock before it, a real-time
    clock that lost its battery for example, is suspect until it is past it.
    """

    def __init__(
        self, floor: int = 0, *, wall: Callable[[], int] = now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._floor = floor
        self._wall = wall
        self._monotonic = monotonic
        self._last_wall = wall()
        self._last_monotonic = monotonic()
        self._quiet_from = float("-inf")
        self.steps = 0

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        return self._wall()

    def check(self) -> Step | None:
        """Compare both clocks since the last check; call it each second or so. Returns the step, if there was one."""
        wall, monotonic = self._wall(), self._monotonic()
        drift = self._drift(wall, monotonic)
        self._last_wall, self._last_monotonic = wall, monotonic
        if abs(drift) <= STEP_LIMIT_S:
            return None
        self._quiet_from = monotonic + SETTLE_S
        self.steps += 1
        return Step(drift, wall)

    @property
    def suspect(self) -> bool:
        """Tell whether what is stamped now may be wrong: a step counts at once, before `check` has noticed it."""
        wall, monotonic = self._wall(), self._monotonic()
        stepped = abs(self._drift(wall, monotonic)) > STEP_LIMIT_S
        return stepped or monotonic < self._quiet_from or wall < self._floor

    def _drift(self, wall: int, monotonic: float) -> float:
        return (wall - self._last_wall) / SECOND - (monotonic - self._last_monotonic)
