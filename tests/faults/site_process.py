"""A real `metergate site` in a child process over simulated meters: its file, its life and what its API says."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from headend.tokens import TokenBook
from metergate.world import Places
from metering import timing
from simulators.broker import free_port

WAIT_S = 60.0  # a busy machine takes its time; nothing is asserted about how long
LOOK_S = 0.05
ENERGY = "1-0:1.8.0*255"
MAIN = "from metergate.cli import main; main()"


async def until(true: Callable[[], Awaitable[Any]], why: str) -> Any:  # noqa: ANN401 - whatever the question answers
    """Ask again and again until the answer is true, and return it."""
    found = None
    try:
        async with asyncio.timeout(WAIT_S):
            while not (found := await true()):  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(f"never came: {why}; last answer {found!r}") from None
    return found


def meters_of(places: Places, only: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
    """Return the meters as a site file names them; `only` chooses points by profile."""
    found = []
    for number, meter in enumerate(places.meters, 1):
        table: dict[str, Any] = {"id": meter.id, "profile": meter.profile, "point": f"MP-{number}", "region": "js/nj"}
        if meter.topic:
            table["topic"] = meter.topic
        else:
            table |= {"bus": meter.bus, "unit": meter.unit, "serial": meter.serial}
            table["only"] = list((only or {}).get(meter.profile, ()))
        found.append(table)
    return found


def buses_of(places: Places, baud: int = 9600) -> list[dict[str, Any]]:
    """Return the buses as a site file names them; all serial lines have one speed."""
    tcp = [{"id": name, "kind": "tcp", "host": at.host, "port": at.port} for name, at in places.tcp.items()]
    rtu = [
        {"id": name, "kind": "rtu", "port": path, "baud": baud, "format": "8E1", "open_as": "8N1"}
        for name, path in places.rtu.items()
    ]
    return tcp + rtu


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(_inline, value)) + "]" if isinstance(value, list) else json.dumps(value)


class Site:
    """One site file and the process that runs it: may be started, killed and started again on the same data."""

    def __init__(self, folder: Path, data: Path, tables: Mapping[str, Any], *, log: Mapping[str, str]) -> None:
        self.data = data
        self.file = folder / "site.toml"
        self.said = folder / "stderr.txt"
        self.url = f"http://127.0.0.1:{free_port()}"
        gateway = {"id": "gw-1", "data": str(data), "jitter": "100ms", "log": dict(log)}
        whole = {"gateway": gateway, "api": {"listen": self.url.removeprefix("http://")}, **tables}
        self.file.write_text("".join(f"{key} = {_inline(value)}\n" for key, value in whole.items()))
        data.mkdir(parents=True, exist_ok=True)
        book = TokenBook(data / "state.db")
        token = book.create("test", ["readings:read", "admin"], [""], None)
        book.close()
        self._client = httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=WAIT_S, trust_env=False
        )
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, before: str = "") -> Self:
        """Start it and return when it answers. `before` is Python that runs in the child first."""
        with self.said.open("ab") as said:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", f"{before}\n{MAIN}", "site", str(self.file), stdout=said, stderr=said
            )
        await until(self._answers, "the site's API")
        return self

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.said.read_text()
        try:
            return (await self._client.get("/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.returncode is None:
            os.kill(process.pid, how)
        try:
            return await asyncio.wait_for(process.wait(), WAIT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise

    async def close(self) -> None:
        """End it, if it still runs, and check that nothing broke inside."""
        await self.end()
        await self._client.aclose()
        assert "Traceback" not in self.said.read_text(), self.said.read_text()

    async def get(self, path: str, **parameters: object) -> dict[str, Any]:
        """Return a good JSON answer."""
        answer = await self._client.get(path, params={key: str(value) for key, value in parameters.items()})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def ready(self) -> tuple[int, dict[str, Any]]:
        """Return what `/readyz` says."""
        answer = await self._client.get("/readyz")
        return answer.status_code, answer.json()

    async def metric(self, name: str, *labels: str) -> float:
        """Return the sum of a measure's series that have all these labels (`key="value"`)."""
        text = (await self._client.get("/metrics")).text
        lines = re.findall(rf"^metergate_{name}({{.*}})? (\S+)$", text, re.MULTILINE)
        assert lines or labels, f"no measure {name}"
        return sum(float(value) for found, value in lines if all(label in found for label in labels))

    async def events(self, name: str, device: str = "") -> list[dict[str, Any]]:
        """Return the events of this name, oldest first."""
        found = (await self.get("/v1/events", limit=1000))["events"]
        return [each for each in found if each["name"] == name and device in ("", each["device"])]

    async def registers(self, device: str, *, since: int, until: int, obis: str = ENERGY) -> dict[str, Any]:
        """Return a device's snapshots of one running total in a range, and how complete they are."""
        span = {"from": timing.to_rfc3339(since), "to": timing.to_rfc3339(until)}
        return await self.get(f"/v1/devices/{device}/readings", obis=obis, kind="register", limit=1000, **span)
