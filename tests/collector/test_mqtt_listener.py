"""The listener on a real (embedded) broker: routing, bad messages, floods, a broker that goes and comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from collector.mqtt import BURST_MESSAGES, MqttListener, MqttMeter
from collector.mqtt_profile import load_mqtt_profile
from metering.errors import ConfigError, LinkDownError
from metering.model import Block
from mqtt.client import FIRST_RETRY_S, LONGEST_RETRY_S, MqttSettings, retry_delay
from simulators.broker import Broker, EmbeddedBroker, MosquittoBroker, free_port, running

WAIT_S = 20


class Site:
    """A listener with all that it hands on."""

    def __init__(self, port: int, meters: list[MqttMeter]) -> None:
        self.blocks: list[Block] = []
        self.bad: list[tuple[str, bytes, str]] = []
        self.states: list[tuple[str, bool]] = []
        self.listener = MqttListener(
            MqttSettings("127.0.0.1", "gateway1", port),
            meters,
            self.blocks.append,
            lambda *bad: self.bad.append(bad),
            on_state=lambda meter, online, _at: self.states.append((meter, online)),
        )
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.listener.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        assert self._task is not None
        await asyncio.wait_for(self._task, WAIT_S)


def meters() -> list[MqttMeter]:
    em = load_mqtt_profile("mqtt_shelly_em")
    return [
        MqttMeter("own", load_mqtt_profile("mqtt_metergate"), "site/own"),
        MqttMeter("clamp0", em, "shellies/em", {"emeter": "0"}),
        MqttMeter("clamp1", em, "shellies/em", {"emeter": "1"}),
    ]


def publish(port: int, *messages: tuple[str, bytes], retain: bool = False) -> None:
    client = Client(CallbackAPIVersion.VERSION2, client_id="device")
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for topic, payload in messages:
        info = client.publish(topic, payload, qos=1, retain=retain)
    info.wait_for_publish(WAIT_S)
    client.disconnect()
    client.loop_stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread or process
            await asyncio.sleep(0.01)


@pytest.fixture(params=[EmbeddedBroker, MosquittoBroker])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    async with running(request.param()) as started:
        yield started


READING = b'{"time":"2026-11-23T12:45:00Z","readings":{"1-0:1.8.0*255":{"value":"1542.770","unit":"kWh"}}}'


async def test_each_message_goes_to_its_meter_and_a_bad_one_is_told_with_its_reason(broker: Broker):
    async with Site(broker.port, meters()) as site:
        await until(lambda: site.listener.status().connection.listening)
        await asyncio.to_thread(
            publish,
            broker.port,
            ("shellies/em/emeter/0/power", b"812.3"),
            ("shellies/em/emeter/1/power", b"-3"),
            ("site/own/readings", b"{"),
            ("site/own/status", b"online"),
            ("shellies/em/online", b"false"),
            ("site/own/readings", READING),
        )
        await until(lambda: len(site.blocks) == 3)
        assert {(block.device, *block.values) for block in site.blocks} == {
            ("clamp0", 8_123_000),
            ("clamp1", -30_000),
            ("own", 1_542_770_000),
        }
        assert [(topic, payload) for topic, payload, _ in site.bad] == [("site/own/readings", b"{")]
        assert "not JSON" in site.bad[0][2]
        assert set(site.states) == {("own", True), ("clamp0", False), ("clamp1", False)}
        status = {meter.meter: meter for meter in site.listener.status().meters}
        assert status["own"].topics["site/own/readings"] == (1, 1, 0, 0, 0)
        assert status["own"].online is True
        assert status["own"].received_at > 0
        assert "not JSON" in status["own"].last_error


async def test_what_the_broker_retained_is_not_taken_as_new_unless_it_has_its_own_time(broker: Broker):
    retained = (("shellies/em/emeter/0/total", b"120450.3"), ("site/own/readings", READING))
    await asyncio.to_thread(publish, broker.port, *retained, retain=True)
    async with Site(broker.port, meters()) as site:
        await until(lambda: len(site.blocks) == 1)
        await until(lambda: site.listener.status().meters[1].topics["shellies/em/emeter/0/total"].stale == 1)
        assert [block.device for block in site.blocks] == ["own"]


async def test_a_flood_from_one_meter_is_cut_and_counted_and_the_others_are_heard(broker: Broker):
    flood = int(BURST_MESSAGES) + 2000  # the allowance fills up again while they come
    async with Site(broker.port, meters()) as site:
        await until(lambda: site.listener.status().connection.listening)
        messages = [("shellies/em/emeter/0/power", b"1")] * flood + [("site/own/readings", READING)]
        await asyncio.to_thread(publish, broker.port, *messages)
        await until(lambda: any(block.device == "own" for block in site.blocks))
        ok, *_, overflow = site.listener.status().meters[1].topics["shellies/em/emeter/0/power"]
        assert ok + overflow == flood
        assert overflow > 0
        assert len(site.blocks) == ok + 1


async def test_the_listener_waits_for_a_broker_and_comes_back_after_each_crash():
    port = free_port()
    async with Site(port, meters()) as site:
        await until(lambda: site.listener.status().connection.failures > 0)
        assert f"no connection to 127.0.0.1:{port}" in site.listener.status().connection.last_error
        for crash in range(2):
            broker = MosquittoBroker(port)
            await broker.start()
            await until(lambda: site.listener.status().connection.listening)
            assert site.listener.status().connection.connects == crash + 1
            await asyncio.to_thread(publish, port, ("shellies/em/emeter/0/power", str(crash).encode()))
            await until(lambda expected=crash + 1: len(site.blocks) == expected)
            await broker.kill()
            await until(lambda: not site.listener.status().connection.connected)


async def test_a_packet_beyond_the_bound_cuts_the_connection_and_not_the_memory(broker: Broker):
    async with Site(broker.port, meters()) as site:
        await until(lambda: site.listener.status().connection.listening)
        await asyncio.to_thread(publish, broker.port, ("site/own/readings", bytes(2 << 20)))
        await until(lambda: site.listener.status().connection.failures > 0)
        await until(lambda: site.listener.status().connection[1:3] == (True, 2))
        await asyncio.to_thread(publish, broker.port, ("site/own/readings", READING))
        await until(lambda: len(site.blocks) == 1)
        assert site.bad == []


async def test_an_error_in_a_callback_comes_out_of_run(broker: Broker):
    def wrong(_block: Block) -> None:
        raise ZeroDivisionError

    listener = MqttListener(MqttSettings("127.0.0.1", "gateway1", broker.port), meters(), wrong, lambda *_: None)
    running_listener = asyncio.create_task(listener.run(asyncio.Event()))
    await until(lambda: listener.status().connection.listening)
    await asyncio.to_thread(publish, broker.port, ("site/own/readings", READING))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running_listener, WAIT_S)


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a broker that lets one in and refuses every subscription (MQTT 3.1.1, 3.2 and 3.9)."""
    while packet := await reader.read(4096):
        if packet[0] == 0x10:
            writer.write(bytes([0x20, 2, 0, 0]))
        elif packet[0] == 0x82:
            writer.write(bytes([0x90, 2 + TOPICS, *packet[2:4], *[0x80] * TOPICS]))
    writer.close()


