"""The description of a simulated site: endpoints, units, meter models, seeds, faults. Settings only; starts nothing."""

from pathlib import Path
from typing import Literal, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from collector.profile import load_profile
from collector.protocols.modbus_times import parse_format
from collector.toml_file import error_at, unique, validate
from metering.errors import ConfigError
from metering.model import SECOND
from simulators.curves import Load
from simulators.faults import CRC_ONLY, TCP_ONLY, Fault, Kind
from simulators.fleet_dlms_file import DlmsTable
from simulators.fleet_dlt645 import Dlt645Table
from simulators.fleet_tables import Id, Table
from simulators.meter import MONTH_START

MqttKind = Literal["shelly_3em", "shelly_pro_3em", "tasmota", "dsmr_reader", "zigbee2mqtt", "metergate"]

MAX_UNIT = 247  # Modbus over Serial Line V1.02 section 2.2; TCP also knows 255, "the endpoint itself"
MAX_TCP_UNIT = 255


class FaultTable(Table):
    """One standing fault (see `simulators.faults.Fault`)."""

    kind: Kind
    chance: float = Field(1.0, ge=0, le=1)
    every: int = Field(1, ge=1)
    times: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0, le=86400)
    code: int = Field(4, ge=1, le=255)
    count: int = Field(0, ge=0)

    def fault(self) -> Fault:
        """Return the fault."""
        return Fault(**self.model_dump())


class ClockTable(Table):
    """Where the meter shows its clock (seconds since 1970 UTC, two registers), and how wrong it is."""

    function: Literal[3, 4] = 3
    address: int = Field(ge=0, le=0xFFFE)
    offset_s: float = 0.0
    drift_ppm: float = 0.0


class HoleTable(Table):
    """Registers that cannot be read: exception 2."""

    function: Literal[3, 4]
    first: int = Field(ge=0, le=0xFFFF)
    last: int = Field(ge=0, le=0xFFFF)


class MeterTable(Table):
    """One unit: its address, its model's profile, and the customer behind it."""

    id: Id
    unit: int = Field(ge=1, le=MAX_TCP_UNIT)
    profile: str
    serial: str = Field("", max_length=32)  # empty: made from the seed
    seed: int | None = Field(None, ge=0)  # empty: made from the site's seed and the id
    load: Load = "household"
    size: float = Field(1.0, gt=0, le=1000)
    start_kwh: float = Field(0.0, ge=0)
    installed: AwareDatetime | None = None
    turnaround_ms: float | None = Field(None, ge=0, le=10_000)  # empty: the profile's on a serial line, none on TCP
    gaps: Literal["zero", "refuse"] = "zero"
    hole: tuple[HoleTable, ...] = ()
    clock: ClockTable | None = None
    fault: tuple[FaultTable, ...] = ()

    @property
    def installed_at(self) -> int:
        """Return the installation as us since 1970."""
        return round(self.installed.timestamp()) * SECOND if self.installed else MONTH_START


class TcpTable(Table):
    """One TCP endpoint with its units; `port` 0 lets the system choose."""

    id: Id
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    framing: Literal["tcp", "rtu"] = "tcp"
    unknown_unit: Literal["silent", "exception"] = "silent"
    meter: tuple[MeterTable, ...] = Field(min_length=1)


class RtuTable(Table):
    """One serial line on a pseudo-terminal; `path` is where its link stands, relative to the simulation's directory."""

    id: Id
    path: Path | None = None  # empty: the id
    baud: int = Field(9600, ge=300, le=921_600)
    format: str = "8E1"
    meter: tuple[MeterTable, ...] = Field(min_length=1)

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, text: str) -> str:
        parse_format(text)
        return text

    @model_validator(mode="after")
    def _units_fit_a_line(self) -> Self:
        for meter in self.meter:
            if meter.unit > MAX_UNIT:
                raise ValueError(f"unit {meter.unit} of {meter.id}: a serial line has units 1 to {MAX_UNIT}")
        return self


class MqttTable(Table):
    """One meter that publishes by itself, of a kind that `simulators.mqtt_meters` knows."""

    id: Id
    kind: MqttKind
    seed: int | None = Field(None, ge=0)


class Fleet(Table):
    """A simulated site. `seed` makes it repeatable."""

    seed: int = Field(1, ge=0)
    tcp: tuple[TcpTable, ...] = ()
    rtu: tuple[RtuTable, ...] = ()
    mqtt: tuple[MqttTable, ...] = ()
    dlms: tuple[DlmsTable, ...] = ()
    dlt645: tuple[Dlt645Table, ...] = ()


def load_fleet(path: Path, profiles: Path | None = None) -> Fleet:
    """Return the site that a TOML file describes; `profiles` is a folder with further meter models.

    Raises:
        ConfigError: the file cannot be read or does not fit, an id or a unit is used twice, a profile is not known, or
            a fault does not belong on its kind of line; names file, line and key.

    """
    fleet = validate(Fleet, path)
    endpoints: list[tuple[str, int, TcpTable | RtuTable]] = [
        *(("tcp", index, table) for index, table in enumerate(fleet.tcp)),
        *(("rtu", index, table) for index, table in enumerate(fleet.rtu)),
    ]
    seen: dict[str, str] = {}
    for kind, index, endpoint in endpoints:
        unique(path, (kind, index, "meter"), "unit", [meter.unit for meter in endpoint.meter])
        _check_id(path, (kind, index), endpoint.id, seen)
        for number, meter in enumerate(endpoint.meter):
            _check_id(path, (kind, index, "meter", number), meter.id, seen)
            _check_profile(path, (kind, index, "meter", number, "profile"), meter.profile, profiles)
            _check_faults(path, (kind, index, "meter", number), endpoint, meter)
    for index, table in enumerate(fleet.mqtt):
        _check_id(path, ("mqtt", index), table.id, seen)
    others = [
        *(("dlms", index, table.id, [m.id for m in table.meter]) for index, table in enumerate(fleet.dlms)),
        *(("dlt645", index, table.id, [m.id for m in table.meter]) for index, table in enumerate(fleet.dlt645)),
    ]
    for name, index, place, meters in others:
        _check_id(path, (name, index), place, seen)
        for number, meter_id in enumerate(meters):
            _check_id(path, (name, index, "meter", number), meter_id, seen)
    return fleet


def _check_id(path: Path, key: tuple[str | int, ...], name: str, seen: dict[str, str]) -> None:
    if name in seen:
        raise error_at(path, (*key, "id"), f"{name!r} is already the id of {seen[name]}")
    seen[name] = f"another {'meter' if 'meter' in key else key[0]}"


def _check_profile(path: Path, key: tuple[str | int, ...], name: str, profiles: Path | None) -> None:
    try:
        load_profile(name, profiles)
    except ConfigError as error:
        if error.file:  # the profile is there and wrong itself
            raise
        raise error_at(path, key, str(error)) from None


def _check_faults(path: Path, key: tuple[str | int, ...], endpoint: TcpTable | RtuTable, meter: MeterTable) -> None:
    on_wire = isinstance(endpoint, RtuTable)
    has_crc = on_wire or (isinstance(endpoint, TcpTable) and endpoint.framing == "rtu")
    for index, fault in enumerate(meter.fault):
        if (on_wire and fault.kind in TCP_ONLY) or (not has_crc and fault.kind in CRC_ONLY):
            where = "a serial line" if on_wire else "Modbus TCP framing"
            raise error_at(path, (*key, "fault", index, "kind"), f"{fault.kind!r} cannot happen on {where}")
