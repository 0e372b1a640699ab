"""The clock of a DL/T 645 meter: read, set by password, or by the broadcast time within its rules. Has no policy."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from collector.capabilities import ClockReading, Talk
from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import Clock
from collector.drivers.dlt645_settlements import settlement_days, settlement_times
from collector.drivers.dlt645_talk import Dlt645Talk, own
from collector.drivers.dlt645_time import RESOLUTION, read_clock
from collector.keys import MeterKeys
from collector.protocols.dlt645.frame import BROADCAST
from collector.protocols.dlt645.times import encode_date, encode_time, from_utc
from collector.protocols.dlt645.writes import PASSWORD, broadcast_time
from metering import timing
from metering.errors import MeterError, RefusedError
from metering.model import SECOND

WRITE_GUARD = timedelta(minutes=2)  # date and time are two writes: so near to midnight no clock is written
TAKEN = 3 * SECOND  # how far off a clock may be that has just been set


class Dlt645Clock:
    """A meter's clock (capability `MeterClock`): set by password, otherwise by the broadcast time.

    A broadcast goes to every meter of the line, as far as the profile does not say that the meter takes it at its own
    address; so it only sets, when a person says so, and shifts nothing. Its rules: at most once a day, the clock at
    most `limit` wrong, and not within `guard` of a midnight or a settlement. No shift is larger than `limit`.
    """

    def __init__(
        self,
        profile: Dlt645Profile,
        device: str,
        clock: Clock,
        keys: MeterKeys | None = None,
        *,
        now: Callable[[], int] = timing.now,
    ) -> None:
        self._profile = profile
        self._device = device
        self._clock = clock
        self._keys = keys
        self._now = now
        self._zone = ZoneInfo(profile.zone)
        self._told: date | None = None  # the day of the last broadcast

    @property
    def shift_limit_s(self) -> int:
        """Return how much one shift may move it (s); 0: it can only be set, -1: not even that."""
        clock = self._clock
        if self._by_password or (clock.broadcast != "none" and clock.broadcast_to == "meter"):
            return round(clock.limit)
        return 0 if clock.broadcast != "none" else -1

    @property
    def reaches_line(self) -> bool:
        """Tell whether setting it sets the clocks of all meters of its line."""
        clock = self._clock
        return not self._by_password and clock.broadcast != "none" and clock.broadcast_to == "line"

    async def get(self, talk: Talk) -> ClockReading:
        """Read the clock. Raises `MeterError`."""
        return await read_clock(own(talk), self._clock, self._zone)

    async def shift(self, talk: Talk, seconds: int) -> None:
        """Move the clock by whole seconds: it is read, and set to what it shows and so much more. Raises `MeterError`.

        Raises:
            RefusedError: it is beyond the limit, or as `set` says.

        """
        if abs(seconds) > self.shift_limit_s:
            limit = max(self.shift_limit_s, 0)
            raise RefusedError(f"a shift by {seconds} s; the limit is {limit} s", code=0, meter=self._device)
        reading = await self.get(talk)
        await self.set(talk, self._now() + reading.offset + seconds * SECOND)

    async def set(self, talk: Talk, instant: int) -> None:
        """Set the clock to `instant` (us UTC), which is now.

        Raises:
            AuthError: the password is wrong.
            RefusedError: too near to midnight or a settlement, too far off for a broadcast, or the meter did not take
                it.
            MeterError: the line or the meter.

        """
        mine = own(talk)
        ahead = instant - self._now()
        try:
            if self._by_password:
                await self._write(mine, ahead)
            elif self._clock.broadcast == "none":
                raise RefusedError("this meter's clock cannot be set", code=0)
            else:
                await self._broadcast(mine, ahead)
            left = (await self.get(talk)).offset - ahead
            if abs(left) > TAKEN:
                raise RefusedError(f"the meter did not take the time: it is {left / SECOND:+.1f} s off", code=0)
        except MeterError as error:
            error.meter = error.meter or self._device
            raise

    @property
    def _by_password(self) -> bool:
        return self._clock.write and self._keys is not None and len(self._keys.password) == PASSWORD

    async def _write(self, talk: Dlt645Talk, ahead: int) -> None:
        if self._near_midnight(self._civil(ahead), WRITE_GUARD):
            raise RefusedError("no clock is set so near to midnight", code=0)
        await talk.write(self._clock.date, encode_date(self._civil(ahead)), self._keys)
        await talk.write(self._clock.time, encode_time(self._civil(ahead)), self._keys)

    async def _broadcast(self, talk: Dlt645Talk, ahead: int) -> None:
        clock = self._clock
        guard = timedelta(seconds=clock.guard)
        moment = self._civil(ahead)
        if self._told == moment.date():
            raise RefusedError("the time was broadcast today: once a day is what a meter takes", code=0)
        reading = await self.get(talk)
        off = abs(reading.offset - ahead)
        if off > clock.limit * SECOND:
            raise RefusedError(f"the clock is {off / SECOND:.0f} s off; a broadcast sets {clock.limit:g} s", code=0)
        theirs = from_utc(reading.shown, self._zone)
        if any(self._near_midnight(each, guard) for each in (moment, theirs)):
            raise RefusedError("no time is broadcast so near to midnight", code=0)
        if await self._near_settlement(talk, min(moment, theirs) - guard, max(moment, theirs) + guard):
            raise RefusedError("no time is broadcast so near to a settlement", code=0)
        address = BROADCAST if clock.broadcast_to == "line" else talk.address
        order = "low-first" if clock.broadcast == "none" else clock.broadcast
        self._told = moment.date()
        await talk.tell(broadcast_time(self._civil(ahead), order, address))

    async def _near_settlement(self, talk: Dlt645Talk, first: datetime, last: datetime) -> bool:
        settlement = self._profile.settlement
        if settlement is None:
            return False
        days = await settlement_days(talk, settlement)
        return settlement_times(days, first, 1) != settlement_times(days, last, 1)

    def _civil(self, ahead: int) -> datetime:
        """Return the meter's civil time that is to be, to the nearest second."""
        return from_utc(self._now() + ahead + RESOLUTION, self._zone)

    @staticmethod
    def _near_midnight(moment: datetime, guard: timedelta) -> bool:
        return (moment - guard).date() != (moment + guard).date()
