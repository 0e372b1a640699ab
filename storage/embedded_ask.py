"""Questions to the embedded store's tables about slots, events and promises to read. Not about values."""

import sqlite3
from collections.abc import Sequence

import msgspec

from metering.model import SECOND, Event, Expectation, Kind
from metering.ports import Arrivals, SlotsQuery
from storage.embedded_rows import FIRST, LAST, Packings, series_of
from storage.versions import OF_AN_INTERVAL, bounds, from_cursor, to_cursor

SLOTS_AT_ONCE = 10_000  # slots that are held in memory at a time
FEW_DEVICES = 20  # up to so many, events are found by device, above it by time

_numbers = msgspec.json.Decoder(list[int])
_events = msgspec.json.Decoder(list[tuple[str, int, str, str, int, dict[str, str]]])

# A scheduled snapshot belongs to its slot; an interval without one to its end.
_SLOTS = """
SELECT json_group_array(slot) FROM (
    SELECT DISTINCT {slot} AS slot
    FROM blocks JOIN json_each(:series) AS wanted ON blocks.series = wanted.value
    WHERE measured_at BETWEEN :from AND :to AND slot BETWEEN :first AND :last ORDER BY slot)
"""
_COUNT = """
SELECT count(DISTINCT {slot})
FROM blocks JOIN json_each(:series) AS wanted ON blocks.series = wanted.value
WHERE measured_at BETWEEN :from AND :to AND {slot} BETWEEN :first AND :last
"""
_ARRIVALS = """
SELECT json_group_array(slot), json_group_array(came) FROM (
    SELECT {slot} AS slot, min(measured_at + delay) AS came FROM blocks
    WHERE series = :series AND measured_at BETWEEN :from AND :to AND {slot} BETWEEN :first AND :last
    GROUP BY slot ORDER BY slot)
"""
_NEXT = """
SELECT min(first) FROM (
    SELECT (SELECT min(measured_at) FROM blocks WHERE series = wanted.value AND measured_at >= :from) AS first
    FROM json_each(:series) AS wanted)
"""
_EVENTS = """
SELECT json_group_array(json_array(device, time, code, name, received_at, json(detail))) FROM (
    SELECT * FROM events {index} WHERE device IN (SELECT value FROM json_each(:devices))
    AND (time, id) > (:time, :id) AND time < :end ORDER BY time, id LIMIT :rows)
"""


class SlotScan:
    """The slots of one scheduled channel, a bounded number at a time."""

    def __init__(self, connection: sqlite3.Connection, packings: Packings, query: SlotsQuery) -> None:
        wanted = (query.kind, query.source, query.interval)
        series = [
            one
            for one in series_of(connection, packings, [query.device])
            if (one.packing.layout.kind, one.packing.layout.source, one.packing.layout.interval) == wanted
            and any(column.obis == query.obis for column in one.packing.layout.columns)
        ]
        self._series = msgspec.json.encode([one.id for one in series]).decode()
        self._slack = max((one.slack for one in series), default=0)
        self._window = max(query.interval, 1) * SECOND * SLOTS_AT_ONCE
        self._slot = _slot_of(query.kind)
        first, last = bounds(query.kind, query.start, query.end)
        self._first, self._last = max(first, FIRST // 2), min(last, LAST // 2)

    def next(self, connection: sqlite3.Connection) -> list[int] | None:
        """Return the next slots in order, perhaps none; None when there are no more."""
        asked = self._window_from(connection)
        if asked is None:
            return None
        return _numbers.decode(connection.execute(_SLOTS.format(slot=self._slot), asked).fetchone()[0])

    def count_next(self, connection: sqlite3.Connection) -> int | None:
        """Return how many the next slots are, perhaps 0; None when there are no more."""
        asked = self._window_from(connection)
        if asked is None:
            return None
        return int(connection.execute(_COUNT.format(slot=self._slot), asked).fetchone()[0])

    def _window_from(self, connection: sqlite3.Connection) -> dict[str, int | str] | None:
        """Return the bounds of the next slots as a question's parameters, and move on."""
        asked: dict[str, int | str] = {"series": self._series, "from": self._first - self._slack}
        nearest = connection.execute(_NEXT, asked).fetchone()[0]
        if nearest is None or nearest - self._slack > self._last or self._first > self._last:
            return None
        first = max(self._first, nearest - self._slack)
        last = min(self._last, first + self._window - 1)
        self._first = last + 1
        return asked | {"first": first, "last": last, "from": first - self._slack, "to": last + self._slack}


def _slot_of(kind: Kind) -> str:
    return f"measured_at - {'coalesce(lag, 0)' if kind in OF_AN_INTERVAL else 'lag'}"


def read_arrivals(
    connection: sqlite3.Connection, packings: Packings, device: str, first: int, last: int
) -> list[Arrivals]:
    """Return when each slot of a device came, layout by layout."""
    found = []
    for series in series_of(connection, packings, [device]):
        layout = series.packing.layout
        asked = {
            "series": series.id,
            "first": first,
            "last": last,
            "from": first - series.slack,
            "to": last + series.slack,
        }
        slots, came = connection.execute(_ARRIVALS.format(slot=_slot_of(layout.kind)), asked).fetchone()
        obis = tuple(column.obis for column in layout.columns)
        held = _numbers.decode(slots), _numbers.decode(came)
        found.append(Arrivals(layout.kind, layout.source, layout.interval, obis, *held))
    return found


def read_events(
    connection: sqlite3.Connection, devices: Sequence[str], start: int, end: int, limit: int, after: str
) -> tuple[list[Event], str]:
    """Return one page of events in the order of (time, id)."""
    time, event_id = from_cursor(after, tuple[int, str]) if after else (start, "")
    asked = {
        "devices": msgspec.json.encode(devices).decode(),
        "time": max(time, start, FIRST),
        "id": event_id if time >= start else "",
        "end": min(end, LAST),
        "rows": limit + 1,
    }
    index = "INDEXED BY events_of_device" if len(devices) <= FEW_DEVICES else "NOT INDEXED"
    rows = _events.decode(connection.execute(_EVENTS.format(index=index), asked).fetchone()[0])
    found = [Event(*row) for row in rows[:limit]]
    return found, to_cursor((found[-1].time, found[-1].id)) if found and len(rows) > limit else ""


def read_expectations(connection: sqlite3.Connection, device: str) -> list[Expectation]:
    """Return all promises to read this device, in the order of `since`."""
    rows = connection.execute(
        "SELECT json_group_array(json_array(device, kind, source, interval, json(obis), since, until)) FROM "
        "(SELECT * FROM expectations WHERE device = ? ORDER BY device, since, kind, source, interval, obis)",
        (device,),
    ).fetchone()[0]
    return msgspec.json.decode(rows, type=list[Expectation])
