"""Simulated DL/T 645 meters of a fleet file: the tables `[[dlt645]]`, `[[dlt645.meter]]`, what is built from them."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, field_validator, model_validator

from collector.dlt645_profile import Dlt645Profile, load_dlt645_profile
from collector.protocols.dlt645.frame import check_address
from collector.protocols.dlt645.identifiers import check_di
from collector.protocols.dlt645.writes import PASSWORD
from collector.protocols.modbus_times import parse_format
from metering.errors import ConfigError
from metering.model import SECOND
from simulators.curves import Load
from simulators.dlt645_faults import Dlt645Fault, Dlt645Faults, Dlt645Kind
from simulators.dlt645_history import Happening
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_serial import Dlt645SerialLine
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.fleet_tables import Id, Table
from simulators.meter import MONTH_START, Meter, MeterSettings

POWER_FAILURE = "power-failure"  # the log that is filled from the failures of the network


def _digits(text: str) -> str:
    if "A" in check_address(text):
        raise ValueError("a meter's own address has 12 digits")
    return text


def _password(secret: SecretStr) -> SecretStr:
    try:
        good = len(bytes.fromhex(secret.get_secret_value())) == PASSWORD
    except ValueError:
        good = False
    if not good:
        raise ValueError("a password is 6 digits")
    return secret


class Dlt645FaultTable(Table):
    """One standing fault (see `simulators.dlt645_faults.Dlt645Fault`)."""

    kind: Dlt645Kind
    chance: float = Field(1.0, ge=0, le=1)
    every: int = Field(1, ge=1)
    times: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0, le=86400)
    code: int = Field(1, ge=0, le=255)
    count: int = Field(0, ge=0, le=4096)

    def fault(self) -> Dlt645Fault:
        """Return the fault."""
        return Dlt645Fault(**self.model_dump())


class HappeningTable(Table):
    """Something that one of the profile's event logs holds, or (`power-failure`) a failure of the network."""

    log: str
    start: AwareDatetime
    end: AwareDatetime | None = None

    def happening(self) -> Happening:
        """Return it."""
        end = round(self.end.timestamp()) * SECOND if self.end else 0
        return Happening(self.log, round(self.start.timestamp()) * SECOND, end)

    @model_validator(mode="after")
    def _failures_end(self) -> "HappeningTable":
        if self.log == POWER_FAILURE and self.end is None:
            raise ValueError("a power failure needs an end")
        return self


class Dlt645MeterTable(Table):
    """One meter: its address, edition, the customer behind it, its clock, and what it lacks.

    `profile` is its model; empty: the usual one of its edition and phases. `absent` are identifiers that it has not,
    `needs_module` makes it refuse plain control requests.
    """

    id: Id
    address: Annotated[str, AfterValidator(_digits)]
    edition: Literal["2007", "1997"] = "2007"
    profile: str = ""
    phases: Literal[1, 3] = 3
    serial: str = Field("", pattern=r"^\d{0,12}$")  # empty: the address
    seed: int | None = Field(None, ge=0)
    load: Load = "household"
    size: float = Field(1.0, gt=0, le=1000)
    start_kwh: float = Field(0.0, ge=0)
    installed: AwareDatetime | None = None
    offset_s: float = 0.0
    drift_ppm: float = 0.0
    password: Annotated[SecretStr, AfterValidator(_password)] = SecretStr("000000")
    turnaround_ms: float | None = Field(None, ge=0, le=10_000)  # empty: the profile's on a serial line, none on TCP
    absent: tuple[Annotated[str, AfterValidator(check_di)], ...] = ()
    battery_low: bool = False
    needs_module: bool = False
    event: tuple[HappeningTable, ...] = ()
    fault: tuple[Dlt645FaultTable, ...] = ()

    @property
    def model(self) -> str:
        """Return the name of its profile."""
        if self.profile:
            return self.profile
        return "dlt645_1997" if self.edition == "1997" else "dlt645_2007_3p" if self.phases == 3 else "dlt645_2007"

    @model_validator(mode="after")
    def _profile_fits(self) -> "Dlt645MeterTable":
        if not self.profile:
            return self
        try:
            known = load_dlt645_profile(self.profile)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if known.edition != self.edition:
            raise ValueError(f"{self.profile} is of the edition {known.edition}")
        return self


