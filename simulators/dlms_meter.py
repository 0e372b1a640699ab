"""A simulated DLMS/COSEM meter: its objects put together over one physical meter. Serves no link by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from collector.protocols.dlms.axdr import Data, u8
from collector.protocols.dlms.references import CaptureObject
from metering import timing
from metering.model import SECOND
from simulators.dlms_clock import ClockSettings, Line, MeterClock
from simulators.dlms_events import DAY, FRAUD, Code, EventLogs, usual_failures
from simulators.dlms_faults import DlmsFaults
from simulators.dlms_limiter import Limiter
from simulators.dlms_objects import Ask, CosemObject, Objects, data
from simulators.dlms_profiles import ALWAYS, FIFO, PLAIN, Capture, Column, Packing, Periodic, Profile, clock_column
from simulators.dlms_push import PushSettings, PushSetup
from simulators.dlms_registers import Registers, shape_of
from simulators.dlms_security import AccessSettings, Security
from simulators.dlms_setup import addresses, association, calendar, counters, identity, security_setup
from simulators.dlms_supply import Disconnector, disconnector_scripts, max_demand_scripts
from simulators.meter import Meter

ENERGIES = ("1-0:1.8.0*255", "1-0:2.8.0*255", "1-0:3.8.0*255", "1-0:4.8.0*255")
MONTHS = 13
YEARS_AHEAD = 5  # how far ahead a meter's power failures are known


@dataclass(frozen=True)
class ProfileSettings:
    """Load profile 1. `columns` follow clock and status: energies, averages or instantaneous values."""

    days: int = 60
    period_s: int = 900
    columns: tuple[str, ...] = ENERGIES
    packing: Packing = PLAIN
    sort: int = FIFO
    status: bool = True


@dataclass(frozen=True)
class DlmsSettings:
    """How one meter is made. `history`: it has known power failures, magnets and covers; `failures` are more of them.

    `system_title` of 8 bytes; empty: MGT and the serial's last digits.
    """

    system_title: bytes = b""
    maker: str = "MGT"
    firmware: str = "MG 2.4.1"
    clock: ClockSettings = field(default_factory=ClockSettings)
    profile: ProfileSettings = field(default_factory=ProfileSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    push: PushSettings = field(default_factory=PushSettings)
    control_mode: int = 4
    history: bool = True
    failures: tuple[tuple[int, int], ...] = ()


class DlmsMeter:
    """One meter. `objects` are by OBIS code; `clock`, `switch`, `limiter`, `logs` and the profiles may be played with.

    `now()` is the true time; `set_faults` makes it misbehave from the next request on.
    """

    def __init__(
        self,
        meter: Meter,
        settings: DlmsSettings | None = None,
        *,
        faults: DlmsFaults | None = None,
        now: Callable[[], int] = timing.now,
    ) -> None:
        self.meter = meter
        self.settings = made = settings or DlmsSettings()
        self.faults = faults or DlmsFaults()
        self.now = now
        serial = meter.serial.encode()[-13:]
        self.device_name = made.maker.encode() + serial
        digits = int("".join(letter for letter in meter.serial if letter.isdigit()) or "0")
        title = made.system_title or made.maker.encode()[:3] + (digits % (1 << 40)).to_bytes(5, "big")
        self.security = Security(made.access, title)
        installed, wrong = meter.settings.installed_at, meter.settings
        self.clock = MeterClock(made.clock, Line(installed, meter.clock(installed), wrong.drift_ppm))
        self.logs = EventLogs(meter, self.clock, seed=wrong.seed, history=made.history)
        self.security.told = lambda at, _: self.logs.add(FRAUD, at, Code.WRONG_PASSWORDS)
        self.registers = Registers(meter, self.clock)
        self.switch = Disconnector(meter, self.logs, mode=made.control_mode)
        self.limiter = Limiter(meter, self.switch, self.logs, self.clock.instant)
        self.push = PushSetup(self, made.push)
        self.objects: Objects = {}
        self._fail(made)
        self._build_profiles(made.profile)
        self.add(self._objects())

    def _fail(self, made: DlmsSettings) -> None:
        installed = self.meter.settings.installed_at
        usual = usual_failures(self.meter.settings.seed, installed, self.now() + YEARS_AHEAD * 365 * DAY)
        for start, end in (*(usual if made.history else ()), *made.failures):
            self.meter.interrupt(start, end)
            self.logs.power_failed(start, end)

    def add(self, objects: Sequence[CosemObject]) -> None:
        """Add objects; one of the same name takes the other's place."""
        self.objects.update({found.obis: found for found in objects})

    @property
    def title(self) -> bytes:
        """Return the system title."""
        return self.security.title

    def has_power(self, now: int) -> bool:
        """Tell whether the meter is alive: no power failure at this instant."""
        return not self.meter.failed(now, now)

    def settle(self, now: int) -> None:
        """Let happen what should have by now."""
        self.limiter.settle(now)

    # -- profiles

    def _build_profiles(self, made: ProfileSettings) -> None:
        self.load_source = Periodic(self.meter, self.clock, made.period_s * SECOND, made.days * DAY)
        self.daily_source = Periodic(self.meter, self.clock, "day", made.days * DAY)
        self.billing_source = Periodic(self.meter, self.clock, "month", MONTHS * 31 * DAY)
        self.registers.ends = self._ends
        columns = [self._column(obis) for obis in made.columns if self.registers.has(obis)]
        status = [self._status(self.load_source, 1)] if made.status else []
        self.load_profile = self._profile(
            "1-0:99.1.0*255", [*status, *columns], self.load_source, made, made.period_s, made.packing
        )
        energies = [f"1-0:{c}.8.{tariff}*255" for c in (1, 2) for tariff in (0, 1, 2)]
        daily = [self._status(self.daily_source, 2), *(self._column(obis) for obis in energies)]
        self.daily_profile = self._profile("1-0:99.2.0*255", daily, self.daily_source, made, 86400, PLAIN)
        maximum = [self._maximum(2), self._maximum(5)]
        billing = [*(self._column(obis) for obis in energies), *maximum]
        self.billing_profile = self._profile("0-0:98.1.0*255", billing, self.billing_source, made, 0, PLAIN)

    def _profile(
        self,
        obis: str,
        columns: list[Column],
        source: Periodic,
        made: ProfileSettings,
        period_s: int,
        packing: Packing,
    ) -> Profile:
        entries = made.days * 86400 // period_s if period_s else MONTHS
        profile = Profile(
            obis,
            [clock_column(self.clock), *columns],
            source,
            entries=entries,
            period_s=period_s,
            packing=packing,
            sort=made.sort,
        )
        profile.instant = self.clock.instant
        return profile

    def _column(self, obis: str) -> Column:
        class_id, attribute = (5, 3) if obis.startswith("1-0:1.5.") else (3, 2)
        shape_of(obis)
        shown = "1-0:1.4.0*255" if class_id == 5 else obis
        return Column(CaptureObject(class_id, shown, attribute), lambda row: self.registers.value(obis, row.at))

    def _maximum(self, attribute: Literal[2, 5]) -> Column:
        obis = "1-0:1.6.0*255"

        def value(row: Capture) -> Data:
            power, at = self.registers.maximum(row.at)
            shape = shape_of(obis)
            return shape.make(shape.raw(power)) if attribute == 2 else self.registers.stamp(at)

        return Column(CaptureObject(4, obis, attribute), value)

    def _ends(self, before: int) -> list[int]:
        return [capture.at for capture in self.billing_source.captures(before, *ALWAYS)]

    def _status(self, source: Periodic, number: int) -> Column:
        target = CaptureObject(1, f"0-0:96.10.{number}*255", 2)
        return Column(target, lambda row: u8(source.status(row)))

    def end_billing(self, ask: Ask) -> None:
        """Capture the billing profile now and begin the maxima anew."""
        self.billing_source.extra.append(ask.now)

    # -- objects

    def _objects(self) -> list[CosemObject]:
        security = self.security
        return [
            association(lambda: self.objects, security),
            self.clock.as_object(),
            *identity(self),
            *counters(security),
            security_setup(security),
            *addresses(),
            calendar(),
            *self.registers.objects(),
            self.load_profile.as_object(),
            self.daily_profile.as_object(),
            self.billing_profile.as_object({2: lambda ask, _: self.end_billing(ask)}),
            data("0-0:96.10.1*255", lambda ask: u8(self._last_status(self.load_profile, self.load_source, ask.now))),
            data("0-0:96.10.2*255", lambda ask: u8(self._last_status(self.daily_profile, self.daily_source, ask.now))),
            *self.logs.objects(),
            self.switch.as_object(),
            disconnector_scripts(self.switch),
            max_demand_scripts(self.end_billing),
            self.limiter.as_object(),
            self.push.as_object(),
        ]

    def _last_status(self, profile: Profile, source: Periodic, now: int) -> int:
        shown = self.clock.shown(now)
        captures = profile.captures(now, shown - 2 * DAY, shown)
        return source.status(captures[-1]) if captures else 0
