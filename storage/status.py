"""How a log is, as one value for health pages and metrics."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LogStatus:
    """How the log is. `depth`: by cursor, the seqs it has still to pass.

    `evicted_*` were not delivered to every cursor; `trimmed_records` were, so nothing is missing there.
    """

    epoch: str
    first_seq: int
    next_seq: int
    records: int
    bytes: int
    oldest_at: int | None  # when the oldest segment was begun
    accepting: bool
    why_not: str
    evicted_records: int
    evicted_readings: int
    quarantined_records: int
    lost_records: int
    trimmed_records: int
    quarantine_items: int
    quarantine_dropped: int
    commits: int  # since the log was opened, as is bytes_written
    bytes_written: int
    depth: dict[str, int]
    notes: tuple[str, ...]  # what was found damaged, and what was done about it
