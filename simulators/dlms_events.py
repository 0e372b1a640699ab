"""Event logs of a simulated meter (class 7): what happened to power, covers, clock and relay. Notices nothing itself.

Event numbers are those of IDIS. A meter begins with some history that its seed decides.
"""

import random
from bisect import insort
from enum import IntEnum

from collector.protocols.dlms.axdr import Data, u8, u32
from collector.protocols.dlms.references import CaptureObject
from metering.model import SECOND
from simulators.dlms_clock import MeterClock
from simulators.dlms_objects import Ask, CosemObject, data
from simulators.dlms_profiles import Capture, Column, Profile, clock_column
from simulators.meter import Meter

LOG_ENTRIES = 200
LONG_FAILURE_S = 180  # a power failure is entered in its log from this length on
DAY = 86400 * SECOND


class Code(IntEnum):
    """Event numbers (IDIS package 2, standard, fraud and disconnector event logs)."""

    POWER_DOWN = 1
    POWER_UP = 2
    CLOCK_OLD = 4
    CLOCK_NEW = 5
    TERMINAL_COVER_OPENED = 40
    TERMINAL_COVER_CLOSED = 41
    MAGNET = 42
    MAGNET_GONE = 43
    COVER_OPENED = 44
    COVER_CLOSED = 45
    WRONG_PASSWORDS = 46
    DISCONNECT_READY = 59
    MANUAL_DISCONNECT = 60
    MANUAL_CONNECT = 61
    REMOTE_DISCONNECT = 62
    REMOTE_CONNECT = 63
    LOCAL_DISCONNECT = 64
    LIMIT_EXCEEDED = 65
    LIMIT_OK = 66
    LIMIT_CHANGED = 67
    LOCAL_CONNECT = 69
    LOG_CLEARED = 255


# Logs by the last digit but one of 0-0:99.98.e*255.
STANDARD, FRAUD, DISCONNECTOR = 0, 1, 2


class EventLog:
    """One log. `add` enters an event at a true instant, by what the clock shows then or is told to have shown."""

    def __init__(self, clock: MeterClock, number: int) -> None:
        self.number = number
        self.events: list[tuple[int, int, int | None]] = []  # true us, code, shown us where the clock is not asked
        self._clock = clock
        self._cleared = 0

    def add(self, at: int, code: int, shown: int | None = None) -> None:
        """Enter an event."""
        insort(self.events, (at, code, shown), key=lambda event: event[0])

    def captures(self, now: int, low: int, high: int) -> list[Capture]:
        """Return the events up to `now`; see `simulators.dlms_profiles.Source`."""
        known = [
            Capture(self._clock.shown(at) if shown is None else shown, at, code)
            for at, code, shown in self.events
            if self._cleared <= at <= now
        ]
        return [capture for capture in known if low <= capture.shown <= high]

    def last(self, now: int) -> int:
        """Return the code of the last event; 0 when there was none."""
        return next((code for at, code, _ in reversed(self.events) if at <= now), 0)

    def code(self, ask: Ask) -> Data:
        """Return the code of the last event as an event object shows it."""
        return u8(self.last(ask.now))

    def reset(self, ask: Ask, _: Data | None) -> None:
        """Forget all events but that they were cleared."""
        self._cleared = ask.now
        self.add(ask.now, Code.LOG_CLEARED)


class EventLogs:
    """The logs of one meter, and their objects."""

    def __init__(self, meter: Meter, clock: MeterClock, *, seed: int, history: bool = True) -> None:
        self.logs = {number: EventLog(clock, number) for number in (STANDARD, FRAUD, DISCONNECTOR)}
        self._power = EventLog(clock, -1)  # events that are durations
        self._clock = clock
        clock.changed = self._clock_changed
        if history:
            self._begin(meter.settings.installed_at, seed)

    def add(self, log: int, at: int, code: int) -> None:
        """Enter an event into a log at a true instant (us)."""
        self.logs[log].add(at, code)

    def power_failed(self, start: int, end: int) -> None:
        """Enter a power failure, past or to come."""
        self.add(STANDARD, start, Code.POWER_DOWN)
        self.add(STANDARD, end, Code.POWER_UP)
        if end - start >= LONG_FAILURE_S * SECOND:
            self._power.add(end, (end - start) // SECOND)

    def _clock_changed(self, now: int, before: int, after: int) -> None:
        self.logs[STANDARD].add(now, Code.CLOCK_OLD, before)
        self.logs[STANDARD].add(now, Code.CLOCK_NEW, after)

    def _begin(self, installed_at: int, seed: int) -> None:
        """Put the cover on at the installation, and let somebody come near with a magnet once or twice a year."""
        chance = random.Random(f"events/{seed}")
        self.add(FRAUD, installed_at, Code.TERMINAL_COVER_OPENED)
        self.add(FRAUD, installed_at + 600 * SECOND, Code.TERMINAL_COVER_CLOSED)
        at = installed_at
        for first, second in ((Code.MAGNET, Code.MAGNET_GONE), (Code.COVER_OPENED, Code.COVER_CLOSED)) * 8:
            at += chance.randrange(30 * DAY, 250 * DAY)
            self.add(FRAUD, at, first)
            self.add(FRAUD, at + chance.randrange(20 * SECOND, 3600 * SECOND), second)

    def profiles(self) -> list[Profile]:
        """Return the logs as profiles."""
        found = []
        for number, log in self.logs.items():
            code = Column(CaptureObject(1, f"0-0:96.11.{number}*255", 2), lambda capture: u8(capture.code))
            columns = (clock_column(self._clock), code)
            found.append(Profile(f"0-0:99.98.{number}*255", columns, log, entries=LOG_ENTRIES))
        duration = Column(CaptureObject(1, "0-0:96.7.19*255", 2), lambda capture: u32(capture.code))
        columns = (clock_column(self._clock), duration)
        return [*found, Profile("1-0:99.97.0*255", columns, self._power, entries=LOG_ENTRIES)]

    def objects(self) -> list[CosemObject]:
        """Return the logs' objects, the event objects behind them, and the duration of the last power failure."""
        found = []
        for profile, log in zip(self.profiles(), [*self.logs.values(), self._power], strict=True):
            profile.instant = self._clock.instant
            found.append(profile.as_object({1: log.reset}))
        found += [data(f"0-0:96.11.{number}*255", log.code) for number, log in self.logs.items()]
        return [*found, data("0-0:96.7.19*255", lambda ask: u32(self._power.last(ask.now)))]


def usual_failures(seed: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return power failures from `start` to `end` (us), about two a month: the same ones for the same seed."""
    found = []
    for week in range(start // (7 * DAY), end // (7 * DAY) + 1):
        chance = random.Random(f"failure/{seed}/{week}")
        begin = week * 7 * DAY + chance.randrange(6 * DAY)
        length = chance.choice((20, 90, 400, 1500, 4000, 9000)) + chance.randrange(60)
        if chance.random() < 0.5 and start <= begin < end:
            found.append((begin, begin + length * SECOND))
    return found
