"""Event records (03xxxxxx, 1Dxxxxxx, 1Exxxxxx): stamps at known places, and the shared words for them. Asks nothing."""

from datetime import datetime
from typing import NamedTuple

from collector.protocols.dlt645.times import decode_stamp
from metering import events
from metering.events import EventType

# The shared event types that a profile may name for a record's beginning, its end, or a status bit.
EVENTS: dict[str, EventType] = {
    kind.name: kind
    for kind in (
        events.POWER_DOWN,
        events.POWER_UP,
        events.TERMINAL_COVER_OPENED,
        events.TERMINAL_COVER_CLOSED,
        events.COVER_OPENED,
        events.COVER_CLOSED,
        events.REVERSE_RUN,
        events.REVERSE_RUN_ENDED,
        events.TAMPER,
        events.MAGNET_DETECTED,
        events.MAGNET_GONE,
        events.CLOCK_SET,
        events.CLOCK_INVALID,
        events.DEMAND_RESET,
        events.PROGRAMMED,
        events.METER_CLEARED,
        events.BATTERY_LOW,
        events.METER_ERROR,
        events.RELAY_OPENED,
        events.RELAY_CLOSED,
        events.PHASE_FAILED,
        events.PHASE_BACK,
        events.METER_OTHER,
    )
}

STAMP = 6  # YYMMDDhhmmss


class Fields(NamedTuple):
    """Where a record's stamps stand: byte offsets; -1 where there is none."""

    start: int = 0
    end: int = -1


class Stamps(NamedTuple):
    """When something began and ended, in civil time; None where the record does not say."""

    start: datetime | None
    end: datetime | None


def parse_record(fields: Fields, data: bytes) -> Stamps:
    """Return the stamps of a record; what is no time counts as not there."""
    return Stamps(_stamp(data, fields.start), _stamp(data, fields.end))


def _stamp(data: bytes, at: int) -> datetime | None:
    part = data[at : at + STAMP] if at >= 0 else b""
    if len(part) != STAMP:
        return None
    try:
        return decode_stamp(part)
    except ValueError:
        return None
