"""A gateway's supply control as it runs on a site, with one who signs, and an ear on its wires. It measures nothing."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from collector.exchange import Exchange
from collector.links import Link
from gateway.keystore import KeyStore
from gateway.lines import make_link
from gateway.master_key import make_master
from gateway.settings import GatewayFile
from gateway.settings_bus import BusSettings
from gateway.supply.alone import SupplyAlone
from gateway.supply.trust_file import TrustFile
from metering import timing
from metering.model import SECOND
from metering.supply import Action, CommandMessage, Go, SupplyCommand, canonical
from metering.supply_states import FINAL, State
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


class Site(SupplyAlone):
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
        self._people = {name: SigningKey.generate() for name in PEOPLE}
        self._bindings = {each.device: each for each in bindings}
        self._numbers = itertools.count(1)
        self._install(data)
        super().__init__(file, link=self._listened)

    def _install(self, data: Path) -> None:
        holders = {name: Holder(name, str(key.public)) for name, key in self._people.items()}
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
        signed = sign(trusted.canonical(document), Kind.TRUST, [self._people["dora"], self._people["emil"]])
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
        signed = sign(body, Kind.COMMAND, [self._people["anna"], self._people["ben"]])
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
