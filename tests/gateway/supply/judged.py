"""A world in which every order that leaves is judged, and the people and the trust document of its gateway."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from collector.capabilities import Order
from gateway.supply.items import Held
from gateway.supply.record import Record
from gateway.supply.trust_file import TrustFile
from metering.model import SECOND
from metering.supply import WITHHOLDING, Action, CommandMessage, Go, SupplyCommand, canonical
from metering.supply_states import TRANSITIONS, Cause, State, after
from tests.gateway.supply.sim_meter import SimMeter
from tests.gateway.supply.virtual import World
from trust import document as trusted
from trust.document import Binding, Caps, Holder, Service, TrustDocument
from trust.keys import SigningKey
from trust.signatures import Kind, sign

A = Action
PEOPLE = ("anna", "ben", "cleo", "dora", "emil", "payments", "eve", "ben's new key")
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
        self.document = DOCUMENT
        super().__init__(folder, install)

    def renew(self, **changes: object) -> None:
        """Have custodians sign another trust document, and install it beside the gateway at work."""
        self.document = msgspec.structs.replace(self.document, version=self.document.version + 1, **changes)
        signed = sign(trusted.canonical(self.document), Kind.TRUST, [KEYS["dora"], KEYS["emil"]])
        TrustFile(self.folder, "gw1").install(signed)

    def exchange(self, device: str) -> None:
        """Hang another meter there, which the trust document then binds."""
        meter = self.meters[device]
        meter.exchange(f"{device}x{self.document.version}")
        self.renew(
            bindings=tuple(
                msgspec.structs.replace(each, serial=meter.serial, identity=f"serial:{meter.serial}")
                if each.device == device
                else each
                for each in self.document.bindings
            )
        )

    def acts(self, meter: SimMeter, order: Order) -> None:
        try:
            self._judge(meter, order)
        except AssertionError as error:
            self.errors.append(error)

    def _judge(self, meter: SimMeter, order: Order) -> None:
        assert meter.read, "an order after an order whose outcome nobody has read"
        assert meter.identity == f"serial:{meter.serial}", "an order to another meter"
        assert not self.dry_run_now, "an order in a dry run"
        name = self.executing(meter.device)
        if not name:  # a limit's end: the signed limit has ordered it
            record = Record(self.folder / "record")
            kept = record.limits[meter.device]
            assert record.command(kept.command).serial == meter.serial, "the settings of another meter"
            assert order.action is A.UNLIMIT
            assert max(self.latest, self.now()) >= kept.until  # it was due, whatever the clock was set to then
            return
        held = Record(self.folder / "record").held[name]
        assert held.state is State.EXECUTING, "an order whose intent is not on the disk"
        assert held.command.serial == meter.serial, "an order for another meter"
        assert self.now() < held.command.expires_at, "an order after its expiry"
        if held.command.action in WITHHOLDING:
            self._withholds(name, held)
        else:
            assert self._persons(name) or "payments" in self.signers[name], "nobody signed who has a say"
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
        *,
        rubbish: bool = False,  # under its id, before it
    ) -> tuple[SupplyCommand, CommandMessage]:
        """Have a command signed, and give it to the gateway."""
        now = self.now()
        limits = {"limit_w": limit[0], "limit_until": now + limit[1] * SECOND} if limit is not None else {}
        command = SupplyCommand(
            f"c{number}",
            action,
            f"MP-{device[1]}",
            device,
            next(each.serial for each in self.document.bindings if each.device == device),
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
        message = CommandMessage(command.id, body, _signed(body, signers))
        self.signers[command.id] = signers
        if rubbish:
            self.give(self.service.take(msgspec.structs.replace(message, signed=b"{}")))
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
        document = self.service._trust.document
        assert document is not None
        assert len(self._persons(name) - {command.requester}) >= document.k
        assert command.point not in document.never_cut
        assert not self.lockout
        assert self.trusted
        given = self.goes.get(name, [])
        assert any(abs(self.now() - at) <= 60 * SECOND and self.time - come <= 60 for at, come in given)
        self.cuts.append(self.now())
        for span, most in ((HOUR, CAPS.per_hour), (DAY, CAPS.per_day)):
            assert sum(at >= self.now() - span for at in self.cuts) <= most, "above its caps"

    def _persons(self, name: str) -> set[str]:
        """Return who signed a command and approves by the trust document in force at the gateway."""
        document = self.service._trust.document
        keys = {str(KEYS[each].public) for each in self.signers[name] if each in KEYS}
        return {each.person for each in document.approvers if each.key in keys} if document is not None else set()


def _signed(body: bytes, signers: tuple[str, ...]) -> bytes:
    """Return it signed; `~anna` is forged in her name, and who signs twice stands there twice."""
    made = msgspec.json.decode(sign(body, Kind.COMMAND, [KEYS[each.lstrip("~")] for each in signers]))
    forged = msgspec.json.decode(sign(body, Kind.COMMAND, [KEYS["eve"]]))["signatures"][0]["signature"]
    for each, name in zip(made["signatures"], dict.fromkeys(signers), strict=True):
        each["signature"] = forged if name.startswith("~") else each["signature"]
    made["signatures"] *= 1 + (len(set(signers)) < len(signers))
    return msgspec.json.encode(made)


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


def heard_of(world: Judged) -> dict[str, State]:
    """Return where a head-end that sent each command holds it, by what it heard of it (`headend.supply.dispatch`).

    One of which it heard nothing is asked for after its end.
    """
    states = dict.fromkeys(world.record.held, State.SENT)
    for name, told, detail in world.told:
        if name in states and (states[name], detail.get("cause")) in TRANSITIONS:
            follows = after(states[name], Cause(detail["cause"]))
            states[name] = follows if follows == told else states[name]
    for name, state in states.items():
        if state is State.SENT:
            states[name] = after(after(state, Cause.TIME_OVER), Cause(world.record.held[name].cause))
    return states
