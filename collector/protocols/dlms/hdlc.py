"""HDLC frames of DLMS/COSEM (IEC 62056-46, Green Book 8.4): build, check, find them in noise. Knows no link state.

Frames of type 3: the length in the format field tells where a frame ends, no byte is stuffed, and one flag may close a
frame and open the next.
"""

from binascii import crc_hqx
from enum import Enum
from typing import NamedTuple, Self

from metering.errors import FrameError

FLAG = 0x7E
MAX_LENGTH = 0x7FF  # of a frame without its flags: the format field has eleven bits
MAX_INFO = 2030  # of an information field, Green Book 8.4.5.4.3
MAX_WINDOW = 7
MAX_FRAMES = 16  # of one reply: a full window, each frame of it twice
DEFAULT_INFO = 128
DEFAULT_WINDOW = 1
POLL = 0x10  # the poll/final bit of the control byte
SEGMENTED = 0x0800
_TYPE_3 = 0xA000
SHORTEST = 7  # format 2, addresses 1 and 1, control 1, FCS 2
_PARAMETERS = b"\x81\x80"

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_REVERSED_NOT = bytes(byte ^ 0xFF for byte in _REVERSED)


def fcs(data: bytes) -> bytes:
    """Return the two check bytes (CRC-16/X-25) in the order in which they are sent; HCS and FCS alike.

    The standard library computes the same polynomial high bit first; bytes reversed before and after make it ours.
    """
    return crc_hqx(data.translate(_REVERSED), 0xFFFF).to_bytes(2, "big").translate(_REVERSED_NOT)


# --- addresses and control bytes -------------------------------------------------------------------------------------


def client_address(client: int) -> bytes:
    """Return the address byte of a client (1 to 127). Raises `ValueError` for others."""
    if not 1 <= client <= 0x7F:
        raise ValueError(f"client address {client} is not 1 to 127")
    return bytes((client << 1 | 1,))


class ServerAddress(NamedTuple):
    """A server's upper (logical) and lower (physical) address in 1, 2 or 4 bytes; one byte has no lower address."""

    upper: int
    lower: int = 0
    size: int = 1

    def to_bytes(self) -> bytes:
        """Return the address as it stands in a frame. Raises `ValueError` where a part does not fit its bits."""
        if self.size not in (1, 2, 4) or (self.size == 1 and self.lower):
            raise ValueError(f"server address {self.upper}/{self.lower} does not go into {self.size} bytes")
        if not (0 <= self.upper < 1 << (14 if self.size == 4 else 7)) or not (
            0 <= self.lower < 1 << (14 if self.size == 4 else 7)
        ):
            raise ValueError(f"server address {self.upper}/{self.lower} does not go into {self.size} bytes")
        if self.size == 1:
            return bytes((self.upper << 1 | 1,))
        if self.size == 2:
            return bytes((self.upper << 1, self.lower << 1 | 1))
        return bytes(
            (self.upper >> 7 << 1, (self.upper & 0x7F) << 1, self.lower >> 7 << 1, (self.lower & 0x7F) << 1 | 1)
        )

    @classmethod
    def from_bytes(cls, address: bytes) -> Self:
        """Return the address that stands in a frame. Raises `FrameError` where it is not of 1, 2 or 4 bytes."""
        if len(address) not in (1, 2, 4) or [byte & 1 for byte in address] != [0] * (len(address) - 1) + [1]:
            raise FrameError(f"{address.hex() or 'nothing'} is no HDLC address")
        seven = [byte >> 1 for byte in address]
        if len(seven) == 1:
            return cls(seven[0])
        if len(seven) == 2:
            return cls(seven[0], seven[1], 2)
        return cls(seven[0] << 7 | seven[1], seven[2] << 7 | seven[3], 4)


class Kind(Enum):
    """What a control byte says, poll/final bit and sequence numbers left out (Green Book table 33)."""

    I = 0x00  # noqa: E741 - the standard's name
    RR = 0x01
    RNR = 0x05
    SNRM = 0x83
    DISC = 0x43
    UA = 0x63
    DM = 0x0F
    FRMR = 0x87
    UI = 0x03


_UNNUMBERED = frozenset((Kind.SNRM, Kind.DISC, Kind.UA, Kind.DM, Kind.FRMR, Kind.UI))


def _kinds() -> dict[int, Kind]:
    kinds = dict.fromkeys(range(0, 256, 2), Kind.I)
    kinds |= {byte | kind.value: kind for kind in (Kind.RR, Kind.RNR) for byte in range(0, 256, 16)}
    return kinds | {kind.value | poll: kind for kind in _UNNUMBERED for poll in (0, POLL)}


_KIND_OF = _kinds()


def information(send: int, receive: int, *, final: bool) -> int:
    """Return the control byte of an I frame with N(S) and N(R), modulo 8."""
    return (receive & 7) << 5 | (POLL if final else 0) | (send & 7) << 1


def supervisory(kind: Kind, receive: int) -> int:
    """Return the control byte of an RR or RNR with N(R), modulo 8, poll/final set."""
    return (receive & 7) << 5 | POLL | kind.value


class Frame(NamedTuple):
    """One frame. Addresses are as they stand in it: `client_address`, `ServerAddress.to_bytes`."""

    destination: bytes
    source: bytes
    control: int
    info: bytes = b""
    segmented: bool = False

    @property
    def kind(self) -> Kind:
        """Return what the frame is."""
        return _KIND_OF[self.control]

    @property
    def final(self) -> bool:
        """Tell whether the poll/final bit is set."""
        return bool(self.control & POLL)

    @property
    def send(self) -> int:
        """Return N(S) of an I frame."""
        return self.control >> 1 & 7

    @property
    def receive(self) -> int:
        """Return N(R) of an I, RR or RNR frame."""
        return self.control >> 5


