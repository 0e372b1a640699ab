"""Reads the load records of a DL/T 645 meter (06ccxxtt), one class a profile, as rows. Keeps no account of holes."""

from zoneinfo import ZoneInfo

from collector.capabilities import Depth, Talk
from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import LoadRecord, RecordClass
from collector.drivers.dlt645_plan import Stamp, blocks_of, channels_of, decode, doubt
from collector.drivers.dlt645_talk import Reply, own
from collector.protocols.dlt645.errors import NO_DATA
from collector.protocols.dlt645.frame import OVERHEAD
from collector.protocols.dlt645.identifiers import EDITIONS
from collector.protocols.dlt645.load_record import (
    GIVEN_TIME,
    NEWEST,
    OLDEST,
    Record,
    parse_records,
    record_argument,
    record_di,
)
from collector.protocols.dlt645.times import from_utc, to_utc
from collector.protocols.dlt645.values import count_of
from collector.protocols.modbus_times import character_time
from metering.errors import MeterError, RefusedError
from metering.model import SECOND, Block, Source

_INTERVAL = "04000A{:02X}"  # interval of class 1 is 02
_DAY = 86_400
_MINUTE = 60


class LoadRecordReader:
    """One class of load records (capability `ProfileReader`); `made` is one of the profile's classes."""

    def __init__(self, profile: Dlt645Profile, device: str, records: LoadRecord, made: RecordClass) -> None:
        self.name = f"load_record_{made.number}"
        self.interval = round(made.interval)
        self._profile = profile
        self._device = device
        self._records = records
        self._class = made.number
        self._layout = profile.record_layout(made.number)
        self._points = tuple(profile.point(name) for name in made.points)
        self._items = tuple(((point,), point.form.size) for point in self._points)
        self._zone = ZoneInfo(profile.zone)
        self.channels = channels_of(self._points)
        self._block = len(self._layout.header) + 1 + 5 + self._layout.tail
        self._block += len(self._layout.sizes) * len(self._layout.separator) + sum(size for _, size in self._items)
        self.piece_rows = records.piece or max(1, (profile.max_data - EDITIONS["2007"].size) // self._block)

    @property
    def depth(self) -> Depth:
        """Return how far back the records reach."""
        days = self._records.days
        return Depth(days * _DAY // self.interval, days)

    @property
    def row_s(self) -> float:
        """Return about how long one row takes on the wire, with its part of a request."""
        character = character_time(self._profile.serial.baud)
        shared = 2 * (OVERHEAD + self._profile.wake) * character + self._profile.turnaround
        return self._block * character + shared / self.piece_rows

    async def prepare(self, talk: Talk) -> None:
        """Ask the meter for the interval at which it stores this class. Raises `MeterError`."""
        if not self._records.ask_interval:
            return
        try:
            minutes = count_of((await own(talk).read(_INTERVAL.format(self._class + 1), 2)).data)
        except RefusedError:
            return  # it does not tell: the profile's holds
        if 0 < minutes * _MINUTE <= _DAY:
            self.interval = minutes * _MINUTE

    async def read_profile(self, talk: Talk, start: int, end: int, *, into: list[Block]) -> None:
        """Append the rows of one request, start < row's time <= end, in the meter's order. Raises `MeterError`."""
        step = self.interval * SECOND
        rows = min(self.piece_rows, -(-(end - start) // step))
        if rows < 1:
            return
        # Counted in UTC, but from the meter's own midnight: an hourly interval ends at half past in some zones.
        local = from_utc(start, self._zone)
        since_midnight = (local.hour * 60 + local.minute) * 60 + local.second
        ahead = self.interval - since_midnight % self.interval
        if self._records.stamps == "begin":
            ahead -= self.interval
        first_at = start + ahead * SECOND
        first = from_utc(first_at, self._zone)
        # In the second pass of an hour that comes twice the same words name the first: the meter begins there.
        again = max(0, first_at - to_utc(first, self._zone).us)
        rows += again // step
        argument = record_argument(rows, first)
        found: list[Block] = []
        await self._take(talk, record_di(self._class, GIVEN_TIME), argument, rows, start - again, end, found)
        into += [block for block in found if block.measured_at > start]

    async def read_newest(self, talk: Talk, rows: int, *, into: list[Block]) -> None:
        """Append the newest rows. Raises `MeterError`."""
        await self._take(talk, record_di(self._class, NEWEST), record_argument(rows), rows, None, None, into)

    async def read_oldest(self, talk: Talk, *, into: list[Block]) -> None:
        """Append the oldest row that the meter still has. Raises `MeterError`."""
        await self._take(talk, record_di(self._class, OLDEST), record_argument(1), 1, None, None, into)

    async def _take(
        self, talk: Talk, di: str, argument: bytes, rows: int, start: int | None, end: int | None, into: list[Block]
    ) -> None:
        try:
            reply = await own(talk).read(di, rows * self._block, argument)
            records = parse_records(self._layout, reply.data, rows)
            last = start
            for record in records:
                last = self._row(record, reply, last, end, into)
        except RefusedError as error:
            if not error.code & NO_DATA:
                raise
        except MeterError as error:
            error.meter = error.meter or self._device
            raise

    def _row(self, record: Record, reply: Reply, after: int | None, end: int | None, into: list[Block]) -> int | None:
        """Append a row that lies after `after` and not after `end`; return its time, or `after` where it does not."""
        later = self.interval * SECOND if self._records.stamps == "begin" else 0
        instant = to_utc(record.stamp, self._zone, after - later if after is not None else None)
        at = instant.us + later
        data = record.classes.get(self._class)
        if data is None or (after is not None and at <= after) or (end is not None and at > end):
            return after
        stamp = Stamp(at, reply.answered_at, at, doubt(doubtful=instant.doubtful))
        into += blocks_of(decode(self._items, data, self._zone), self._device, Source.PROFILE, self.interval, stamp)
        return at
