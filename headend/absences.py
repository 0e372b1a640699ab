"""What is known about readings that will not come: intervals without supply, and intervals lost with a reason.

It reads the events that gateways raise about a meter's own profiles. It judges no readings.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from headend.rows import OF_AN_INTERVAL
from metering import events
from metering.model import SECOND, Event, Kind
from metering.ports import ReadingsStore
from metering.ranges import Ranges
from metering.timing import from_rfc3339

PAGE = 1_000
DAY = 86_400 * SECOND  # each of these events lies inside one day of UTC


class Absence:
    """One event's range: interval ends `first` to `last` (us UTC, inclusive), `interval` in us."""

    __slots__ = ("first", "interval", "last", "obis", "reason")

    def __init__(self, event: Event) -> None:
        self.first = from_rfc3339(event.detail["from"])
        self.last = from_rfc3339(event.detail["to"])
        self.interval = int(event.detail["interval"]) * SECOND
        self.reason = event.detail.get("reason", "")
        self.obis = frozenset(event.detail.get("obis", "").split())  # empty: every channel of the device


class Absences:
    """The absences among one device's events; other events are passed over."""

    def __init__(self, found: Iterable[Event]) -> None:
        self._no_supply: list[Absence] = []
        self._lost: list[Absence] = []
        of_name = {events.NO_SUPPLY.name: self._no_supply, events.INTERVALS_LOST.name: self._lost}
        for event in found:
            try:
                if event.name in of_name:
                    of_name[event.name].append(Absence(event))
            except (KeyError, ValueError):  # another system's event of the same name
                continue

    def no_supply(self, kind: Kind, step: int) -> Ranges:
        """Return the slots without supply, numbered by `step` (us).

        Of another interval than the profile's that was asked, an interval lies in it whole; a snapshot lies in it or at
        either end.
        """
        found = Ranges()
        for each in self._no_supply:
            if each.interval == step:
                found.add(number_of(each.first, step), number_of(each.last, step) + 1)
                continue
            low, high = -(-(each.first - each.interval) // step) + 1, each.last // step
            found.add(low if kind in OF_AN_INTERVAL else low - 1, high + 1)
        return found

    def lost(self, obis: str, step: int) -> Ranges:
        """Return the slots of a channel that its meter's profile lost, numbered by `step` (us)."""
        found = Ranges()
        for spans in self.reasons(obis, step).values():
            found.update(spans)
        return found

    def reasons(self, obis: str, step: int) -> dict[str, Ranges]:
        """Return the slots of a channel that its meter's profile lost, numbered by `step` (us), by reason."""
        found: dict[str, Ranges] = defaultdict(Ranges)
        for each in self._lost:
            if each.interval == step and (not each.obis or obis in each.obis):
                found[each.reason].add(number_of(each.first, step), number_of(each.last, step) + 1)
        return found


def number_of(slot: int, step: int) -> int:
    """Return the number of the slot nearest to an interval's end: a meter's days end at its own midnight."""
    return (slot + step // 2) // step


def events_about(store: ReadingsStore, device: str, first: int, last: int) -> Iterator[Event]:
    """Yield a device's events that may tell of slots (us UTC) from `first` to `last`: an absence lies inside a day."""
    after = ""
    while True:
        page, after = store.events([device], first - DAY, last + DAY, PAGE, after)
        yield from page
        if not after:
            return
