"""A paho client as the house wants it: settings, TLS, last will, bounded packets, retry delays. Not connected here."""

import random
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from metering.errors import ConfigError

CONNECT_S = 10.0  # for the TCP connection and the TLS handshake
FIRST_RETRY_S = 0.5  # after the first failure; doubled after each further one
LONGEST_RETRY_S = 30.0
MAX_UNACKNOWLEDGED = 1000  # publishes on their way; beyond it the next is refused, not queued
MAX_PACKET_BYTES = 1 << 20  # a longer packet cuts the connection before it fills our memory

READ_BYTES = 64 * 1024  # asked of the socket at once


@dataclass(frozen=True)
class MqttSettings:
    """Where the broker is and how to speak with it. `password` is the password itself, never shown.

    TLS is used with `tls`, with a CA file (otherwise the system's CAs) and, where given, a client certificate.
    `others` are host and port of further nodes of the same broker: each failure goes on to the next.
    """

    host: str
    client_id: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30
    max_packet_bytes: int = MAX_PACKET_BYTES
    others: tuple[tuple[str, int], ...] = ()

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Return host and port of every node."""
        return ((self.host, self.port), *self.others)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the context for TLS, or None where it is not used.

        Raises:
            ConfigError: a file cannot be read or is no certificate or key.

        """
        if not (self.tls or self.ca_file or self.cert_file):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(str(path) for path in (self.ca_file, self.cert_file, self.key_file) if path)
            raise ConfigError(f"the broker's certificate files ({names}) cannot be used: {error}") from None
        return context


class Will(NamedTuple):
    """What the broker publishes for us when we vanish."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


class _BoundedClient(paho.Client):
    """A paho client that never takes a packet larger than `max_packet` bytes into memory."""

    max_packet = MAX_PACKET_BYTES

    def _sock_recv(self, bufsize: int) -> bytes:
        # paho asks for the whole rest of a packet; an OSError here is a lost connection to it.
        if bufsize > self.max_packet:
            raise ConnectionError(f"the broker sent a packet of {bufsize} bytes")
        return super()._sock_recv(min(bufsize, READ_BYTES))


def make_client(
    settings: MqttSettings, tls: ssl.SSLContext | None, will: Will | None, *, manual_ack: bool
) -> paho.Client:
    """Return a client that is not connected yet: MQTT 3.1.1, clean session, no reconnects of its own."""
    client = _BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        clean_session=True,
        protocol=paho.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=manual_ack,
    )
    client.max_packet = settings.max_packet_bytes
    client.connect_timeout = CONNECT_S
    client.max_inflight_messages_set(MAX_UNACKNOWLEDGED)
    client.max_queued_messages_set(MAX_UNACKNOWLEDGED)
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password)
    if tls is not None:
        client.tls_set_context(tls)
    if will is not None:
        client.will_set(*will)
    return client


def retry_delay(failed: int) -> float:
    """Return the seconds to wait after so many failures in a row: doubled each time, bounded, and spread by half."""
    longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failed - 1, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads a fleet's reconnects; no secret


def drop(client: paho.Client) -> None:
    """Close the client's socket without a farewell."""
    client.on_disconnect = None
    client._sock_close()  # noqa: SLF001 - paho's disconnect() only queues a packet; a dead socket would stay open


def reason_of(error: BaseException) -> str:
    """Return why a connection could not be made, in plain words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return str(error) or type(error).__name__
