"""A campaign of 10,000 disconnects at a head-end, over SQLite and PostgreSQL, and how long a restore takes meanwhile.

Request, signing sheet, two approvals, all sent: the real desk, policy, audit and dispatch, with no broker. Paid
restores are requested all the while; the bar is the time until the slowest of them is handed to the broker.
"""

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
import structlog

from bench.postgres_server import PostgresServer
from bench.row import Row
from headend.policy.collections import FactsBook
from headend.policy.desk import Choice, PolicyDesk
from headend.policy.facts import CollectionFacts, Notice
from headend.policy.registers import Registers
from headend.policy.rule_set import load_rule_set
from headend.state.registrar import Registrar, Wanted
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from headend.state.tables import audit
from headend.supply.book import Book
from headend.supply.desk import SupplyDesk
from headend.supply.dispatch import Dispatch
from headend.supply.making import Order, Request
from headend.supply.thresholds import Limits
from headend.tokens import Grant
from metering import timing, wire
from metering.model import SECOND, Device, Installation, MeterPoint
from metering.supply import Action, CommandMessage
from trust.document import Binding, Caps, Holder, Service, TrustDocument
from trust.keys import SigningKey
from trust.signatures import Kind, sign

MANY = 10_000
GATEWAYS = 10
RESTORES_EACH_S = 0.5
BAR_S = 1.0
WITHIN_S = 300.0  # until all are sent, or it is given up
NOON = 1_800_000_000 - 4 * 3600  # us UTC / SECOND: 12:00 at Shanghai, inside the hours of the rule set
ZONE, REGION = "Asia/Shanghai", "js/nj"
CLERK = Grant("aaaaaaaa", "clerk", frozenset({"commands:request"}), (REGION,), person="clerk")
ANNA = Grant("bbbbbbbb", "anna", frozenset({"commands:approve"}), (REGION,), person="anna")


class Spent(NamedTuple):
    """How long a step took, and how much of a core."""

    name: str
    wall_s: float
    cpu_s: float


