"""The numbers of a log: size, what waits in it, what it lost. It measures no other part."""

from collections.abc import Iterator

from headend.measures import Measure
from storage.log import Log


def log_measures(log: Log) -> Iterator[Measure]:
    """Yield the numbers of a log."""
    status = log.status()
    yield Measure("log_bytes", "gauge", "Bytes of the log on disk", status.bytes)
    yield Measure("log_records", "gauge", "Records in the log", status.records)
    yield Measure("log_accepting", "gauge", "1 while the log accepts records", float(status.accepting))
    yield Measure("log_evicted_readings", "counter", "Readings evicted unread", status.evicted_readings)
    yield Measure("log_quarantined", "counter", "Records that could not be read", status.quarantined_records)
    for name, depth in status.depth.items():
        yield Measure("log_depth", "gauge", "Records that a cursor has not passed", depth, {"cursor": name})
