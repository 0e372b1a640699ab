"""What a gateway's record may bring into the head-end's log: assigned devices only, nothing of the future. Pure.

A record that is all right goes on byte for byte. One that is not loses the blocks, events and promises that are
refused, is packed anew, and the alert events that say so come back beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from metering import events
from metering.batch import Batch
from metering.events import EventType
from metering.model import SECOND, Block, Event, JournalEntry
from storage.codec import pack, unpack, unpack_outline

FUTURE_S = 300  # how far a stamp may lie ahead of the head-end's clock
ALERT_EVERY_S = 3600  # the same alert has the same id within this time, and is one event
MAX_ALERTS = 20  # of one record
MAX_NAMED = 64  # characters of a foreign device's id in an alert

Assigned = Callable[[str, str], bool]  # (gateway, device): was it ever assigned to it?


class Admitted(NamedTuple):
    """A record as it may be stored, and its journal. `future` are the blocks to be put into quarantine."""

    payload: bytes
    readings: int
    alerts: list[Event]
    future: list[Block]
    refused: int  # readings
    journal: Sequence[JournalEntry]


def admit(gateway: str, payload: bytes, now: int, assigned: Assigned, offset: str = "") -> Admitted:
    """Check one record; `offset` says how far the gateway's clock is off, as far as it is known.

    Raises:
        ValueError: it is no batch.

    """
    found = unpack_outline(payload)
    horizon = now + FUTURE_S * SECOND
    devices = found.devices | (found.told - {f"gateway:{gateway}"})
    foreign = {device for device in devices if not assigned(gateway, device)}
    if not foreign and (found.latest is None or found.latest <= horizon):
        return Admitted(payload, found.readings, [], [], 0, found.journal)
    return _without(gateway, unpack(payload), foreign, horizon, now, offset)


def _without(gateway: str, batch: Batch, foreign: set[str], horizon: int, now: int, offset: str) -> Admitted:
    own = [block for block in batch.blocks if block.device not in foreign]
    kept = [block for block in own if block.measured_at <= horizon]
    future = [block for block in own if block.measured_at > horizon]
    rest = Batch(
        batch.created_at,
        kept,
        tuple(event for event in batch.events if event.device not in foreign),
        tuple(each for each in batch.expectations if each.device not in foreign),
        batch.skipped,
        batch.journal,
    )
    refused = sum(len(block.values) for block in batch.blocks if block.device in foreign)
    alerts = [alert(gateway, events.READINGS_REFUSED, now, device=each[:MAX_NAMED]) for each in sorted(foreign)]
    late = sorted({block.device for block in future})
    alerts += [alert(gateway, events.READINGS_FROM_FUTURE, now, device=each, clock_offset=offset) for each in late]
    return Admitted(pack(rest), rest.count(), alerts[:MAX_ALERTS], future, refused, batch.journal)


def alert(gateway: str, kind: EventType, now: int, **detail: str) -> Event:
    """Return an alert about a gateway: the same within ALERT_EVERY_S, so that a babbling one cannot flood the log."""
    time = now - now % (ALERT_EVERY_S * SECOND)
    known: Mapping[str, str] = {key: value for key, value in detail.items() if value}
    return Event(f"gateway:{gateway}", time, kind.code, kind.name, time, dict(known))
