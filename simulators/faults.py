"""Faults as parameters: when one strikes, and what it does to an answer's bytes. Sends nothing and sleeps never.

`Faults.strike()` decides for each request; `deliver()` turns a good reply into the pieces that go on the wire.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar, get_args

from collector.protocols.modbus import exception_reply
from collector.protocols.modbus_adu import rtu_frame, tcp_frame

LinkKind = Literal[
    "no_answer",  # nothing comes
    "late",  # the answer comes after `seconds`
    "other_transaction",  # TCP: another transaction id; serial: the answer to this unit's request before
    "truncated",  # the last `count` bytes are missing
    "bad_crc",  # serial framing only
    "wrong_unit",
    "duplicate",  # the same answer twice
    "split",  # `count` pieces, `seconds` apart
    "noise_before",  # `count` stray bytes before the answer
    "noise_after",  # and `seconds` later
    "noise_between",  # stray bytes in the middle of the answer
    "babble",  # stray bytes without end, for `seconds` (0: until the fault is taken away)
    "reset",  # the TCP connection is reset
    "half_open",  # the TCP connection stays open and dead
]
ReplyKind = Literal[
    "exception",  # exception `code`
    "wrong_function",
    "wrong_byte_count",  # the byte count does not fit what follows
]
ValueKind = Literal[
    "nan",  # every float shows NaN; integers show their sentinel or all bits set
    "infinity",
    "sentinel",  # every value shows "not available" where the model has such a value
    "backwards",  # running totals show `count` units of the last digit less than before
]
MeterKind = Literal[
    "rollover",  # the running totals jump to `count` Wh before their rollover
    "swap",  # another meter hangs there from now on, its register at `count` Wh
    "clock_drift",  # the meter's clock is `seconds` fast from now on, and gains `count` ppm
]
Kind = Literal[LinkKind, ReplyKind, ValueKind, MeterKind]

LINK_KINDS = frozenset(get_args(LinkKind))
REPLY_KINDS = frozenset(get_args(ReplyKind))
VALUE_KINDS = frozenset(get_args(ValueKind))
METER_KINDS = frozenset(get_args(MeterKind))
TCP_ONLY = frozenset({"reset", "half_open"})
CRC_ONLY = frozenset({"bad_crc"})

DEFAULT_NOISE = 5  # bytes
DEFAULT_PIECES = 3
DEFAULT_CUT = 3  # bytes


@dataclass(frozen=True)
class Fault:
    """One fault: strikes each `every`-th request with probability `chance`, at most `times` times (0: always)."""

    kind: Kind
    chance: float = 1.0
    every: int = 1
    times: int = 0
    seconds: float = 0.0
    code: int = 4
    count: int = 0


class Striking(Protocol):
    """What every kind of fault has: how often it strikes (as in `Fault`)."""

    @property
    def kind(self) -> str:
        """Return the fault's name."""

    @property
    def chance(self) -> float:
        """Return the probability."""

    @property
    def every(self) -> int:
        """Return at which requests."""

    @property
    def times(self) -> int:
        """Return how often at most; 0 is always."""


F = TypeVar("F", bound=Striking)


class _Plan(Generic[F]):
    """The faults of one unit and how often each was asked and struck."""

    def __init__(self, standing: Sequence[F], script: Sequence[F | None]) -> None:
        self.script = list(reversed(script))
        self.standing = tuple(standing)
        self.asked = [0] * len(standing)
        self.done = [0] * len(standing)


