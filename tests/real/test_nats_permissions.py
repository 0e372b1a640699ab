"""The example of a cluster's permissions on a real one: certificates are users, a gateway has its own topics alone."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.nats_server import NatsCluster
from headend.inbox.jetstream import JetStreamInbox
from headend.inbox.stream import StreamSettings
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from tests.faults.site_process import until
from tests.real.inboxes import PARTITIONS, STREAM, nodes, running

pytestmark = pytest.mark.real
EXAMPLE = Path(__file__).parents[2] / "config" / "nats"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Return a folder with a CA and certificates of the nodes, a head-end and two gateways."""
    authority = ("-addext", "keyUsage=critical,keyCertSign", "-subj", "/CN=fleet")
    openssl(tmp_path, "req", "-x509", *CURVE, *authority, "-keyout", "ca.key", "-out", "ca.pem")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("node", "headend", "elm-7", "stranger"):
        openssl(tmp_path, "req", *CURVE, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        names = ("-extfile", "names") if name == "node" else ()
        signed = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2", *names)
        openssl(tmp_path, "x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", *signed)
    return tmp_path


@pytest.fixture
def cluster(certificates: Path) -> Iterator[NatsCluster]:
    files = "\n".join(
        f'{key}: "{certificates / name}"'
        for key, name in {"cert_file": "node.pem", "key_file": "node.key", "ca_file": "ca.pem"}.items()
    )
    assert (EXAMPLE / "nats.conf").read_text().count("verify_and_map: true") == 2
    tls = f"tls {{\n{files}\nverify_and_map: true\n}}"
    made = NatsCluster(certificates / "nats", more=f'{tls}\ninclude "../{_copied(certificates)}"', mqtt_more=tls)
    made.start()
    yield made
    made.stop()


def _copied(folder: Path) -> str:
    for name in ("accounts.conf", "users.conf"):
        (folder / name).write_text((EXAMPLE / name).read_text())
    return "accounts.conf"


def as_user(cluster: NatsCluster, certificates: Path, name: str) -> MqttSettings:
    files = {"ca_file": "ca.pem", "cert_file": f"{name}.pem", "key_file": f"{name}.key"}
    return replace(nodes(cluster, name), **{key: certificates / file for key, file in files.items()})


async def test_a_gateway_reaches_its_head_end_and_no_topic_of_another(cluster: NatsCluster, certificates: Path):
    headend = as_user(cluster, certificates, "headend")
    servers = tuple(server.replace("nats:", "tls:") for server in cluster.servers)
    stream = StreamSettings(servers, STREAM, PARTITIONS, "headend", tls=headend.tls_context())
    inbox = JetStreamInbox(stream, headend, lambda: range(PARTITIONS))
    heard: list[bytes] = []
    mine = MqttConnection(as_user(cluster, certificates, "elm-7"), lambda message: heard.append(message.payload))
    mine.subscribe(["m/v1/elm-7/receipt", "m/v1/oak-8/receipt", "m/v1/+/receipt"])
    stop = asyncio.Event()
    async with running(inbox):
        task = asyncio.create_task(mine.run(stop))

        async def listens() -> bool:
            return mine.status().listening

        await until(listens, f"the gateway, {mine.status()}")
        assert set(mine.status().refused) == {"m/v1/oak-8/receipt", "m/v1/+/receipt"}
        mine.publish("m/v1/oak-8/up", b"forged")
        mine.publish("m/v1/elm-7/receipt", b"forged", retain=True)
        mine.publish("m/v1/elm-7/up", b"mine")
        mine.publish("m/v1/elm-7/status", b"here", retain=True)
        found = [each for _ in range(2) for each in await asyncio.wait_for(inbox.fetch(1), 30)]
        assert {(each.gateway, each.leaf, each.payload) for each in found} == {
            ("elm-7", "up", b"mine"),
            ("elm-7", "status", b"here"),
        }
        await inbox.publish("m/v1/oak-8/receipt", b"another's", retain=True)
        await inbox.publish("m/v1/elm-7/receipt", b"true", retain=True)

        async def told() -> bool:
            return bool(heard)

        await until(told, "the receipt")
        stop.set()
        await task
    assert heard == [b"true"]


async def test_a_certificate_that_is_no_user_and_none_at_all_are_refused(cluster: NatsCluster, certificates: Path):
    stranger = as_user(cluster, certificates, "stranger")
    nobody = replace(stranger, client_id="nobody", cert_file=None, key_file=None)
    for settings in (stranger, nobody):
        connection = MqttConnection(settings, lambda _message: None)
        stop = asyncio.Event()
        task = asyncio.create_task(connection.run(stop))

        async def refused(which: MqttConnection = connection) -> bool:
            return which.status().failures > 0

        await until(refused, "the refusal")
        assert connection.status().connects == 0
        stop.set()
        await task
