"""Reads what the clock of a DL/T 645 meter shows. Judges and sets nothing: that is `dlt645_clock`."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from collector.capabilities import ClockReading
from collector.dlt645_tables import Clock
from collector.drivers.dlt645_talk import Dlt645Talk
from collector.protocols.dlt645.times import decode_clock, to_utc
from metering.errors import FrameError
from metering.model import SECOND

AFTER_MIDNIGHT = timedelta(minutes=5)  # date and time are two readings: so long after midnight the date is read again
RESOLUTION = SECOND // 2  # a clock that shows whole seconds is half a second further on the average


async def read_clock(talk: Dlt645Talk, clock: Clock, zone: ZoneInfo) -> ClockReading:
    """Read a meter's clock, which keeps the civil time of `zone`. Raises `MeterError`."""
    day = await talk.read(clock.date, 4)
    time = await talk.read(clock.time, 3)
    try:
        moment = decode_clock(day.data, time.data)
        if moment - moment.replace(hour=0, minute=0, second=0) < AFTER_MIDNIGHT:
            # The date may be yesterday's. What is read now is of the time's own day.
            moment = decode_clock((await talk.read(clock.date, 4)).data, time.data)
    except ValueError:
        raise FrameError("the meter's clock shows no time", meter=talk.device) from None
    shown = to_utc(moment, zone)
    round_trip = (time.answered_at - time.asked_at) // 2
    return ClockReading(shown.us + RESOLUTION, time.middle, round_trip + RESOLUTION, not shown.doubtful)
