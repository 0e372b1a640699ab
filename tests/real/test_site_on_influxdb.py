"""A whole site in one process, its readings in a real InfluxDB, read back over the API."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.influxdb_server import InfluxServer
from headend.tokens import TokenBook
from metergate.world import World
from simulators.broker import free_port
from simulators.fleet_file import load_fleet

pytestmark = pytest.mark.real

FLEET = """
seed = 7
[[tcp]]
id = "a"
[[tcp.meter]]
id = "m1"
unit = 1
profile = "abb_b23_b24"
[[tcp.meter]]
id = "m2"
unit = 2
profile = "eastron_sdm120"
"""

SITE = """
[gateway]
id = "g"
data = "{data}"
[schedule]
registers = "1s"
instantaneous = "off"
[store]
kind = "influxdb"
url = "{url}"
bucket = "{database}/autogen"
token = "env:INFLUX_TOKEN"
[api]
listen = "127.0.0.1:{api}"
[[bus]]
id = "a"
kind = "tcp"
host = "{host}"
port = {port}
[[meter]]
id = "m1"
bus = "a"
unit = 1
profile = "abb_b23_b24"
point = "p1"
region = "js"
[[meter]]
id = "m2"
bus = "a"
unit = 2
profile = "eastron_sdm120"
point = "p2"
region = "js"
"""


async def held(client: httpx.AsyncClient, point: str, least: int) -> dict[str, Any]:
    """Ask until the API holds at least so many registers of a point; the answer then."""
    async with asyncio.timeout(60):
        while True:
            try:
                params = {"kind": "register", "obis": "1-0:1.8.0*255", "limit": "1000"}
                answer = (await client.get(f"/v1/meter-points/{point}/readings", params=params)).json()
            except httpx.TransportError:
                answer = {"readings": []}
            if len(answer.get("readings", [])) >= least:
                return answer
            await asyncio.sleep(0.2)


async def test_a_site_reads_into_influxdb_and_answers_billing_from_it(own_server: InfluxServer, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET)
    database = own_server.fresh_database()
    api = free_port()
    data = tmp_path / "data"
    data.mkdir()
    token = TokenBook(data / "state.db").create("billing", ["readings:read"], [""])
    async with World(load_fleet(tmp_path / "fleet.toml"), tmp_path) as world:
        place = world.places().tcp["a"]
        values = {"data": data, "url": own_server.url, "database": database, "api": api}
        (tmp_path / "site.toml").write_text(SITE.format(**values, host=place.host, port=place.port))
        environment = {**os.environ, "INFLUX_TOKEN": own_server.token}
        command = [sys.executable, "-m", "metergate", "site", str(tmp_path / "site.toml")]
        site = await asyncio.to_thread(subprocess.Popen, command, env=environment)
        try:
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api}", headers=headers) as client:
                before = await held(client, "p1", 3)
                own_server.kill()  # the store dies in mid-stream; the log goes on
                await asyncio.sleep(2)
                own_server.start_influxd()
                answer = await held(client, "p1", len(before["readings"]) + 5)
        finally:
            site.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(site.wait, 30) == 0
    slots = [reading["slot"] for reading in answer["readings"]]
    assert slots == sorted(set(slots)), "nothing twice"
    assert answer["completeness"]["missing"] == 0, "nothing missing over the store's death"
    assert all("." in reading["value"] for reading in answer["readings"]), "the register's digits"
