"""Who may say what at a real Mosquitto with the configuration that is shipped: certificates, topics, revocation."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gateway.uplink import Uplink
from headend.authority import CERTIFICATE_DAYS, Authority, key_of_private, new_authority, new_key
from headend.intake import Intake
from metering import timing, wire
from metering.batch import Batch
from metering.model import SECOND
from metering.wire import Up
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from simulators.broker import MosquittoBroker, find_mosquitto
from storage.codec import pack
from storage.log import Log
from tests.faults.site_process import until
from tests.real.centre import append, delivered, held, receiving, sending

pytestmark = pytest.mark.real
SHIPPED = Path(__file__).parents[2] / "config" / "mosquitto"
DAY = 86_400 * SECOND
HEADEND = "metergate.headend"


class Yard:
    """A folder of certificates, and a broker that is configured as shipped."""

    def __init__(self, folder: Path) -> None:
        assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
        self.folder = folder
        certificate, key = new_authority("metergate test", timing.now())
        self.authority = Authority(certificate, key)
        self.foreign = Authority(*new_authority("metergate test", timing.now()))
        (folder / "ca.pem").write_bytes(certificate)
        first = self.authority.revocations([], timing.now() - DAY)  # of two lists the broker takes the later one
        (folder / "crl.pem").write_bytes(first)
        self.serials = {name: self.make(name) for name in (HEADEND, "g1", "g2")}
        pem = new_key()
        (folder / "broker.key").write_bytes(pem)
        made = self.authority.sign_server("broker", key_of_private(pem), timing.now(), ["127.0.0.1"])
        (folder / "broker.pem").write_text(made.pem)
        self.broker = MosquittoBroker(extra=self._lines())

    def _lines(self) -> str:
        text = (SHIPPED / "mosquitto.conf").read_text()
        for old, new in (
            ("/etc/mosquitto/certs/broker", "broker"),
            ("/etc/metergate/ca.pem", "ca.pem"),
            ("/var/lib/metergate-headend/crl.pem", "crl.pem"),
        ):
            assert old in text
            text = text.replace(old, str(self.folder / new))
        text = text.replace("/etc/mosquitto/conf.d/metergate.acl", str(SHIPPED / "metergate.acl"))
        ours = ("listener", "persistence", "max_queued_messages")  # the test's broker has these already
        return "\n".join(line for line in text.splitlines() if not line.startswith(ours))

    def make(self, name: str, *, file: str = "", authority: Authority | None = None, at: int = 0) -> str:
        """Make key and certificate of a name; return its serial."""
        pem = new_key()
        made = (authority or self.authority).sign(name, key_of_private(pem), at or timing.now())
        (self.folder / f"{file or name}.key").write_bytes(pem)
        (self.folder / f"{file or name}.pem").write_text(made.pem)
        return made.serial

    def revoke(self, *serials: str) -> None:
        revoked = [(serial, timing.now()) for serial in serials]
        (self.folder / "crl.pem").write_bytes(self.authority.revocations(revoked, timing.now()))

    def settings(self, file: str | None, name: str = "") -> MqttSettings:
        return MqttSettings(
            "127.0.0.1",
            name or file or "nobody",
            self.broker.port,
            ca_file=self.folder / "ca.pem",
            cert_file=self.folder / f"{file}.pem" if file else None,
            key_file=self.folder / f"{file}.key" if file else None,
        )


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    made = Yard(tmp_path)
    await made.broker.start()
    yield made
    await made.broker.stop()


@pytest.fixture
async def centre(yard: Yard, tmp_path: Path) -> AsyncIterator[Intake]:
    async with receiving(tmp_path, yard.settings(HEADEND), ("g1", "g2")) as made:
        yield made


def at(yard: Yard, gateway: str, file: str | None) -> AbstractAsyncContextManager[tuple[Log, Uplink]]:
    return sending(yard.folder / f"log-of-{gateway}-{file}", yard.settings(file), gateway)


@asynccontextmanager
async def connected(settings: MqttSettings) -> AsyncIterator[tuple[MqttConnection, list[int]]]:
    done: list[int] = []
    connection = MqttConnection(settings, lambda _message: None, on_published=done.append)
    stop = asyncio.Event()
    task = asyncio.create_task(connection.run(stop))
    try:
        yield connection, done
    finally:
        stop.set()
        await task


async def refused(uplink: Uplink) -> str:
    async def failed() -> str:
        found = uplink.status().connection
        return found.last_error if found.failures >= 1 and not found.connected else ""

    return str(await until(failed, "a refusal"))


async def test_a_gateway_with_its_certificate_delivers(yard: Yard, centre: Intake):
    async with at(yard, "g1", "g1") as (log, uplink):
        await append(log, 1)
        await delivered(log, uplink)
    assert held(centre) == [1]


async def test_a_forbidden_publish_is_acknowledged_by_the_broker_and_nothing_is_thought_stored(
    yard: Yard, centre: Intake
):
    async with connected(yard.settings("g1", "thief")) as (connection, acknowledged):

        async def is_up() -> bool:
            return connection.status().connected

        await until(is_up, "the connection of g1")
        foreign = wire.encode(Up("e", 1, [pack(Batch(666))]))
        sent = [connection.publish(topic, foreign) for topic in ("m/v1/g2/up", "m/v1/g1/receipt", "somewhere/else")]

        async def all_acknowledged() -> bool:
            return set(sent) <= set(acknowledged)

        await until(all_acknowledged, "the broker's acknowledgements")
    async with at(yard, "g2", "g2") as (log, uplink):
        await append(log, 2)
        await delivered(log, uplink)
    assert held(centre) == [2]
    assert centre.counts.unknown_gateway == 0


async def test_an_uplink_under_anothers_name_never_takes_its_records_for_stored(yard: Yard, centre: Intake):
    async with at(yard, "g2", "g1") as (log, uplink):
        await append(log, 666)

        async def is_up() -> bool:
            return uplink.status().connection.connected

        await until(is_up, "the connection of g1")
        async with at(yard, "g1", "g1") as (other, honest):
            await append(other, 1)
            await delivered(other, honest)
        assert (uplink.status().behind, uplink.status().contiguous) == (1, 0)
    assert held(centre) == [1]


@pytest.mark.parametrize("which", ["expired", "foreign", "none"])
async def test_a_gateway_without_a_good_certificate_is_refused_and_told(yard: Yard, centre: Intake, which: str):
    yard.make("g1", file="expired", at=timing.now() - (CERTIFICATE_DAYS + 1) * DAY)
    yard.make("g1", file="foreign", authority=yard.foreign)
    async with at(yard, "g1", None if which == "none" else which) as (log, uplink):
        await append(log, 666)
        assert await refused(uplink)
        assert uplink.status().behind == 1
    assert held(centre) == []


async def test_a_revoked_certificate_is_refused_once_the_broker_has_read_the_list(yard: Yard, centre: Intake):
    async with at(yard, "g1", "g1") as (log, uplink):
        await append(log, 1)
        await delivered(log, uplink)
    yard.revoke(yard.serials["g1"])
    os.kill(yard.broker.pid, signal.SIGHUP)
    async with at(yard, "g1", "g1") as (log, uplink):
        await append(log, 666)
        assert await refused(uplink)
    async with at(yard, "g2", "g2") as (log, uplink):
        await append(log, 2)
        await delivered(log, uplink)
    assert held(centre) == [1, 2]
