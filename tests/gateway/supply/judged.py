"""A world in which every order that leaves is judged, and the people and the trust document of its gateway."""

import sys
from pathlib import Path
from typing import Any

from collector.capabilities import Order
from gateway.supply.items import Held
from gateway.supply.record import Record
from gateway.supply.trust_file import TrustFile
from metering.model import SECOND
from metering.supply import WITHHOLDING, Action, CommandMessage, Go, SupplyCommand, canonical
from metering.supply_states import State
from tests.gateway.supply.sim_meter import SimMeter
from tests.gateway.supply.virtual import World
from trust import document as trusted
from trust.document import Binding, Caps, Holder, Service, TrustDocument
from trust.keys import SigningKey
from trust.signatures import Kind, sign

A = Action
PEOPLE = ("anna", "ben", "cleo", "dora", "emil", "payments", "eve")
KEYS = {name: SigningKey.generate() for name in PEOPLE}
HOLDERS = {name: Holder(name, str(key.public)) for name, key in KEYS.items()}
DEVICES = ("m1", "m2", "m3")
NEVER_CUT = "MP-3"
CAPS = Caps(3, 6, 1000)
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
DOCUMENT = TrustDocument(
    "gw1",
    1,
    1,
    2,
    (HOLDERS["dora"], HOLDERS["emil"]),
    2,
    (HOLDERS["anna"], HOLDERS["ben"], HOLDERS["cleo"]),
    CAPS,
    (Service("payments", str(KEYS["payments"].public), 3),),
    never_cut=(NEVER_CUT,),
    bindings=tuple(Binding(f"MP-{each[1]}", each, each, f"serial:{each}", 0, 1000) for each in DEVICES),
)
SIGNED = sign(trusted.canonical(DOCUMENT), Kind.TRUST, [KEYS["dora"], KEYS["emil"]])


def install(folder: Path) -> TrustFile:
    trust = TrustFile(folder, "gw1")
    if trust.document is None:
        trust.install(SIGNED)
    return trust


class Judged(World):
    """A world in which every order that leaves is judged by what it may and may not be."""

    def __init__(self, folder: Path) -> None:
        self.sent: list[tuple[str, str]] = []  # command, action
        self.cuts: list[int] = []  # by the gateway's clock
        self.latest = 0  # the latest that the gateway's clock has shown before it was set
        self.signers: dict[str, tuple[str, ...]] = {}
        self.goes: dict[str, list[tuple[int, float]]] = {}
        super().__init__(folder, install)

    def acts(self, meter: SimMeter, order: Order) -> None:
        try:
            self._judge(meter, order)
        except AssertionError as error:
            self.errors.append(error)

    def _judge(self, meter: SimMeter, order: Order) -> None:
        assert meter.read, "an order after an order whose outcome nobody has read"
        assert not meter.identity.endswith("stranger"), "an order to another meter"
        assert not self.dry_run_now, "an order in a dry run"
        name = self.executing(meter.device)
        if not name:  # a limit's end: the signed limit has ordered it
            kept = Record(self.folder / "record").limits[meter.device]
            assert order.action is A.UNLIMIT
            assert max(self.latest, self.now()) >= kept.until  # it was due, whatever the clock was set to then
            return
        held = Record(self.folder / "record").held[name]
        assert held.state is State.EXECUTING, "an order whose intent is not on the disk"
        assert self.now() < held.command.expires_at, "an order after its expiry"
        if held.command.action in WITHHOLDING:
            self._withholds(name, held)
        else:
            assert self.signers[name], "nobody signed"
        self.sent.append((name, str(order.action)))

    def order(
        self,
        number: int,
        device: str,
        action: Action,
        signers: tuple[str, ...],
        requester: str = "zoe",
        reason: Any = "debt",  # noqa: ANN401 - a literal
        valid_s: int = 600,
        limit: tuple[int, int] | None = None,  # W, and for how many seconds
    ) -> tuple[SupplyCommand, CommandMessage]:
        """Have a command signed, and give it to the gateway."""
        now = self.now()
        limits = {"limit_w": limit[0], "limit_until": now + limit[1] * SECOND} if limit is not None else {}
        command = SupplyCommand(
            f"c{number}",
            action,
            f"MP-{device[1]}",
            device,
            device,
            0,
            "gw1",
            reason,
            requester,
            f"{number:032x}",
            number,
            now,
            now + valid_s * SECOND,
            "case-7",
            floor_w=1000,
            **limits,
        )
        body = canonical(command)
        message = CommandMessage(command.id, body, sign(body, Kind.COMMAND, [KEYS[each] for each in signers]))
        self.signers[command.id] = signers
        self.give(self.service.take(message))
        return command, message

    def let_go(self, name: str, old_s: int = 0) -> None:
        """Give the gateway a go for a command, as old as said."""
        go = Go(name, self.now() - old_s * SECOND)
        self.goes.setdefault(name, []).append((go.at, self.time))
        self.give(self.hear(go))

    @property
    def dry_run_now(self) -> bool:
        return bool(self.service._out.dry_run)

    def _withholds(self, name: str, held: Held) -> None:
        command = held.command
        assert name not in {sent for sent, _ in self.sent}, "an order twice"
        persons = set(self.signers[name]) & {"anna", "ben", "cleo"}
        assert len(persons) >= DOCUMENT.k
        assert command.requester not in persons
        assert command.point != NEVER_CUT
        assert not self.lockout
        assert self.trusted
        given = self.goes.get(name, [])
        assert any(0 <= self.now() - at <= 60 * SECOND and self.time - come <= 60 for at, come in given)
        self.cuts.append(self.now())
        for span, most in ((HOUR, CAPS.per_hour), (DAY, CAPS.per_day)):
            assert sum(at >= self.now() - span for at in self.cuts) <= most, "above its caps"


class Overheard:
    """What the service would write: a fault that it caught is one all the same."""

    def __init__(self, errors: list[BaseException]) -> None:
        self._errors = errors

    def info(self, *_: object, **__: object) -> None: ...

    warning = info

    def exception(self, *_: object, **__: object) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            self._errors.append(error)