class Dlt645Table(Table):
    """One endpoint with its meters: a serial line, or a device server on TCP (`port` 0: the system chooses)."""

    id: Id
    transport: Literal["tcp", "serial"] = "tcp"
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    path: Path | None = None  # empty: the id
    baud: int = Field(2400, ge=300, le=115_200)
    format: str = "8E1"
    meter: tuple[Dlt645MeterTable, ...] = Field(min_length=1)

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, text: str) -> str:
        parse_format(text)
        return text

    @model_validator(mode="after")
    def _addresses_are_apart(self) -> "Dlt645Table":
        if len({meter.address for meter in self.meter}) < len(self.meter):
            raise ValueError("two meters of one line have the same address")
        return self


class Dlt645Site:
    """The DL/T 645 meters of a fleet and where they are reached. `meters` are by id."""

    def __init__(self, tables: Sequence[Dlt645Table], *, seed: int, directory: Path, now: Callable[[], int]) -> None:
        self.meters: dict[str, Dlt645Meter] = {}
        self.servers: dict[str, Dlt645TcpServer] = {}
        self.lines: dict[str, Dlt645SerialLine] = {}
        self._seed = seed
        self._now = now
        for table in tables:
            on_line = table.transport == "serial"
            meters = {made.address: self._meter(made, on_line=on_line) for made in table.meter}
            if on_line:
                path = directory / (table.path or table.id)
                self.lines[table.id] = Dlt645SerialLine(meters, path=path, baud=table.baud, line_format=table.format)
            else:
                self.servers[table.id] = Dlt645TcpServer(meters, host=table.host, port=table.port)

    async def start(self) -> dict[str, tuple[str, int] | Path]:
        """Open every endpoint and return where each listens, by endpoint id."""
        places: dict[str, tuple[str, int] | Path] = {}
        for name, server in self.servers.items():
            places[name] = await server.start()
        for name, line in self.lines.items():
            places[name] = line.start()
        return places

    async def close(self) -> None:
        """Close every endpoint."""
        for server in self.servers.values():
            await server.close()
        for line in self.lines.values():
            line.close()

    def _meter(self, table: Dlt645MeterTable, *, on_line: bool) -> Dlt645Meter:
        profile = load_dlt645_profile(table.model)
        seed = table.seed if table.seed is not None else zlib.crc32(f"{self._seed}/{table.id}".encode())
        settings = MeterSettings(
            seed=seed,
            load=table.load,
            phases=3 if profile.phases == 3 else 1,
            serial=table.serial or table.address,
            size=table.size,
            installed_at=round(table.installed.timestamp()) * SECOND if table.installed else MONTH_START,
            start_wh=round(table.start_kwh * 1000),
            drift_ppm=table.drift_ppm,
            offset_s=table.offset_s,
        )
        meter = Meter(settings)
        happenings = [event.happening() for event in table.event]
        for failure in happenings:
            if failure.log == POWER_FAILURE:
                meter.interrupt(failure.start, failure.end)
        made = Dlt645Meter(
            meter,
            profile,
            _made(table, profile, on_line=on_line),
            happenings=[event for event in happenings if event.log != POWER_FAILURE],
            faults=Dlt645Faults([fault.fault() for fault in table.fault], seed=seed),
            clock=self._now,
        )
        self.meters[table.id] = made
        return made


def _made(table: Dlt645MeterTable, profile: Dlt645Profile, *, on_line: bool) -> Dlt645Made:
    usual = float(profile.turnaround) if on_line else 0.0
    return Dlt645Made(
        address=table.address,
        password=bytes.fromhex(table.password.get_secret_value()),
        absent=frozenset(table.absent),
        battery_low=table.battery_low,
        needs_module=table.needs_module,
        turnaround_s=usual if table.turnaround_ms is None else table.turnaround_ms / 1000,
        wake=profile.wake,
    )
