"""A gateway's supply control over real connections to three simulated meters, and those who sign for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from collector.dlt645_profile import load_dlt645_profile
from gateway.clock import Clock
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from gateway.settings import GatewayFile
from gateway.supply.alone import SupplyAlone
from gateway.supply.items import Held
from gateway.supply.trust_file import TrustFile
from metering import timing
from metering.model import SECOND, Event, JournalEntry
from metering.supply import Action, CommandMessage, Go, SupplyCommand, canonical
from metering.supply_states import State
from simulators.dlms_meter import DlmsMeter, DlmsSettings
from simulators.dlms_security import GMAC_CLIENT, test_keys
from simulators.dlms_tcp import DlmsTcpServer
from simulators.dlt645_meter import Dlt645Made, Dlt645Meter
from simulators.dlt645_tcp import Dlt645TcpServer
from simulators.meter import Meter, MeterSettings
from simulators.modbus_switch import SwitchedRegisters
from simulators.modbus_tcp import ModbusTcpServer
from simulators.models import load_model
from simulators.registers import MeterRegisters
from simulators.unit import Unit
from storage.codec import unpack
from storage.log import Record as LogRecord
from trust import document as trusted
from trust.document import Binding, Caps, Holder, Service, TrustDocument
from trust.keys import SigningKey
from trust.signatures import Kind, sign

PEOPLE = ("anna", "ben", "cleo", "dora", "emil", "payments")
ADDRESS = "000000004321"
PASSWORD = bytes.fromhex("123456")
WAIT_S = 30.0
DEVICES = ("modbus", "dlms", "dlt645")


class Street:
    """The simulated meters and their servers: they outlive the gateway that orders them."""

    def __init__(self, control_mode: int = 4) -> None:
        model = load_model("example_switched")
        self.modbus = Meter(MeterSettings(serial="SW-000017", phases=1))
        self.relay = SwitchedRegisters(MeterRegisters(self.modbus, model.layout()), model.profile, model.load_side())
        self.dlms = DlmsMeter(Meter(MeterSettings(serial="70000123")), DlmsSettings(control_mode=control_mode))
        self.dlms.limiter.normal = 4600
        profile = load_dlt645_profile("dlt645_2007_3p")
        made = Dlt645Made(ADDRESS, password=PASSWORD)
        self.dlt645 = Dlt645Meter(Meter(MeterSettings(serial=ADDRESS)), profile, made)
        self._servers: list[Any] = [
            ModbusTcpServer({1: Unit(1, self.relay)}),
            DlmsTcpServer({1: self.dlms}, framing="wrapper"),
            Dlt645TcpServer({ADDRESS: self.dlt645}),
        ]
        self.ports: list[int] = []

    async def open(self) -> None:
        self.ports = [(await server.start())[1] for server in self._servers]

    async def close(self) -> None:
        for server in self._servers:
            await server.close()

    def on(self, device: str) -> bool:
        """Tell whether a customer has power."""
        meter = {"modbus": self.modbus, "dlms": self.dlms.meter, "dlt645": self.dlt645.meter}[device]
        return bool(meter.supply_on)


def tables(data: Path, ports: Sequence[int]) -> dict[str, Any]:
    """Return the gateway's file for a street."""
    host = "127.0.0.1"
    place = {"region": "js/nj"}
    return {
        "gateway": {"id": "gw1", "data": str(data)},
        "keys": {"master": f"file:{data / 'master.key'}"},
        "bus": [
            {"id": "b1", "kind": "tcp", "host": host, "port": ports[0]},
            {"id": "b2", "kind": "wrapper", "host": host, "port": ports[1]},
            {"id": "b3", "kind": "dlt645-tcp", "host": host, "port": ports[2]},
        ],
        "meter": [
            {"id": "modbus", "bus": "b1", "unit": 1, "profile": "example_switched", "point": "MP-1"} | place,
            {
                "id": "dlms",
                "bus": "b2",
                "profile": "dlms_generic",
                "point": "MP-2",
                "dlms": {
                    "client": GMAC_CLIENT,
                    "authentication": "high-gmac",
                    "security": "authenticated-encrypted",
                    "read_counter": True,
                },
            }
            | place,
            {
                "id": "dlt645",
                "bus": "b3",
                "address": ADDRESS,
                "profile": "dlt645_2007_3p",
                "point": "MP-3",
                "zone": "Asia/Shanghai",
            }
            | place,
        ],
    }


def keys_of(data: Path) -> KeyStore:
    """Make the key store of the street's meters, once."""
    master = data / "master.key"
    if not master.exists():
        master.write_text(make_master())
        store = KeyStore(data / "keys", f"file:{master}")
        known = test_keys()
        store.put("dlms", {"encryption": known.encryption, "authentication": known.authentication})
        store.put("dlt645", {"password": PASSWORD, "operator": bytes(4)})
    return KeyStore(data / "keys", f"file:{master}")


