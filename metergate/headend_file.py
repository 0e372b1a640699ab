"""A head-end file: its broker, its log, store and state, and where its API listens. Who is in the fleet is not here."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from collector.toml_file import validate
from gateway.fields import FilePath, Id, Secret, Size, Strict
from gateway.settings import BrokerSettings, LogSettings
from headend.authority import Authority
from headend.state.store import State
from metergate.site import ApiSettings, EmbeddedSettings, StoreSettings
from metering.errors import ConfigError
from metering.secret import resolve_secret

STATE_FILE = "state.db"


class HeadendLog(LogSettings):
    """Bounds of the head-end's log: the ledger of all that came in, so a larger one than a gateway's."""

    max_size: Size = 64 << 30


class HeadendSettings(Strict):
    """The head-end itself."""

    id: Id = "headend"
    data: FilePath
    profiles: FilePath | None = None  # a folder with further meter models
    log: HeadendLog = HeadendLog()


class StateSettings(Strict):
    """Where registry, tokens and ledgers are kept: a file in the data folder, or a server that head-ends share."""

    url: str | None = Field(default=None, pattern="^(sqlite:///|postgresql://)")
    password: Secret | None = None

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is not None and ":" in url.partition("://")[2].rpartition("@")[0]:
            raise ValueError('a password does not stand in the file: leave it out here and give password = "file:…"')
        return url


class MqttInboxSettings(Strict):
    """One head-end takes what gateways send from the broker itself."""

    kind: Literal["mqtt"]


class JetStreamInboxSettings(Strict):
    """Head-ends share what gateways send by a stream of a NATS cluster, whose MQTT listeners `[broker]` names."""

    kind: Literal["jetstream"]
    servers: list[Annotated[str, Field(pattern=r"^(nats|tls)://[^@/]+:\d+$")]] = Field(min_length=1)
    stream: Id = "readings"
    partitions: int = Field(default=16, ge=1, le=256)
    username: str | None = None
    password: Secret | None = None
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None


InboxSettings = Annotated[MqttInboxSettings | JetStreamInboxSettings, Field(discriminator="kind")]


class EnrolmentSettings(Strict):
    """The authority that signs the gateways' certificates, and where the broker finds what was revoked."""

    ca_cert: FilePath
    ca_key: Secret
    crl_file: FilePath | None = None


class HeadendFile(Strict):
    """The whole file."""

    headend: HeadendSettings
    broker: BrokerSettings
    inbox: InboxSettings = MqttInboxSettings(kind="mqtt")
    state: StateSettings = StateSettings()
    enrolment: EnrolmentSettings | None = None
    store: StoreSettings = EmbeddedSettings(kind="embedded")
    api: ApiSettings = ApiSettings()


def load_headend(path: Path) -> HeadendFile:
    """Return the checked file.

    Raises:
        ConfigError: names file, line and key; nothing has been started.

    """
    return validate(HeadendFile, path)


def is_headend(file: Path) -> bool:
    """Tell whether a file is a head-end's; what is wrong with it is told by whoever loads it."""
    try:
        return "headend" in tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def open_authority(settings: EnrolmentSettings) -> Authority:
    """Return the authority of a head-end. Raises `ConfigError`."""
    try:
        certificate = settings.ca_cert.read_bytes()
    except OSError as error:
        text = f"the authority's certificate {settings.ca_cert} cannot be read: {error.strerror}; make one with"
        raise ConfigError(f"{text} metergate registry ca") from None
    return Authority(certificate, resolve_secret(settings.ca_key).encode())


def open_state(file: HeadendFile) -> State:
    """Open the head-end's state. Raises `ConfigError`, `StorageError`."""
    if file.state.url is None:
        file.headend.data.mkdir(parents=True, exist_ok=True)
        return State.open(file.headend.data / STATE_FILE)
    password = resolve_secret(file.state.password) if file.state.password is not None else None
    return State.open(file.state.url, password)
