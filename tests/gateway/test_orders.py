"""A head-end's orders at a gateway, where more come at once than can be judged."""

import asyncio
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.settings import GatewayFile
from metering.supply import CommandMessage
from storage.log import Log
from storage.quarantine import Quarantine


async def test_a_flood_of_commands_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.orders.MAX_TAKING", 10)
    log = Log.open(tmp_path / "log")
    file = GatewayFile.model_validate({"gateway": {"id": "g", "data": str(tmp_path)}})
    gateway = Gateway(file, log, Quarantine(tmp_path / "quarantine"))
    for number in range(25):
        gateway.orders.command(CommandMessage(f"c{number}", b"{}", b"{}"))
    assert gateway.orders.let_go == 15
    while gateway.orders._taking:  # noqa: ASYNC110 - judged in threads
        await asyncio.sleep(0.01)
    gateway.orders.command(CommandMessage("later", b"{}", b"{}"))
    while gateway.orders._taking:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)
    assert (gateway.orders.let_go, gateway.supply.door.refused) == (15, 11)
    await gateway.end()
    log.close()
