"""Reads a DL/T 645 meter's event records and status words as events in the shared words. Decides nothing by them."""

from datetime import datetime
from zoneinfo import ZoneInfo

from collector.capabilities import Talk
from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import EventTable, StatusTable
from collector.drivers.dlt645_talk import Dlt645Talk, own
from collector.protocols.dlt645.errors import UNREADABLE
from collector.protocols.dlt645.events import EVENTS, STAMP, Fields, Stamps, parse_record
from collector.protocols.dlt645.identifiers import back
from collector.protocols.dlt645.status import parse_word
from collector.protocols.dlt645.times import to_utc
from collector.protocols.dlt645.values import count_of
from metering.errors import MeterError, RefusedError
from metering.model import SECOND, Event

_DAY = 86_400 * SECOND
_COUNT = 3  # bytes of a count of events


class Dlt645Events:
    """A meter's event logs and status words (capability `EventReader`).

    A record gives an event for its beginning and one for its end. A status bit has no time: when it is seen first it
    is stamped with the beginning of that day (UTC), when it changes later, with the time at which that was seen. It is
    no event of its own where a log has just told the same. `words` are the status words as they were read last.
    """

    def __init__(self, profile: Dlt645Profile, device: str) -> None:
        self._profile = profile
        self._device = device
        self._zone = ZoneInfo(profile.zone)
        self.words: dict[str, int] = {}
        self._absent: set[str] = set()  # logs and words that this meter refused
        self._now = 0  # when the last answer came

    def forget(self) -> None:
        """Forget what the meter refused and what its status words were."""
        self.words.clear()
        self._absent.clear()

    async def read_events(self, talk: Talk, since: int, *, into: list[Event]) -> None:
        """Append the events at or after `since` (us UTC, the meter's clock) that the meter still has.

        Raises `MeterError`; what came before an error stays in `into`.
        """
        mine = own(talk)
        try:
            for log in self._profile.event:
                await self._log(mine, log, since, into)
            for table in self._profile.status:
                await self._word(mine, table, since, into)
        except MeterError as error:
            error.meter = error.meter or self._device
            raise

    async def _log(self, talk: Dlt645Talk, log: EventTable, since: int, into: list[Event]) -> None:
        depth = log.depth
        if log.count:
            data = await self._ask(talk, log.count, _COUNT)
            depth = min(depth, count_of(data[:_COUNT])) if data else 0
        fields = Fields(log.start, log.end)
        known = {event.id for event in into}
        for number in range(1, depth + 1):
            size = max(log.start, log.end) + STAMP
            data = await self._ask(talk, back(log.di, number), size)
            stamps = parse_record(fields, data) if data else Stamps(None, None)
            made = self._events(log, stamps, since)
            # While it is read a log may move on by one record: what comes twice is taken once.
            into += [event for event in made if event.id not in known]
            known |= {event.id for event in made}
            if not made:
                return

    def _events(self, log: EventTable, stamps: Stamps, since: int) -> list[Event]:
        found = []
        for name, moment in ((log.begins, stamps.start), (log.ends, stamps.end)):
            if name is not None and moment is not None and (at := self._instant(moment)) >= since:
                found.append(self._event(name, at, {"log": log.name, "di": log.di[:-2]}))
        return found

    async def _word(self, talk: Dlt645Talk, table: StatusTable, since: int, into: list[Event]) -> None:
        data = await self._ask(talk, table.di, 2)
        if data is None:
            return
        word, before = parse_word(data), self.words.get(table.di)
        now = self._now
        at = now - now % _DAY if before is None else now
        changed = word if before is None else word ^ before
        told = {event.name for event in into if "log" in event.detail}
        for bits, is_set in ((table.bits, True), (table.cleared, False)):
            for bit, name in bits.items():
                is_new = changed >> int(bit) & 1 and bool(word >> int(bit) & 1) is is_set
                if is_new and now >= since and name not in told:
                    into.append(self._event(name, at, {"status": table.di, "bit": bit}))
        self.words[table.di] = word

    async def _ask(self, talk: Dlt645Talk, di: str, size: int) -> bytes | None:
        if di in self._absent:
            return None
        try:
            reply = await talk.read(di, size)
        except RefusedError as error:
            if not error.code & UNREADABLE:
                raise
            self._absent.add(di)
            return None
        self._now = reply.answered_at
        return reply.data

    def _instant(self, moment: datetime) -> int:
        return to_utc(moment, self._zone).us

    def _event(self, name: str, at: int, detail: dict[str, str]) -> Event:
        kind = EVENTS[name]
        return Event(self._device, at, kind.code, kind.name, self._now, detail)
