"""What a driver hands to whoever owns the wire: one request and how long its answer is. Not the wire itself."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple


class Exchange(NamedTuple):
    """One request to one unit and what is known beforehand about its reply.

    `pdu` is function code and data of the request, `reply_length` the PDU length in bytes of a good reply, and
    `turnaround_s` how long this model usually thinks before it begins to answer.
    """

    unit: int
    pdu: bytes
    reply_length: int
    turnaround_s: float


class Answer(NamedTuple):
    """A reply's PDU, and when its request went out and the reply was there: UTC microseconds, no waiting included."""

    pdu: bytes
    asked_at: int
    answered_at: int


# Carries one exchange over the wire and gives back the answer (an exception reply raises `RefusedError`).
Transact = Callable[[Exchange], Awaitable[Answer]]
