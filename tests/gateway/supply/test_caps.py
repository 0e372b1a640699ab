"""The caps of a trust document where several meters are asked at the same time."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from metering.supply import Action
from metering.supply_states import State
from tests.gateway.supply.edge import DEVICES, Desk, Edge, street
from trust.document import Caps


async def test_commands_at_once_do_not_pass_a_cap_together_while_the_disk_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with street() as place, Edge(tmp_path, place, Desk(place, caps=Caps(1, 1000, 1000))) as edge:
        record = edge.service.account.record
        put = record.put

        def slowly(*items: Any) -> None:  # noqa: ANN401 - as `Record.put`
            time.sleep(0.5)
            put(*items)

        commands = [edge.desk.command(device, Action.DISCONNECT) for device in DEVICES]
        for command in commands:
            await edge.service.take(edge.desk.message(command, go=False))
        monkeypatch.setattr(record, "put", slowly)
        for command in commands:
            message = edge.desk.message(command)
            assert message.go is not None
            edge.service.go(message.go)
        ends = await asyncio.gather(*(edge.ended(command.id) for command in commands))
        assert sorted(end.state for end in ends) == [State.REFUSED_BY_GUARD, State.REFUSED_BY_GUARD, State.VERIFIED]
        assert sorted(map(place.on, DEVICES)) == [False, True, True]
