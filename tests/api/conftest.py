import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from api.app import SERVER, create_app
from headend.kpi.collection import Collection
from headend.kpi.desk import CollectionDesk
from headend.service import Office
from headend.state.gaps import SeqGap
from headend.state.store import State
from headend.tokens import SCOPES, TokenBook
from metering.model import SECOND
from storage.codec import pack
from storage.embedded import EmbeddedStore
from storage.log import Log, Record
from storage.projection import Stored
from tests.api.example_site import NOW, Meters, Site, batches, registry


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
    )
    with TestClient(create_app(office), client=("127.0.0.1", 4711), raise_server_exceptions=False) as client:
        yield Site(office, client, store, log, tokens, meters, reasons)
    state.close()
    log.close()
    store.close()


@pytest.fixture
def all_scopes(site: Site) -> dict[str, str]:
    return site.token(*SCOPES)


@pytest.fixture
def server(site: Site) -> Iterator[str]:
    """Serve the site by a real uvicorn on loopback; the address."""
    settings = uvicorn.Config(create_app(site.office), host="127.0.0.1", port=0, log_level="warning", **SERVER)
    running = uvicorn.Server(settings)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    host, port = running.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    running.should_exit = True
    thread.join(10)
