"""The load switch of a simulated DL/T 645 meter: trip, close by command or button, keep-power. Checks no password."""

from collector.protocols.dlt645.writes import Switch
from simulators.dlt645_history import History
from simulators.meter import Meter


class Relay:
    """One switch: `commanded_open` is what was ordered, `is_open` what is, and between them the customer's button."""

    def __init__(self, meter: Meter, history: History) -> None:
        self.commanded_open = False
        self.is_open = False
        self.keep_power = False
        self.alarm = False
        self._meter = meter
        self._history = history

    @property
    def word(self) -> int:
        """Return its bits of status word 3."""
        return self.is_open << 4 | self.commanded_open << 6 | self.alarm << 7 | self.keep_power << 12

    def operate(self, switch: int, now: int) -> bool:
        """Do what N1 of a control request orders at `now` (us UTC); False where that is refused or not known."""
        if switch == Switch.TRIP:
            if self.keep_power:
                return False
            self.commanded_open = True
            self._move(open_=True, now=now)
        elif switch in (Switch.CLOSE, Switch.PERMIT_CLOSE):
            self.commanded_open = False
            if switch == Switch.CLOSE:
                self._move(open_=False, now=now)
        elif switch in (Switch.KEEP_POWER, Switch.KEEP_POWER_OFF):
            self.keep_power = switch == Switch.KEEP_POWER
        elif switch in (Switch.ALARM, Switch.ALARM_OFF):
            self.alarm = switch == Switch.ALARM
        else:
            return False
        return True

    def press(self, now: int) -> None:
        """Press the button: a permitted close is done."""
        if not self.commanded_open:
            self._move(open_=False, now=now)

    def _move(self, *, open_: bool, now: int) -> None:
        if self.is_open != open_:
            self.is_open = open_
            self._meter.switch_supply(on=not open_, at=now)
            self._history.happened("trip" if open_ else "close", self._meter.clock(now))
