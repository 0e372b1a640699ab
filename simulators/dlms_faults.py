"""Faults of simulated DLMS meters as parameters (see `simulators.faults`): what each is. Does none to an answer."""

from dataclasses import dataclass
from typing import Literal, get_args

from simulators.faults import Strikes

LinkKind = Literal[
    "lost",  # no answer; HDLC: a frame of its first window is missing, or the `count`-th frame of all
    "late",  # the answer comes after `seconds`
    "damaged",  # a byte of the answer is another one
    "repeated",  # the answer comes twice
    "truncated",  # the last `count` bytes are missing
    "other_meter",  # the answer bears another meter's address
    "reset",  # the TCP connection is reset
]
ReplyKind = Literal[
    "wrong_counter",  # a ciphered answer bears a counter that was there before
    "wrong_block",  # a block bears the number after the right one
    "abort",  # data-access-result `code` instead of a block
    "exception",  # exception-response: service not allowed, reason `code`
    "lying_length",  # an answer's first octet-string, array or block says `count` bytes or elements
    "endless",  # blocks without a last one, for ever
    "nested",  # arrays in arrays, `count` deep
    "oversized",  # a value of `count` bytes
]
MeterKind = Literal[
    "busy",  # an association is refused for the time being
    "silent",  # the meter does not hear the request at all
    "clock_jump",  # the clock jumps by `seconds`, once for each strike
    "key_changed",  # somebody has given the meter other keys
]
DlmsKind = Literal[LinkKind, ReplyKind, MeterKind]

LINK_KINDS = frozenset(get_args(LinkKind))
REPLY_KINDS = frozenset(get_args(ReplyKind))
METER_KINDS = frozenset(get_args(MeterKind))
DEFAULT_DEPTH = 200
DEFAULT_OVERSIZE = 60_000  # bytes: more than was agreed on, less than a wrapper's limit
DEFAULT_LIE = 0x7FFFFFFF
TCP_ONLY = frozenset({"reset"})


@dataclass(frozen=True)
class DlmsFault:
    """One fault: strikes each `every`-th request with probability `chance`, at most `times` times (0: always)."""

    kind: DlmsKind
    chance: float = 1.0
    every: int = 1
    times: int = 0
    seconds: float = 0.0
    code: int = 1
    count: int = 0


class DlmsFaults(Strikes[DlmsFault]):
    """The faults of a DLMS meter; an APDU that comes is a request."""


def spoilt_value(fault: DlmsFault) -> bytes:
    """Return the A-XDR bytes that a fault puts in the place of any value; empty for other faults."""
    if fault.kind == "nested":
        return b"\x01\x01" * (fault.count or DEFAULT_DEPTH) + b"\x00"
    if fault.kind == "oversized":
        count = fault.count or DEFAULT_OVERSIZE
        return b"\x09\x83" + count.to_bytes(3, "big") + bytes(count)
    if fault.kind == "lying_length":
        return b"\x01\x84" + (fault.count or DEFAULT_LIE).to_bytes(4, "big") + b"\x11\x00" * 8
    return b""
