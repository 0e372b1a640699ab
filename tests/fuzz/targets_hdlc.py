"""Targets for what is around APDUs: HDLC frames and links, the wrapper, ciphering, mode E."""

from contextlib import suppress

from collector.protocols.dlms import ciphering, mode_e
from collector.protocols.dlms.hdlc import Frame, ServerAddress, build_frame, fcs, parse_frame, parse_parameters
from collector.protocols.dlms.hdlc_stream import HdlcReceiver, HdlcSplitter
from collector.protocols.dlms.station import MAX_BUSY, HdlcStation
from collector.protocols.dlms.station_server import HdlcServerStation
from collector.protocols.dlms.wrapper import WrapperReceiver, WrapperSplitter, wrap
from collector.protocols.parity import strip_parity
from metering.errors import FrameError, MeterError, NoAnswerError

KEY, TITLE = bytes(16), b"MGT\x00\x00\x00\x00\x01"
SERVER = ServerAddress(1, 17, 2)
READY = bytes.fromhex("7ea008210223316c227e")
LONGEST_FRAME = 0x801  # with both flags


def _checked(body: bytes) -> bytes:
    """Make a frame of any addresses, control byte and rest: flags, length and FCS put right."""
    body = body[: 0x7FF - 4]
    inner = (0xA000 | len(body) + 4).to_bytes(2, "big") + body
    return b"\x7e" + inner + fcs(inner) + b"\x7e"


def _said(destination: bytes, source: bytes, piece: bytes) -> bytes:
    """Make a frame whose segmentation bit, control byte and information field are as `piece` has them."""
    return build_frame(Frame(destination, source, piece[1], piece[2:1500], bool(piece[0] & 1)))


def fuzz_hdlc_frame(data: bytes) -> None:
    """Read a frame, as it came and with its FCS put right; what reads is built again the same."""
    for raw in (data, _checked(data)):
        with suppress(FrameError):
            frame = parse_frame(raw)
            assert build_frame(frame) == raw
            ServerAddress.from_bytes(frame.source)
    with suppress(FrameError):
        parameters = parse_parameters(data)
        assert parse_parameters(parameters.to_bytes()) == parameters


def fuzz_hdlc_stream(data: bytes) -> None:
    """Find frames in noise, in pieces; what is kept is bounded, and a good frame behind the noise is found."""
    splitter, receiver = HdlcSplitter(), HdlcReceiver(b"\x21", b"\x02\x23")
    for at in range(0, len(data), 61):
        for frame, raw in splitter.feed(data[at : at + 61]):
            assert build_frame(frame) == raw
        assert splitter.held <= LONGEST_FRAME
        with suppress(FrameError):
            receiver(data[at : at + 61])
    assert isinstance(receiver.complaint(), str)
    assert splitter.feed(bytes(LONGEST_FRAME) + READY)[-1][1] == READY


def fuzz_hdlc_link(data: bytes) -> None:
    """Let a meter say anything to a client, and a client anything to a meter: both end soon, with a named error."""
    server = HdlcServerStation(16, SERVER)
    station = HdlcStation(16, SERVER)
    opening = station.connect()
    ours = next(opening)
    for frame, _ in HdlcSplitter().feed(ours):
        with suppress(StopIteration):
            opening.send(server.take(frame).send)
    exchange = station.exchange(b"\xc0")
    next(exchange)
    pieces = [piece for piece in data.split(b"\x7e")[: 4 * MAX_BUSY] if len(piece) > 1]
    with suppress(MeterError, StopIteration):
        for piece in pieces:
            silent = NoAnswerError("no answer")
            exchange.throw(silent) if piece[0] & 2 else exchange.send(_said(b"\x21", b"\x02\x23", piece))
    for piece in pieces:
        for frame, _ in HdlcSplitter().feed(_said(b"\x02\x23", b"\x21", piece)):
            heard = server.take(frame)
            if heard.apdu is not None:
                server.respond(heard.apdu)


def fuzz_wrapper(data: bytes) -> None:
    """Cut a stream into APDUs; what is cut is wrapped again the same, and what is kept is bounded."""
    splitter, receiver = WrapperSplitter(1024), WrapperReceiver(16, 1, 1024)
    with suppress(FrameError):
        for at in range(0, len(data), 61):
            for header, apdu in splitter.feed(data[at : at + 61]):
                assert wrap(header.source, header.destination, apdu) in data
            assert splitter.held < 1024 + 8
    with suppress(FrameError):
        receiver(data)
    assert isinstance(receiver.complaint(), str)


def fuzz_ciphering(data: bytes) -> None:
    """Open a ciphered APDU and a wrapped key; what has a header is built again to the same parts."""
    with suppress(MeterError):
        closed = ciphering.parse_ciphered(data)
        assert ciphering.parse_ciphered(ciphering.build_ciphered(closed)) == closed
        ciphering.unprotect(closed.control, KEY, KEY, closed.title or TITLE, closed.counter, closed.content)
    with suppress(MeterError):
        ciphering.unwrap_key(KEY, data)


def fuzz_mode_e(data: bytes) -> None:
    """Read the lines of mode E, alone and in a stream, with and without parity."""
    for line in (data, strip_parity(data)):
        for parse in (mode_e.parse_identification, mode_e.parse_request, mode_e.parse_acknowledge):
            with suppress(FrameError):
                parse(line)
        found = mode_e.IdentificationReceiver()(line)
        if found is not None:
            mode_e.parse_identification(found)
