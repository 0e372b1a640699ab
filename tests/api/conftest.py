import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient
from msgspec import structs

from api.app import SERVER, create_app
from headend.audit.chain import Trail
from headend.audit.desk import AuditDesk
from headend.authority import Authority, new_authority
from headend.enrolling import Enrolling
from headend.fleet import Fleet, Live
from headend.kpi.collection import Collection
from headend.kpi.desk import CollectionDesk
from headend.policy.collections import FactsBook
from headend.policy.desk import Choice, PolicyDesk
from headend.policy.facts import Entry
from headend.policy.office import RegisterOffice
from headend.policy.registers import Registers
from headend.policy.rule_set import load_rule_set
from headend.seqs import Ledger
from headend.service import Office
from headend.state.gaps import SeqGap
from headend.state.registrar import Registrar, Wanted
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from headend.statuses import Known
from headend.supply.book import Book
from headend.supply.desk import SupplyDesk
from headend.tokens import SCOPES, TokenBook
from metering.errors import ConfigError
from metering.model import SECOND
from metering.wire import Status
from storage.codec import pack
from storage.embedded import EmbeddedStore
from storage.log import Log, Record
from storage.projection import Stored
from tests.api.example_site import ENTRIES, NOW, SWAP, Meters, Site, batches, registry, registry_lists
from trust.document import Binding, Caps, Holder, TrustDocument
from trust.keys import SigningKey


def fleet_of(state: State) -> Fleet:
    """Return a fleet of the example's meters, with one gateway that has spoken."""
    points, devices, installations = registry_lists()
    mine = [structs.replace(each, gateway=each.gateway or "gw2") for each in devices]
    Registrar(state).take_in(Wanted(["gw1", "gw2"], points, mine, installations), NOW - 3600 * SECOND)
    status = Status("gw1", "e1", "b1", "1.0", 3, 1, 12, 5, clock_offset_ms=1250, at=NOW)
    ledger = Ledger()
    for first, last in ((1, 5), (8, 9)):
        ledger.add("gw1", "e1", first, last, 0)
    live = Live({"gw1": Known("e1", status, 1.25, NOW)}, ledger)
    enrolling = Enrolling(state, Authority(*new_authority("test", NOW)), None, lambda: NOW)

    def model_of(name: str) -> tuple[str, str, int]:
        if name != "abb_b23":
            raise ConfigError(f"there is no meter model {name!r}")
        return "ABB", "B23", 0

    return Fleet(state, DatabaseRegistry(state), live, model_of, enrolling, lambda: NOW)


def supply_of(state: State) -> SupplyDesk:
    """Return the supply desk of the example: one gateway, and rules of Maryland for its customers."""
    keys = {name: str(SigningKey.generate().public) for name in ("anna", "ben", "dora")}
    document = TrustDocument(
        "gw1",
        1,
        NOW,
        1,
        (Holder("dora", keys["dora"]),),
        2,
        (Holder("anna", keys["anna"]), Holder("ben", keys["ben"])),
        Caps(10, 100, 1000),
        bindings=(Binding("p1", "m2", "200", "serial:200", SWAP),),
    )
    rules = [Choice("", "", load_rule_set("us-md"))]
    policy = PolicyDesk(rules, Registers(state), FactsBook(state), lambda point: "js/nj/st1" if point == "p1" else None)
    return SupplyDesk(Book(state), registry(), {"gw1": document}.get, policy, clock=lambda: NOW)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    store = EmbeddedStore(tmp_path / "readings.db")
    log = Log.open(tmp_path / "log")
    state = State.open(tmp_path / "state.db")
    tokens = TokenBook(state)
    meters = Meters()
    reasons: list[str] = []
    made = batches()
    store.write(made)
    log.append_now([pack(batch) for batch in made])
    collection = Collection(state, store, registry(), None, ("gw1", "e1"), lambda: NOW + 3 * 3600 * SECOND)
    collection.tick()
    records = [(Record(seq, pack(batch), NOW), batch) for seq, batch in enumerate(made, 1)]
    collection.stored(Stored(records))
    waiting = [SeqGap("gw2", "e9", 7, 8, "")]
    desk = CollectionDesk(state, registry(), lambda: waiting, lambda: {"gw1": 1.25}, lambda: NOW)
    trail = Trail(state)
    trail.write(*ENTRIES)
    since = NOW - 3600 * SECOND
    frost = Entry("w1", "hold", "p1", "weather", since, None, "frost", "met office", "token:00", {"low_c": "-9"})
    Registers(state).add(frost, "js/nj/st1", NOW)
    office = Office(
        registry(),
        store,
        log,
        tokens,
        meters.read,
        lambda: reasons,
        lambda: NOW,
        set_clock=meters.set_clock,
        measures=[desk.measures],
        collection=desk,
        supply=supply_of(state),
        audit=AuditDesk(trail),
        registers=RegisterOffice(Registers(state), FactsBook(state), registry(), lambda: NOW),
    )
    fleet = fleet_of(state)
    with TestClient(create_app(office, fleet), client=("127.0.0.1", 4711), raise_server_exceptions=False) as client:
        yield Site(office, client, store, log, tokens, meters, reasons, fleet)
    state.close()
    log.close()
    store.close()


@pytest.fixture
def all_scopes(site: Site) -> dict[str, str]:
    return site.token(*SCOPES)


@pytest.fixture
def server(site: Site) -> Iterator[str]:
    """Serve the site by a real uvicorn on loopback; the address."""
    settings = uvicorn.Config(
        create_app(site.office, site.fleet), host="127.0.0.1", port=0, log_level="warning", **SERVER
    )
    running = uvicorn.Server(settings)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    host, port = running.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    running.should_exit = True
    thread.join(10)
