"""What worker processes tell of their gateways, and how it is added up. It measures nothing itself."""

from collections import Counter
from collections.abc import Iterable
from threading import Lock

import msgspec

FINE_MS = 1000  # delays are kept to the millisecond up to here, beyond to two digits: their number stays bounded


class Delays:
    """How long receipts took, as counts by milliseconds. Safe in any thread."""

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self._counts = Counter(counts or {})
        self._lock = Lock()

    def add(self, seconds: float, times: int = 1) -> None:
        """Note a delay."""
        ms = max(0, round(seconds * 1000))
        if ms > FINE_MS:
            step = 10 ** (len(str(ms)) - 2)
            ms = -(-ms // step) * step
        with self._lock:
            self._counts[ms] += times

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._counts.clear()

    def counts(self) -> dict[int, int]:
        """Return how often each delay came, by milliseconds."""
        with self._lock:
            return dict(self._counts)

    def quantile(self, share: float) -> float:
        """Return the seconds that this share of the delays does not exceed; 0 without any."""
        counts = self.counts()
        wanted, seen = share * sum(counts.values()), 0
        for ms in sorted(counts):
            seen += counts[ms]
            if seen >= wanted:
                return ms / 1000
        return 0.0


class Edge(msgspec.Struct, frozen=True):
    """One gateway at the end: its log's records and the readings that it took into it, in this epoch."""

    gateway: str
    epoch: str
    records: int
    readings: int


class Report(msgspec.Struct, frozen=True):
    """How the gateways of one worker fare; of a whole fleet once added up. Counts are since the start.

    `due` are readings that the schedule called for, `taken` those in the gateways' logs, `dropped` those that a log
    did not accept. `behind` are records without a receipt. `errors` (by kind) and `edges` come at the end.
    """

    gateways: int = 0
    up: int = 0  # gateways that the head-end has answered
    due: int = 0
    taken: int = 0
    pending: int = 0
    dropped: int = 0
    behind: int = 0
    sent: int = 0
    sent_again: int = 0
    put_back: int = 0
    errors: dict[str, int] = {}
    delays: dict[int, int] = {}
    edges: list[Edge] = []
    final: bool = False


def total(reports: Iterable[Report]) -> Report:
    """Return the sum of reports; it is final when all are."""
    sums: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    delays: Counter[int] = Counter()
    edges: list[Edge] = []
    final = True
    for report in reports:
        numbers = msgspec.structs.asdict(report)
        sums.update({name: value for name, value in numbers.items() if type(value) is int})
        errors.update(report.errors)
        delays.update(report.delays)
        edges += report.edges
        final = final and report.final
    return Report(**sums, errors=dict(errors), delays=dict(delays), edges=edges, final=final)
