"""The client's end of an HDLC link (Green Book 8.4.5 and 8.4.6): connect, exchange APDUs, disconnect. No wire, no time.

Conversations yield frames to send and are sent the frames of the reply (see `HdlcReceiver`). What is lost is asked for
by its number: an I frame goes out again only where the meter's N(R) says that it has not taken it, so that the meter
takes every APDU at most once, however often answers are late or lost.
"""

from collections.abc import Generator
from enum import Enum, auto

from collector.protocols.conversation import Conversation
from collector.protocols.dlms.errors import BusyMeterError, LinkClosedError
from collector.protocols.dlms.hdlc import (
    MAX_INFO,
    MAX_WINDOW,
    POLL,
    Frame,
    Kind,
    Parameters,
    ServerAddress,
    agree,
    build_frame,
    client_address,
    information,
    parse_parameters,
    supervisory,
)
from collector.protocols.dlms.hdlc_link import LIMIT, LLC_COMMAND, LLC_RESPONSE, Inbox, Outbox
from collector.protocols.dlms.hdlc_stream import HdlcReceiver, HdlcSplitter
from metering.errors import FrameError, NoAnswerError

MAX_POLLS = 3  # steps one after the other that brought an exchange no further
MAX_BUSY = 50  # polls one after the other that the meter answered with "not ready" or "nothing yet"
MAX_FOREIGN = 3  # replies to SNRM or DISC that are late ones to something else


class _Reply(Enum):
    """What a reply did for an exchange."""

    FORWARD = auto()  # something was acknowledged, or a segment came
    BUSY = auto()  # the meter has everything and no answer yet, or is not ready
    AGAIN = auto()  # the meter has not taken what it was sent
    NOTHING = auto()  # late frames, or none


