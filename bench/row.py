"""One line of `metergate bench`: ours beside what it is compared with, their ratio, the bar, and whether it holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured bar. `ratio` is what the bar is about; `ours` and `other` are in `unit`, measured in one run."""

    name: str
    ours: float
    unit: str
    against: str  # what it is compared with: a peer, a limit, a budget
    other: float
    ratio: float
    bar: str  # the bar in words, for example "ratio >= 0.95"
    holds: bool
    note: str = ""
