"""What a DL/T 645 meter has recorded: daily freezes, settlements, load records, event records. A function of time.

Nothing is stored: a record of any past instant is computed when it is asked for, so a simulator that starts again has
the same memory. What falls into a failure of the network was not recorded.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from collector.dlt645_tables import EventTable, RecordClass
from collector.protocols.dlt645.events import STAMP
from collector.protocols.dlt645.load_record import NEWEST, OLDEST, Record, build_record
from collector.protocols.dlt645.times import encode_stamp
from metering.model import SECOND
from simulators.dlt645_values import Shown

RECORD_BYTES = 64  # of an event record; the longest of the standard have about as many
_DAY = timedelta(days=1)


class Happening(NamedTuple):
    """Something for an event log: which log, and when it began and ended (us UTC; 0: it has no end)."""

    log: str
    start: int
    end: int = 0


class History:
    """One meter's memory. `now` is always what its own clock shows (us UTC)."""

    def __init__(self, shown: Shown, happenings: list[Happening] | None = None) -> None:
        self.shown = shown
        self.happenings = happenings or []

    # -- daily freezes

    def freeze(self, item: str, back: int, now: int) -> bytes | None:
        """Return one item (DI1) of the freeze so many back; None where there is none."""
        made = self.shown.profile.daily_freeze
        if made is None or not 1 <= back <= made.days:
            return None
        at = next((at for number, at in enumerate(self._midnights(now), 1) if number == back), None)
        if at is None:
            return None
        stamp = encode_stamp(self.shown.civil(at))
        if item == made.stamp:
            return stamp
        parts = {table.item: self.shown.items(table.points, at) for table in made.items if item in (table.item, "FF")}
        if item == "FF":
            return bytes.fromhex(made.separator).join([stamp, *parts.values()])
        return parts.get(item)

    def _midnights(self, now: int) -> Iterator[int]:
        """Yield the midnights at which the meter froze, the newest first."""
        day = self.shown.civil(now).replace(hour=0, minute=0, second=0)
        while (at := self.shown.instant(day)) >= self.shown.meter.settings.installed_at:
            if not self.failing(at):
                yield at
            day -= _DAY

    # -- settlements

    def settlement(self, di: str, back: int, now: int) -> bytes | None:
        """Return an energy or a maximum of the settlement so many back (midnight of a month's first day)."""
        made = self.shown.profile.settlement
        if made is None or not 1 <= back <= made.months or not self.shown.is_settled(di):
            return None
        month = self.shown.civil(now).replace(day=1, hour=0, minute=0, second=0)
        for _ in range(back - 1):
            month = (month - _DAY).replace(day=1)
        # Before it was installed a meter shows what it was installed with.
        at = max(self.shown.instant(month), self.shown.meter.settings.installed_at)
        return self.shown.read(di, at)

    # -- load records

    def load_records(self, made: RecordClass, what: int, blocks: int, start: datetime | None, now: int) -> bytes | None:
        """Return up to `blocks` records of a class: the oldest, the newest, or from a civil time on."""
        records = self.shown.profile.load_record
        if records is None:
            return None
        step = timedelta(seconds=made.interval)
        newest = _floor(self.shown.civil(now), step)
        installed = self.shown.civil(self.shown.meter.settings.installed_at)
        oldest = max(_floor(installed, step) + step, newest - timedelta(days=records.days) + step)
        if what == NEWEST:
            first = newest - (blocks - 1) * step
        elif what == OLDEST or start is None:
            first = oldest
        else:
            first = start + (step if records.stamps == "begin" else timedelta())
            first = first if first == _floor(first, step) else _floor(first, step) + step
        moment = max(first, oldest)
        found: list[bytes] = []
        while moment <= newest and len(found) < blocks:
            record = self._record(made, moment)
            if record is not None:
                found.append(record)
            moment += step
        return b"".join(found) or None

    def _record(self, made: RecordClass, end: datetime) -> bytes | None:
        records = self.shown.profile.load_record
        at = self.shown.instant(end)
        if records is None or self.failing(at):
            return None
        stamp = end - timedelta(seconds=made.interval) if records.stamps == "begin" else end
        layout = self.shown.profile.record_layout(made.number)
        return build_record(layout, Record(stamp, {made.number: self.shown.numbers(made.points, at)}))

    # -- events

    def count(self, log: EventTable, now: int) -> int:
        """Return how many records a log ever had."""
        return len(self._of(log, now))

    def event(self, log: EventTable, back: int, now: int) -> bytes | None:
        """Return a record of a log: its stamps at their places, zeros elsewhere and where there was nothing yet."""
        found = self._of(log, now)
        record = bytearray(RECORD_BYTES)
        if 1 <= back <= log.depth and back <= len(found):
            happening = found[-back]
            for place, at in ((log.start, happening.start), (log.end, happening.end)):
                if place >= 0 and 0 < at <= now:
                    record[place : place + STAMP] = encode_stamp(self.shown.civil(at), STAMP)
        return bytes(record) if 1 <= back <= log.depth else None

    def happened(self, log: str, at: int) -> None:
        """Note that something happened, to the second."""
        self.happenings.append(Happening(log, at - at % SECOND))

    def failing(self, at: int) -> bool:
        """Tell whether the network fails at an instant."""
        return any(start <= at < end for start, end in self.shown.meter.failures)

    def _of(self, log: EventTable, now: int) -> list[Happening]:
        found = [made for made in self.happenings if made.log == log.name]
        if log.name == "power-failure":
            found += [Happening(log.name, start, end) for start, end in self.shown.meter.failures]
        return sorted((made for made in found if made.start <= now), key=lambda made: made.start)


def _floor(moment: datetime, step: timedelta) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (moment - midnight) // step * step