class Strikes(Generic[F]):
    """Decides, request by request, which fault strikes one unit: a script of steps first, then the standing faults.

    `replace` may be called from another thread than `strike`.
    """

    def __init__(self, standing: Sequence[F] = (), script: Sequence[F | None] = (), seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.struck = 0
        self._plan = _Plan(standing, script)

    def replace(self, standing: Sequence[F] = (), script: Sequence[F | None] = ()) -> None:
        """Put these faults in the place of the present ones; without any, the unit behaves from now on."""
        self._plan = _Plan(standing, script)

    def stands(self, kind: str) -> bool:
        """Tell whether a fault of this kind is among the standing ones."""
        return any(fault.kind == kind for fault in self._plan.standing)

    def strike(self) -> F | None:
        """Return the fault of this request, or None."""
        plan = self._plan
        fault = plan.script.pop() if plan.script else self._next_standing(plan)
        self.struck += fault is not None
        return fault

    def _next_standing(self, plan: _Plan[F]) -> F | None:
        found = None
        for index, fault in enumerate(plan.standing):
            plan.asked[index] += 1
            if found is not None or (fault.times and plan.done[index] >= fault.times):
                continue
            if plan.asked[index] % fault.every == 0 and self.chance.random() < fault.chance:
                plan.done[index] += 1
                found = fault
        return found


class Faults(Strikes[Fault]):
    """The faults of a Modbus unit."""


class Piece(NamedTuple):
    """Bytes that go out `after_s` seconds after the piece before (the first: after the meter's own turnaround)."""

    after_s: float
    data: bytes


class Delivery(NamedTuple):
    """What becomes of one answer: its pieces, and what happens to the line after them."""

    pieces: tuple[Piece, ...]
    then: Literal["", "babble", "reset", "half_open"] = ""
    seconds: float = 0.0


def spoil_reply(fault: Fault, reply: bytes) -> bytes:
    """Return the reply PDU as a faulty meter would build it (kinds of `REPLY_KINDS`; others leave it as it is)."""
    if fault.kind == "exception":
        return exception_reply(reply[0], fault.code)
    if fault.kind == "wrong_function":
        return bytes([reply[0] ^ 0x07]) + reply[1:]
    if fault.kind == "wrong_byte_count" and len(reply) > 2:
        return bytes([reply[0], (reply[1] + 2) & 0xFF]) + reply[2:]
    return reply


class Answer(NamedTuple):
    """A reply to send: its PDU, the request's transaction id (None on a serial line), the unit's answer before."""

    unit: int
    pdu: bytes
    transaction: int | None = None
    before: bytes = b""

    def frame(self) -> bytes:
        """Return the bytes on the wire: RTU where there is no transaction id, otherwise TCP."""
        if self.transaction is None:
            return rtu_frame(self.unit, self.pdu)
        return tcp_frame(self.transaction, self.unit, self.pdu)


def deliver(fault: Fault | None, answer: Answer, chance: random.Random) -> Delivery:
    """Return what goes on the wire for an answer under a fault of `LINK_KINDS`; other faults leave it whole."""
    if fault is None:
        return _whole(answer.frame())
    kind = fault.kind
    if kind == "wrong_unit":
        return _whole(answer._replace(unit=answer.unit % 247 + 1).frame())
    if kind == "other_transaction":
        # Serial frames have no transaction id: there the answer before is what belongs to another one.
        if answer.transaction is None:
            return _whole(answer.before)
        return _whole(answer._replace(transaction=(answer.transaction - 1) & 0xFFFF).frame())
    good = answer.frame()
    noise = chance.randbytes(fault.count or DEFAULT_NOISE)
    half = len(good) // 2
    plain: dict[str, Delivery] = {
        "no_answer": Delivery(()),
        "late": Delivery((Piece(fault.seconds, good),)),
        "truncated": _whole(good[: -(fault.count or DEFAULT_CUT)]),
        "bad_crc": _whole(good[:-1] + bytes([good[-1] ^ 0x5A])),
        "noise_before": _whole(noise + good),
        "noise_between": _whole(good[:half] + noise + good[half:]),
        "noise_after": Delivery((Piece(0.0, good), Piece(fault.seconds, noise))),
        "duplicate": _whole(good + good),
        "split": _split(good, fault),
        "babble": Delivery((), "babble", fault.seconds),
        "reset": Delivery((), "reset"),
        "half_open": Delivery((), "half_open"),
    }
    return plain.get(kind, _whole(good))


def _whole(data: bytes) -> Delivery:
    return Delivery((Piece(0.0, data),))


def _split(good: bytes, fault: Fault) -> Delivery:
    size = -(-len(good) // (fault.count or DEFAULT_PIECES))
    starts = range(0, len(good), size)
    return Delivery(tuple(Piece(fault.seconds if start else 0.0, good[start : start + size]) for start in starts))
