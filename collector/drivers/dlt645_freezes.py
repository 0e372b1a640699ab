"""Reads what a DL/T 645 meter froze at each midnight: registers of the day, the legal figures. No settlements.

Freezes are counted back from the newest, so that all numbers move when the meter freezes again: a row is only believed
by its own stamp.
"""

from zoneinfo import ZoneInfo

from collector.capabilities import Depth, Talk
from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import DailyFreeze
from collector.drivers.dlt645_plan import Items, Stamp, Values, blocks_of, channels_of, decode, doubt, points_of
from collector.drivers.dlt645_talk import Dlt645Talk, Reply, own, row_time
from collector.protocols.dlt645.blocks import split_block
from collector.protocols.dlt645.errors import NO_DATA
from collector.protocols.dlt645.times import decode_stamp, from_utc, to_utc
from metering.errors import FrameError, MeterError, RefusedError
from metering.model import SECOND, Block, Source

DAY = 86_400
GUARD_S = 600  # how wrong a meter's clock may be before a row near a boundary could be taken for another
_STAMP = 5


class DailyFreezeReader:
    """The daily freezes of a meter (capability `ProfileReader`): registers as they stood at its midnights."""

    name = "daily_freeze"
    interval = DAY

    def __init__(self, profile: Dlt645Profile, device: str, freeze: DailyFreeze) -> None:
        self.piece_rows = freeze.piece
        self.depth = Depth(freeze.days, freeze.days)
        self._profile = profile
        self._device = device
        self._freeze = freeze
        self._zone = ZoneInfo(profile.zone)
        self._items: dict[str, Items] = {made.item: profile.items(made.points) for made in freeze.items}
        self._points = tuple(point for items in self._items.values() for point in points_of(items))
        self.channels = channels_of(self._points)

    @property
    def row_s(self) -> float:
        """Return about how long one row takes on the wire."""
        requests = 1 if self._freeze.whole else 1 + len(self._items)
        return row_time(
            self._profile, requests, _STAMP + sum(size for items in self._items.values() for _, size in items)
        )

    async def prepare(self, talk: Talk) -> None:
        """Do nothing: the profile says what a freeze holds."""

    async def read_profile(self, talk: Talk, start: int, end: int, *, into: list[Block]) -> None:
        """Append the first rows with start < row's time <= end, oldest first. Raises `MeterError`."""
        mine = own(talk)
        try:
            await self._walk(mine, start, end, into)
        except RefusedError as error:
            if not error.code & NO_DATA:
                raise
        except MeterError as error:
            error.meter = error.meter or self._device
            raise

    async def _walk(self, talk: Dlt645Talk, start: int, end: int, into: list[Block]) -> None:
        newest, _ = await self._stamp(talk, 1)  # tells how many days lie between it and the first that is wanted
        if newest is None or newest <= start:
            return
        number = min(self._freeze.days, -(-(newest - start) // (DAY * SECOND)))
        rows = 0
        while number >= 1 and rows < self.piece_rows:
            at, row = await self._row(talk, number)
            if at is not None and at > end:
                return
            if at is not None and at > start and row:
                into += row
                rows += 1
            number -= 1

    async def _row(self, talk: Dlt645Talk, number: int) -> tuple[int | None, list[Block] | None]:
        """Return the time of the freeze so many days back, and its readings; None where the meter has none."""
        try:
            way = self._whole if self._freeze.whole else self._by_item
            stamp, doubtful, values, reply = await way(talk, number)
        except RefusedError as error:
            if not error.code & NO_DATA:
                raise
            return None, None  # it keeps fewer days than its profile says
        if stamp is None or reply is None:
            return stamp, None
        made = Stamp(stamp, reply.answered_at, stamp, doubt(doubtful=doubtful))
        return stamp, blocks_of(values, self._device, Source.PROFILE, DAY, made)

    async def _by_item(self, talk: Dlt645Talk, number: int) -> tuple[int | None, bool, Values, Reply | None]:
        values: Values = {}
        stamp, doubtful = await self._stamp(talk, number)
        reply = None
        if stamp is None:
            return None, False, values, None
        first = None
        for item, items in self._items.items():
            try:
                reply = await talk.read(self._di(item, number), sum(size for _, size in items))
            except RefusedError as error:
                if not error.code & NO_DATA:
                    raise
                continue  # an item that this meter does not freeze
            first = first or reply.asked_at
            values |= decode(items, reply.data, self._zone)
        if reply and first and _near_midnight(first, reply.answered_at, self._zone):
            again, _ = await self._stamp(talk, number)
            if again != stamp:  # the meter froze between the stamp and the items
                return again, False, {}, None
        return stamp, doubtful, values, reply

    async def _whole(self, talk: Dlt645Talk, number: int) -> tuple[int | None, bool, Values, Reply | None]:
        sizes = [_STAMP, *(sum(size for _, size in items) for items in self._items.values())]
        reply = await talk.read(self._di("FF", number), sum(sizes) + len(sizes))
        separator = bytes.fromhex(self._freeze.separator)
        # Digits of BCD never make the separator.
        parts = reply.data.split(separator) if separator else split_block(sizes, reply.data)
        stamp, doubtful = self._instant(parts[0])
        values: Values = {}
        for items, part in zip(self._items.values(), parts[1:], strict=False):
            values |= decode(items, part, self._zone)
        return stamp, doubtful, values, reply

    async def _stamp(self, talk: Dlt645Talk, number: int) -> tuple[int | None, bool]:
        return self._instant((await talk.read(self._di(self._freeze.stamp, number), _STAMP)).data)

    def _instant(self, data: bytes) -> tuple[int | None, bool]:
        if len(data) != _STAMP:
            raise FrameError(f"a freeze's stamp of {len(data)} bytes")
        try:
            stamp = decode_stamp(data)
        except ValueError:
            raise FrameError("a freeze's stamp is no time") from None
        if stamp is None:
            return None, False
        instant = to_utc(stamp, self._zone)
        return instant.us, instant.doubtful

    def _di(self, item: str, number: int) -> str:
        return f"{self._freeze.prefix}{item}{number:02X}"


def _near_midnight(first: int, last: int, zone: ZoneInfo) -> bool:
    """Tell whether a midnight lies between two instants, or too near to them."""
    guard = GUARD_S * SECOND
    return from_utc(first - guard, zone).date() != from_utc(last + guard, zone).date()
