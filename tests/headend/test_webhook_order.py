"""Whatever a receiver does and whoever is killed: a meter point's messages come first in their order, and all come."""

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headend import webhook_sender, webhooks
from headend.posting import Target
from headend.state.store import State
from headend.state.tables import outbox
from headend.webhook_sender import Webhook, WebhookSender
from headend.webhooks import Outbox, Outgoing, enqueue
from metering import timing
from tests.headend import sender_process
from tests.headend.receiver import Asked, Server

POINTS = ("", "MP1", "MP2", "MP3")
KILLS = 3
RUNS = itertools.count()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    opened = State.open(tmp_path_factory.mktemp("order") / "state.db")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK_S", 0.01), ("FIRST_PAUSE_S", 0.002), ("LONGEST_PAUSE_S", 0.01)):
        monkeypatch.setattr(webhook_sender, name, seconds)
    monkeypatch.setattr(webhooks, "LEASE_S", webhooks.LEASE_S)  # which a test changes


def tell(state: State, name: str, points: list[str]) -> None:
    made = [Outgoing("command", timing.now(), point, name, {"state": "verified"}) for point in points]
    state.write(lambda connection: enqueue(connection, *made))


def told(state: State, name: str) -> dict[str, list[str]]:
    """Return the ids of what this test told, by meter point, in their order."""
    query = sa.select(outbox.c.point, outbox.c.id).where(outbox.c.region == name, outbox.c.event == "command")
    rows = state.read(lambda connection: connection.execute(query.order_by(outbox.c.seq)).all())
    found: dict[str, list[str]] = {}
    for point, each in rows:
        found.setdefault(point, []).append(each)
    return found


class Receiver:
    """Takes what it is sent, and does as a script says: `ok`, `no`, `fails`, `lost` (taken, but nobody hears of it)."""

    def __init__(self, script: Iterator[str]) -> None:
        self.script = script
        self.first: dict[str, list[str]] = {}

    async def talk(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        does = next(self.script, "ok")
        if does in {"ok", "lost"}:
            self.take(asked.events())
        if does == "lost":
            writer.transport.abort()
            return
        writer.write({"ok": b"HTTP/1.1 204 OK", "no": b"HTTP/1.1 422 No"}.get(does, b"HTTP/1.1 500 No") + b"\r\n\r\n")
        await writer.drain()

    def take(self, events: list[dict[str, object]]) -> None:
        for each in events:
            ids = self.first.setdefault(str(each["point"]), [])
            if each["id"] not in ids:
                ids.append(str(each["id"]))


async def _send(state: State, name: str, batches: list[list[str]], script: list[str]) -> Receiver:
    """Tell batches while two head-ends send, and return what came."""
    box, receiver, server = Outbox(state), Receiver(iter(script)), Server()
    webhooks.LEASE_S = 0.02  # so short that two head-ends send at the same time, and overtake
    server.answers = [receiver.talk]
    box.subscribe(name)
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    hook = Webhook(name, Target.parse(f"http://127.0.0.1:{port}/"), b"secret", frozenset(("command",)))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(WebhookSender(box, [hook]).run(stop))
        for points in batches:
            await asyncio.to_thread(tell, state, name, points)
        async with asyncio.timeout(60):
            while await asyncio.to_thread(box.depth, name):
                await asyncio.sleep(0.05)
                webhooks.LEASE_S = min(10, webhooks.LEASE_S * 1.1)  # on a slow machine as well one of them gets through
        stop.set()
    listening.close()
    return receiver


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.sampled_from(POINTS), min_size=1, max_size=6), min_size=1, max_size=5),
    st.lists(st.sampled_from(("ok", "no", "fails", "lost")), max_size=30),
)
def test_two_head_ends_and_a_receiver_that_fails_as_it_likes_reorder_and_lose_nothing(
    state: State, batches: list[list[str]], script: list[str]
):
    name = f"hook {next(RUNS)}"
    receiver = asyncio.run(_send(state, name, batches, script))
    assert receiver.first == told(state, name)


async def test_nothing_is_reordered_or_lost_though_senders_are_killed_before_and_after_each_answer(tmp_path: Path):
    state = State.open(tmp_path / "state.db")
    box, server, running = Outbox(state), Server(), set[asyncio.subprocess.Process]()
    receiver = Receiver(itertools.cycle(("ok", "ok", "fails", "ok", "lost")))
    killed = 0

    async def judge(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal killed
        if killed < KILLS and len(server.asked) % 3 == 0:
            killed += 1
            if killed % 2:  # it has taken what it is told, and nobody hears of it
                receiver.take(asked.events())
            for process in running:
                process.kill()
        await receiver.talk(asked, writer)

    async def keep_one_running(port: int) -> None:
        arguments = (sender_process.__file__, str(tmp_path / "state.db"), str(port), "killed")
        while True:
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
            running.add(process)
            try:
                await process.wait()
            finally:
                running.discard(process)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    server.answers = [judge]
    box.subscribe("killed")
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    keepers = [asyncio.create_task(keep_one_running(port)) for _ in range(2)]
    points = itertools.cycle(("MP1", "MP2", "MP1", "", "MP3", "MP1", "MP2"))
    async with asyncio.timeout(120):
        while killed < KILLS or await asyncio.to_thread(box.depth, "killed"):
            if killed < KILLS:
                await asyncio.to_thread(tell, state, "killed", list(itertools.islice(points, 3)))
            await asyncio.sleep(0.3)
    for keeper in keepers:
        keeper.cancel()
    await asyncio.gather(*keepers, return_exceptions=True)
    listening.close()
    assert receiver.first == told(state, "killed")
    state.close()
