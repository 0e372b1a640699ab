"""What a bus tells about itself: load, queues, and what each meter answered and cost. Counts and decides nothing."""

from dataclasses import dataclass

from collector.circuit import Circuit
from collector.lanes import Lane
from collector.links.link import LinkStatus

LOAD_WINDOW_S = 30.0


@dataclass(frozen=True)
class MeterStatus:
    """One meter on its bus. `busy_s` is the time its exchanges held the wire, failures and draining included."""

    ok: int
    no_answer: int
    frame_errors: int
    refused: int
    retries: int
    late: int  # jobs whose deadline passed before their turn came
    busy_s: float
    circuit: str  # closed, open, half-open
    last_error: str


@dataclass(frozen=True)
class BusStatus:
    """One bus. `load` is the busy fraction of the last 30 to 60 seconds, `busy_s` all the time the wire was held."""

    name: str
    links: tuple[LinkStatus, ...]
    load: float
    busy_s: float
    waiting: dict[Lane, int]
    meters: dict[str, MeterStatus]


class MeterAccount:
    """The counters of one meter as they grow."""

    __slots__ = ("busy_s", "frame_errors", "last_error", "late", "no_answer", "ok", "refused", "retries")

    def __init__(self) -> None:
        self.ok = 0
        self.no_answer = 0
        self.frame_errors = 0
        self.refused = 0
        self.retries = 0
        self.late = 0
        self.busy_s = 0.0
        self.last_error = ""

    def status(self, circuit: Circuit) -> MeterStatus:
        """Return the counters as they are now."""
        return MeterStatus(
            self.ok,
            self.no_answer,
            self.frame_errors,
            self.refused,
            self.retries,
            self.late,
            self.busy_s,
            circuit.state.value,
            self.last_error,
        )


class Load:
    """The busy fraction of a bus over its last two windows."""

    __slots__ = ("_before", "_busy_s", "_since", "total_s")

    def __init__(self, now: float) -> None:
        self.total_s = 0.0
        self._since = now
        self._busy_s = 0.0
        self._before: tuple[float, float] = (0.0, 0.0)  # busy and whole seconds of the window before

    def add(self, started: float, ended: float) -> float:
        """Note that the wire was held between two instants; return the seconds."""
        seconds = ended - started
        self.total_s += seconds
        self._busy_s += seconds
        if ended - self._since > LOAD_WINDOW_S:
            self._before = (self._busy_s, ended - self._since)
            self._since = ended
            self._busy_s = 0.0
        return seconds

    def fraction(self, now: float) -> float:
        """Return the busy fraction: 0 to 1, more where a bus has several connections."""
        busy, whole = self._before
        whole += now - self._since
        return (busy + self._busy_s) / whole if whole > 0 else 0.0
