"""Finds HDLC frames in what comes over a wire: noise, damage and other stations' frames are skipped. No link state."""

from collector.protocols.dlms.hdlc import (
    FLAG,
    MAX_FRAMES,
    MAX_LENGTH,
    SHORTEST,
    Frame,
    Kind,
    control_at,
    fcs,
    parse_frame,
)
from metering.errors import FrameError

_ENDS_A_REPLY = frozenset((Kind.UA, Kind.DM, Kind.FRMR))  # some stations leave out their final bit


class HdlcSplitter:
    """Cuts a stream into good frames (flags included). Keeps at most one unfinished frame.

    After damage it goes on at the next flag. `damaged` counts the frames whose check bytes did not fit.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self.damaged = 0
        self.noise = 0  # bytes outside of frames, flags not counted

    def feed(self, data: bytes) -> list[tuple[Frame, bytes]]:
        """Take the next bytes; return the frames that are whole, in their order, parsed and as they came."""
        self._held += data
        held, at = self._held, 0
        found: list[tuple[Frame, bytes]] = []
        while True:
            flag = held.find(FLAG, at)
            self.noise += (flag if flag >= 0 else len(held)) - at
            if flag < 0:
                held.clear()
                return found
            end = self._frame_end(flag)
            if end is None:
                del held[:flag]
                return found
            at = flag + 1
            if not end:
                continue
            raw = bytes(held[flag : end + 1])
            try:
                found.append((parse_frame(raw), raw))
                at = end  # the closing flag may open the next frame
            except FrameError:
                self.damaged += 1

    def _frame_end(self, flag: int) -> int | None:
        """Return where the closing flag is; 0: no frame begins at this flag; None: more bytes are needed to tell."""
        held = self._held
        if len(held) < flag + 3:
            # A byte that opens no frame tells it alone: another flag, or noise.
            return 0 if len(held) == flag + 2 and held[flag + 1] & 0xF0 != 0xA0 else None
        length = int.from_bytes(held[flag + 1 : flag + 3], "big") & MAX_LENGTH
        if held[flag + 1] & 0xF0 != 0xA0 or length < SHORTEST:
            return 0
        end = flag + 1 + length
        if end < len(held):
            return end if held[end] == FLAG else self._damage()
        return self._unless_damaged(flag, length)

    def _unless_damaged(self, flag: int, length: int) -> int | None:
        """Check the head before the rest is there: a damaged length must not swallow the frames behind it."""
        held = self._held
        try:
            control = control_at(held, flag + 1)
        except FrameError:
            return 0
        if control is None or len(held) < control + 3 or control + 2 == flag + length:
            return None
        good = fcs(bytes(held[flag + 1 : control + 1])) == held[control + 1 : control + 3]
        return None if good else self._damage()

    def _damage(self) -> int:
        self.damaged += 1
        return 0

    @property
    def held(self) -> int:
        """Return how many bytes of an unfinished frame are there."""
        return len(self._held) if len(self._held) > 1 else 0


class HdlcReceiver:
    """A `Receiver` of one reply: the frames from a server to a client up to the one with the final bit.

    Returns them as they came, one behind the other, each with both flags; `station` reads them. Frames between other
    stations, echoes of our own among them, and unnumbered information (push) are skipped. Both addresses are as they
    stand in frames.
    """

    def __init__(self, client: bytes, server: bytes) -> None:
        self._client, self._server = client, server
        self._splitter = HdlcSplitter()
        self._frames: list[bytes] = []
        self._foreign = 0

    def __call__(self, data: bytes) -> bytes | None:
        """Take the next bytes; return the whole reply once it is there, None before.

        Raises:
            FrameError: more frames than a window has, and none of them is final.

        """
        for frame, raw in self._splitter.feed(data):
            if frame.destination != self._client or frame.source != self._server or frame.kind is Kind.UI:
                self._foreign += 1
                continue
            self._frames.append(raw)
            if frame.final or frame.kind in _ENDS_A_REPLY:
                return b"".join(self._frames)
            if len(self._frames) >= MAX_FRAMES:
                raise FrameError(f"{MAX_FRAMES} HDLC frames, none of them the last")
        return None

    def complaint(self) -> str:
        """Return what came instead of a reply, in words; empty when nothing came at all."""
        counts = (
            (len(self._frames), "HDLC frames of a reply without its last one"),
            (self._splitter.damaged, "damaged HDLC frames"),
            (self._foreign, "HDLC frames of other stations"),
            (self._splitter.held, "bytes of an unfinished HDLC frame"),
            (self._splitter.noise, "bytes outside of frames"),
        )
        return ", ".join(f"{count} {what}" for count, what in counts if count)
