"""`metergate gateway` and `metergate headend` as processes: what a meter shows comes out of the head-end's API."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from headend.audit.chain import Entry, Trail
from headend.state.store import State
from headend.tokens import TokenBook
from metergate.commands import audit
from metergate.commands.registry import take_in
from metergate.world import World
from simulators.broker import MosquittoBroker, find_mosquitto, free_port
from tests.faults.site_process import MAIN, until
from trust.keys import SigningKey

pytestmark = [pytest.mark.fault, pytest.mark.real]
FLEET = {"seed": 7, "tcp": [{"id": "north", "meter": [{"id": "n1", "unit": 1, "profile": "eastron_sdm120"}]}]}


async def start(folder: Path, command: str, text: str) -> asyncio.subprocess.Process:
    file = folder / f"{command}.toml"
    file.write_text(text)
    with (folder / f"{command}.err").open("ab") as said:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, command, str(file), stdout=said, stderr=said
        )


async def test_a_meters_readings_and_the_audits_heads_come_back_to_the_headend(
    open_world: Callable[[dict[str, Any]], Awaitable[World]], tmp_path: Path
):
    assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
    world = await open_world(FLEET)
    at = world.places().tcp["north"]
    broker = MosquittoBroker()
    await broker.start()
    url = f"127.0.0.1:{free_port()}"
    (tmp_path / "centre").mkdir()
    book = TokenBook(tmp_path / "centre" / "state.db")
    headers = {"Authorization": f"Bearer {book.create('test', ['readings:read'], [''], None)}"}
    book.close()
    meter = '[[meter]]\nid = "n1"\nprofile = "eastron_sdm120"\npoint = "MP-1"\nregion = "js"\n'
    SigningKey.generate().save(tmp_path / "audit.pem")
    place = f'host = "127.0.0.1"\nport = {broker.port}\n'
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(f'[[gateway]]\nid = "gw1"\n{meter}gateway = "gw1"\n')
    headend = await start(
        tmp_path,
        "headend",
        f'[headend]\ndata = "{tmp_path / "centre"}"\n[broker]\n{place}[api]\nlisten = "{url}"\n'
        f'[audit]\nkey = "file:{tmp_path / "audit.pem"}"\n',
    )
    gateway = await start(
        tmp_path,
        "gateway",
        f'[gateway]\nid = "gw1"\ndata = "{tmp_path / "edge"}"\njitter = "100ms"\n'
        f'[gateway.log]\ncommit_every = "200ms"\n'
        f'[schedule]\nregisters = "1s"\ninstantaneous = "1s"\n[uplink]\n{place}'
        f'[[bus]]\nid = "north"\nkind = "tcp"\nhost = "{at.host}"\nport = {at.port}\n{meter}bus = "north"\nunit = 1\n',
    )
    state = State.open(tmp_path / "centre" / "state.db")
    Trail(state).write(Entry(1, "token:ab", "command-requested", "c1", "js", {}))
    state.close()
    take_in(tmp_path / "headend.toml", fleet)  # while it runs: it is seen within seconds
    try:
        async with httpx.AsyncClient(base_url=f"http://{url}", headers=headers, trust_env=False) as client:

            async def readings() -> Any:  # noqa: ANN401 - the API's own answer
                try:
                    answer = await client.get("/v1/readings/latest", params={"device": "n1"})
                except httpx.TransportError:
                    return None
                return answer.json().get("readings")

            assert await until(readings, "readings at the head-end")

            async def anchored() -> bool:
                return bool(audit.heads_of(tmp_path / "centre") and audit.heads_of(tmp_path / "edge"))

            await until(anchored, "the audit's head from the gateway's log at the head-end")
    finally:
        codes = []
        for process in (gateway, headend):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            codes.append(await asyncio.wait_for(process.wait(), 30))
        await broker.stop()
    assert codes == [0, 0]
    assert audit.run_verify(tmp_path / "headend.toml", None, [], from_log=True) == 0
    state = State.open(tmp_path / "centre" / "state.db")
    state.write(lambda connection: connection.exec_driver_sql("DROP TRIGGER audit_no_delete"))
    state.write(lambda connection: connection.exec_driver_sql("DELETE FROM audit"))
    state.close()
    (tmp_path / "centre" / "audit-heads.jsonl").unlink()
    assert audit.run_verify(tmp_path / "headend.toml", None, [], from_log=True) == 1
    assert not (tmp_path / "edge" / "readings.db").exists()
