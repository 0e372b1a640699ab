"""Uplink and intake over a real Mosquitto: a log that was put back, a backlog beside the present, a control."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest

from headend.inbox.mqtt import MqttInbox
from headend.intake import Intake
from headend.strikes import STRIKES
from metering import wire
from metering.model import SECOND
from metering.wire import Control
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from simulators.broker import MosquittoBroker
from storage.log import Log
from tests.faults.site_process import until
from tests.real.centre import append, delivered, held, receiving, sending

pytestmark = pytest.mark.real


@pytest.fixture
async def centre(broker: MosquittoBroker, tmp_path: Path) -> AsyncIterator[Intake]:
    async with receiving(tmp_path, MqttSettings("127.0.0.1", "centre", broker.port, max_packet_bytes=80 << 20)) as made:
        yield made


def at(broker: MosquittoBroker) -> MqttSettings:
    return MqttSettings("127.0.0.1", "g1", broker.port)


async def test_a_log_that_was_put_back_takes_a_new_epoch_and_what_it_then_reads_is_not_lost(
    broker: MosquittoBroker, centre: Intake, tmp_path: Path
):
    folder = tmp_path / "gateway"
    async with sending(folder, at(broker)) as (log, uplink):
        await append(log, 1, 2, 3)
        await delivered(log, uplink)
    shutil.copytree(folder, tmp_path / "image")
    async with sending(folder, at(broker)) as (log, uplink):
        await append(log, 4, 5)
        await delivered(log, uplink)
        first = uplink.status().epoch
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "image", folder)
    log = Log.open(folder / "log")
    await append(log, 104, 105, 106)  # more than the head-end knows: the numbers alone would not tell
    log.close()
    async with sending(folder, at(broker)) as (log, uplink):
        await delivered(log, uplink)
        assert uplink.status().put_back == 1
        assert uplink.status().epoch != first
    assert {1, 2, 3, 4, 5, 104, 105, 106} == set(held(centre))


@pytest.mark.parametrize(
    ("retained", "made_s", "goes_back"),
    [(True, 60, False), (False, 60, False), (False, 3600, True), (False, -1, True)],
    ids=["retained by a node that was dead", "late", "by a clock that was put back", "said now"],
)
async def test_an_old_receipt_that_a_broker_brings_late_moves_nothing_back(
    *, retained: bool, made_s: int, goes_back: bool, broker: MosquittoBroker, centre: Intake, tmp_path: Path
):
    async with sending(tmp_path / "gateway", at(broker)) as (log, uplink):
        await append(log, 1)
        await delivered(log, uplink)
        old = centre.receipt("g1")
        await append(log, 2, 3)
        await delivered(log, uplink)
        old = msgspec.structs.replace(old, at=centre.receipt("g1").at - made_s * SECOND)
        message = paho.MQTTMessage(topic=wire.topic("g1", "receipt").encode())
        message.payload, message.retain = wire.encode(old), retained
        sent = uplink.status().sent_again
        uplink._message(message)

        async def taken() -> bool:
            return not uplink._receipts

        await until(taken, "the receipt is taken up")
        await append(log, 4)
        await delivered(log, uplink)
        assert (uplink.status().sent_again > sent) == goes_back
    assert held(centre) == [1, 2, 3, 4]


async def test_a_backlog_does_not_delay_what_is_read_now(broker: MosquittoBroker, centre: Intake, tmp_path: Path):
    folder = tmp_path / "gateway"
    log = Log.open(folder / "log")
    await append(log, *range(20_000))
    log.close()
    async with sending(folder, at(broker)) as (log, uplink):

        async def begun() -> bool:
            return uplink.status().sent > 0

        await until(begun, "the backlog")
        await append(log, 1_000_000)
        await delivered(log, uplink)
    found = held(centre)
    assert len(found) == 20_001
    assert found.index(1_000_000) < 10_000


async def test_a_control_has_seqs_sent_again_once(broker: MosquittoBroker, centre: Intake, tmp_path: Path):
    async with sending(tmp_path / "gateway", at(broker)) as (log, uplink):
        await append(log, *range(10))
        await delivered(log, uplink)
        before = centre.counts.duplicates
        ask = wire.encode(Control("c1", "replay", log.epoch, 3, 5))
        for _ in range(2):
            await centre._inbox.publish(wire.topic("g1", "control"), ask, retain=False)

        async def again() -> bool:
            return centre.counts.duplicates >= before + 3

        await until(again, "the seqs once more")
        await append(log, 10)
        await delivered(log, uplink)
    assert centre.counts.duplicates == before + 3
    assert len(held(centre)) == 11


async def test_a_message_of_64_mb_is_put_aside_and_cuts_nobody_off(
    broker: MosquittoBroker, centre: Intake, tmp_path: Path
):
    hostile = MqttConnection(MqttSettings("127.0.0.1", "hostile", broker.port), lambda _: None)
    stop = asyncio.Event()
    task = asyncio.create_task(hostile.run(stop))
    async with sending(tmp_path / "gateway", at(broker)) as (log, uplink):
        await append(log, 1)
        await delivered(log, uplink)
        for _ in range(STRIKES):
            hostile.publish("m/v1/g1/up", bytes(64 << 20))

        async def put_aside() -> bool:
            return centre.counts.quarantined == 1

        await until(put_aside, "the quarantine")
        await append(log, 2)
        await delivered(log, uplink)
    stop.set()
    await task
    inbox = centre._inbox
    assert isinstance(inbox, MqttInbox)
    assert inbox.status().connects == 1
