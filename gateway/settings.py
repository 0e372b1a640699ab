"""What a gateway is told: its lines, its meters, its schedule and its log. Checked here, read from TOML elsewhere."""

from typing import Literal

from pydantic import Field, model_validator

from gateway.fields import (
    BcdAddress,
    CustomerClass,
    Duration,
    FilePath,
    HostPort,
    Id,
    Instant,
    Period,
    Port,
    Ratio,
    Region,
    RegisterReadings,
    Secret,
    Size,
    Strict,
    Zone,
    split_address,
)
from gateway.settings_bus import BusSettings, DlmsSettings
from metering.hosts import is_loopback


class ScheduleSettings(Strict):
    """How often to read: running totals at each boundary of `registers`, momentary values at their own period."""

    registers: Period = 900.0
    instantaneous: Period = 300.0

    @model_validator(mode="after")
    def _whole_seconds(self) -> "ScheduleSettings":
        for name in ("registers", "instantaneous"):
            value = getattr(self, name)
            if value is not None and (value < 1 or value != int(value) or (86400 % value and value < 86400)):
                raise ValueError(f"{name}: use whole seconds that divide a day, from 1s to 1d (15min is usual)")
        return self


class MeterSettings(Strict):
    """One meter where it hangs: how it is reached, what model it is, whose supply it measures, and since when."""

    id: Id
    profile: str
    point: Id
    region: Region
    serial: str = ""
    # On a bus, with the address of its protocol
    bus: Id | None = None
    unit: int | None = Field(None, ge=1, le=247)  # Modbus
    dlms: DlmsSettings | None = None  # DLMS; left out: as its profile says
    address: BcdAddress | None = None  # DL/T 645
    # MQTT
    topic: str | None = None
    parameters: dict[str, str] = Field(default_factory=dict)
    # Schedule of this meter where it differs from the gateway's
    schedule: ScheduleSettings | None = None
    only: list[str] = Field(default_factory=list)  # names of the profile's points; empty: all
    # The most that it can take: a poll further above the row of its own profile than that explains is flagged
    max_power_kw: float = Field(100.0, gt=0)
    # Installation
    customer: CustomerClass = ""  # whose rules say when it may be cut off
    zone: Zone = "UTC"  # of its days, and of its clock where it publishes local time
    installed: Instant = 0
    removed: Instant | None = None
    initial_registers: RegisterReadings = Field(default_factory=dict)
    removal_registers: RegisterReadings = Field(default_factory=dict)
    ct_ratio: Ratio = "1"
    pt_ratio: Ratio = "1"
    ratios_apply: bool = False  # True: the registers show secondary values

    @model_validator(mode="after")
    def _reached_one_way(self) -> "MeterSettings":
        if (self.bus is None) == (self.topic is None):
            raise ValueError("say either bus and the meter's address there, or topic (MQTT)")
        if self.topic is not None and self.only:
            raise ValueError("only: a meter that publishes by itself sends what it sends; leave it out")
        if self.removed is not None and self.removed <= self.installed:
            raise ValueError("removed: must be later than installed")
        if not self.ratios_apply and (self.ct_ratio, self.pt_ratio) != ("1", "1"):
            raise ValueError(
                "ct_ratio, pt_ratio: have no effect unless ratios_apply = true (registers show secondary values)"
            )
        return self


class BrokerSettings(Strict):
    """The broker where meters publish by themselves."""

    host: str
    port: Port = 1883
    username: str | None = None
    password: Secret | None = None
    tls: bool = False  # also without a file of certificates: the system's authorities are then trusted
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    client_id: Id | None = None
    others: list[HostPort] = Field(default_factory=list)  # further nodes of the same broker, tried in turn


class LogSettings(Strict):
    """Bounds of the gateway's log."""

    max_size: Size = 1 << 30
    max_age: Duration = 40 * 86400.0
    keep: Duration = 40 * 86400.0  # for the feed of changes, once all readers have passed
    min_free: Size = 16 << 20  # stop accepting below this much free disk
    commit_every: Duration = 1.0


class GatewaySettings(Strict):
    """The gateway itself."""

    id: Id
    data: FilePath
    # Each gateway reads by its own offset below this after the boundary, so that a fleet never speaks at once.
    jitter: Duration = 5.0
    profiles: FilePath | None = None  # a folder with further meter models
    log: LogSettings = LogSettings()
    # How long a configuration from afar has to prove itself before the gateway goes back to the one before
    trial: Duration = Field(300.0, ge=1, le=86400)


class KeySettings(Strict):
    """The key store of the meters' keys and passwords: where its master key is."""

    master: Secret


class PushSettings(Strict):
    """Where meters may call in and push what they have (DLMS data-notification over TCP)."""

    listen: str = "127.0.0.1:4059"
    allow_beyond_loopback: bool = False

    @model_validator(mode="after")
    def _safe(self) -> "PushSettings":
        host, _ = split_address(self.listen)
        if not is_loopback(host) and not self.allow_beyond_loopback:
            raise ValueError(
                f"listen: {host} is beyond loopback: say allow_beyond_loopback = true (anybody who reaches the port "
                "may then send; only what known meters push is taken)"
            )
        return self


class ClockSettings(Strict):
    """What is done about a meter's clock that is off by more than `limit`: told, or shifted as well."""

    policy: Literal["report", "shift"] = "report"
    limit: Duration = Field(60.0, ge=1, le=900)


class FieldFile(Strict):
    """What a gateway does in the field: the part of its file that a head-end may replace from afar."""

    schedule: ScheduleSettings = ScheduleSettings()
    bus: list[BusSettings] = Field(default_factory=list)
    meter: list[MeterSettings] = Field(default_factory=list)
    mqtt: BrokerSettings | None = None
    push: PushSettings | None = None
    clock: ClockSettings = ClockSettings()


class SupplySettings(Strict):
    """Supply commands at this gateway. What may be ordered the trust document says, never this file.

    While the file `lockout` is there (by default `lockout` in the data folder) nothing is withheld. With `dry_run` all
    is done but the order itself. Both are for somebody on site: no configuration from afar reaches them.
    """

    lockout: FilePath | None = None
    dry_run: bool = False


class GatewayFile(FieldFile):
    """A gateway's part of a configuration file."""

    gateway: GatewaySettings
    uplink: BrokerSettings | None = None  # the head-end's broker: `metergate gateway` then sends there
    keys: KeySettings | None = None
    supply: SupplySettings = SupplySettings()
