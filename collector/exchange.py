"""What a driver hands to whoever owns the wire: one request and how long its answer is. Not the wire itself."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol


class Receiver(Protocol):
    """Finds one reply in what comes over the wire. Pure: it is fed and knows no wire.

    Bytes that are not part of the reply (noise, wake-up bytes, echoes, other stations' frames) are skipped. It keeps
    no more than the longest reply that its protocol or profile allows. It can be copied (`copy.deepcopy`): a repeated
    request is heard by a copy that was made before anything came.
    """

    def __call__(self, data: bytes) -> bytes | None:
        """Take the next bytes; return the whole reply once it is there, None before.

        Raises:
            FrameError: what came cannot be the answer, and waiting longer would not help.

        """
        ...

    def complaint(self) -> str:
        """Return what came instead of a reply, in words, when the time is over; empty when nothing came at all."""
        ...


class Speed(NamedTuple):
    """How a serial line speaks for one exchange: baud rate and character format."""

    baud: int
    line_format: str


class Exchange(NamedTuple):
    """One request to one unit and what is known beforehand about its reply.

    Modbus: `pdu` is function code and data of the request, `reply_length` the PDU length in bytes of a good reply.
    Protocols that frame themselves (a `receiver` is given): `pdu` is what goes on the wire, byte for byte, and
    `reply_length` the length of the usual reply on the wire; `unit` is any number that tells the stations of the wire
    apart.

    `turnaround_s` is how long this model usually thinks before it begins to answer. `once` exchanges are never
    repeated by the bus (their bytes must not be sent twice). `fresh` asks for a new connection first: what the old one
    still owes must not be taken for this answer. `speed` is the speed of this exchange alone where it is not the
    line's; a request without a reply has `reply_length` 0. An empty `pdu` with a receiver sends nothing and listens on:
    what came since the exchange before belongs to it.
    """

    unit: int
    pdu: bytes
    reply_length: int
    turnaround_s: float
    receiver: Receiver | None = None
    once: bool = False
    fresh: bool = False
    speed: Speed | None = None

    def __repr__(self) -> str:
        # What goes on the wire may hold a password: it is never shown.
        return f"Exchange(unit {self.unit}, {len(self.pdu)} bytes)"


class Answer(NamedTuple):
    """A reply's PDU (with a `receiver`: what it returned), and when its request went out and the reply was there.

    Both are UTC microseconds, no waiting included.
    """

    pdu: bytes
    asked_at: int
    answered_at: int


# Carries one exchange over the wire and gives back the answer (an exception reply raises `RefusedError`).
Transact = Callable[[Exchange], Awaitable[Answer]]
