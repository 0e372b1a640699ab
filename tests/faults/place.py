"""Gateways, one broker and one head-end in processes of their own, and what billing reads there by the API."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import msgspec
from paho.mqtt import client as paho

from headend.tokens import TokenBook
from metergate.commands.registry import take_in
from metergate.headend_file import load_headend, open_state
from metering import timing, wire
from metering.model import SECOND
from metering.wire import Receipt
from mqtt.client import MqttSettings
from mqtt.loop import MqttConnection
from simulators.broker import MosquittoBroker, find_mosquitto, free_port
from storage.log import Log, LogStatus
from tests.faults.site_process import MAIN, WAIT_S, until
from tests.faults.uplink_process import BEGIN, ENOUGH, FOLLOWING, METERS, OBIS, Orders

GATEWAY = "gw1"
OTHER = "gw2"  # a second one that is registered, with a meter `other` at the point `p-other`
PAGE = 1000
PROFILE = 'profile = "eastron_sdm120"\n'
QUICK = (  # tests are short
    "from gateway import uplink_flights, uplink_presence;uplink_flights.RECEIPT_WAIT_S = uplink_presence.BIRTH_S = 1.0"
)


class Billing(NamedTuple):
    """What the API says of one meter: the value of each slot's second as often as it comes, and completeness."""

    numbers: list[int]
    completeness: dict[str, Any]