class Desk:
    """Who signs: five people and a service, and the gateway's trust document."""

    def __init__(self, street: Street, **changes: Any) -> None:  # noqa: ANN401 - any field of the document
        self.keys = {name: SigningKey.generate() for name in PEOPLE}
        self._seq = 0
        title = f"title:{street.dlms.title.hex()}"
        holders = {name: Holder(name, str(key.public)) for name, key in self.keys.items()}
        self.document = msgspec.structs.replace(
            TrustDocument(
                "gw1",
                1,
                timing.now(),
                2,
                (holders["dora"], holders["emil"]),
                2,
                (holders["anna"], holders["ben"], holders["cleo"]),
                Caps(100, 1000, 1000),
                (Service("payments", str(self.keys["payments"].public), 100),),
                bindings=(
                    Binding("MP-1", "modbus", "SW-000017", "serial:SW-000017", 0),
                    Binding("MP-2", "dlms", "70000123", title, 0, 1000),
                    Binding("MP-3", "dlt645", ADDRESS, f"address:{ADDRESS}", 0),
                ),
            ),
            **changes,
        )

    def install(self, data: Path) -> TrustFile:
        if TrustFile(data, "gw1").document is None:
            self.renew(data)
        return TrustFile(data, "gw1")

    def renew(self, data: Path) -> None:
        """Have the document signed as it is now, and install it beside a gateway at work."""
        signers = [self.keys["dora"], self.keys["emil"]]
        TrustFile(data, "gw1").install(sign(trusted.canonical(self.document), Kind.TRUST, signers))

    def command(self, device: str, action: Action, **changes: Any) -> SupplyCommand:  # noqa: ANN401 - any field
        self._seq += 1
        bound = next(each for each in self.document.bindings if each.device == device)
        now = timing.now()
        made = SupplyCommand(
            f"c{self._seq}",
            action,
            bound.point,
            device,
            bound.serial,
            0,
            "gw1",
            "debt",
            "requester",
            f"{self._seq:032x}",
            self._seq,
            now,
            now + 3600 * SECOND,
            "case-7",
            floor_w=bound.floor_w,
        )
        return msgspec.structs.replace(made, **changes)

    def message(self, command: SupplyCommand, *signers: str, go: bool = True) -> CommandMessage:
        body = canonical(command)
        signed = sign(body, Kind.COMMAND, [self.keys[name] for name in signers or ("anna", "ben")])
        return CommandMessage(command.id, body, signed, go=Go(command.id, timing.now()) if go else None)


class Edge(SupplyAlone):
    """One run of the gateway's supply control."""

    def __init__(
        self,
        data: Path,
        street: Street,
        desk: Desk,
        *,
        on_step: Callable[[str], None] = lambda _: None,
        verify_s: float = 3.0,
        dry_run: bool = False,
        clock: Clock | None = None,
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        keys_of(data)
        desk.install(data)
        made = tables(data, street.ports) | {"supply": {"dry_run": dry_run}}
        self.desk = desk
        file = GatewayFile.model_validate(made)
        super().__init__(file, clock=clock, verify_s=verify_s, poll_s=0.1, on_step=on_step)

    async def order(self, device: str, action: Action, *signers: str, go: bool = True, **changes: Any) -> Held:  # noqa: ANN401 - any field
        """Give a command, and wait for its end."""
        command = self.desk.command(device, action, **changes)
        await self.service.take(self.desk.message(command, *signers, go=go))
        return await self.ended(command.id)

    async def ended(self, name: str, *states: State) -> Held:
        """Wait until a command has come to rest, or to one of these states."""
        rest = states or tuple(set(State) - {State.ACCEPTED, State.EXECUTING, State.UNKNOWN})
        record = self.service.account.record
        async with asyncio.timeout(WAIT_S):
            while name not in record.held or record.held[name].state not in rest:  # noqa: ASYNC110 - what is waited for is in a file
                await asyncio.sleep(0.02)
        return record.held[name]

    def events(self) -> list[Event]:
        """Return the events that were raised, in their order."""
        found = self.log.read(1, 100_000, 1 << 30)
        return [event for each in found if isinstance(each, LogRecord) for event in unpack(each.payload).events]

    def told(self, name: str) -> list[JournalEntry]:
        """Return what the head-end was told of a command, in its order."""
        found = self.log.read(1, 100_000, 1 << 30)
        batches = [unpack(each.payload) for each in found if isinstance(each, LogRecord)]
        return [entry for batch in batches for entry in batch.journal if entry.kind == "supply" and entry.id == name]


@asynccontextmanager
async def street(control_mode: int = 4) -> AsyncIterator[Street]:
    """Open a street and close it."""
    made = Street(control_mode)
    await made.open()
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            await made.close()
