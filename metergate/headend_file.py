"""A head-end file: its broker, its log, store and state, and where its API listens. Who is in the fleet is not here."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from collector.toml_file import validate
from gateway.fields import FilePath, Id, Secret, Size, Strict
from gateway.settings import BrokerSettings, LogSettings
from headend.authority import Authority
from headend.posting import Target
from headend.state.store import State
from headend.webhook_sender import Webhook
from headend.webhooks import EVENTS, Event
from metergate.site import ApiSettings, EmbeddedSettings, StoreSettings
from metergate.supply_file import AuditSettings, PolicySettings
from metering.errors import ConfigError
from metering.secret import resolve_secret

STATE_FILE = "state.db"
HEADS_FILE = "audit-heads.jsonl"
SPOOL_FILE = "audit-spool.jsonl"
MIN_SECRET = 16  # characters of what signs a webhook


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


class WebhookSettings(Strict):
    """Who is told what: an https address, or one of this machine, and the secret that signs."""

    name: Id
    url: str
    secret: Secret
    events: list[Event] = Field(default=list(EVENTS), min_length=1)
    ca_file: FilePath | None = None

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str) -> str:
        Target.parse(url)
        return url

    def open(self) -> Webhook:
        """Return it with its secret. Raises `ConfigError`."""
        secret = resolve_secret(self.secret).encode()
        if len(secret) < MIN_SECRET:
            raise ConfigError(f"the secret of webhook {self.name} is shorter than {MIN_SECRET} characters")
        try:
            target = Target.parse(self.url, str(self.ca_file) if self.ca_file is not None else None)
        except OSError as error:
            raise ConfigError(f"webhook {self.name}: {self.ca_file} cannot be used: {error.strerror}") from None
        return Webhook(self.name, target, secret, frozenset(self.events))


class SupplySettings(Strict):
    """Supply control: the copies of the gateways' trust documents, and thresholds.

    What exceeds a threshold waits for a second person. `service_key` signs restores after a payment by itself.
    """

    trust: FilePath  # a folder: <gateway>.json, as `metergate trust sign` writes them
    service_key: FilePath | None = None
    user_per_hour: int = Field(default=50, ge=0)
    user_per_day: int = Field(default=200, ge=0)
    total_per_hour: int = Field(default=200, ge=0)
    total_per_day: int = Field(default=1000, ge=0)


class HeadendFile(Strict):
    """The whole file."""

    headend: HeadendSettings
    broker: BrokerSettings
    inbox: InboxSettings = MqttInboxSettings(kind="mqtt")
    state: StateSettings = StateSettings()
    enrolment: EnrolmentSettings | None = None
    audit: AuditSettings | None = None
    webhook: list[WebhookSettings] = Field(default=[], max_length=16)
    supply: SupplySettings | None = None
    store: StoreSettings = EmbeddedSettings(kind="embedded")
    policy: PolicySettings = PolicySettings()
    api: ApiSettings = ApiSettings()

    @field_validator("webhook")
    @classmethod
    def _named_once(cls, hooks: list[WebhookSettings]) -> list[WebhookSettings]:
        if len({hook.name for hook in hooks}) != len(hooks):
            raise ValueError("two webhooks have one name")
        return hooks


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
