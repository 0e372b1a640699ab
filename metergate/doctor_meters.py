"""Examines one meter: whether it answers and lets us in, its counter, clock and own profiles. It changes nothing."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from collector.bus import Bus
from collector.capabilities import ClockReading, ProfileReader, Talk
from collector.dlms_profile import DlmsProfile
from collector.dlt645_profile import Dlt645Profile
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_buffer import IN_USE, PROFILE_CLASS
from collector.drivers.dlms_talk import own_talk
from collector.protocols.dlms.references import Attribute
from gateway.clocks import LIMIT_S
from gateway.meters import BusMeter
from gateway.settings_bus import BusSettings
from metergate.advice import Place, advice, on_refused_secrets, on_unknown_counter
from metergate.findings import Case, Finding, State
from metergate.probe import converse
from metering import timing
from metering.errors import FrameError, MeterError, RefusedError, StorageError
from metering.model import SECOND, Block, Source

DAY_S = 86_400
_STATION = re.compile(r"^unit \d+(?= did not answer)")
NEWEST_ROWS = 2  # of a profile are read, to see that they can be
UNITS = (("d", DAY_S), ("h", 3600), ("min", 60))


class Examined(NamedTuple):
    """What was found at a meter, and the error that ended it (None: it answers)."""

    findings: list[Finding]
    error: MeterError | None = None


async def examine(case: Case, bus: BusSettings, line: Bus, meter: BusMeter) -> Examined:
    """Examine a meter. One conversation: whoever is refused is not asked a second time."""
    place = Place(meter, bus, case.file)
    where = f"meter {meter.id}"
    findings = list(_refused_password(case, place))
    checkup = _Checkup(place)
    ended: MeterError | None = None
    try:
        unknown = _counter_is_unknown(case, meter)
        if unknown:
            findings.append(Finding(State.NOTE, where, f"{unknown}: the meter is asked for its own"))
        await converse(line, meter, case.keys, checkup.run)
    except MeterError as error:
        ended = error
        if unknown and isinstance(error, RefusedError) and _counter_is_unknown(case, meter):
            what = f"{unknown}, and the public client is not told: {error}"
            wrong = Finding(State.WRONG, where, what, on_unknown_counter(place))
        else:
            # The line's own number of a station says nothing to who knows the meter by its address.
            what = _STATION.sub(meter.place, str(error))
            wrong = Finding(State.WRONG, where, what, advice(error, place))
        checkup.findings.append(wrong)
    except StorageError as error:  # of its counter: nothing may be said to the meter
        todo = f"see that {case.site.gateway.data} can be written"
        checkup.findings.append(Finding(State.WRONG, where, str(error), todo))
    return Examined([*findings, *checkup.findings], ended)


def _refused_password(case: Case, place: Place) -> Iterator[Finding]:
    """Yield that a meter which is read without secrets has refused one for something else."""
    meter = place.meter
    writes_alone = isinstance(meter.profile, Dlt645Profile)
    refused = case.keys.refused(meter.id) if case.keys is not None and writes_alone else ""
    if refused:
        yield Finding(
            State.WRONG, f"meter {meter.id}", f"it refused its password: {refused}", on_refused_secrets(refused, place)
        )


def _counter_is_unknown(case: Case, meter: BusMeter) -> str:
    """Return why no invocation counter may be used towards a meter; empty where one may, or none is needed."""
    driver = meter.driver
    if case.keys is None or not isinstance(driver, DlmsDriver) or not driver.access.counted:
        return ""
    if case.keys.refused(meter.id):  # it is not asked at all
        return ""
    counter = case.keys.counter_of(meter.id, driver.access.client_title)
    if counter.halted:
        return "its invocation counter is halted, as this disk was restored or replaced"
    return "" if counter.known else "its invocation counter is not known"


class _Checkup:
    """Looks at one meter in an open conversation, most basic first; what is found stays where a later step fails."""

    def __init__(self, place: Place) -> None:
        self.findings: list[Finding] = []
        self._place = place
        self._meter = place.meter
        self._clock: ClockReading | None = None

    async def run(self, talk: Talk) -> None:
        """Look. Raises `MeterError` where the meter is not heard any more."""
        meter = self._meter
        blocks: list[Block] = []
        await meter.everything.read(talk, slot=None, source=Source.ON_DEMAND, into=blocks)
        self._answered(sum(len(block.values) for block in blocks))
        await self._look_at_clock(talk)
        for reader in meter.profiles:
            await self._look_at_profile(talk, reader)

    def _say(self, state: State, what: str, todo: str = "") -> None:
        self.findings.append(Finding(state, f"meter {self._meter.id}", what, todo))

    def _answered(self, values: int) -> None:
        everything = self._meter.everything
        refused = str(everything.holes)
        if everything.holes and refused:
            what = f"answers, {values} values; it refuses {refused}"
            todo = "another variant or firmware of the model; name the wanted points with `only`"
            self._say(State.NOTE, what, todo)
        else:
            self._say(State.OK, f"answers, {values} values")

    # --- clock --------------------------------------------------------------------------------------------------------

    async def _look_at_clock(self, talk: Talk) -> None:
        clock = self._meter.clock
        if clock is None:
            return
        todo = f"set it: {self._place.clock}, or by the running gateway's API, POST /v1/devices/{self._meter.id}/clock"
        if clock.shift_limit_s < 0:
            todo = "it cannot be set from here: its maker's tool can"
        try:
            self._clock = reading = await clock.get(talk)
        except (RefusedError, FrameError) as error:
            self._say(State.WRONG, f"its clock is not valid: {error}", todo)
            return
        way = "ahead" if reading.offset > 0 else "behind"
        off = f"its clock is {abs(reading.offset) / SECOND:.1f} s {way}"
        if not reading.trusted:
            self._say(State.WRONG, f"says itself that its clock is invalid or doubtful; {off}", todo)
        elif abs(reading.offset) > LIMIT_S * SECOND:
            self._say(State.WRONG, off, todo)
        else:
            self._say(State.OK, off)

    # --- profiles -----------------------------------------------------------------------------------------------------

    async def _look_at_profile(self, talk: Talk, reader: ProfileReader) -> None:
        name = f"profile {reader.name}"
        try:
            await reader.prepare(talk)
            depth = await self._depth(talk, reader)
            newest = await self._newest(talk, reader)
        except RefusedError as error:
            todo = "another variant of the model, or it is switched off in the meter"
            self._say(State.NOTE, f"{name} is not there: {error}", todo)
            return
        except FrameError as error:
            self._say(State.NOTE, f"{name} cannot be read: {error}", "another variant or firmware of the model")
            return
        every = f"every {span(reader.interval)}" if reader.interval else "whenever the meter makes a row"
        told = ", ".join(part for part in (f"{name}: {every}", depth, newest) if part)
        other = self._other_period(reader)
        if other is None:
            self._say(State.OK, told)
        else:
            self._say(State.NOTE, f"{told}; {other[0]}", other[1])

    async def _depth(self, talk: Talk, reader: ProfileReader) -> str:
        """Return how far back a profile reaches, in words."""
        entries, days = reader.depth
        profile = self._meter.profile
        reach = f"{days} days back" if days else ""
        if not isinstance(profile, DlmsProfile):
            return f"{reach} as its model says" if reach else ""
        obis = next(spec.obis for spec in profile.profile if spec.name == reader.name)
        answer = await own_talk(talk).get(Attribute(PROFILE_CLASS, obis, IN_USE))
        used = getattr(answer, "value", None) if not isinstance(answer, int) else None
        if not isinstance(used, int):
            return f"{entries} entries, {reach}" if entries else reach
        return ", ".join(part for part in (f"{used} of {entries} entries in use", reach) if part)

    async def _newest(self, talk: Talk, reader: ProfileReader) -> str:
        """Read the newest rows of a profile; return what came, in words."""
        if not reader.interval:
            return ""
        now = timing.now() + (self._clock.offset if self._clock is not None else 0)
        rows: list[Block] = []
        await reader.read_profile(talk, now - NEWEST_ROWS * reader.interval * SECOND, now, into=rows)
        if not rows:
            return f"no row of the last {span(NEWEST_ROWS * reader.interval)}"
        return f"newest row {timing.to_rfc3339(max(row.measured_at for row in rows))}"

    def _other_period(self, reader: ProfileReader) -> tuple[str, str] | None:
        """Return what does not fit between a load profile's capture period and the schedule, and what to do."""
        wanted = self._meter.schedule.registers
        if not wanted or not 0 < reader.interval < DAY_S or wanted % reader.interval == 0:
            return None
        what = f"its schedule reads registers every {span(int(wanted))}, so that not each boundary has a row"
        return what, f"have the meter capture every {span(int(wanted))}, or say registers = {span(reader.interval)!r}"


def span(seconds: int) -> str:
    """Return a time span as settings write it."""
    for unit, length in UNITS:
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
