"""Simulated MQTT meters: real shapes that the profiles read exactly, and faults that are told apart."""

import asyncio
import random
from collections.abc import Callable

import pytest

from collector.drivers.mqtt import Mapping
from collector.mqtt import MqttListener
from collector.mqtt import MqttMeter as Listened
from collector.mqtt_profile import load_mqtt_profile
from metering.errors import FrameError
from metering.model import SECOND, Block
from metering.quality import Quality
from metering.timing import from_rfc3339
from metering.values import to_decimal
from mqtt.client import MqttSettings
from simulators.broker import EmbeddedBroker, running
from simulators.fleet_file import Fleet, MqttKind
from simulators.meter import Meter, MeterSettings
from simulators.mqtt_meters import MqttFault, MqttMeter, MqttMeters, make_meters
from simulators.mqtt_payloads import KINDS

NOW = from_rfc3339("2026-11-23T12:45:00Z")
RESOLUTION = {  # Wh that a device's register leaves out at most
    "shelly_3em": "0.3",
    "shelly_pro_3em": "0.01",
    "tasmota": "1",
    "dsmr_reader": "2",
    "zigbee2mqtt": "10",
    "metergate": "0.1",
}


def make(kind: MqttKind, *faults: MqttFault) -> MqttMeter:
    return MqttMeter("m1", kind, Meter(MeterSettings(seed=5, load="pv", start_wh=1_234_567)), faults=faults)


def mapping(meter: MqttMeter) -> Mapping:
    return Mapping(load_mqtt_profile(meter.profile), meter.id, meter.topic, {"zone": "UTC"})


def read(meter: MqttMeter, now: int = NOW) -> list[Block]:
    reader = mapping(meter)
    chance = random.Random(1)
    return [
        block
        for topic, payload, retain in meter.messages(now, chance)
        if topic in reader.topics
        for block in reader.map(topic, payload, now, retained=retain)
    ]


def imported_wh(blocks: list[Block]) -> float:
    """Return the imported energy in Wh: the total, the sum of the tariffs, or the sum of the phases."""
    found = {
        column.obis: to_decimal(value, column.scale, column.number) * 1000
        for block in blocks
        for column, value in zip(block.layout.columns, block.values, strict=True)
        if value is not None
    }
    for codes in (("1.8.0",), ("1.8.1", "1.8.2"), ("21.8.0", "41.8.0", "61.8.0")):
        if all(f"1-0:{code}*255" in found for code in codes):
            return float(sum(found[f"1-0:{code}*255"] for code in codes))
    raise AssertionError(found)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_publishes_is_read_by_its_profile_and_is_what_the_meter_shows(kind: MqttKind):
    meter = make(kind)
    blocks = read(meter)
    true_wh = meter.meter.values(NOW)["1-0:1.8.0*255"] / 1_000_000
    assert 0 <= true_wh - imported_wh(blocks) < float(RESOLUTION[kind])
    assert all(not any(quality & ~Quality.NOT_AVAILABLE for quality in block.quality) for block in blocks)
    assert all(abs(block.measured_at - NOW) <= SECOND for block in blocks)


@pytest.mark.parametrize("kind", KINDS)
def test_a_malformed_payload_is_refused(kind: MqttKind):
    with pytest.raises(FrameError):
        read(make(kind, MqttFault("malformed")))


@pytest.mark.parametrize("kind", ["shelly_3em", "tasmota", "metergate"])
def test_a_payload_without_its_first_field_is_refused(kind: MqttKind):
    with pytest.raises(FrameError, match=r"missing|not a number"):
        read(make(kind, MqttFault("missing_field")))


def test_yesterdays_retained_numbers_without_a_time_give_nothing():
    assert read(make("shelly_3em", MqttFault("stale_retained"))) == []


def test_yesterdays_retained_message_with_a_time_keeps_its_time():
    assert {block.measured_at for block in read(make("tasmota", MqttFault("stale_retained")))} == {NOW - 86400 * SECOND}


def test_a_clock_that_runs_away_is_flagged():
    meter = make("shelly_pro_3em")
    meter.meter.set_clock(offset_s=400.0, drift_ppm=0.0)
    assert all(all(quality & Quality.CLOCK_SUSPECT for quality in block.quality) for block in read(meter))


def test_a_duplicate_gives_the_same_reading_twice():
    blocks = read(make("metergate", MqttFault("duplicate")))
    assert blocks[: len(blocks) // 2] == blocks[len(blocks) // 2 :]


def test_the_energies_of_a_pro_3em_come_once_a_minute():
    meter = make("shelly_pro_3em")
    chance = random.Random(1)
    counts = [len(meter.messages(NOW + second * SECOND, chance)) for second in (0, 10, 50, 60, 70)]
    assert counts == [2, 1, 1, 2, 1]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for happens in the client's thread
            await asyncio.sleep(0.01)


async def test_a_site_of_all_kinds_is_heard_through_a_broker_and_says_when_it_leaves():
    tables = [{"id": f"m{index}", "kind": kind} for index, kind in enumerate(KINDS)]
    meters = make_meters(Fleet.model_validate({"mqtt": tables}), period_s=0.2)
    blocks: list[Block] = []
    bad: list[str] = []
    listened = [
        Listened(m.id, load_mqtt_profile(m.profile), m.topic, {"zone": m.zone}, serial=m.meter.serial) for m in meters
    ]
    async with running(EmbeddedBroker()) as broker, asyncio.TaskGroup() as tasks:
        listener = MqttListener(
            MqttSettings(broker.host, "gateway", broker.port),
            listened,
            blocks.append,
            lambda _topic, _payload, reason: bad.append(reason),
        )
        heard, left = asyncio.Event(), asyncio.Event()
        tasks.create_task(listener.run(heard))
        await until(lambda: listener.status().connection.listening)
        tasks.create_task(MqttMeters(broker.host, broker.port, meters).run(left))
        await until(lambda: {block.device for block in blocks} == {meter.id for meter in meters})
        with_state = {meter.id for meter in meters if meter.state(online=True)}
        await until(lambda: {m.meter for m in listener.status().meters if m.online} == with_state)
        left.set()
        await until(lambda: {m.meter for m in listener.status().meters if m.online is False} == with_state)
        heard.set()
    assert bad == []