def build_frame(frame: Frame) -> bytes:
    """Return the frame with both flags. Raises `ValueError` where the information field is too long for one."""
    head = 2 + len(frame.destination) + len(frame.source) + 1
    length = head + (len(frame.info) + 4 if frame.info else 2)
    if length > MAX_LENGTH:
        raise ValueError(f"{len(frame.info)} bytes of information do not go into one frame")
    form = _TYPE_3 | (SEGMENTED if frame.segmented else 0) | length
    body = form.to_bytes(2, "big") + frame.destination + frame.source + bytes((frame.control,))
    if frame.info:
        body += fcs(body) + frame.info
    return b"\x7e" + body + fcs(body) + b"\x7e"


def parse_frame(raw: bytes) -> Frame:
    """Return the one frame, flags included, that `raw` is.

    Raises:
        FrameError: flags, format, length, addresses, control byte, HCS or FCS are wrong.

    """
    if len(raw) < SHORTEST + 2 or raw[0] != FLAG or raw[-1] != FLAG:
        raise FrameError("not between two flags, or too short for an HDLC frame")
    form = int.from_bytes(raw[1:3], "big")
    if form & 0xF000 != _TYPE_3 or form & MAX_LENGTH != len(raw) - 2:
        raise FrameError(f"HDLC format field is {form:04x} in a frame of {len(raw) - 2} bytes")
    if fcs(raw[1:-3]) != raw[-3:-1]:
        raise FrameError("FCS of an HDLC frame is wrong")
    at = control_at(raw, 1)
    if at is None:
        raise FrameError("an HDLC frame ends before its control byte")
    if raw[at] not in _KIND_OF:
        raise FrameError(f"HDLC control byte {raw[at]:02x} is not known")
    rest = raw[at + 1 : -1]  # the FCS alone, or HCS, information and FCS
    if len(rest) != 2 and (len(rest) < 5 or fcs(raw[1 : at + 1]) != rest[:2]):
        raise FrameError("HCS of an HDLC frame is wrong")
    middle = _address_end(raw, 3)
    return Frame(raw[3:middle], raw[middle:at], raw[at], rest[2:-2], bool(form & SEGMENTED))


def control_at(raw: bytes | bytearray, form_at: int) -> int | None:
    """Return where the control byte stands in a frame whose format field is at `form_at`; None: it is not there yet.

    Raises:
        FrameError: an address that is not of 1, 2 or 4 bytes.

    """
    at = _address_end(raw, form_at + 2)
    at = _address_end(raw, at) if at is not None else None
    return at if at is not None and at < len(raw) else None


def _address_end(raw: bytes | bytearray, at: int) -> int | None:
    for length, byte in enumerate(raw[at : at + 4], start=1):
        if byte & 1:
            if length == 3:
                raise FrameError("an HDLC address of 3 bytes")
            return at + length
    if len(raw) >= at + 4:
        raise FrameError("an HDLC address ends nowhere")
    return None


# --- what SNRM and UA negotiate --------------------------------------------------------------------------------------


class Parameters(NamedTuple):
    """Longest information field (bytes) and window (frames), both as the sender of the frame sends and receives."""

    info_transmit: int = DEFAULT_INFO
    info_receive: int = DEFAULT_INFO
    window_transmit: int = DEFAULT_WINDOW
    window_receive: int = DEFAULT_WINDOW

    def to_bytes(self) -> bytes:
        """Return the information field of an SNRM or UA; empty where everything is as it is by default."""
        if self == Parameters():
            return b""
        body = b""
        for tag, value in ((5, self.info_transmit), (6, self.info_receive)):
            size = 1 if value < 0x100 else 2
            body += bytes((tag, size)) + value.to_bytes(size, "big")
        for tag, value in ((7, self.window_transmit), (8, self.window_receive)):
            body += bytes((tag, 4)) + value.to_bytes(4, "big")
        return _PARAMETERS + bytes((len(body),)) + body


def parse_parameters(info: bytes) -> Parameters:
    """Return what the information field of an SNRM or UA says; unknown parameters are skipped, missing ones default.

    Raises:
        FrameError: not a parameter field, lengths that do not fit, or values out of range.

    """
    if not info:
        return Parameters()
    if len(info) < 3 or info[:2] != _PARAMETERS or 3 + info[2] > len(info):
        raise FrameError("the parameters of an HDLC link are malformed")
    found = {5: DEFAULT_INFO, 6: DEFAULT_INFO, 7: DEFAULT_WINDOW, 8: DEFAULT_WINDOW}
    at, end = 3, 3 + info[2]
    while at < end:
        if at + 2 > end or at + 2 + info[at + 1] > end:
            raise FrameError("the parameters of an HDLC link end in the middle of one")
        tag, size = info[at], info[at + 1]
        if tag in found:
            found[tag] = int.from_bytes(info[at + 2 : at + 2 + size], "big")
        at += 2 + size
    if not (found[5] and found[6] and 1 <= found[7] <= MAX_WINDOW and 1 <= found[8] <= MAX_WINDOW):
        raise FrameError(f"an HDLC link of {found[5]}/{found[6]} bytes and window {found[7]}/{found[8]} cannot be")
    return Parameters(min(found[5], MAX_INFO), min(found[6], MAX_INFO), found[7], found[8])


def agree(ours: Parameters, theirs: Parameters) -> Parameters:
    """Return what holds for us after both ends have said what they can do: the less of each."""
    return Parameters(
        min(ours.info_transmit, theirs.info_receive),
        min(ours.info_receive, theirs.info_transmit),
        min(ours.window_transmit, theirs.window_receive),
        min(ours.window_receive, theirs.window_transmit),
    )
