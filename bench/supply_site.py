"""A gateway's supply control as it runs on a site, with one who signs, and an ear on its wires. It measures nothing."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from collector.exchange import Exchange
from collector.links import Link
from gateway.clock import Clock
from gateway.keystore import KeyStore
from gateway.lines import make_bus_meters, make_buses, make_link, open_keys
from gateway.master_key import make_master
from gateway.recorder import Recorder
from gateway.settings import GatewayFile
from gateway.settings_bus import BusSettings
from gateway.supply.make import make_supply
from gateway.supply.trust_file import TrustFile
from gateway.work import MeterWork
from metering import timing
from metering.model import SECOND, Block
from metering.supply import Action, CommandMessage, Go, SupplyCommand, canonical
from metering.supply_states import FINAL, State
from storage.log import Log
from trust import document as trusted
from trust.document import Binding, Caps, Holder, TrustDocument
from trust.keys import SigningKey
from trust.signatures import Kind, sign

PEOPLE = ("anna", "ben", "dora", "emil")  # two who approve, two custodians
GIVE_UP_S = 60.0
VALID_S = 600
OTHERS = 40  # meters that nobody reads: the cap of a day is a share of all meters


Tables = dict[str, list[dict[str, object]]]  # buses and meters


class Heard(NamedTuple):
    """One exchange on a wire: when it began and ended (`time.monotonic`), what was asked, bytes of the reply."""

    begun: float
    ended: float
    exchange: Exchange
    reply: int


class Site:
    """One run of a gateway's supply control. `tables` are its file without the place of its data and its key."""

    def __init__(
        self,
        data: Path,
        tables: Tables,
        bindings: Sequence[Binding],
        secrets: dict[str, dict[str, bytes]],
    ) -> None:
        master = data / "master.key"
        master.write_text(make_master())
        store = KeyStore(data / "keys", f"file:{master}")
        for meter, known in secrets.items():
            store.put(meter, known)
        store.close()
        file = GatewayFile.model_validate(
            _with_others(tables) | {"gateway": {"id": "gw1", "data": str(data)}, "keys": {"master": f"file:{master}"}}
        )
        self.heard: list[Heard] = []
        self._keys = {name: SigningKey.generate() for name in PEOPLE}
        self._bindings = {each.device: each for each in bindings}
        self._numbers = itertools.count(1)
        self._install(data)
        self._log = Log.open(data / "log")
        clock = Clock()
        recorder = Recorder(self._log, clock, "gateway:gw1")
        self.buses = make_buses(file, clock.now, lambda *_: None, self._listened)
        self._store = open_keys(file, self._log.epoch)
        self.meters = make_bus_meters(file, lambda *_: None, self._store)
        self.work = MeterWork(self.buses, recorder.raise_event, self._store)
        self._blocks: list[Block] = []
        self.service = make_supply(
            file.gateway, file.supply, recorder, clock, self.work, self._blocks.extend, lambda: self.meters
        )
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def _install(self, data: Path) -> None:
        holders = {name: Holder(name, str(key.public)) for name, key in self._keys.items()}
        document = TrustDocument(
            "gw1",
            1,
            timing.now(),
            2,
            (holders["dora"], holders["emil"]),
            2,
            (holders["anna"], holders["ben"]),
            Caps(1000, 1000, 1000),
            bindings=tuple(self._bindings.values()),
        )
        signed = sign(trusted.canonical(document), Kind.TRUST, [self._keys["dora"], self._keys["emil"]])
        TrustFile(data, "gw1").install(signed)

    def _listened(self, settings: BusSettings) -> Link:
        """Return a bus's wire with an ear on it."""
        link = make_link(settings)
        spoken = link.exchange

        async def exchange(asked: Exchange, timeout_s: float) -> bytes:
            begun = time.monotonic()
            reply = await spoken(asked, timeout_s)
            self.heard.append(Heard(begun, time.monotonic(), asked, len(reply)))
            return reply

        setattr(link, "exchange", exchange)  # noqa: B010 - an ear for this measurement; no wire has a place for one
        return link

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.service.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task
        for bus in self.buses.values():
            await bus.close()
        if self._store is not None:
            self._store.close()
        self._log.close()

    async def order(self, device: str, action: Action) -> tuple[float, float]:
        """Have a command approved and carried out; return when the last approval was given and when it was verified.

        Raises:
            OSError: it was not verified.

        """
        number, bound, now = next(self._numbers), self._bindings[device], timing.now()
        command = SupplyCommand(
            f"c{number}",
            action,
            bound.point,
            device,
            bound.serial,
            0,
            "gw1",
            "debt",
            "collections",
            f"{number:032x}",
            number,
            now,
            now + VALID_S * SECOND,
            "case-7",
        )
        body = canonical(command)
        begun = time.monotonic()
        signed = sign(body, Kind.COMMAND, [self._keys["anna"], self._keys["ben"]])
        await self.service.take(CommandMessage(command.id, body, signed, go=Go(command.id, timing.now())))
        held = self.service.account.record.held
        async with asyncio.timeout(GIVE_UP_S):
            while command.id not in held or held[command.id].state not in FINAL:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.005)
        if held[command.id].state is not State.VERIFIED:
            raise OSError(f"{action} of {device} is {held[command.id].state}: {held[command.id].why}")
        return begun, time.monotonic()


def _with_others(tables: Tables) -> dict[str, object]:
    bus = {"id": "silent", "kind": "tcp", "host": "127.0.0.1", "port": 9}
    others = [
        {"id": f"o{number}", "bus": "silent", "unit": number, "profile": "eastron_sdm630"}
        | {"point": f"OP-{number}", "region": "xx/01"}
        for number in range(1, OTHERS + 1)
    ]
    return {"bus": [*tables["bus"], bus], "meter": [*tables["meter"], *others]}
