"""What becomes of a DLMS meter's answer between the meter and the wire: faults of the link. Frames nothing itself."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from metering.model import SECOND
from simulators.dlms_association import Association
from simulators.dlms_faults import DlmsFault

DEFAULT_CUT = 3  # bytes


class Answer(NamedTuple):
    """An answer's APDU, and the fault that strikes it."""

    apdu: bytes
    fault: DlmsFault | None


class Delivery(NamedTuple):
    """Bytes that go out after `after_s` seconds, or a connection that is reset."""

    data: bytes
    after_s: float = 0.0
    reset: bool = False


def answer_apdu(association: Association, apdu: bytes) -> Answer | None:
    """Return the meter's answer to an APDU; None where it has no power or does not hear."""
    meter = association.meter
    now = meter.now()
    if not apdu or not meter.has_power(now):
        return None
    fault = meter.faults.strike()
    if fault is not None and fault.kind == "silent":
        return None
    if fault is not None and fault.kind == "clock_jump":
        meter.clock.jump(now, round(fault.seconds * SECOND))
    return Answer(association.serve(apdu, now, fault), fault)


def deliver(fault: DlmsFault | None, frames: Sequence[bytes], chance: random.Random) -> Delivery:
    """Return what goes on the wire for the frames of an answer under a fault of `LINK_KINDS`."""
    whole = b"".join(frames)
    kind = fault.kind if fault is not None else ""
    if kind == "lost":
        lost = chance.randrange(len(frames))
        whole = b"".join(frame for number, frame in enumerate(frames) if number != lost)
    elif kind == "repeated":
        whole += whole
    elif kind == "truncated" and fault is not None:
        whole = whole[: -(fault.count or DEFAULT_CUT)]
    elif kind == "damaged":
        # Near the end: what says where the answer ends stays, so that it is the content that is wrong.
        place = len(whole) - min(len(whole), 4)
        whole = whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :]
    after = fault.seconds if fault is not None and kind == "late" else 0.0
    return Delivery(whole, after, reset=kind == "reset")