class HdlcStation:
    """One link from a client to a server. `max_info` bytes and `window` frames are proposed for both directions."""

    def __init__(
        self, client: int, server: ServerAddress, max_info: int = 128, window: int = 1, *, limit: int = LIMIT
    ) -> None:
        if not 1 <= max_info <= MAX_INFO or not 1 <= window <= MAX_WINDOW:
            raise ValueError(f"an HDLC link of {max_info} bytes and window {window} cannot be")
        self._client, self._server = client_address(client), server.to_bytes()
        self._proposed = Parameters(max_info, max_info, window, window)
        self._limit = limit
        self._outbox, self._inbox = Outbox(), Inbox(LLC_RESPONSE, limit)
        self.agreed = Parameters()
        self.connected = False

    def receiver(self) -> HdlcReceiver:
        """Return a new receiver for the next reply."""
        return HdlcReceiver(self._client, self._server)

    def connect(self) -> Conversation[None]:
        """Open the link: SNRM, and what the UA agrees to.

        Raises:
            BusyMeterError: the meter takes no link now (DM).
            FrameError: something else came, or parameters that cannot be.

        """
        self.connected = False
        answer = yield from self._unnumbered(Kind.SNRM, self._proposed.to_bytes())
        if answer.kind is Kind.DM:
            raise BusyMeterError("the meter takes no HDLC link now (DM)", code=answer.control)
        self.agreed = agree(self._proposed, parse_parameters(answer.info))
        self._outbox, self._inbox = Outbox(), Inbox(LLC_RESPONSE, self._limit)
        self.connected = True

    def disconnect(self) -> Conversation[None]:
        """Close the link: DISC. It counts as closed whatever becomes of it. Raises `FrameError` as `connect`."""
        self.connected = False
        yield from self._unnumbered(Kind.DISC)

    def exchange(self, apdu: bytes) -> Conversation[bytes]:
        """Send an APDU and return the APDU that answers it, segmented and acknowledged both ways.

        Time-outs and unreadable replies (`NoAnswerError` and `FrameError` thrown in) are met by polling the meter.
        After any error the link counts as closed.

        Raises:
            LinkClosedError: not connected, or the meter has closed the link (DM).
            BusyMeterError: the meter does not get ready.
            FrameError: the meter rejected a frame (FRMR), or what it sends is not an answer.
            NoAnswerError: nothing came, polls included.

        """
        if not self.connected:
            raise LinkClosedError("the HDLC link is not open")
        self.connected = False
        self._outbox.load(LLC_COMMAND + apdu, self.agreed.info_transmit)
        fruitless = busy = 0
        request = self._window()
        while True:
            did, missed = _Reply.NOTHING, None
            try:
                reply = yield request
            except (NoAnswerError, FrameError) as error:
                missed = error
            else:
                did = self._take(reply)
            answer = self._inbox.pop()
            if answer is not None:
                self.connected = True
                return answer
            busy = busy + 1 if did is _Reply.BUSY else 0
            fruitless = fruitless + 1 if did in (_Reply.AGAIN, _Reply.NOTHING) else 0
            if busy > MAX_BUSY:
                raise BusyMeterError("the meter does not get ready to answer", code=Kind.RNR.value)
            if fruitless > MAX_POLLS:
                raise missed or FrameError("the meter's HDLC frames bring the exchange no further")
            sends = len(self._outbox) and did in (_Reply.FORWARD, _Reply.AGAIN)
            request = self._window() if sends else self._frame(supervisory(Kind.RR, self._inbox.number))

    def _take(self, reply: bytes) -> _Reply:
        """Take the frames of a reply and tell what they did."""
        did = _Reply.NOTHING
        for frame in self._frames(reply):
            if frame.kind in (Kind.DM, Kind.FRMR):
                raise _closed(frame)
            if frame.kind not in (Kind.I, Kind.RR, Kind.RNR):
                continue
            steps = self._outbox.acknowledge(frame.receive)
            if steps is None:
                continue
            # No answer to what the meter has not wholly taken: such an I frame is an old one.
            took = frame.kind is Kind.I and not self._outbox and self._inbox.take(frame)
            if frame.kind is Kind.RNR:
                did = _Reply.BUSY
            elif steps or took:
                did = _Reply.FORWARD
            elif frame.kind is Kind.RR and did is _Reply.NOTHING:
                did = _Reply.AGAIN if self._outbox else _Reply.BUSY
        return did

    def _unnumbered(self, kind: Kind, info: bytes = b"") -> Generator[bytes, bytes, Frame]:
        for _ in range(MAX_FOREIGN):
            for frame in self._frames((yield self._frame(kind.value | POLL, info))):
                if frame.kind in (Kind.UA, Kind.DM):
                    return frame
                if frame.kind is Kind.FRMR:
                    raise _closed(frame)
        raise FrameError(f"the meter answers {kind.name} with something else")

    def _window(self) -> bytes:
        segments = self._outbox.window(self.agreed.window_transmit)
        return b"".join(
            self._frame(
                information(segment.number, self._inbox.number, final=segment is segments[-1]),
                segment.info,
                segmented=segment.more,
            )
            for segment in segments
        )

    def _frame(self, control: int, info: bytes = b"", *, segmented: bool = False) -> bytes:
        return build_frame(Frame(self._server, self._client, control, info, segmented))

    def _frames(self, reply: bytes) -> list[Frame]:
        found = HdlcSplitter().feed(reply)
        return [frame for frame, _ in found if (frame.destination, frame.source) == (self._client, self._server)]


def _closed(frame: Frame) -> LinkClosedError | FrameError:
    if frame.kind is Kind.DM:
        return LinkClosedError("the meter has closed the HDLC link (DM)")
    # ISO/IEC 13239 5.5.3.4.2: three bytes, the reasons are bits of the last.
    reasons = ("its control byte", "information where none may be", "too long information", "its number N(R)")
    bits = frame.info[2] if len(frame.info) > 2 else 0
    said = " and ".join(reason for bit, reason in enumerate(reasons) if bits >> bit & 1)
    return FrameError(f"the meter rejects our HDLC frame for {said or 'a reason that it does not tell'} (FRMR)")
