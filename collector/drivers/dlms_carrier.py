"""Carries APDUs to a meter and back over what a bus lends: the TCP wrapper, or HDLC with or without mode E. No session.

A carrier serves one conversation: it is opened, carries APDUs, and is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeVar

from collector.exchange import Answer, Exchange, Receiver, Speed, Transact
from collector.protocols.conversation import Conversation
from collector.protocols.dlms.hdlc import ServerAddress
from collector.protocols.dlms.mode_e import IdentificationReceiver, acknowledge, identify_request, parse_identification
from collector.protocols.dlms.station import HdlcStation
from collector.protocols.dlms.wrapper import MAX_APDU, WrapperReceiver, wrap
from metering.errors import FrameError, MeterError, NoAnswerError

SIGN_ON = Speed(300, "7E1")  # IEC 62056-21 clause 6.3.1
IDENTIFICATION_BYTES = 25  # of the usual identification message
MODE_E_PAUSE_S = 0.3  # the meter changes its speed, and may say so once more, before it listens (clause 6.4.3.2)
USUAL_REPLY = 128  # bytes of an answer, where nothing else is known of it
FRAME_BYTES = 14  # of an HDLC frame around its information

T = TypeVar("T")


@dataclass(frozen=True)
class DlmsLine:
    """How a meter is reached. Mode E is for serial lines alone."""

    transport: Literal["wrapper", "hdlc"]
    start: Literal["direct", "mode-e"] = "direct"


class Carrier(Protocol):
    """One conversation's way to the meter. `turnaround_s` is how long the meter usually thinks about what is asked."""

    turnaround_s: float

    async def open(self) -> None:
        """Make the way ready. Raises `MeterError`."""
        ...

    async def carry(self, apdu: bytes) -> Answer:
        """Send an APDU and return the one that answers it, with when it went out and when its answer began to be there.

        Raises `MeterError`.
        """
        ...

    async def close(self) -> None:
        """Leave the meter's line as it was found. Raises `MeterError`."""
        ...


async def drive(conversation: Conversation[T], send: Callable[[bytes], Awaitable[bytes]]) -> T:
    """Carry a pure conversation: send what it yields, give it what comes back, throw into it what went wrong."""
    try:
        request = next(conversation)
        while True:
            try:
                reply = await send(request)
            except MeterError as error:
                request = conversation.throw(error)
            else:
                request = conversation.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        conversation.close()


class WrapperCarrier:
    """The wrapper on TCP: an APDU each way. Bytes are never sent twice; `fresh` asks for a new connection first."""

    def __init__(
        self, transact: Transact, client: int, server: int, turnaround_s: float, limit: int, *, fresh: bool = False
    ) -> None:
        self._transact = transact
        self._client, self._server = client, server
        self.turnaround_s = turnaround_s
        self._limit = min(limit, MAX_APDU)
        self._fresh = fresh
        self._receiver = WrapperReceiver(client, server, self._limit)
        self._last = Answer(b"", 0, 0)

    async def open(self) -> None:
        """Do nothing: a connection is the bus's business."""

    async def carry(self, apdu: bytes) -> Answer:
        """Send one wrapped APDU; an empty one waits for the APDU after the one that came last."""
        if apdu:
            self._receiver = WrapperReceiver(self._client, self._server, self._limit)
        elif self._receiver.ready:
            return self._last._replace(pdu=self._receiver.ready.popleft())
        fresh, self._fresh = self._fresh, False
        exchange = Exchange(
            self._server,
            wrap(self._client, self._server, apdu) if apdu else b"",
            USUAL_REPLY,
            self.turnaround_s,
            self._receiver,
            once=True,
            fresh=fresh,
        )
        self._last = await self._transact(exchange)
        return self._last

    async def close(self) -> None:
        """Do nothing: the connection stays for the next conversation."""


class HdlcCarrier:
    """An HDLC link, with a mode E start before it where the line wants that.

    `speed` is the one that mode E came to the last time, and after `open` the one that it came to now.
    """

    def __init__(
        self,
        transact: Transact,
        line: DlmsLine,
        client: int,
        server: ServerAddress,
        turnaround_s: float,
        limit: int,
        *,
        info: int,
        window: int,
        fresh: bool = False,
        speed: Speed | None = None,
    ) -> None:
        self._transact = transact
        self._line = line
        self._unit = server.upper << 14 | server.lower
        self._station = HdlcStation(client, server, info, window, limit=limit)
        self.turnaround_s = turnaround_s
        self._usual = info * window
        self._fresh = fresh
        self.speed = speed
        self._first: Answer | None = None

    async def open(self) -> None:
        """Start mode E where that is how it begins, and connect the link."""
        if self._line.start == "mode-e":
            await self._start()
        # Nothing is lost where a meter hears SNRM twice: the bus may repeat it.
        await drive(self._station.connect(), partial(self._send, once=False))

    async def carry(self, apdu: bytes) -> Answer:
        """Carry one APDU, segmented as the link wants it.

        Raises `FrameError` where there is nothing to send: on HDLC a meter speaks when it is asked.
        """
        if not apdu:
            raise FrameError("the meter's answer belongs to another request")
        self._first = None
        reply = await drive(self._station.exchange(apdu), self._send)
        first = self._first
        if first is None:
            raise FrameError("an HDLC exchange without a reply")
        return Answer(reply, first.asked_at, first.answered_at)

    async def close(self) -> None:
        """Disconnect the link if it is open."""
        if self._station.connected:
            await drive(self._station.disconnect(), self._send)

    async def _send(self, frames: bytes, *, once: bool = True) -> bytes:
        agreed = self._station.agreed
        usual = min(self._usual, agreed.info_receive * agreed.window_receive) + FRAME_BYTES
        answer = await self._exchange(frames, usual, self._station.receiver(), self.speed, once=once)
        self._first = self._first or answer
        return answer.pdu

    async def _exchange(
        self, data: bytes, usual: int, receiver: Receiver | None, speed: Speed | None, *, once: bool = True
    ) -> Answer:
        fresh, self._fresh = self._fresh, False
        # The station and the session repeat what may be repeated: they know what the meter has taken.
        exchange = Exchange(self._unit, data, usual, self.turnaround_s, receiver, once=once, fresh=fresh, speed=speed)
        return await self._transact(exchange)

    async def _start(self) -> None:
        """Start mode E. A meter that has not left HDLC does not hear it: it is spoken to as it was the last time."""
        try:
            await self._sign_on()
        except NoAnswerError:
            if self.speed is None:
                raise

    async def _sign_on(self) -> None:
        """Sign on at 300 baud and change to the speed that the meter offers (IEC 62056-21 mode E, Annex E).

        Raises:
            FrameError: the meter does not offer mode E, or an unknown speed.

        """
        answer = await self._exchange(identify_request(), IDENTIFICATION_BYTES, IdentificationReceiver(), SIGN_ON)
        meter = parse_identification(answer.pdu)
        if not meter.mode_e or not meter.baud:
            raise FrameError(f"the {meter.maker} meter does not offer mode E at a speed that is known")
        await self._exchange(acknowledge(meter.baud_char), 0, None, SIGN_ON)
        self.speed = Speed(meter.baud, "8N1")
        await asyncio.sleep(MODE_E_PAUSE_S)
