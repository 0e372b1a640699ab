"""The listener on a real Mosquitto of Debian: killed and restarted, passwords, TLS with certificates, uvloop."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from collector.mqtt import MqttListener, MqttMeter
from collector.mqtt_profile import load_mqtt_profile
from metering.model import Block
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from simulators.broker import MosquittoBroker, find_mosquitto, free_port

pytestmark = pytest.mark.real
WAIT_S = 30


@pytest.fixture(autouse=True)
def _mosquitto_is_installed() -> None:
    assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"


def reading(number: int) -> bytes:
    value = f'{{"value":"{number}","unit":"kWh"}}'
    return f'{{"time":"2026-11-23T12:45:{number % 60:02d}Z","readings":{{"1-0:1.8.0*255":{value}}}}}'.encode()


def listen(settings: MqttSettings, blocks: list[Block]) -> MqttListener:
    meter = MqttMeter("m1", load_mqtt_profile("mqtt_metergate"), "meters/m1")
    return MqttListener(settings, [meter], blocks.append, lambda *_: None)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread or process
            await asyncio.sleep(0.01)


def publish(settings: MqttSettings, topic: str, *payloads: bytes) -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(settings.username, settings.password)
    if context := settings.tls_context():
        client.tls_set_context(context)
    client.connect(settings.host, settings.port)
    client.loop_start()
    for payload in payloads:
        info = client.publish(topic, payload, qos=1)
    info.wait_for_publish(WAIT_S)
    client.disconnect()
    client.loop_stop()


async def killed_and_restarted() -> list[Block]:
    blocks: list[Block] = []
    broker = MosquittoBroker(free_port())
    await broker.start()
    settings = MqttSettings("127.0.0.1", "gateway", broker.port)
    listener, stop = listen(settings, blocks), asyncio.Event()
    task = asyncio.create_task(listener.run(stop))
    for crash in range(3):
        await until(lambda: listener.status().connection.listening)
        await asyncio.to_thread(publish, settings, "meters/m1/readings", *(reading(crash * 10 + n) for n in range(10)))
        await until(lambda expected=10 * (crash + 1): len(blocks) == expected)
        await broker.kill()
        await until(lambda: not listener.status().connection.connected)
        await broker.start()
    stop.set()
    await asyncio.wait_for(task, WAIT_S)
    await broker.stop()
    assert listener.status().connection.connects >= 3
    return blocks


@pytest.mark.fault
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_broker_killed_with_9_and_restarted_is_found_again_by_itself(run: Callable[..., list[Block]]):
    blocks = run(killed_and_restarted())
    assert [block.values[0] for block in blocks] == [number * 1_000_000 for number in range(30)]


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """Return a password file with one user, reader."""
    tool = shutil.which("mosquitto_passwd")
    assert tool, "mosquitto_passwd is missing: apt-get install mosquitto"
    path = tmp_path / "passwords"
    subprocess.run([tool, "-b", "-c", str(path), "reader", "right-one"], check=True, capture_output=True)
    return path


async def test_a_wrong_password_is_told_in_plain_words_and_never_shown(passwords: Path):
    broker = MosquittoBroker(extra=f"allow_anonymous false\npassword_file {passwords}")
    await broker.start()
    wrong = listen(MqttSettings("127.0.0.1", "g1", broker.port, "reader", "planted-secret"), [])
    blocks: list[Block] = []
    settings = MqttSettings("127.0.0.1", "g2", broker.port, "reader", "right-one")
    right, stop = listen(settings, blocks), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(wrong.run(stop))
        tasks.create_task(right.run(stop))
        await until(lambda: wrong.status().connection.failures > 0)
        assert "refused the connection: Not authorized" in wrong.status().connection.last_error
        assert "planted-secret" not in repr(wrong.status())
        await until(lambda: right.status().connection.listening)
        await asyncio.to_thread(publish, settings, "meters/m1/readings", reading(1))
        await until(lambda: len(blocks) == 1)
        stop.set()
    await broker.stop()


def openssl(folder: Path, *arguments: str) -> None:
    tool = shutil.which("openssl")
    assert tool, "openssl is missing: apt-get install openssl"
    subprocess.run([tool, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Return a folder with a CA, a certificate of the broker for 127.0.0.1 and one of a client."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    authority = ("-addext", "keyUsage=critical,keyCertSign")
    openssl(tmp_path, "req", "-x509", *curve, *authority, "-subj", "/CN=test", "-keyout", "ca.key", "-out", "ca.pem")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("broker", "client"):
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(tmp_path, "req", *curve, "-subj", f"/CN={name}", *request)
        signed = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2", "-extfile", "names")
        openssl(tmp_path, "x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", *signed)
    return tmp_path


def tls_broker(folder: Path) -> MosquittoBroker:
    files = {"cafile": "ca.pem", "certfile": "broker.pem", "keyfile": "broker.key"}
    lines = [f"{key} {folder / name}" for key, name in files.items()]
    return MosquittoBroker(extra="\n".join([*lines, "require_certificate true"]))


async def test_tls_with_client_certificates_carries_bursts_whole(certificates: Path):
    broker = tls_broker(certificates)
    await broker.start()
    settings = MqttSettings(
        broker.host,
        "g",
        broker.port,
        ca_file=certificates / "ca.pem",
        cert_file=certificates / "client.pem",
        key_file=certificates / "client.key",
    )
    blocks: list[Block] = []
    listener, stop = listen(settings, blocks), asyncio.Event()
    task = asyncio.create_task(listener.run(stop))
    await until(lambda: listener.status().connection.listening)
    await asyncio.to_thread(publish, settings, "meters/m1/readings", *(reading(number) for number in range(300)))
    await until(lambda: len(blocks) == 300)
    stop.set()
    await asyncio.wait_for(task, WAIT_S)
    await broker.stop()
    assert [block.values[0] for block in blocks] == [number * 1_000_000 for number in range(300)]


async def test_a_broker_with_a_foreign_certificate_is_not_trusted(certificates: Path):
    broker = tls_broker(certificates)
    await broker.start()
    listener, stop = listen(MqttSettings(broker.host, "g", broker.port, tls=True), []), asyncio.Event()
    task = asyncio.create_task(listener.run(stop))
    await until(lambda: listener.status().connection.failures > 0)
    assert "certificate is not trusted" in listener.status().connection.last_error
    assert listener.status().connection.connects == 0
    stop.set()
    await asyncio.wait_for(task, WAIT_S)
    await broker.stop()


async def test_publishes_are_acknowledged_and_a_manual_reader_gets_them_in_order():
    broker = MosquittoBroker()
    await broker.start()
    settings = MqttSettings("127.0.0.1", "reader", broker.port)
    messages: list[tuple[str, bytes]] = []
    acknowledged: list[int] = []
    reader: MqttConnection = MqttConnection(
        settings,
        lambda message: (messages.append((message.topic, message.payload)), reader.ack(message))[0],
        manual_ack=True,
    )
    reader.subscribe(["up"])
    writer = MqttConnection(
        MqttSettings("127.0.0.1", "writer", broker.port), lambda _: None, on_published=acknowledged.append
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.run(stop))
        tasks.create_task(writer.run(stop))
        await until(lambda: reader.status().listening and writer.status().connected)
        sent = [writer.publish("up", bytes([number])) for number in range(50)]
        await until(lambda: len(messages) == 50)
        await until(lambda: sorted(acknowledged) == sorted(sent))
        stop.set()
    assert messages == [("up", bytes([number])) for number in range(50)]
    await broker.stop()
