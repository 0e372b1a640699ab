"""The server's end of an HDLC link: UA, acknowledgements, answers in windows (Green Book 8.4.5). No wire, no time."""

from typing import NamedTuple

from collector.protocols.dlms.hdlc import (
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
from metering.errors import FrameError

_BAD_INFO = 0x04  # reason of an FRMR: the information field


class Heard(NamedTuple):
    """What a frame of the client led to: bytes to send at once, and a request that waits for `respond`."""

    send: bytes = b""
    apdu: bytes | None = None


class HdlcServerStation:
    """One link of a server with one client. `max_info` bytes and `window` frames are what it can do."""

    def __init__(
        self, client: int, server: ServerAddress, max_info: int = 128, window: int = 1, *, limit: int = LIMIT
    ) -> None:
        self._client, self._server = client_address(client), server.to_bytes()
        self._offered = Parameters(max_info, max_info, window, window)
        self._limit = limit
        self._outbox, self._inbox = Outbox(), Inbox(LLC_COMMAND, limit)
        self.agreed = Parameters()
        self.connected = False

    def take(self, frame: Frame) -> Heard:
        """Take a good frame; those between other stations lead to nothing."""
        if (frame.destination, frame.source) != (self._server, self._client):
            return Heard()
        try:
            return self._hear(frame)
        except FrameError:
            self.connected = False
            return Heard(self._frame(Kind.FRMR.value | POLL, bytes((frame.control, 0, _BAD_INFO))))

    def _hear(self, frame: Frame) -> Heard:
        if frame.kind is Kind.SNRM:
            return Heard(self._connect(frame))
        if frame.kind is Kind.DISC or not self.connected:
            kind = Kind.UA if self.connected else Kind.DM
            self.connected = False
            return Heard(self._frame(kind.value | POLL) if frame.final else b"")
        if frame.kind in (Kind.I, Kind.RR, Kind.RNR):
            self._outbox.acknowledge(frame.receive)
            if frame.kind is Kind.I:
                self._inbox.take(frame)
            if frame.final:
                apdu = self._inbox.pop()
                return Heard(b"" if apdu is not None else self._turn(), apdu)
        return Heard()

    def respond(self, apdu: bytes | None) -> bytes:
        """Return the frames that begin the answer to a request; without an answer, what only acknowledges it."""
        if apdu is not None:
            self._outbox.load(LLC_RESPONSE + apdu, self.agreed.info_transmit)
        return self._turn()

    def _connect(self, frame: Frame) -> bytes:
        self.agreed = agree(self._offered, parse_parameters(frame.info))
        self._outbox, self._inbox = Outbox(), Inbox(LLC_COMMAND, self._limit)
        self.connected = True
        return self._frame(Kind.UA.value | POLL, self.agreed.to_bytes())

    def _turn(self) -> bytes:
        """Return the next window, or what says that there is nothing to send."""
        receive = self._inbox.number
        segments = self._outbox.window(self.agreed.window_transmit)
        if not segments:
            return self._frame(supervisory(Kind.RR, receive))
        return b"".join(
            self._frame(information(part.number, receive, final=part is segments[-1]), part.info, segmented=part.more)
            for part in segments
        )

    def _frame(self, control: int, info: bytes = b"", *, segmented: bool = False) -> bytes:
        return build_frame(Frame(self._client, self._server, control, info, segmented))
