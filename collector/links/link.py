"""What a bus asks of a wire, what all wires share: the time an answer may take, and when to connect again. No I/O."""

import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from collector.exchange import Exchange, Speed
from collector.protocols import modbus_times
from metering.errors import FrameError

SEVEN_EVEN = "7E1"  # IEC 62056-21 begins so; a port that is opened as 8N1 carries it, with the parity in its eighth bit

# A meter is given a multiple of its usual turnaround, and no less than this above it (a busy meter answers late).
TURNAROUND_FACTOR = 3.0
TURNAROUND_SLACK_S = 0.2

BACKOFF_FIRST_S = 0.5
BACKOFF_LAST_S = 30.0
BACKOFF_DOUBLINGS = 10

# So many time-outs in a row, of so many units that had answered before (or of all of them): the connection is dead.
DEAD_TIMEOUTS = 3
DEAD_UNITS = 3


class CrosstalkError(FrameError):
    """A unit that had not answered in time spoke into another's exchange. The one that was asked is not to blame."""

    def __init__(self, message: str, *, unit: int) -> None:
        super().__init__(message)
        self.unit = unit


class LinkParameters(NamedTuple):
    """What the time of an exchange depends on: baud rate and format of a serial line (0: none), and the latency."""

    baud: int = 0
    line_format: str = "8E1"
    latency_s: float = 0.0


class LinkStatus(NamedTuple):
    """How a wire fares. `strays` counts bytes or frames that nobody asked for, late answers among them."""

    connected: bool
    connects: int
    strays: int
    last_error: str


class Link(Protocol):
    """One wire. One exchange at a time; all errors are those of `metering.errors`.

    `sent_at` is when (`time.monotonic`) the last request went out.
    """

    name: str
    parameters: LinkParameters
    sent_at: float

    async def exchange(self, exchange: Exchange, timeout_s: float) -> bytes:
        """Send a request and return the PDU of its reply: unit, function, byte count and envelope checked.

        Raises:
            NoAnswerError: nothing came in time.
            FrameError: what came is not the answer.
            CrosstalkError: another unit's late answer came.
            RefusedError: the meter answered with an exception.
            LinkDownError: the wire cannot be reached; no meter is to blame.

        """
        ...

    def timeout(self, exchange: Exchange) -> float:
        """Return the seconds after which an answer is not to be expected any more."""
        ...

    def wire_time(self, exchange: Exchange) -> float:
        """Return the seconds that the characters of request and reply occupy the wire."""
        ...

    def ready_at(self, unit: int) -> float:
        """Return when (`time.monotonic`) this unit may be asked again: a late answer must not meet the next request."""
        ...

    def reachable(self) -> bool:
        """Tell whether the wire is connected or may be connected at once; False while it backs off."""
        ...

    def status(self) -> LinkStatus:
        """Return how the wire fares."""
        ...

    async def close(self) -> None:
        """Disconnect. The next exchange connects again."""
        ...


def turnaround_limit(turnaround_s: float) -> float:
    """Return how long a meter may think before it counts as silent."""
    return max(turnaround_s * TURNAROUND_FACTOR, turnaround_s + TURNAROUND_SLACK_S)


def character_time(parameters: LinkParameters, speed: Speed | None = None) -> float:
    """Return the seconds that one character occupies the line, at another speed where one is given; 0 on a network."""
    if not parameters.baud:
        return 0.0
    baud, line_format = speed or (parameters.baud, parameters.line_format)
    bits = 10 if line_format == SEVEN_EVEN else modbus_times.parse_format(line_format).bits
    return modbus_times.character_time(baud, bits)


def silence(parameters: LinkParameters) -> float:
    """Return the seconds of silence that separate what two stations say on a line; 0 on a network."""
    if not parameters.baud:
        return 0.0
    return modbus_times.silent_interval(parameters.baud, modbus_times.parse_format(parameters.line_format).bits)


class Backoff:
    """When the next attempt to connect is due: at once after a wire that worked, later and later after failures."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self.next_at = 0.0
        self._random = chance
        self._failures = 0

    def fail(self, now: float) -> None:
        """Note a failed attempt, or a connection that was lost before anything was answered on it."""
        longest = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2 ** min(self._failures, BACKOFF_DOUBLINGS))
        self._failures += 1
        self.next_at = now + longest * (0.5 + 0.5 * self._random())

    def succeed(self) -> None:
        """Note an answer."""
        self._failures = 0
        self.next_at = 0.0


class Pulse:
    """Whether a connection lives: units that answered on it, and those that were silent since the last answer."""

    def __init__(self) -> None:
        self.alive: set[int] = set()
        self._silent: set[int] = set()
        self._timeouts = 0

    def beat(self, unit: int) -> None:
        """Note an answer of this unit."""
        self.alive.add(unit)
        if self._timeouts:
            self._timeouts = 0
            self._silent.clear()

    def missed(self, unit: int) -> bool:
        """Note a time-out of this unit. Return True when nobody answers any more: connect anew, it costs no one."""
        self._silent.add(unit)
        self._timeouts += 1
        mute = self.alive & self._silent
        return self._timeouts >= DEAD_TIMEOUTS and (mute == self.alive or len(mute) >= DEAD_UNITS)
