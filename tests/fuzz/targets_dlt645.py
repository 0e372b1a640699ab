"""Targets for DL/T 645: frames in any noise, values and times, load records, answers with follow-up frames."""

from contextlib import suppress

from collector.protocols.dlt645.events import Fields, parse_record
from collector.protocols.dlt645.frame import Frame, build_frame, parse_frame
from collector.protocols.dlt645.load_record import RecordLayout, parse_records
from collector.protocols.dlt645.reading import MAX_JOINED, checked, read
from collector.protocols.dlt645.receiver import Dlt645Receiver, Listener
from collector.protocols.dlt645.times import decode_clock, decode_stamp
from collector.protocols.dlt645.values import decode_number, encode_number, parse_format
from metering.errors import AuthError, FrameError, RefusedError

METER = "000000004321"
LIMIT = 200
LONGEST = 12 + LIMIT
LAYOUTS = (
    RecordLayout(tuple((number, 0) for number in range(1, 7))),
    RecordLayout(((4, 16),), has_checksum=False, length_counts="tail", stamp_order="high-first"),
    RecordLayout(((4, 8), (5, 0)), header=b"", trailer=b""),
)


def fuzz_dlt645_stream(data: bytes) -> None:
    """Any stream, in any pieces, ends in an answer or a named error, and little of it is kept."""
    step = data[0] % 32 + 1 if data else 1
    listener = Listener(0x13)
    receivers = [Dlt645Receiver(METER, 0x11, limit=LIMIT), Dlt645Receiver("AAAAAAAAAAAA", 0x11, b"\x00", limit=LIMIT)]
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        assert listener(piece) is None
        for receiver in list(receivers):
            try:
                found = receiver(piece)
            except FrameError:
                receivers.remove(receiver)
                continue
            assert len(receiver._scanner._buffer) <= LONGEST + step
            if found is not None:
                assert parse_frame(found).is_answer
                receivers.remove(receiver)


def _frame(data: bytes) -> None:
    """A frame comes back as it came; what is no frame is told as such."""
    with suppress(FrameError):
        frame = parse_frame(data)
        assert build_frame(*frame) == data.lstrip(b"\xfe")
        with suppress(AuthError, RefusedError):
            checked(data)


def _values(data: bytes) -> None:
    """Digits come back as they came; dates and times are times or told as none."""
    for text, signed in (("XXXXXX.XX", False), ("XX.XXXX", True), ("X.XXX", True), ("NNNN", False)):
        form = parse_format(text, signed=signed)
        part = data[: form.size]
        value, quality = decode_number(form, part)
        assert (value is None) == bool(quality)
        if value:
            assert encode_number(form, value) == part
    for size in (5, 6):
        with suppress(ValueError):
            decode_stamp(data[:size])
    with suppress(ValueError):
        decode_clock(data[:4], data[4:7])
    parse_record(Fields(0, 6), data)


def _records(data: bytes) -> None:
    """Load records are laid out as said, or told as not."""
    for layout in LAYOUTS:
        with suppress(FrameError):
            assert len(parse_records(layout, data, 16)) <= 16


def _answers(data: bytes) -> None:
    """Answers in follow-up frames end, whatever the meter says."""
    reading = read(METER, "06040002", b"\x03")
    next(reading)
    joined = at = 0
    with suppress(FrameError, StopIteration):
        for _ in range(300):
            size = data[at] % 64 if at < len(data) else 0
            piece = data[at + 1 : at + 1 + size]
            at += 1 + size
            joined += len(piece)
            control = 0xB1 if len(piece) % 7 else 0x91
            reading.send(Frame(METER, control, bytes.fromhex("02000406") + piece))
        raise AssertionError("never ends")
    assert joined <= 2 * MAX_JOINED


def fuzz_dlt645(data: bytes) -> None:
    """All that is made of bytes once they are there."""
    _frame(data)
    _values(data)
    _records(data)
    _answers(data)
