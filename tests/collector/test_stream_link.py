"""Streams over real sockets and pseudo-terminals; what takes time is in `test_stream_in_time.py`."""

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import pytest

from collector.exchange import Exchange, Speed
from collector.links import SerialStreamLink, TcpStreamLink
from collector.protocols.dlms.wrapper import WrapperReceiver, wrap
from collector.protocols.parity import with_parity
from metering.errors import FrameError, LinkDownError

APDU = bytes(range(40))
REQUEST = wrap(16, 1, b"\xc0\x01\xc1")
REPLY = wrap(1, 16, APDU)

Peer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def ask(*, fresh: bool = False) -> Exchange:
    return Exchange(1, REQUEST, len(REPLY), 0.01, WrapperReceiver(16, 1), fresh=fresh)


@contextlib.asynccontextmanager
async def connected(peer: Peer) -> AsyncIterator[TcpStreamLink]:
    """Return a link to an endpoint that does `peer` with each request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while request := await reader.read(4096):
                await peer(request, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = TcpStreamLink(*server.sockets[0].getsockname())
    try:
        yield link
    finally:
        await link.close()
        server.close()
        await server.wait_closed()


def says(*turns: list[bytes] | str) -> Peer:
    """Return a peer that sends the pieces of each turn, or closes; the last turn is done again and again."""
    left = list(turns)

    async def peer(request: bytes, writer: asyncio.StreamWriter) -> None:
        del request
        turn = left.pop(0) if len(left) > 1 else left[0]
        for piece in turn if isinstance(turn, list) else ():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if turn == "close":
            writer.close()

    return peer


async def test_an_answer_is_put_together_from_any_pieces():
    async with connected(says([REPLY[:3], REPLY[3:20], REPLY[20:]], [REPLY])) as link:
        for _ in range(3):
            assert await link.exchange(ask(), 5.0) == APDU
        assert link.status().connects == 1


async def test_an_answer_of_another_pair_of_ports_is_no_answer():
    async with connected(says([wrap(2, 16, b"foreign"), REPLY])) as link:
        assert await link.exchange(ask(), 5.0) == APDU


class Recorder:
    """A peer that answers well and lets the test speak besides."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        del request
        self.writers.append(writer)
        writer.write(REPLY)


async def test_what_came_between_two_exchanges_is_counted_and_never_taken_for_an_answer():
    late = wrap(1, 16, b"late")
    peer = Recorder()
    async with connected(peer) as link:
        for _ in range(3):
            assert await link.exchange(ask(), 5.0) == APDU
            peer.writers[-1].write(late)
            await peer.writers[-1].drain()
        assert link.status().strays == 2 * len(late)


async def test_what_cannot_be_followed_is_told_at_once_and_the_next_answer_comes_over_a_new_connection():
    async with connected(says([b"\x00\x02 is another version"], [REPLY])) as link:
        with pytest.raises(FrameError, match="wrapper version"):
            await link.exchange(ask(), 5.0)
        assert await link.exchange(ask(), 5.0) == APDU
        assert link.status().connects == 2


async def test_half_an_answer_ends_with_what_came_and_its_rest_never_meets_the_next():
    async with connected(says([REPLY[:-3]], [REPLY])) as link:
        link._gap_s = 0.02
        with pytest.raises(FrameError, match="45 bytes of an unfinished one"):
            await link.exchange(ask(), 0.02)
        assert await link.exchange(ask(), 5.0) == APDU
        assert link.status().connects == 2


async def test_a_peer_that_closes_within_its_answer_is_the_links_fault():
    async with connected(says([REPLY], "close", [REPLY])) as link:
        await link.exchange(ask(), 5.0)
        with pytest.raises(LinkDownError, match="closed by the other side"):
            await link.exchange(ask(), 5.0)
        assert await link.exchange(ask(), 5.0) == APDU
        assert link.status().connects == 2


async def test_a_connection_that_was_closed_while_nobody_asked_is_no_failure():
    peer = Recorder()
    async with connected(peer) as link:
        for connects in range(1, 4):
            assert await link.exchange(ask(), 5.0) == APDU
            assert link.status().connects == connects
            peer.writers[-1].close()
            await peer.writers[-1].wait_closed()


