"""Gateway, head-end and broker killed in mid-stream, again and again: nothing acknowledged is lost, nothing twice."""

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest
from paho.mqtt import client as paho

from headend.ledger_file import LedgerFile
from metergate.commands.registry import take_in
from metering import wire
from metering.ports import ReadingsQuery
from metering.wire import Receipt
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from simulators.broker import MosquittoBroker, find_mosquitto, free_port
from storage.embedded import EmbeddedStore
from storage.log import Log
from tests.faults.site_process import MAIN, until
from tests.faults.uplink_process import BEGIN, METERS

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(300)]
ROUNDS = 9
SEED = 4


class Place:
    """One gateway, one head-end, one broker, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
        self.folder = folder
        self.broker = MosquittoBroker(free_port())
        self.said = folder / "acknowledged"
        self.said.touch()
        self.file = folder / "headend.toml"
        self.data = folder / "headend"
        meters = "".join(
            f'[[meter]]\nid = "m{n}"\ngateway = "gw1"\nprofile = "eastron_sdm120"\npoint = "p{n}"\nregion = "js"\n'
            for n in range(METERS)
        )
        self.file.write_text(
            f'[headend]\ndata = "{self.data}"\n[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\n'
            f'[api]\nlisten = "127.0.0.1:{free_port()}"\n'
        )
        fleet = folder / "fleet.toml"
        fleet.write_text(f'[[gateway]]\nid = "gw1"\n{meters}')
        take_in(self.file, fleet)
        self.gateway: asyncio.subprocess.Process | None = None
        self.headend: asyncio.subprocess.Process | None = None

    def acknowledged(self) -> list[int]:
        return [int(line) for line in self.said.read_text().splitlines(keepends=True) if line.endswith("\n")]

    async def start_gateway(self) -> None:
        lines = self.acknowledged()
        number = lines[-1] + 2 if lines else 0  # one more may be in the log than was said
        with self.said.open("ab") as out, (self.folder / "gateway.err").open("ab") as errors:
            self.gateway = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.faults.uplink_process",
                str(self.folder / "gateway"),
                "gw1",
                str(self.broker.port),
                str(number),
                stdout=out,
                stderr=errors,
            )

    async def start_headend(self) -> None:
        with (self.folder / "headend.err").open("ab") as errors:
            self.headend = await asyncio.create_subprocess_exec(
                sys.executable, "-c", MAIN, "headend", str(self.file), stdout=errors, stderr=errors
            )

    async def end(self, which: str, how: signal.Signals) -> None:
        process = getattr(self, which)
        setattr(self, which, None)
        if process is not None and process.returncode is None:
            process.send_signal(how)
            await asyncio.wait_for(process.wait(), 30)


class Watch:
    """Keeps every receipt that the head-end publishes."""

    def __init__(self, port: int) -> None:
        self.receipts: list[Receipt] = []
        self.connection = MqttConnection(MqttSettings("127.0.0.1", "watch", port), self._came)
        self.connection.subscribe(["m/v1/gw1/receipt"])

    def _came(self, message: paho.MQTTMessage) -> None:
        self.receipts.append(wire.decode(bytes(message.payload), Receipt))


def committed(place: Place, epoch: str) -> int:
    log = Log.open(place.data / "log")
    try:
        return LedgerFile(place.data / "ledger.msgpack", log).load().of("gw1", epoch).contiguous
    finally:
        log.close()


async def test_whoever_is_killed_nothing_acknowledged_is_lost_and_receipts_never_run_ahead(tmp_path: Path):
    chance = random.Random(SEED)
    place = Place(tmp_path)
    await place.broker.start()
    watch, stop = Watch(place.broker.port), asyncio.Event()
    watching = asyncio.create_task(watch.connection.run(stop))
    try:
        await place.start_headend()
        await place.start_gateway()

        async def more() -> bool:
            return len(watch.receipts) > seen

        for number in range(ROUNDS):
            seen = len(watch.receipts)
            await until(more, "a receipt")
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            match number % 3:
                case 0:
                    await place.end("headend", signal.SIGKILL)
                    latest = watch.receipts[-1]
                    assert committed(place, latest.epoch) >= latest.contiguous
                    await place.start_headend()
                case 1:
                    await place.end("gateway", signal.SIGKILL)
                    await place.start_gateway()
                case _:
                    await place.broker.kill()
                    await place.broker.start()
        await place.end("gateway", signal.SIGKILL)
        last_acknowledged = place.acknowledged()
        log = Log.open(tmp_path / "gateway" / "log")
        following = log.next_seq
        log.close()
        await place.start_gateway()

        async def all_there() -> bool:
            return watch.receipts[-1].contiguous >= following

        await until(all_there, "a receipt for all")
        await place.end("gateway", signal.SIGKILL)
        await asyncio.sleep(1)
        await place.end("headend", signal.SIGTERM)
    finally:
        await place.end("gateway", signal.SIGKILL)
        await place.end("headend", signal.SIGKILL)
        stop.set()
        await watching
        await place.broker.stop()
    said = (tmp_path / "headend.err").read_text() + (tmp_path / "gateway.err").read_text()
    assert "Traceback" not in said, said
    assert len({receipt.epoch for receipt in watch.receipts}) == 1
    check_store(place, last_acknowledged)


def check_store(place: Place, acknowledged: list[int]) -> None:
    store = EmbeddedStore(place.data / "readings.db")
    try:
        for meter in range(METERS):
            found: list[float | None] = []
            after = ""
            while True:
                end = BEGIN + 10**13
                query = ReadingsQuery(f"m{meter}", BEGIN, end, versions=True, limit=10_000, after=after)
                page = store.readings(query)
                found += [reading.value for reading in page.readings]
                after = page.cursor
                if not after:
                    break
            assert not set(acknowledged) - set(found)
            assert len(found) == len(set(found))
    finally:
        store.close()
