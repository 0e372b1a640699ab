"""What gives back while the database does not answer: it leaves, and joins state and audit later."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench.postgres_server import PostgresServer
from headend.audit.verify import verify
from headend.state import store
from headend.state.store import State as Database
from headend.supply.signatures import NotAcceptedError
from headend.tokens import REMEMBERED_S, Grant, TokenBook
from metering import timing
from metering.errors import StorageError
from metering.model import SECOND
from metering.supply import Action
from metering.supply_states import Cause, State
from tests.headend.supply.centre import ANNA, CLERK, Centre
from trust.authority import Authority
from trust.signatures import Kind, sign

PATIENCE_S = 1.0  # the state's, so that a test does not wait for a server that it stopped itself


class Site:
    """A database server that a test stops, and the centre on it."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server = server
        self.database = Database.open(self.server.fresh())
        self.kept = folder / "kept.jsonl"
        self.centre = Centre(self.database, service=True, kept=self.kept)

    async def step(self) -> list[str]:
        """Take steps that may fail, and return which commands left."""
        self.centre.sent = []
        for _ in range(2):
            try:
                await self.centre.dispatch.step()
            except StorageError:
                continue
        return [message.id for _, message in self.centre.sent]


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server for these tests alone, which each of them leaves running."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def site(own_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(store, "PATIENCE_S", PATIENCE_S)
    made = Site(own_server, tmp_path)
    yield made
    made.database.close()


@pytest.mark.real
async def test_a_paid_restore_leaves_while_the_database_is_stopped_and_joins_the_chain_later(site: Site):
    centre = site.centre
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands
    before = centre.book.numbers("gw1", 1)
    site.server.stop("immediate")
    with pytest.raises(StorageError):
        centre.request(Action.DISCONNECT, "MP-2", key="k2")
    (view,) = centre.request(Action.RESTORE, "MP-1", key="k3", reason="paid").commands
    assert (view.state, view.missing) == ("approved", [])
    assert centre.request(Action.RESTORE, "MP-1", key="k3", reason="paid").commands == [view]
    assert await site.step() == [view.id]
    command = Authority(centre.document).authorise(centre.sent[0][1]).command
    assert command.seq > before
    assert centre.desk.view(CLERK, view.id).state == "sent"
    with pytest.raises(StorageError):
        centre.say(view.id, "accepted", Cause.GATEWAY_ACCEPTED)

    site.server.start()
    centre.say(view.id, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.say(view.id, "verified", Cause.AS_ASKED)
    assert centre.state(view.id) is State.VERIFIED
    assert centre.state(cut.id) is State.SUPERSEDED
    assert [kind for kind, _ in centre.entries(view.id)] == [
        "command-requested",
        "command-awaiting-approval",
        "command-approved",
        "command-queued",
        "command-sent",
        "command-accepted",
        "command-verified",
    ]
    assert verify(centre.trail.all(), []).findings == []
    assert site.kept.read_bytes() == b""
    assert centre.book.numbers("gw1", 1) > command.seq
    assert centre.request(Action.RESTORE, "MP-1", key="k3", reason="paid").commands[0].id == view.id
    assert await site.step() == []


@pytest.mark.real
async def test_a_person_approves_a_restore_while_the_database_is_stopped(site: Site):
    centre = site.centre
    site.server.stop("immediate")
    (view,) = centre.request(Action.RESTORE, "MP-1", reason="request").commands
    assert (view.state, view.missing) == ("awaiting-approval", ["1 approvals"])
    assert await site.step() == []
    payload = centre.desk.signing(ANNA, view.id).payload
    with pytest.raises(NotAcceptedError, match="requested"):
        centre.desk.approve(CLERK, view.id, sign(payload, Kind.COMMAND, [centre.keys["anna"]]))
    with pytest.raises(NotAcceptedError):
        centre.desk.approve(ANNA, view.id, sign(payload, Kind.COMMAND, [centre.keys["dora"]]))
    (view,) = centre.desk.approve(ANNA, view.id, sign(payload, Kind.COMMAND, [centre.keys["anna"]])).commands
    assert view.state == "approved"
    assert await site.step() == [view.id]
    site.server.start()
    await site.step()
    assert centre.state(view.id) is State.SENT


@pytest.mark.real
async def test_a_head_end_that_was_killed_meanwhile_joins_what_it_had_kept(site: Site):
    site.server.stop("immediate")
    (view,) = site.centre.request(Action.RESTORE, "MP-1", reason="paid").commands
    site.server.start()
    again = Centre(site.database, service=True, kept=site.kept)
    again.document = site.centre.document
    assert [message.id for _, message in await again.step()] == [view.id]
    assert again.state(view.id) is State.SENT


def test_what_joined_before_a_crash_joins_once(state: Database, tmp_path: Path):
    centre = Centre(state, service=True, kept=tmp_path / "kept.jsonl")
    remembered = msgspec.structs.replace(CLERK, remembered=True)
    (view,) = centre.request(Action.RESTORE, "MP-1", reason="paid", grant=remembered).commands
    raw = (tmp_path / "kept.jsonl").read_bytes()
    assert centre.desk.join() == 1
    (tmp_path / "kept.jsonl").write_bytes(raw)
    again = Centre(state, service=True, kept=tmp_path / "kept.jsonl")
    assert again.desk.join() == 1
    assert [kind for kind, _ in again.entries(view.id)].count("command-requested") == 1


def test_who_is_only_remembered_can_give_back_and_nothing_else(state: Database, tmp_path: Path):
    centre = Centre(state, service=True, kept=tmp_path / "kept.jsonl")
    remembered = msgspec.structs.replace(CLERK, remembered=True)
    for action, points in ((Action.DISCONNECT, ["MP-1"]), (Action.READ_STATE, ["MP-1"])):
        with pytest.raises(StorageError):
            centre.request(action, *points, grant=remembered)
    with pytest.raises(StorageError):
        centre.request(Action.RESTORE, "MP-1", "MP-2", grant=remembered)


@pytest.mark.real
def test_a_token_that_was_verified_in_the_last_day_is_remembered_while_the_database_is_stopped(site: Site):
    book = TokenBook(site.database)
    known, unknown = (book.create(name, ["commands:request"], ["js"]) for name in ("known", "unknown"))
    revoked = book.create("revoked", ["commands:request"], ["js"])
    now = timing.now()
    grant = Grant(known[3:11], "known", frozenset({"commands:request"}), ("js",), person="known")
    assert book.verify(known, now) == grant
    assert book.verify(revoked, now) is not None
    book.revoke(revoked[3:11])
    assert book.verify(revoked, now) is None
    site.server.stop("immediate")
    grant = book.verify(known, now + SECOND)
    assert grant is not None
    assert grant.remembered
    wrong = f"{known[:-1]}{'A' if known[-1] != 'A' else 'B'}"
    for text, at in ((unknown, now), (revoked, now), (wrong, now), (known, now + REMEMBERED_S * SECOND)):
        with pytest.raises(StorageError):
            book.verify(text, at)
    site.server.start()
