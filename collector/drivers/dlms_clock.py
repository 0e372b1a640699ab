"""Reads and moves a DLMS meter's clock (class 8; capability `MeterClock`). Whether it is moved others decide."""

from collector.capabilities import ClockReading, Talk
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_talk import own_talk
from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Tag
from collector.protocols.dlms.references import Attribute, DataAccessResult, Method
from metering.errors import ConfigError, FrameError, RefusedError

CLOCK_CLASS = 8
TIME = 2
SHIFT_TIME = 6  # method: i16 seconds, -900 to 900 (Blue Book 4.5.1)


class DlmsClock:
    """The clock of one meter.

    Raises:
        ConfigError: the meter's profile has no clock.

    """

    reaches_line = False

    def __init__(self, driver: DlmsDriver) -> None:
        spec = driver.profile.clock
        if spec is None:
            raise ConfigError(f"the profile {driver.profile.name} has no clock")
        self._driver = driver
        self._spec = spec
        self.shift_limit_s = {"shift": spec.shift_limit, "set": 0, "none": -1}[spec.adjust]

    async def get(self, talk: Talk) -> ClockReading:
        """Read the clock: what it showed counts for the middle of the exchange.

        Raises:
            FrameError: it is no time, or one that tells no moment.
            MeterError: as `DlmsTalk.run`.

        """
        own = own_talk(talk)
        timed = await own.run(own.session.get(Attribute(CLOCK_CLASS, self._spec.obis, TIME)))
        if timed.value.tag not in (Tag.OCTET_STRING, Tag.DATE_TIME):
            raise FrameError(f"{self._spec.obis} is no clock", meter=self._driver.device)
        moment = self._driver.time.read(timed.value.value)
        if moment.us is None:
            raise FrameError("the meter's clock shows no time", meter=self._driver.device)
        at = timed.middle
        shown = moment.us
        if moment.late is not None:  # an hour that comes twice: the moment that lies nearer to ours
            shown = min(shown, moment.late, key=lambda us: abs(us - at))
        return ClockReading(shown, at, (timed.answered_at - timed.asked_at + 1) // 2, not moment.doubtful)

    async def shift(self, talk: Talk, seconds: int) -> None:
        """Move the clock by whole seconds (method shift_time).

        Raises:
            RefusedError: beyond the limit, or the meter does not do it.
            MeterError: as `DlmsTalk.run`.

        """
        if abs(seconds) > self.shift_limit_s:
            raise RefusedError(
                f"a shift of {seconds} s: this meter's clock is shifted by {max(self.shift_limit_s, 0)} s at most",
                code=DataAccessResult.SCOPE_OF_ACCESS_VIOLATED,
                meter=self._driver.device,
            )
        own = own_talk(talk)
        await own.run(own.session.action(Method(CLOCK_CLASS, self._spec.obis, SHIFT_TIME), axdr.i16(seconds)))

    async def set(self, talk: Talk, instant: int) -> None:
        """Set the clock to `instant` (UTC us), in the local time and with the deviation of the meter's zone.

        Raises:
            RefusedError: its profile says that it cannot be set, or the meter does not do it.
            MeterError: as `DlmsTalk.run`.

        """
        if self.shift_limit_s < 0:
            raise RefusedError(
                "this meter's clock cannot be set", code=DataAccessResult.READ_WRITE_DENIED, meter=self._driver.device
            )
        own = own_talk(talk)
        value = axdr.octets(self._driver.time.write(instant))
        await own.run(own.session.set(Attribute(CLOCK_CLASS, self._spec.obis, TIME), value))
