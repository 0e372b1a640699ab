"""Simulated DLMS meters of a fleet file: the tables `[[dlms]]` and `[[dlms.meter]]`. Settings only; builds nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, field_validator, model_validator

from collector.keys import MeterKeys
from collector.protocols.dlms.acse import Context, Mechanism
from collector.protocols.dlms.ciphering import AUTHENTICATED, ENCRYPTED, KEY_LENGTH, TITLE_LENGTH
from collector.protocols.dlms.clock import DeviationSign
from collector.protocols.dlms.hdlc import MAX_INFO as HDLC_MAX_INFO
from collector.protocols.dlms.hdlc import MAX_WINDOW as HDLC_MAX_WINDOW
from collector.protocols.modbus_times import parse_format
from metering.obis import canonical_obis
from simulators.curves import Load
from simulators.dlms_clock import ClockSettings
from simulators.dlms_faults import TCP_ONLY, DlmsFault, DlmsKind
from simulators.dlms_hdlc import MAX_INFO, MAX_WINDOW
from simulators.dlms_meter import ENERGIES, DlmsSettings, ProfileSettings
from simulators.dlms_objects import Role
from simulators.dlms_profiles import FIFO, LIFO, Packing
from simulators.dlms_push import PushSettings
from simulators.dlms_security import LOCK_AFTER, LOCK_S, AccessSettings, Client, test_keys, usual_clients
from simulators.fleet_tables import Id, Table

_MECHANISMS = {
    "none": Mechanism.NONE,
    "low": Mechanism.LOW,
    "high-md5": Mechanism.HIGH_MD5,
    "high-sha1": Mechanism.HIGH_SHA1,
    "high-gmac": Mechanism.HIGH_GMAC,
    "high-sha256": Mechanism.HIGH_SHA256,
}
_ROLES = {"public": Role.PUBLIC, "reader": Role.READER, "manager": Role.MANAGER}
_CONTEXTS = {"plain": Context.LN, "ciphered": Context.LN_CIPHERED}
_POLICIES = {
    "none": 0,
    "authenticated": AUTHENTICATED,
    "encrypted": ENCRYPTED,
    "authenticated-encrypted": AUTHENTICATED | ENCRYPTED,
}


def _hex(length: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text and len(bytes.fromhex(text)) != length:
            raise ValueError(f"{length} bytes in hex are wanted")
        return text

    return check


def _key(secret: SecretStr) -> SecretStr:
    try:
        _hex(KEY_LENGTH)(secret.get_secret_value())
    except ValueError:
        raise ValueError(f"a key is {KEY_LENGTH} bytes in hex") from None
    return secret


Key = Annotated[SecretStr, AfterValidator(_key)]
Title = Annotated[str, AfterValidator(_hex(TITLE_LENGTH))]


class DlmsFaultTable(Table):
    """One standing fault (see `simulators.dlms_faults.DlmsFault`)."""

    kind: DlmsKind
    chance: float = Field(1.0, ge=0, le=1)
    every: int = Field(1, ge=1)
    times: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=-86400 * 366, le=86400 * 366)
    code: int = Field(1, ge=0, le=255)
    count: int = Field(0, ge=0)

    def fault(self) -> DlmsFault:
        """Return the fault."""
        return DlmsFault(**self.model_dump())


class KeysTable(Table):
    """Keys for tests, hex of 16 bytes; one that is left out is the usual test key."""

    encryption: Key = SecretStr("")
    authentication: Key = SecretStr("")
    broadcast: Key = SecretStr("")
    master: Key = SecretStr("")

    def keys(self) -> MeterKeys:
        """Return the keys."""
        keys = test_keys()
        for name in ("encryption", "authentication", "broadcast", "master"):
            given = getattr(self, name).get_secret_value()
            if given:
                setattr(keys, name, bytes.fromhex(given))
        return keys


class PushTable(Table):
    """Where the meter pushes data-notifications to: each `interval_s` of its clock, 0 only when it is told to."""

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    interval_s: int = Field(900, ge=0, le=86_400)
    ciphered: bool = False
    client: int = Field(16, ge=0, le=65535)  # wPort of the listener


class ClientTable(Table):
    """One client that the meter knows. `secret` is a text: the LLS password or the HLS secret."""

    address: int = Field(ge=1, le=127)
    mechanism: Literal["none", "low", "high-md5", "high-sha1", "high-gmac", "high-sha256"] = "none"
    role: Literal["public", "reader", "manager"] = "manager"
    contexts: tuple[Literal["plain", "ciphered"], ...] = ("plain", "ciphered")
    policy: Literal["none", "authenticated", "encrypted", "authenticated-encrypted"] = "none"
    secret: SecretStr = SecretStr("")

    def client(self) -> Client:
        """Return the client."""
        return Client(
            self.address,
            _MECHANISMS[self.mechanism],
            _ROLES[self.role],
            frozenset(_CONTEXTS[name] for name in self.contexts),
            _POLICIES[self.policy],
            self.secret.get_secret_value().encode(),
        )


class DlmsMeterTable(Table):
    """One meter: its address on the endpoint, the customer behind it, how it keeps time, profiles and secrets."""

    id: Id
    server: int = Field(1, ge=1, le=0x3FFF)  # logical device
    physical: int = Field(17, ge=1, le=0x3FFF)  # HDLC lower address
    profile: str = ""  # the meter profile that a site would read it by
    serial: str = Field("", max_length=16)  # empty: made from the seed
    system_title: Title = ""  # hex; empty: made from the serial
    seed: int | None = Field(None, ge=0)
    load: Load = "household"
    phases: Literal[1, 3] = 3
    size: float = Field(1.0, gt=0, le=1000)
    start_kwh: float = Field(0.0, ge=0)
    installed: AwareDatetime | None = None
    offset_s: float = 0.0
    drift_ppm: float = 0.0
    zone: str = "UTC"
    deviation: Literal["standard", "opposite", "none"] = "standard"
    clock_status: int = Field(0, ge=0, le=255)
    control_mode: int = Field(4, ge=0, le=6)
    history: bool = True
    days: int = Field(60, ge=1, le=400)
    period_s: int = Field(900, ge=60, le=3600)
    columns: tuple[str, ...] = ENERGIES
    newest_first: bool = False
    null_clock: bool = False
    null_same: bool = False
    delta: bool = False
    compact: bool = False
    max_pdu: int = Field(1024, ge=64, le=65535)
    block_size: int | None = Field(None, ge=1, le=65535)
    lock_after: int = Field(LOCK_AFTER, ge=1)
    lock_s: int = Field(LOCK_S, ge=0)
    keys: KeysTable = KeysTable()
    push: PushTable | None = None
    client: tuple[ClientTable, ...] = ()  # empty: the usual ones
    fault: tuple[DlmsFaultTable, ...] = ()

    @field_validator("columns")
    @classmethod
    def _columns_are_codes(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(canonical_obis(column) for column in columns)

    @model_validator(mode="after")
    def _packings_go_together(self) -> Self:
        if self.compact and (self.null_clock or self.null_same or self.delta):
            raise ValueError("compact goes without null_clock, null_same and delta: its rows are all of one type")
        return self

    def _push(self) -> PushSettings:
        made = self.push
        if made is None:
            return PushSettings(server=self.server)
        where = f"{made.host}:{made.port}"
        return PushSettings(where, made.interval_s, made.ciphered, client=made.client, server=self.server)

    def settings(self) -> DlmsSettings:
        """Return how the meter is made."""
        access = AccessSettings(
            clients=tuple(table.client() for table in self.client) or usual_clients(),
            keys=self.keys.keys(),
            max_pdu=self.max_pdu,
            block_size=self.block_size,
            lock_after=self.lock_after,
            lock_s=self.lock_s,
        )
        packing = Packing(self.null_clock, self.null_same, self.delta, self.compact)
        sort = LIFO if self.newest_first else FIFO
        sign: DeviationSign = "utc=local-dev" if self.deviation == "opposite" else "utc=local+dev"
        return DlmsSettings(
            system_title=bytes.fromhex(self.system_title),
            clock=ClockSettings(self.zone, sign, self.deviation != "none", self.clock_status),
            profile=ProfileSettings(self.days, self.period_s, self.columns, packing, sort),
            access=access,
            push=self._push(),
            control_mode=self.control_mode,
            history=self.history,
        )


class DlmsTable(Table):
    """One endpoint with its meters: the wrapper or HDLC on TCP (`port` 0: the system chooses), or a serial line."""

    id: Id
    transport: Literal["wrapper", "hdlc", "serial"] = "wrapper"
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    path: Path | None = None  # empty: the id
    baud: int = Field(9600, ge=300, le=115_200)
    format: str = "8N1"
    mode_e: bool = False
    turnaround_ms: float = Field(0.0, ge=0, le=10_000)
    max_info: int = Field(MAX_INFO, ge=32, le=HDLC_MAX_INFO)
    window: int = Field(MAX_WINDOW, ge=1, le=HDLC_MAX_WINDOW)
    meter: tuple[DlmsMeterTable, ...] = Field(min_length=1)

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, text: str) -> str:
        parse_format(text)
        return text

    @model_validator(mode="after")
    def _meters_are_apart(self) -> Self:
        places = [m.server if self.transport == "wrapper" else (m.server, m.physical) for m in self.meter]
        if len(set(places)) < len(places):
            raise ValueError("two meters have the same address: give them other servers, or on HDLC other physicals")
        struck = {fault.kind for meter in self.meter for fault in meter.fault} & TCP_ONLY
        if self.transport == "serial" and struck:
            raise ValueError(f"{min(struck)!r} cannot happen on a serial line")
        return self