async def test_a_fresh_exchange_goes_over_a_new_connection():
    async with connected(says([REPLY])) as link:
        for fresh in (True, False, True):
            assert await link.exchange(ask(fresh=fresh), 5.0) == APDU
        assert link.status().connects == 2


async def test_an_exchange_that_was_given_up_leaves_nothing_for_the_next():
    async with connected(says([REPLY], [REPLY[:9]], [REPLY])) as link:
        await link.exchange(ask(), 5.0)
        given_up = asyncio.create_task(link.exchange(ask(), 5.0))
        while link._came != 9:  # noqa: ASYNC110 - bytes on a socket are no event of ours
            await asyncio.sleep(0.001)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        link._not_before = 0.0  # its five seconds need not be waited for here
        assert await link.exchange(ask(), 5.0) == APDU


async def test_an_endpoint_that_refuses_is_not_hammered_and_reached_again_after_the_backoff():
    async with connected(says([REPLY])) as good:
        link = TcpStreamLink("127.0.0.1", 1)
        for _ in range(2):
            with pytest.raises(LinkDownError):
                await link.exchange(ask(), 1.0)
        assert not link.reachable()
        link._make_wire = lambda _received, _lost: good._make_wire(link._received, link._lost)
        link._backoff.next_at = 0.0
        assert await link.exchange(ask(), 5.0) == APDU
        assert link.reachable()
        await link.close()


# --- serial -----------------------------------------------------------------------------------------------------------


class Line:
    """The meters' end of a pseudo-terminal: keeps what it heard, at what speed, and says what `answer` gives."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.heard: list[tuple[int, bytes]] = []
        self._answer = answer

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self.master, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)

    def _hear(self) -> None:
        data = os.read(self.master, 4096)
        self.heard.append((termios.tcgetattr(self.slave)[5], data))
        os.write(self.master, self._answer(data))

    @property
    def port(self) -> str:
        return os.ttyname(self.slave)


async def test_a_serial_line_carries_streams_and_counts_what_nobody_asked_for():
    with Line(lambda _: REPLY) as line:
        link = SerialStreamLink(line.port, 9600, "8E1", opened="8N1")
        for _ in range(2):
            assert await link.exchange(ask(), 5.0) == APDU
            os.write(line.master, b"noise")
        assert await link.exchange(ask(), 5.0) == APDU
        await link.close()
    assert link.status().strays == 2 * len(b"noise")


async def test_a_serial_port_that_vanishes_is_the_links_fault_and_is_not_hammered():
    with Line(lambda _: REPLY) as line:
        link = SerialStreamLink(line.port, 9600, "8N1")
        assert await link.exchange(ask(), 5.0) == APDU
    for _ in range(2):
        with pytest.raises(LinkDownError):
            await link.exchange(ask(), 5.0)
    assert not link.reachable()
    await link.close()


class Ends:
    """A `Receiver` of text up to the end of its line."""

    def __init__(self) -> None:
        self._text = b""

    def __call__(self, data: bytes) -> bytes | None:
        self._text += data
        return self._text if self._text.endswith(b"\r\n") else None

    def complaint(self) -> str:
        return f"{len(self._text)} characters without an end"


async def test_one_exchange_speaks_slowly_with_parity_and_the_next_at_the_lines_own_speed():
    opening, identity = b"/?!\r\n", b"/ABC5\\2WXYZ\r\n"
    with Line(lambda data: with_parity(identity) if data == with_parity(opening) else REPLY) as line:
        link = SerialStreamLink(line.port, 9600, "8N1")
        slow = Exchange(1, opening, len(identity), 0.01, Ends(), speed=Speed(300, "7E1"))
        assert await link.exchange(slow, link.timeout(slow)) == identity
        assert await link.exchange(ask(), 5.0) == APDU
        await link.close()
    assert line.heard == [(termios.B300, with_parity(opening)), (termios.B9600, REQUEST)]