def run() -> list[Row]:
    """Measure both. Ends within some minutes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    found: list[Row] = []
    for kind in ("sqlite", "postgresql"):
        with _state(kind) as state:
            found += asyncio.run(_measure(kind, state, MANY))
    return found


@contextlib.contextmanager
def _state(kind: str) -> Iterator[State]:
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            state = State.open(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "state.db")
        else:
            server = PostgresServer()
            stack.callback(server.remove)
            server.start()
            state = State.open(server.fresh())
        stack.callback(state.close)
        yield state


class Centre:
    """A head-end's supply control with many meters, and when each command was handed to the broker."""

    def __init__(self, state: State, many: int) -> None:
        self.keys = {name: SigningKey.generate() for name in ("anna", "ben", "dora", "payments")}
        # The last meters are for the restores.
        self.points = [f"MP-{number:06}" for number in range(many + many // 10)]
        shift = NOON * SECOND - timing.now()
        self.clock: Callable[[], int] = lambda: timing.now() + shift
        self.documents = {each: self._document(each) for each in {_gateway(point) for point in self.points}}
        Registrar(state).take_in(self._fleet(), 0)
        self.registry = DatabaseRegistry(state)
        policy = PolicyDesk(
            [Choice("", "resident", load_rule_set("cn-resident"))],
            Registers(state),
            FactsBook(state),
            lambda point: REGION if point else None,
        )
        self.desk = SupplyDesk(
            Book(state),
            self.registry,
            self.documents.get,
            policy,
            Limits(many, many, many, many),
            self.keys["payments"],
            self.clock,
        )
        self.dispatch = Dispatch(self.desk, self._publish, self.clock)
        self.sent: dict[str, float] = {}

    def _document(self, gateway: str) -> TrustDocument:
        holders = {name: Holder(name, str(key.public)) for name, key in self.keys.items()}
        mine = [each for each in self.points if _gateway(each) == gateway]
        bound = tuple(Binding(each, f"m{each}", f"S{each}", f"serial:S{each}", 0, 1000) for each in mine)
        caps = Caps(len(mine), len(mine), 1000)
        service = Service("payments", str(self.keys["payments"].public), 3600)
        return TrustDocument(
            gateway, 1, 0, 1, (holders["dora"],), 2, (holders["anna"], holders["ben"]), caps, (service,), bindings=bound
        )

    def _fleet(self) -> Wanted:
        return Wanted(
            list(self.documents),
            [MeterPoint(each, REGION, ZONE, customer="resident") for each in self.points],
            [Device(f"m{each}", f"S{each}", "example_switched", _gateway(each)) for each in self.points],
            [Installation(each, f"m{each}", f"S{each}", 0) for each in self.points],
        )

    async def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert not retain
        if topic.endswith("/commands"):
            self.sent.setdefault(wire.decode(payload, CommandMessage).id, time.monotonic())

    def orders(self, many: int) -> list[Order]:
        """Return what collections says of so many meter points: enough that each rule passes."""
        now = self.clock()
        days = 86_400 * SECOND
        facts = CollectionFacts(
            now,
            "800.00",
            "CNY",
            now - 70 * days,
            (
                Notice("n1", "demand", now - 60 * days, "letter"),
                Notice("n2", "notice", now - 9 * days, "letter"),
                Notice("n3", "re-notice", now - 7200 * SECOND, "sms"),
            ),
        )
        return [Order(each, "case-7", facts) for each in self.points[:many]]


def _gateway(point: str) -> str:
    return f"gw{int(point[-6:]) % GATEWAYS}"


class Restores:
    """Requests restores one after the other all the while, and notes how long each took until it was sent."""

    def __init__(self, centre: Centre, points: list[str]) -> None:
        self._centre = centre
        self._points = points
        self._asked: list[tuple[str, float, str]] = []
        self.step = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Request them meanwhile."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        for number, point in enumerate(self._points):
            begun, step = time.monotonic(), self.step
            order = Request(Action.RESTORE, "paid", [Order(point, "case-7")])
            made = await asyncio.to_thread(self._centre.desk.request, CLERK, f"r{number}", point.encode(), order)
            self._asked.append((made.commands[0].id, begun, step))
            await asyncio.sleep(RESTORES_EACH_S)

    def delays(self) -> list[tuple[float, str]]:
        """Return how long each took that was sent, and in which step it was requested."""
        return [
            (self._centre.sent[name] - begun, step) for name, begun, step in self._asked if name in self._centre.sent
        ]


async def _measure(kind: str, state: State, many: int) -> list[Row]:
    centre = Centre(state, many)
    desk, spent = centre.desk, []
    restores = Restores(centre, centre.points[many:])

    @contextlib.contextmanager
    def step(name: str) -> Iterator[None]:
        restores.step = name
        wall, cpu = time.monotonic(), time.process_time()
        yield
        spent.append(Spent(name, time.monotonic() - wall, time.process_time() - cpu))

    stop = asyncio.Event()
    running = asyncio.create_task(centre.dispatch.run(stop))
    async with restores.running():
        wanted = Request(Action.DISCONNECT, "debt", centre.orders(many))
        with step("request"):
            made = await asyncio.to_thread(desk.request, CLERK, "k", b"raw", wanted)
        first = made.commands[0].id
        with step("sheet"):
            sheet = await asyncio.to_thread(desk.signing, ANNA, first)
        signed = [sign(sheet.payload, Kind.MANIFEST, [centre.keys[each]]) for each in ("anna", "ben")]
        with step("first approval"):
            await asyncio.to_thread(desk.approve, ANNA, first, signed[0])
        with step("last approval"):
            await asyncio.to_thread(desk.approve, ANNA, first, signed[1])
        mine = {each.id for each in made.commands}
        with step("all sent"):
            async with asyncio.timeout(WITHIN_S):
                while not mine <= centre.sent.keys():  # noqa: ASYNC110 - what is waited for happens in threads
                    await asyncio.sleep(0.05)
    stop.set()
    await running
    steps = ", ".join(f"{each.name} {each.wall_s:.1f} s (CPU {each.cpu_s:.1f} s)" for each in spent)
    note = f"{many} disconnects: {steps}; audit {_audited(state, mine):.0f} bytes per command"
    delays = restores.delays()
    written = [delay for delay, when in delays if when == "request"]
    after = [delay for delay, when in delays if when != "request"]
    return [
        _row(f"campaign ({kind})", after, note),
        _row(f"campaign, while it is requested ({kind})", written, "all of it is kept in one transaction"),
    ]


def _row(name: str, delays: list[float], note: str) -> Row:
    worst = max(delays)
    note = f"the slowest of {len(delays)} restores; {note}"
    holds = worst <= BAR_S
    return Row(name, worst, "s until a restore is sent", "the bar", BAR_S, worst / BAR_S, "ratio <= 1", holds, note)


def _audited(state: State, mine: set[str]) -> float:
    """Return how many bytes the audit has for each command."""
    size = sa.select(audit.c.subject, sa.func.length(audit.c.body))
    rows = state.read(lambda connection: connection.execute(size).all())
    return float(sum(length for subject, length in rows if subject in mine)) / len(mine)
