"""Makes a head-end's inbox and its books of committed seqs, as its file says. It starts nothing."""

from typing import NamedTuple

from gateway.lines import make_mqtt_settings
from headend.books import Books
from headend.inbox.jetstream import JetStreamInbox
from headend.inbox.mqtt import MqttInbox
from headend.inbox.stream import StreamSettings
from headend.ledger_file import LedgerFile
from headend.state.store import State
from headend.tenure import Tenure
from metergate.headend_file import HeadendFile, JetStreamInboxSettings
from metering.secret import resolve_secret
from mqtt.client import MqttSettings
from storage.log import Log

MAX_PACKET_BYTES = 80 << 20  # a larger one cuts the connection; up to it, what is too long is refused one by one


class Entrance(NamedTuple):
    """How messages come in. `tenure` shares the fleet out among head-ends, where there may be several."""

    inbox: MqttInbox | JetStreamInbox
    books: Books
    tenure: Tenure | None = None


def open_entrance(file: HeadendFile, state: State, log: Log) -> Entrance:
    """Return the head-end's inbox and books. Raises `ConfigError`."""
    broker = make_mqtt_settings(file.broker, file.headend.id)
    broker = MqttSettings(**{**vars(broker), "max_packet_bytes": MAX_PACKET_BYTES})
    if not isinstance(file.inbox, JetStreamInboxSettings):
        return Entrance(MqttInbox(broker), LedgerFile(file.headend.data / "ledger.msgpack", log))
    tenure = Tenure(state, file.headend.id, file.inbox.partitions)
    stream = _stream(file.inbox, file.headend.id)
    return Entrance(JetStreamInbox(stream, broker, tenure.held), tenure, tenure)


def _stream(inbox: JetStreamInboxSettings, name: str) -> StreamSettings:
    tls = MqttSettings(
        inbox.servers[0],
        name,
        tls=any(server.startswith("tls:") for server in inbox.servers),
        ca_file=inbox.ca_file,
        cert_file=inbox.cert_file,
        key_file=inbox.key_file,
    )
    return StreamSettings(
        tuple(inbox.servers),
        inbox.stream,
        inbox.partitions,
        f"metergate-{name}",
        inbox.username,
        resolve_secret(inbox.password) if inbox.password is not None else None,
        tls.tls_context(),
    )
