"""The same gateway started twice, as processes over a real broker: the second is refused and told, the first goes on.

What was acknowledged by `append` at the first is committed at the head-end, nothing of the second is.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.uplink import Uplink
from headend import births
from headend.intake import Intake
from mqtt.client import MqttSettings
from simulators.broker import MosquittoBroker
from storage.codec import unpack
from storage.log import Log, Record
from tests.faults.site_process import until
from tests.faults.test_gateway_and_headend import start
from tests.real.centre import append, held, receiving

pytestmark = [pytest.mark.fault, pytest.mark.real]


@pytest.fixture
async def centre(broker: MosquittoBroker, tmp_path: Path) -> AsyncIterator[Intake]:
    async with receiving(tmp_path, MqttSettings("127.0.0.1", "centre", broker.port)) as made:
        yield made


class Run:
    """One run of a gateway."""

    def __init__(self, folder: Path, port: int) -> None:
        self.log = Log.open(folder / "log")
        self.uplink = Uplink(self.log, folder / "uplink.json", "g1", MqttSettings("127.0.0.1", "g1", port))
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self.uplink.run(self._stop))

    async def append(self, number: int) -> None:
        await append(self.log, number)

    async def told(self) -> bool:
        return self.uplink.status().contiguous == self.log.next_seq - 1

    async def end(self) -> None:
        self._stop.set()
        await self._task
        self.log.close()


def alerts(intake: Intake) -> list[str]:
    found = intake._log.read(1, 100_000, 1 << 30)
    return [event.name for item in found if isinstance(item, Record) for event in unpack(item.payload).events]


async def test_a_copied_gateway_is_told_to_leave_and_what_the_first_reads_is_stored(
    broker: MosquittoBroker, centre: Intake, tmp_path: Path
):
    first = Run(tmp_path / "first", broker.port)
    await first.append(1)
    await until(first.told, "the first receipt")
    await asyncio.to_thread(shutil.copytree, tmp_path / "first", tmp_path / "second")
    second = Run(tmp_path / "second", broker.port)
    await second.append(666)

    async def refused() -> bool:
        return second.uplink.told_to_leave.is_set()

    await until(refused, "the refusal")
    await first.append(2)
    await until(first.told, "the receipt of the first")
    await second.end()
    await first.end()
    assert held(centre) == [1, 2]
    assert "second-gateway-refused" in alerts(centre)
    assert centre.gateways["g1"].refused


async def test_a_run_that_does_not_answer_is_succeeded_though_the_broker_takes_it_for_connected(
    broker: MosquittoBroker, centre: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(births, "CALL_S", 0.5)
    first = Run(tmp_path / "first", broker.port)
    await first.append(1)
    await until(first.told, "the first receipt")
    before = centre.receipt("g1")
    first.uplink._connection._on_message = lambda _message: None  # its machine hangs
    await asyncio.to_thread(shutil.copytree, tmp_path / "first", tmp_path / "second")
    second = Run(tmp_path / "second", broker.port)
    await second.append(2)
    await until(second.told, "the receipt of the second")
    after = centre.receipt("g1")
    assert before is not None
    assert after is not None
    assert before.boot != after.boot
    assert held(centre) == [1, 2]
    await first.end()
    await second.end()


async def test_a_gateway_that_stops_in_order_says_so_and_its_next_run_is_at_work_at_once(
    broker: MosquittoBroker, centre: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(births, "CALL_S", 1000.0)  # nobody waits for an answer here
    first = Run(tmp_path / "gateway", broker.port)
    await first.append(1)
    await until(first.told, "the first receipt")
    await first.append(2)
    await first.end()

    async def gone() -> bool:
        status = centre.gateways["g1"].status
        return status is not None and not status.online

    await until(gone, "the word that it is gone")
    second = Run(tmp_path / "gateway", broker.port)
    await second.append(3)
    await until(second.told, "the receipt of its next run")
    status = centre.gateways["g1"].status
    assert status is not None
    assert (status.online, status.boot) == (True, second.uplink.boot)
    assert held(centre) == [1, 2, 3]
    await second.end()


async def test_a_status_tells_how_far_the_clock_is_off(broker: MosquittoBroker, centre: Intake, tmp_path: Path):
    run = Run(tmp_path / "gateway", broker.port)

    async def measured() -> bool:
        known = centre.gateways.get("g1")
        return known is not None and known.status is not None and known.status.clock_offset_ms is not None

    await until(measured, "a status with the clock's offset")
    status = centre.gateways["g1"].status
    assert status is not None
    assert abs(status.clock_offset_ms or 0) < 5000
    await run.end()


async def test_a_second_process_ends_with_an_error_that_says_why(
    broker: MosquittoBroker, centre: Intake, tmp_path: Path
):
    def file(name: str) -> str:
        place = f'host = "127.0.0.1"\nport = {broker.port}\n'
        return f'[gateway]\nid = "g1"\ndata = "{tmp_path / name}"\n[uplink]\n{place}'

    for name in ("one", "two"):
        (tmp_path / f"of-{name}").mkdir()
    first = await start(tmp_path / "of-one", "gateway", file("one"))

    async def at_work() -> bool:
        known = centre.gateways.get("g1")
        return known is not None and known.status is not None

    await until(at_work, "the first")
    second = await start(tmp_path / "of-two", "gateway", file("two"))
    code = await asyncio.wait_for(second.wait(), 60)
    first.send_signal(signal.SIGTERM)
    assert (code, await asyncio.wait_for(first.wait(), 60)) == (2, 0)
    said = (tmp_path / "of-two" / "gateway.err").read_text()
    assert "another one with the id 'g1' is at work" in said


async def test_on_one_machine_the_log_refuses_the_second(broker: MosquittoBroker, tmp_path: Path):
    text = f'[gateway]\nid = "g1"\ndata = "{tmp_path / "data"}"\n[uplink]\nhost = "127.0.0.1"\nport = {broker.port}\n'
    (tmp_path / "again").mkdir()
    first = await start(tmp_path, "gateway", text)

    async def runs() -> bool:
        return (tmp_path / "data" / "log").exists()

    await until(runs, "the first")
    second = await start(tmp_path / "again", "gateway", text)
    assert await asyncio.wait_for(second.wait(), 60) == 1
    first.send_signal(signal.SIGTERM)
    await asyncio.wait_for(first.wait(), 60)
    assert "data/log is in use by process" in (tmp_path / "again" / "gateway.err").read_text()
