"""An uplink ends when it is told to, whatever else happens at that moment."""

import asyncio
from pathlib import Path

from gateway.uplink import Uplink
from mqtt.client import MqttSettings
from simulators.broker import free_port
from storage.log import Log


async def test_it_ends_when_something_wakes_it_at_the_moment_of_its_end(tmp_path: Path):
    # In Python 3.11 `asyncio.wait_for` swallows a cancellation that comes in the step in which its wait is over.
    log = Log.open(tmp_path / "log")
    uplink = Uplink(log, tmp_path / "epoch.json", "g1", MqttSettings("127.0.0.1", "g1", free_port()))
    stop = asyncio.Event()
    task = asyncio.create_task(uplink.run(stop))
    await asyncio.sleep(0.1)
    uplink._wake.set()
    stop.set()
    done, _ = await asyncio.wait({task}, timeout=20)
    task.cancel()
    assert done
    log.close()
