"""The supply desk and its dispatch over a state, with people, keys and a clock that is set by hand."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec import structs

from headend.audit.chain import Trail
from headend.audit.spool import Spool
from headend.policy.facts import CollectionFacts, Known, RuleResult, Verdict
from headend.registry import MemoryRegistry
from headend.state.registrar import Registrar, Wanted
from headend.state.registry import DatabaseRegistry
from headend.state.store import State as Database
from headend.supply.book import Book
from headend.supply.desk import SupplyDesk
from headend.supply.dispatch import Dispatch
from headend.supply.making import Order, Request
from headend.supply.outage import Outage
from headend.supply.thresholds import Limits
from headend.tokens import Grant
from metering.model import SECOND, Device, Installation, JournalEntry, MeterPoint
from metering.supply import Action, CommandMessage, Hours, Reason, SupplyCommand
from metering.supply_states import State
from metering.wire import Control, decode
from trust.document import Binding, Caps, Holder, Service, TrustDocument
from trust.keys import SigningKey
from trust.signatures import Kind, sign

CLERK = Grant("aaaaaaaa", "clerk", frozenset({"commands:request"}), ("js/nj",))
ANNA = Grant("bbbbbbbb", "anna", frozenset({"commands:approve"}), ("js/nj",))
ABROAD = Grant("cccccccc", "abroad", frozenset({"commands:approve"}), ("bj",))
MANY = 100  # meter points, above which the registry is in memory: it is not what is tested with them
START = 1_800_000_000 * SECOND
SAYS = "notice 7 days before: delivered 5 days ago, rule cn-resident-3"


def at_once(calls: Sequence[Callable[[], object]]) -> None:
    """Make calls from a thread each, all let go together, and wait for them; what one of them raises is raised."""
    gate = threading.Barrier(len(calls))

    def call(each: Callable[[], object]) -> None:
        gate.wait()
        each()

    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(call, each) for each in calls]:
            done.result()


class Policy:
    """Passes until it is told what to say, or whom to spare; the rule sets have their own tests."""

    def __init__(self) -> None:
        self.says = ""
        self.strict = ""  # a class of customers from whom nothing is withheld

    def known(self, points: Sequence[str], now: int) -> Known:
        assert now
        return Known(dict.fromkeys(points, ()), {})

    def judge(
        self,
        command: SupplyCommand,
        zone: str,
        customer: str,
        facts: CollectionFacts | None,
        now: int,
        known: Known,
    ) -> Verdict:
        assert zone == "Asia/Shanghai"
        assert facts is None
        assert command.point in known.entries
        says = f"not from a {customer}" if customer and customer == self.strict else self.says
        result = RuleResult("r1", not says, says, {"point": command.point, "customer": customer})
        return Verdict("test", 3, now, not says, (result,))

    def hours(self, customer: str, zone: str, region: str, reason: Reason) -> Hours | None:
        assert region == "js/nj"
        return Hours(zone, 0, 1440) if customer and reason == "debt" else None


class Centre:
    """The desk and its dispatch, with a clock that is set by hand, and what was published."""

    def __init__(
        self,
        database: Database,
        limits: Limits = Limits(),  # noqa: B008 - never changes
        *,
        service: bool = False,
        kept: Path | None = None,
        points: int = 5,
    ) -> None:
        self.now = START
        self.sent: list[tuple[str, Any]] = []
        self.keys = {name: SigningKey.generate() for name in ("anna", "ben", "clerk", "dora", "payments")}
        holders = {name: Holder(name, str(key.public)) for name, key in self.keys.items()}
        names = [f"MP-{number}" for number in range(1, points + 1)]
        self.document = TrustDocument(
            "gw1",
            1,
            START,
            1,
            (holders["dora"],),
            2,
            (holders["anna"], holders["ben"], holders["clerk"]),
            Caps(10, 100, 1000),
            (Service("payments", str(self.keys["payments"].public), 10),),
            bindings=tuple(Binding(each, f"m{each}", f"S{each}", f"serial:S{each}", 0, 1000) for each in names),
        )
        fleet = Wanted(
            ["gw1"],
            [MeterPoint(each, "js/nj", "Asia/Shanghai", customer="resident") for each in names],
            [Device(f"m{each}", f"S{each}", "example_switched", "gw1") for each in names],
            [Installation(each, f"m{each}", f"S{each}", 0) for each in names],
        )
        self.registrar = Registrar(database)
        if points <= MANY:
            self.registrar.take_in(fleet, START)
            self.registry: Any = DatabaseRegistry(database)
        else:
            self.registry = MemoryRegistry(fleet.points, fleet.devices, fleet.installations)
        self.policy = Policy()
        self.book = Book(database)
        self.trail = Trail(database)
        self.desk = SupplyDesk(
            self.book,
            self.registry,
            lambda gateway: self.document if gateway == "gw1" else None,
            self.policy,
            limits,
            self.keys["payments"] if service else None,
            lambda: self.now,
            Outage(Spool(kept), lambda: self.now) if kept is not None else None,
        )
        self.dispatch = Dispatch(self.desk, self.publish, lambda: self.now)

    def unbound(self) -> TrustDocument:
        """Return the trust document without its meters."""
        return self.bound(())

    def bound(self, bindings: tuple[Binding, ...]) -> TrustDocument:
        """Return the trust document with these meters."""
        return structs.replace(self.document, bindings=bindings)

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert not retain
        leaf = topic.split("/")[3]
        self.sent.append((leaf, decode(payload, CommandMessage if leaf == "commands" else Control)))

    async def step(self) -> list[tuple[str, Any]]:
        self.sent = []
        for _ in range(2):
            await self.dispatch.step()
        return self.sent

    def request(self, action: Action, *points: str, key: str = "k1", grant: Grant = CLERK, **changes: Any) -> Any:  # noqa: ANN401 - any field
        wanted = Request(action, "debt", [Order(each, "case-7") for each in points])
        wanted = wanted._replace(**changes)
        return self.desk.request(grant, key, repr(wanted).encode(), wanted)

    def signed(self, name: str, *people: str) -> bytes:
        sheet = self.desk.signing(ANNA, name)
        kind = Kind.MANIFEST if sheet.commands else Kind.COMMAND
        return sign(sheet.payload, kind, [self.keys[each] for each in people])

    def approve(self, name: str, *people: str) -> Any:  # noqa: ANN401 - views
        return self.desk.approve(ANNA, name, self.signed(name, *people))

    def state(self, name: str) -> State:
        found = self.book.get(name)
        assert found is not None
        return found.state

    def say(self, name: str, state: str, cause: str = "", gateway: str = "gw1", **detail: str) -> None:
        entry = JournalEntry(self.now, "supply", name, state, {"cause": cause, "why": "", **detail})
        self.dispatch.handlers()["supply"]([(gateway, entry)])

    def entries(self, name: str) -> Sequence[tuple[str, str]]:
        return [(each.kind, each.actor.split(":")[0]) for each in self.trail.all() if each.subject == name]
