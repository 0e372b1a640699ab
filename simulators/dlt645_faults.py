"""What may go wrong with a DL/T 645 meter's answer, as parameters. Sends nothing and sleeps never."""

import random
from dataclasses import dataclass
from typing import Literal, NamedTuple

from collector.protocols.dlt645.frame import HAS_MORE, HEAD, IS_ERROR, START, Frame, build_frame
from simulators.faults import Strikes

Dlt645Kind = Literal[
    "silent",  # nothing comes
    "late",  # the answer comes after `seconds`
    "damaged",  # a wrong checksum
    "wrong_address",  # the answer names another meter
    "echo",  # the adapter gives the request back before the answer
    "lost_follow_up",  # answers to follow-up requests do not come
    "wrong_sequence",  # follow-up frames have the sequence number of the one before
    "error",  # an error answer with the byte `code`
    "lying_length",  # the length says `count` bytes more than there are (0: 100)
    "endless",  # every answer says that more follows
    "noise",  # `count` stray bytes before the answer (0: 7)
    "half",  # the second half is missing
]

DEFAULT_NOISE = 7  # bytes
DEFAULT_LIE = 100
FILLER = bytes(16)  # what an endless answer goes on with
_FOLLOW_UPS = frozenset((0x12, 0x02))
_ON_FOLLOW_UPS = frozenset(("lost_follow_up", "wrong_sequence"))


@dataclass(frozen=True)
class Dlt645Fault:
    """One fault: strikes each `every`-th request with probability `chance`, at most `times` times (0: always)."""

    kind: Dlt645Kind
    chance: float = 1.0
    every: int = 1
    times: int = 0
    seconds: float = 0.0
    code: int = 1
    count: int = 0


Dlt645Faults = Strikes[Dlt645Fault]


class Speech(NamedTuple):
    """Bytes that a meter says `after_s` seconds after its turnaround."""

    after_s: float
    data: bytes


def spoil_answer(fault: Dlt645Fault, request: Frame, answer: Frame) -> Frame:
    """Return the answer as a meter with this fault would make it; faults of the line leave it as it is."""
    function, control, data = request.control, answer.control, answer.data
    if fault.kind == "error":
        return answer._replace(control=control & ~HAS_MORE | IS_ERROR, data=bytes((fault.code,)))
    if fault.kind == "endless" and not control & IS_ERROR:
        if function in _FOLLOW_UPS:
            data = request.data[:-1] + FILLER + request.data[-1:]
        return answer._replace(control=control & ~IS_ERROR | HAS_MORE, data=data)
    if fault.kind == "wrong_sequence" and function in _FOLLOW_UPS and data:
        return answer._replace(data=data[:-1] + bytes((data[-1] - 1 & 0xFF,)))
    if fault.kind == "wrong_address":
        return answer._replace(address=f"{(int(answer.address) + 1) % 10**12:012d}")
    return answer


def answers_endlessly(fault: Dlt645Fault | None, request: Frame) -> Frame | None:
    """Return what an endless meter says to a follow-up request that it has nothing for."""
    if fault is None or fault.kind != "endless" or request.control not in _FOLLOW_UPS:
        return None
    data = request.data[:-1] + FILLER + request.data[-1:]
    return Frame(request.address, request.control | 0x80 | HAS_MORE, data)


def deliver(
    fault: Dlt645Fault | None, request: Frame, answer: Frame, chance: random.Random, *, wake: int
) -> list[Speech]:
    """Return what is heard of an answer under a fault, and when."""
    good = build_frame(answer.address, answer.control, answer.data, wake=wake)
    if fault is None or (fault.kind in _ON_FOLLOW_UPS and request.control not in _FOLLOW_UPS):
        return [Speech(0.0, good)]
    body = good[wake:]
    plain: dict[str, list[Speech]] = {
        "silent": [],
        "lost_follow_up": [],
        "late": [Speech(fault.seconds, good)],
        "damaged": [Speech(0.0, good[:-2] + bytes((good[-2] ^ 0x5A, good[-1])))],
        "echo": [Speech(0.0, build_frame(request.address, request.control, request.data) + good)],
        "lying_length": [Speech(0.0, _lie(body, fault.count or DEFAULT_LIE))],
        "noise": [Speech(0.0, chance.randbytes(fault.count or DEFAULT_NOISE) + good)],
        "half": [Speech(0.0, good[: len(good) - len(body) // 2])],
    }
    return plain.get(fault.kind, [Speech(0.0, good)])


def collide(first: bytes, second: bytes, after: int) -> bytes:
    """Return what is heard when two speak on one pair of wires, the second `after` characters later."""
    length = max(len(first), after + len(second))
    low = first.ljust(length, b"\xff")
    high = second.rjust(after + len(second), b"\xff").ljust(length, b"\xff")
    return bytes(a & b for a, b in zip(low, high, strict=True))


def _lie(body: bytes, more: int) -> bytes:
    length = bytes((min(255, body[HEAD - 1] + more),))
    lied = body[: HEAD - 1] + length + body[HEAD:-2]
    assert lied[0] == START  # noqa: S101 - a frame without its wake-up bytes
    return lied + bytes((sum(lied) & 0xFF, body[-1]))