class Place:
    """One gateway's log and uplink, a broker, a head-end: each a process, to be killed and started as a test likes."""

    def __init__(
        self,
        folder: Path,
        *,
        tables: str = "",  # further ones of the head-end's file
        broker: str = "",  # further lines of Mosquitto's
        edge: Path | None = None,
        centre: Path | None = None,
    ) -> None:
        assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
        self.folder = folder
        self.broker = MosquittoBroker(free_port(), extra=broker)
        self.said = folder / "acknowledged"
        self.said.touch()
        self.file = folder / "headend.toml"
        self.data = centre or folder / "headend"
        self.edge = edge or folder / "gateway"
        self.receipts: list[Receipt] = []
        self.gateway: asyncio.subprocess.Process | None = None
        self.headend: asyncio.subprocess.Process | None = None
        self._url = f"http://127.0.0.1:{free_port()}"
        self.begin = BEGIN
        self._tables = tables
        self._counted = False  # the gateway ends its appending by itself
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.broker.start()
        self._stack.push_async_callback(self.broker.stop)
        self._write_file()
        with closing(open_state(load_headend(self.file))) as state:
            token = TokenBook(state).create("test", ["readings:read", "admin"], [""], None)
        self._client = await self._stack.enter_async_context(
            httpx.AsyncClient(
                base_url=self._url, headers={"Authorization": f"Bearer {token}"}, timeout=WAIT_S, trust_env=False
            )
        )
        stop = asyncio.Event()
        watch = MqttConnection(MqttSettings("127.0.0.1", "watch", self.broker.port), self._receipt)
        watch.subscribe([wire.topic(GATEWAY, "receipt")])
        watching = asyncio.create_task(watch.run(stop))

        async def unwatch() -> None:
            stop.set()
            await watching

        self._stack.push_async_callback(unwatch)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end("gateway", signal.SIGKILL)
        await self.end("headend", signal.SIGKILL)
        await self._stack.aclose()
        said = "".join(path.read_text() for path in self.folder.glob("*.err"))
        assert "Traceback" not in said, said

    def _receipt(self, message: paho.MQTTMessage) -> None:
        self.receipts.append(wire.decode(bytes(message.payload), Receipt))

    def _write_file(self) -> None:
        meters = "".join(
            f'[[meter]]\nid = "m{n}"\ngateway = "{GATEWAY}"\npoint = "p{n}"\nregion = "js"\n{PROFILE}'
            for n in range(METERS)
        )
        self.file.write_text(
            f'[headend]\ndata = "{self.data}"\n[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\n{self._tables}'
            f'[api]\nlisten = "{self._url.removeprefix("http://")}"\n'
        )
        fleet = self.folder / "fleet.toml"
        other = f'[[gateway]]\nid = "{OTHER}"\n[[meter]]\nid = "other"\ngateway = "{OTHER}"\npoint = "p-other"\n'
        fleet.write_text(f'[[gateway]]\nid = "{GATEWAY}"\n{meters}{other}region = "js"\n{PROFILE}')
        take_in(self.file, fleet)

    # --- processes ----------------------------------------------------------------------------------------------------

    def acknowledged(self) -> list[int]:
        """Return the numbers whose `append` has returned."""
        lines = self.said.read_text().split("\n")[:-1]  # the last one may be half a line
        return [int(line) for line in lines if line.isdigit()]  # the others are the log of the program

    async def start_gateway(self, before: str = "", **orders: Any) -> None:  # noqa: ANN401 - fields of Orders
        """Start it where it left off. `before` is Python that runs in the child first."""
        lines = self.acknowledged()
        orders.setdefault("number", lines[-1] + 2 if lines else 0)  # one more may be in the log than was said
        wanted = Orders(
            **{"data": str(self.edge), "gateway": GATEWAY, "port": self.broker.port, "begin": self.begin, **orders}
        )
        self._counted = wanted.batches is not None
        self.edge.mkdir(exist_ok=True)
        for name in (ENOUGH, FOLLOWING):
            (self.edge / name).unlink(missing_ok=True)
        main = "import runpy; runpy.run_module('tests.faults.uplink_process', run_name='__main__', alter_sys=True)"
        with self.said.open("ab") as out, (self.folder / "gateway.err").open("ab") as errors:
            self.gateway = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                f"{QUICK}\n{before}\n{main}",
                msgspec.json.encode(wanted).decode(),
                stdout=out,
                stderr=errors,
            )

    async def start_headend(self, before: str = "") -> None:
        """Start it; it is not waited for. `before` is Python that runs in the child first."""
        with (self.folder / "headend.err").open("ab") as errors:
            self.headend = await asyncio.create_subprocess_exec(
                sys.executable, "-c", f"{before}\n{MAIN}", "headend", str(self.file), stdout=errors, stderr=errors
            )

    async def end(self, which: str, how: signal.Signals) -> None:
        """Send a signal to `gateway` or `headend` and wait for its end."""
        process = getattr(self, which)
        setattr(self, which, None)
        if process is not None and process.returncode is None:
            process.send_signal(how)
            await asyncio.wait_for(process.wait(), WAIT_S)

    # --- what is waited for -------------------------------------------------------------------------------------------

    async def appended(self, more: int) -> None:
        """Wait until so many further appends have returned."""
        seen = len(self.acknowledged())

        async def there() -> bool:
            return len(self.acknowledged()) >= seen + more

        await until(there, f"{more} further readings in the gateway's log")

    async def receipted(self, more: int = 1) -> None:
        """Wait for further receipts."""
        seen = len(self.receipts)

        async def there() -> bool:
            return len(self.receipts) >= seen + more

        await until(there, "a receipt")

    async def settled(self) -> LogStatus:
        """End the appending, wait until all is at the head-end and in its store; return how the gateway's log stands.

        The gateway is gone afterwards.
        """
        end = self.edge / FOLLOWING
        if not self._counted:
            (self.edge / ENOUGH).touch()

        async def no_more() -> str:
            return end.read_text() if end.exists() else ""

        following = int(await until(no_more, "the end of the appending"))

        async def all_told() -> bool:
            return bool(self.receipts) and self.receipts[-1].contiguous >= following - 1

        await until(all_told, f"a receipt for all up to {following - 1}")
        await until(self._stored, "the store has all that the log has")
        await self.end("gateway", signal.SIGKILL)
        log = Log.open(self.edge / "log")
        try:
            return log.status()
        finally:
            log.close()

    async def _stored(self) -> bool:
        return await self.metric("store_lag") == 0

    # --- what billing reads -------------------------------------------------------------------------------------------

    async def get(self, path: str, **parameters: object) -> dict[str, Any] | None:
        """Return a good JSON answer; None while the head-end does not answer."""
        try:
            answer = await self._client.get(path, params={key: str(value) for key, value in parameters.items()})
        except httpx.TransportError:
            return None
        found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
        return found

    async def metric(self, name: str) -> float | None:
        """Return a measure of the head-end; None while it does not answer, or has no such measure."""
        try:
            text = (await self._client.get("/metrics")).text
        except httpx.TransportError:
            return None
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"metergate_{name}")]
        return sum(map(float, values)) if values else None

    async def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of this name."""
        found = await until(lambda: self.get("/v1/events", limit=1000), "the events")
        return [each for each in found["events"] if each["name"] == name]

    async def gaps(self) -> list[dict[str, Any]]:
        """Return what the feed of changes tells of records that will never come."""
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = await until(partial(self.get, "/v1/changes", limit=PAGE, **after), "the changes")
            found += [each["gap"] for each in page["changes"] if each["type"] == "gap"]
            if not page["more"]:
                return found
            after = {"after": page["next"]}

    async def billing(self, meter: int, *, first: int = 0, end: int) -> Billing:
        """Return what billing reads of a meter's numbers from `first`, below `end`."""
        limits = (self.begin + first * SECOND, self.begin + end * SECOND)
        span = dict(zip(("from", "to"), map(timing.to_rfc3339, limits), strict=True))
        numbers: list[int] = []
        cursor: dict[str, str] = {}
        path = f"/v1/meter-points/p{meter}/readings"
        while True:
            ask = partial(self.get, path, obis=OBIS, limit=PAGE, **span, **cursor)
            page = await until(ask, "an answer of the API")
            numbers += [int(row["value"]) for row in page["readings"]]
            if not page["next"]:
                return Billing(numbers, page["completeness"])
            cursor = {"cursor": page["next"]}

    async def check(self, evicted: int = 0) -> None:
        """Check each meter: nothing acknowledged is lost but `evicted` readings, nothing twice, all accounted for."""
        acknowledged = self.acknowledged()
        end = acknowledged[-1] + 3
        for meter in range(METERS):
            found, complete = await self.billing(meter, end=end)
            assert set(found) <= set(range(end))
            lost = set(acknowledged) - set(found)
            assert len(lost) <= evicted, f"m{meter}: {len(lost)} acknowledged readings are lost, {evicted} were evicted"
            assert len(found) == len(set(found)), f"m{meter}: some stand there twice"
            kinds = ("held", "recovered", "no_supply", "lost", "missing")
            assert complete["expected"] == sum(complete[kind] for kind in kinds) == end
            assert complete["held"] == len(found)
