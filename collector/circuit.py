"""A meter's circuit: how much of a bus a failing meter may waste, and when it is asked again. No I/O, reads no clock.

Each failed exchange puts what it cost the bus into the meter's debt, and time pays the debt off at a share of the bus
that all failing meters divide among themselves. A meter whose debt leaves no room for one more failure is left alone
until there is room again: so whatever the pattern of its failures, it costs the others no more than its share.
"""

import random
from collections.abc import Callable, Iterable
from enum import Enum

# All failing meters of one bus together. The promise is 5 %; the rest is for the failures before a circuit opens.
WASTE_SHARE = 0.04
TRIP_FAILURES = 3  # failures in a row that open a circuit, and the debt in failures that does
PROBE_JITTER = 0.25  # probes come up to this much later than they might, so that gateways do not probe in step


class State(Enum):
    """Closed: asked as planned. Open: left alone. Half-open: one probe is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Circuit:
    """One meter's circuit. Times are seconds of one steady clock; costs are seconds of the bus.

    `failing` gives the number of meters of this bus that are in debt, this one included.
    """

    __slots__ = ("_changed_at", "_dearest", "_debt", "_failing", "_random", "_rate", "failures", "probe_at", "state")

    def __init__(self, failing: Callable[[float], int], chance: Callable[[], float] = random.random) -> None:
        self.state = State.CLOSED
        self.failures = 0  # in a row
        self.probe_at = 0.0
        self._failing = failing
        self._random = chance
        self._debt = 0.0
        self._dearest = 0.0
        self._rate = WASTE_SHARE
        self._changed_at = 0.0

    def debt(self, now: float) -> float:
        """Return the seconds of the bus that this meter has wasted and that time has not paid off yet."""
        return max(0.0, self._debt - (now - self._changed_at) * self._rate)

    def refuses(self, now: float) -> bool:
        """Tell whether the meter is to be left alone now."""
        return self.state is not State.CLOSED and (self.state is State.HALF_OPEN or now < self.probe_at)

    def admit(self, now: float, *, force: bool = False) -> bool:
        """Let one exchange through, or not. On an open circuit it is the probe, which `force` brings forward."""
        if self.state is State.CLOSED:
            return True
        if self.refuses(now) and not force:
            return False
        self.state = State.HALF_OPEN
        return True

    def withdraw(self) -> None:
        """Take a probe back that proved nothing: cancelled, or the link was down."""
        if self.state is State.HALF_OPEN:
            self.state = State.OPEN

    def succeed(self) -> bool:
        """Note an answer. Return True when it closed the circuit. The debt stays until time has paid it."""
        self.failures = 0
        closed = self.state is not State.CLOSED
        self.state = State.CLOSED
        return closed

    def fail(self, now: float, cost: float) -> bool:
        """Note a failed exchange that cost `cost` seconds. Return True when it opened a closed circuit."""
        left = self.debt(now)
        self._dearest = max(cost, self._dearest if left else 0.0)
        self._debt = left + cost
        self._changed_at = now
        self._rate = WASTE_SHARE / max(1, self._failing(now))
        self.failures += 1
        too_much = self._debt - (TRIP_FAILURES - 1) * self._dearest
        was_closed = self.state is State.CLOSED
        if was_closed and self.failures < TRIP_FAILURES and too_much <= 0:
            return False
        self.state = State.OPEN
        wait = max(too_much, cost) / self._rate
        self.probe_at = now + wait * (1 + PROBE_JITTER * self._random())
        return was_closed


def count_failing(circuits: Iterable[Circuit], now: float) -> int:
    """Return how many circuits are not closed or still in debt."""
    return sum(1 for circuit in circuits if circuit.state is not State.CLOSED or circuit.debt(now) > 0)