TOPICS = 2  # of one meter with our own JSON


async def test_a_refused_subscription_is_told():
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server, Site(server.sockets[0].getsockname()[1], meters()[:1]) as site:
        await until(lambda: bool(site.listener.status().connection.refused))
        connection = site.listener.status().connection
        assert connection.refused == ("site/own/readings", "site/own/status")
        assert "refused 2 subscriptions" in connection.last_error


async def test_nothing_is_published_without_a_connection():
    listener = MqttListener(MqttSettings("127.0.0.1", "gateway1"), meters(), lambda _: None, lambda *_: None)
    with pytest.raises(LinkDownError, match="not connected"):
        listener._connection.publish("a", b"")


@pytest.mark.parametrize(
    ("meter", "reason"),
    [
        (MqttMeter("m", load_mqtt_profile("mqtt_tasmota"), "plug"), "needs the parameter 'zone'"),
        (MqttMeter("m", load_mqtt_profile("mqtt_tasmota"), "plug", {"zone": "Mars/North"}), "no IANA time zone"),
        (MqttMeter("m", load_mqtt_profile("mqtt_metergate"), "plug", {"grup": "x"}), "no parameter 'grup'"),
        (MqttMeter("m", load_mqtt_profile("mqtt_metergate"), "plug/#"), "no topic to publish on"),
    ],
)
def test_a_wrong_meter_is_told_before_anything_starts(meter: MqttMeter, reason: str):
    with pytest.raises(ConfigError, match=reason):
        MqttListener(MqttSettings("127.0.0.1", "gateway1"), [meter], lambda _: None, lambda *_: None)


def test_the_password_is_never_shown():
    settings = MqttSettings("127.0.0.1", "gateway1", username="reader", password="planted-secret")
    assert "planted-secret" not in repr(settings)
    assert "planted-secret" not in str(settings)


def test_a_certificate_file_that_is_none_is_told(tmp_path: Path):
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        MqttListener(MqttSettings("127.0.0.1", "g", ca_file=wrong), [], lambda _: None, lambda *_: None)


def test_retries_are_spread_doubled_and_bounded():
    assert all(FIRST_RETRY_S / 2 <= retry_delay(1) <= FIRST_RETRY_S for _ in range(50))
    assert all(LONGEST_RETRY_S / 2 <= retry_delay(1000) <= LONGEST_RETRY_S for _ in range(50))
    assert len({retry_delay(3) for _ in range(50)}) > 40
