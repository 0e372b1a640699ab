"""What webhooks are told, by real HTTP servers that take it, fail, hang, redirect, close, and come back."""

import asyncio
import contextlib
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from headend import posting, webhook_sender
from headend.authority import Authority, key_of_private, new_authority, new_key
from headend.posting import PostError, Target, post
from headend.state.store import State
from headend.webhook_sender import SIGNATURE, TIMESTAMP, Webhook, WebhookSender
from headend.webhooks import TRIED_S, Outbox, Outgoing, enqueue
from metering import timing
from metering.model import SECOND
from tests.headend.receiver import Answer, Asked, Server, until

SECRET = b"a planted secret"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.talk, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    monkeypatch.setattr(webhook_sender, "LOOK_S", 0.02)
    monkeypatch.setattr(webhook_sender, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(webhook_sender, "LONGEST_PAUSE_S", 0.05)
    state = State.open(tmp_path / "state.db")
    Outbox(state).subscribe("collections")
    yield state
    state.close()


def hook(server: Server, *events: str) -> Webhook:
    target = Target.parse(f"http://127.0.0.1:{server.port}/hooks?of=metergate")
    return Webhook("collections", target, SECRET, frozenset(events or ("command", "alert")))


def tell(state: State, *points: str, event: str = "command", at: int | None = None) -> None:
    stamp = timing.now() if at is None else at
    made = [Outgoing(event, stamp, point, "js/nj", {"command": "c1", "state": "verified"}) for point in points]
    state.write(lambda connection: enqueue(connection, *made))


@contextlib.asynccontextmanager
async def sending(state: State, *hooks: Webhook) -> AsyncIterator[WebhookSender]:
    sender, stop = WebhookSender(Outbox(state), hooks), asyncio.Event()
    task = asyncio.create_task(sender.run(stop))
    try:
        yield sender
    finally:
        stop.set()
        await task


async def test_a_message_comes_signed_with_what_happened(box: State, server: Server):
    tell(box, "MP1", "MP2")
    async with sending(box, hook(server)):
        await until(lambda: server.taken() == ["MP1", "MP2"])
    asked = server.asked[0]
    assert asked.line == "POST /hooks?of=metergate HTTP/1.1"
    proof = hmac.new(SECRET, f"{asked.headers[TIMESTAMP]}.".encode() + asked.body, hashlib.sha256).hexdigest()
    assert asked.headers[SIGNATURE] == f"v1={proof}"
    first = asked.events()[0]
    assert first["event"] == "command"
    assert first["body"] == {"command": "c1", "state": "verified"}
    assert SECRET not in asked.body + str(asked.headers).encode()


async def _hang(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def _drip(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        for byte in b"HTTP/1.1 200 OK\r\n" * 100:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0.05)


async def _close(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 No\r\n\r\n",
        b"HTTP/1.1 404 No\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 40_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        _hang,
        _drip,
        _close,
    ],
    ids=["fails", "unknown", "redirects", "nonsense", "endless", "interim", "hangs", "drips", "closes"],
)
async def test_what_is_not_taken_comes_again_with_the_same_ids(
    box: State, server: Server, answer: bytes | Answer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(posting, "POST_S", 0.5)
    server.answers = [answer, answer, *server.answers]
    tell(box, "MP1", "MP2", "MP3")
    async with sending(box, hook(server)):
        await until(lambda: not Outbox(box).depth("collections"))
    first, again, *taken = server.asked
    ids = [each["id"] for each in first.events()]
    assert [each["id"] for each in again.events()] == ids[:1]
    taken_ids = [each["id"] for asked in taken for each in asked.events()]
    assert sorted(map(str, taken_ids)) == sorted(map(str, ids))
    assert [each for each in taken_ids if each != ids[0]] == ids[1:]


async def test_a_server_that_is_down_gets_all_when_it_is_back(box: State):
    server = Server()
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    listening.close()
    tell(box, "MP1")
    async with sending(box, hook(server)):
        tell(box, "MP2")
        await asyncio.sleep(0.1)
        back = await asyncio.start_server(server.talk, "127.0.0.1", server.port)
        await until(lambda: not Outbox(box).depth("collections"))
        back.close()
    assert sorted(map(str, server.taken())) == ["MP1", "MP2"]


async def test_what_waited_is_sent_after_a_restart_and_what_was_taken_is_not(box: State, server: Server):
    tell(box, "MP1")
    async with sending(box, hook(server)):
        await until(lambda: not Outbox(box).depth("collections"))
    tell(box, "MP2")
    async with sending(box, hook(server)):
        await until(lambda: not Outbox(box).depth("collections"))
    assert server.taken() == ["MP1", "MP2"]


async def test_a_webhook_is_told_what_it_wants_alone(box: State, server: Server):
    tell(box, "MP1", event="alert")
    tell(box, "MP2")
    async with sending(box, hook(server, "command")):
        await until(lambda: not Outbox(box).depth("collections"))
    assert server.taken() == ["MP2"]


async def test_a_message_that_a_server_cannot_take_does_not_stop_all_others(
    box: State, server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhook_sender, "MAX_REFUSALS", 3)

    async def judge(asked: Asked, writer: asyncio.StreamWriter) -> None:
        bad = any(each["point"] == "bad" for each in asked.events())
        writer.write(b"HTTP/1.1 422 No\r\n\r\n" if bad else b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()

    server.answers = [judge]
    tell(box, "MP1", "bad", "MP2")
    async with sending(box, hook(server)) as sender:
        await until(lambda: not Outbox(box).depth("collections"))
        assert sender.given_up == {"collections": 1}
        assert [each.value for each in sender.measures()] == [1, 0, 0]
    alert = server.asked[-1].events()[0]
    assert (server.taken()[-1], alert["event"]) == ("", "alert")
    assert alert["body"] == {
        "alert": "a webhook never took messages",
        "webhook": "collections",
        "messages": 1,
        "first": next(each["id"] for asked in server.asked for each in asked.events() if each["point"] == "bad"),
        "point": "bad",
    }


async def test_what_is_too_old_is_given_up_and_counted(box: State, server: Server):
    tell(box, "MP1", at=timing.now() - (TRIED_S + 1) * SECOND)
    tell(box, "MP2")
    async with sending(box, hook(server)) as sender:
        await until(lambda: not Outbox(box).depth("collections"))
    assert server.taken() == ["MP2", ""]
    assert sender.given_up == {"collections": 1}


@pytest.mark.parametrize("trouble", ["refuses", "fails", "hangs", "closes"])
async def test_a_message_that_fails_holds_up_only_its_own_meter_point(
    box: State, server: Server, monkeypatch: pytest.MonkeyPatch, trouble: str
):
    monkeypatch.setattr(posting, "POST_S", 0.5)
    monkeypatch.setattr(webhook_sender, "MAX_REFUSALS", 1_000_000)  # none is given up, however long this takes
    healed = asyncio.Event()

    async def judge(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if not healed.is_set() and any(each["point"] == "bad" for each in asked.events()):
            if trouble == "hangs":
                return await _hang(asked, writer)
            if trouble == "closes":
                return await _close(asked, writer)
            writer.write(b"HTTP/1.1 422 No\r\n\r\n" if trouble == "refuses" else b"HTTP/1.1 500 No\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            taken.extend((str(each["point"]), str(each["id"])) for each in asked.events())
        return await writer.drain()

    taken: list[tuple[str, str]] = []
    server.answers = [judge]
    tell(box, "MP1", "bad", "MP2", "bad", "MP1")
    async with sending(box, hook(server)):
        await until(lambda: len(taken) == 3)
        tell(box, "bad", "MP3")
        await until(lambda: len(taken) == 4)
        assert [point for point, _ in taken] == ["MP1", "MP2", "MP1", "MP3"]
        await until(lambda: Outbox(box).depth("collections") == 3)
        healed.set()
        await until(lambda: not Outbox(box).depth("collections"))
    assert [point for point, _ in taken[4:]] == ["bad"] * 3
    assert len({name for _, name in taken}) == 7


async def test_a_webhook_that_hangs_keeps_no_other_waiting(box: State, server: Server):
    other = Server()
    listening = await asyncio.start_server(other.talk, "127.0.0.1", 0)
    other.port = listening.sockets[0].getsockname()[1]
    server.answers = [_hang]
    Outbox(box).subscribe("field-work")
    tell(box, "MP1")
    async with sending(box, hook(server), hook(other)._replace(name="field-work")):
        await until(lambda: bool(server.asked) and not Outbox(box).depth("field-work"))
    listening.close()
    assert other.taken() == ["MP1"]
    assert Outbox(box).depth("collections") == 1


# --- where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://collections.example/x",
        "http://192.0.2.1/x",
        "ftp://127.0.0.1/x",
        "https://user:word@collections.example/",
        "https:///x",
        "https://a.example/x y",
        "https://a.example/\r\nX: y",
    ],
    ids=["plain", "address", "scheme", "user", "nowhere", "space", "lines"],
)
def test_only_https_or_this_machine(url: str):
    with pytest.raises(ValueError, match=r"https|user"):
        Target.parse(url)


async def test_a_server_must_prove_who_it_is(tmp_path: Path):
    ca, ca_key = new_authority("metergate test", timing.now())
    key = new_key()
    signed = Authority(ca, ca_key).sign_server("hooks", key_of_private(key), timing.now(), ["localhost"])
    (tmp_path / "ca.pem").write_bytes(ca)
    (tmp_path / "server.pem").write_bytes(key + signed.pem.encode())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.pem")
    server = Server()
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    known = str(tmp_path / "ca.pem")
    assert await post(Target.parse(f"https://localhost:{port}", known), {}, b"{}") == 204
    with pytest.raises(PostError, match=r"self-signed|unable to get"):
        await post(Target.parse(f"https://localhost:{port}"), {}, b"{}")
    with pytest.raises(PostError, match="mismatch"):
        await post(Target.parse(f"https://127.0.0.1:{port}", known), {}, b"{}")
    assert len(server.asked) == 1
    listening.close()
