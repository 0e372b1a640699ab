"""A clock that was put back is not believed until it is past what it has shown before. It sets no clock.

Whoever rules the time could otherwise let an expired command act: `gateway.clock` believes a clock again once it has
been quiet for a while.
"""

from gateway.clock import Clock
from metering.model import SECOND

SLACK_S = 1  # a clock that is slewed back by less has not been put back


class Onward:
    """What supply control believes of a gateway's clock; asked at each of its turns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest = 0  # that it showed while it was believed (us UTC)

    def trusted(self) -> bool:
        """Tell whether something may be withheld by it now."""
        now = self._clock.now()
        if self._clock.suspect or now < self._latest - SLACK_S * SECOND:
            return False
        self._latest = max(self._latest, now)
        return True
