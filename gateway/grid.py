"""The boundaries of one of a meter's profiles, numbered one after another. Days are those of the meter's zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from metering.model import SECOND

DAY_S = 86_400

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = _EPOCH.date().toordinal()
_RULES_OF = datetime(2026, 1, 1, tzinfo=UTC)  # a zone's offset of minutes was another in its past


class Grid:
    """Numbers the interval ends of a profile: `interval` in seconds, a whole part of a day, or a day.

    A meter divides the day of its own zone: hours of a zone at +05:30 end at half past in UTC, and a day ends at local
    midnight, 23 or 25 hours after the last where the clocks change.
    """

    def __init__(self, interval: int, zone: str = "UTC") -> None:
        if interval <= 0 or (DAY_S % interval and interval % DAY_S):
            raise ValueError(f"{interval} s is neither a part of a day nor whole days")
        self.interval = interval
        self.zone = zone
        self._zone = ZoneInfo(zone)
        self._step = interval * SECOND
        # By days the zone's rules count; below that only its offset of minutes, which daylight saving leaves as it is.
        self._phase = 0 if interval >= DAY_S else -self._offset() % interval * SECOND

    def index(self, slot: int) -> int | None:
        """Return the number of the boundary at `slot` (us UTC); None where there is none.

        By days every instant is that of the nearest midnight: a clock of another zone than was told shifts all days
        alike.
        """
        if self.interval >= DAY_S:
            return self.at_or_before(slot + DAY_S // 2 * SECOND)
        number = self.at_or_before(slot)
        return number if self.slot(number) == slot else None

    def at_or_before(self, instant: int) -> int:
        """Return the number of the last boundary at or before an instant."""
        if self.interval < DAY_S:
            return (instant - self._phase) // self._step
        local = (_EPOCH + timedelta(microseconds=instant)).astimezone(self._zone)
        return (local.toordinal() - _FIRST_DAY) // (self.interval // DAY_S)

    def slot(self, number: int) -> int:
        """Return the instant (us UTC) of a boundary."""
        if self.interval < DAY_S:
            return number * self._step + self._phase
        day = number * (self.interval // DAY_S) + _FIRST_DAY
        midnight = datetime.fromordinal(day).replace(tzinfo=self._zone)
        return (midnight - _EPOCH) // timedelta(microseconds=1)

    def window(self, low: int, high: int) -> tuple[int, int]:
        """Return the instants between which the rows of low <= n < high lie: start < row's time <= end.

        By days from noon to noon, see `index`.
        """
        shift = DAY_S // 2 * SECOND if self.interval >= DAY_S else 0
        return self.slot(low - 1) + shift, self.slot(high - 1) + shift

    def _offset(self) -> int:
        return int((_RULES_OF.astimezone(self._zone).utcoffset() or timedelta()).total_seconds())
