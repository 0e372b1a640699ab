"""What keeps a site from being ready, and its numbers for the monitoring: read off the running parts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headend.measures import Measure

if TYPE_CHECKING:
    from metergate.parts import Parts

BACKLOG_RECORDS = 10_000  # a store further behind the log than this is told as a problem


def problems(parts: "Parts") -> list[str]:
    """Return what is wrong with the gateway and the projection, in plain words; nothing means ready."""
    status = parts.gateway.status()
    found = []
    if status.recorder.refusal:
        # The part before the colon is what `/readyz` tells everybody: the log's own reason begins with "disk full".
        found.append(status.recorder.refusal)
    projection = parts.projection.status()
    if projection.last_error:
        found.append(f"projection: {projection.last_error}")
    elif projection.lag > BACKLOG_RECORDS:
        found.append(f"projection: {projection.lag} records behind the log")
    return found


def measures(parts: "Parts") -> Iterator[Measure]:
    """Yield the numbers of the gateway: what was read, what failed, and how busy each line is."""
    status = parts.gateway.status()
    yield Measure("readings_committed", "counter", "Readings in the log since the start", status.recorder.readings)
    yield Measure("readings_pending", "gauge", "Readings that wait for the next commit", status.recorder.pending)
    yield Measure("readings_dropped", "counter", "Readings the log did not accept", status.recorder.dropped)
    yield Measure("clock_suspect", "gauge", "1 while the gateway's clock is not trusted", float(status.clock_suspect))
    yield Measure("clock_steps", "counter", "Steps of the gateway's clock", status.clock_steps)
    for name, bus in status.buses.items():
        label = {"bus": name}
        yield Measure("bus_load", "gauge", "Share of time that the wire was held", bus.load, label)
        yield Measure("bus_waiting", "gauge", "Jobs that wait for their turn", sum(bus.waiting.values()), label)
        meters = bus.meters.values()
        for kind in ("ok", "no_answer", "frame_errors", "refused", "retries", "late"):
            count = sum(getattr(meter, kind) for meter in meters)
            yield Measure("exchanges", "counter", "Exchanges and their outcome", count, {**label, "outcome": kind})
        silent = sum(meter.circuit != "closed" for meter in meters)
        yield Measure("meters_silent", "gauge", "Meters that are left alone for being silent", silent, label)
    projection = parts.projection.status()
    yield Measure("store_lag", "gauge", "Records of the log that the store has not", projection.lag)
    yield Measure("store_duplicates", "counter", "Readings that the store had already", projection.duplicates)
    yield Measure("store_versions", "counter", "Corrections stored beside older values", projection.versions)
    yield Measure("store_rejected", "counter", "Blocks that the store refused", projection.rejected)
