"""What keeps a site from being ready, and its numbers for the monitoring: read off the running parts."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gateway.backfill import total
from gateway.memories import MemoryStatus
from headend.measures import Measure

if TYPE_CHECKING:
    from metergate.parts import Parts

METERS_SHOWN = 1_000  # up to so many meters with a memory of their own have numbers of their own; more are summed up
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
    yield from _memories(status.memories)
    projection = parts.projection.status()
    yield Measure("store_lag", "gauge", "Records of the log that the store has not", projection.lag)
    yield Measure("store_duplicates", "counter", "Readings that the store had already", projection.duplicates)
    yield Measure("store_versions", "counter", "Corrections stored beside older values", projection.versions)
    yield Measure("store_rejected", "counter", "Blocks that the store refused", projection.rejected)


def _memories(memories: Mapping[str, MemoryStatus]) -> Iterator[Measure]:
    """Yield how far the meters' own profiles are read, and how their clocks fare."""
    profiles = {device: each.profiles for device, each in memories.items() if each.profiles is not None}
    if len(memories) > METERS_SHOWN:
        profiles = {"": total(profiles.values())}
    for device, each in profiles.items():
        label = {"meter": device} if device else {}
        yield Measure("profile_missing", "gauge", "Intervals of own profiles to be read", each.missing, label)
        yield Measure("profile_recovered", "counter", "Rows that filled holes since the start", each.recovered, label)
        yield Measure("profile_lost", "gauge", "Intervals that the meter does not have", each.lost, label)
        yield Measure("profile_no_supply", "gauge", "Intervals inside power failures", each.no_supply, label)
    if len(memories) > METERS_SHOWN:
        return
    for device, memory in memories.items():
        if memory.clock is not None and memory.clock.offset is not None:
            label = {"meter": device}
            yield Measure(
                "meter_clock_offset_seconds", "gauge", "How far a meter's clock is ahead", memory.clock.offset, label
            )
            if memory.clock.drift is not None:
                text = "Seconds that a meter's clock gains in a day"
                yield Measure("meter_clock_drift_seconds", "gauge", text, memory.clock.drift, label)
