"""Which run of a gateway counts, where two of the same id are there: a pure table of states. No broker, no clock.

A run is named by `Status.boot`. One that is not the one at work is only let in when the older one is gone: that one is
called, and when it answers within CALL_S the newcomer is told to leave; when not, the newcomer takes its place. What a
last will says of a run that is no longer at work changes nothing, however late it comes.
"""

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Literal, NamedTuple

from metering.wire import Status

CALL_S = 20.0  # for the answer of a run that was called; a newcomer repeats its birth twice within it
MAX_REFUSED = 16  # runs of one gateway that are remembered as refused


class Seat(StrEnum):
    """Who is there: nobody, one run, or one that is called while another waits."""

    EMPTY = "empty"
    TAKEN = "taken"
    CALLED = "called"


class Order(NamedTuple):
    """What is to be done: `call` or refuse (`leave`) a run, or `welcome` one as the one at work."""

    gateway: str
    kind: Literal["call", "leave", "welcome"]
    boot: str


_Word = Literal["here-holder", "here-rival", "here-other", "gone-holder", "gone-rival", "overdue"]
_Step = Literal["seat", "renew", "call", "call-again", "refuse", "promote", "keep", "vacate"]

# What is not in the table changes nothing: a will of a run that is not at work, a third one that knocks meanwhile.
TABLE: dict[tuple[Seat, _Word], tuple[_Step, Seat]] = {
    (Seat.EMPTY, "here-other"): ("seat", Seat.TAKEN),
    (Seat.TAKEN, "here-holder"): ("renew", Seat.TAKEN),
    (Seat.TAKEN, "here-other"): ("call", Seat.CALLED),
    (Seat.TAKEN, "gone-holder"): ("vacate", Seat.EMPTY),
    (Seat.CALLED, "here-holder"): ("refuse", Seat.TAKEN),
    (Seat.CALLED, "here-rival"): ("call-again", Seat.CALLED),
    (Seat.CALLED, "gone-holder"): ("promote", Seat.TAKEN),
    (Seat.CALLED, "gone-rival"): ("keep", Seat.TAKEN),
    (Seat.CALLED, "overdue"): ("promote", Seat.TAKEN),
}


class _Chair:
    """One gateway."""

    def __init__(self) -> None:
        self.seat = Seat.EMPTY
        self.holder = ""
        self.rival = ""
        self.due = 0.0
        self.refused: deque[str] = deque(maxlen=MAX_REFUSED)
        self.gone = ""  # the run that left the seat empty

    def word(self, boot: str, *, here: bool) -> _Word | None:
        if self.seat is not Seat.EMPTY and boot == self.holder:
            return "here-holder" if here else "gone-holder"
        if self.seat is Seat.CALLED and boot == self.rival:
            return "here-rival" if here else "gone-rival"
        return "here-other" if here else None

    def take(self, word: _Word, boot: str, clock: float) -> list[tuple[Literal["call", "leave", "welcome"], str]]:
        if (found := TABLE.get((self.seat, word))) is None:
            return []
        step, self.seat = found
        match step:
            case "seat" | "promote":
                self.holder, self.rival = (self.rival if step == "promote" else boot), ""
                return [("welcome", self.holder)]
            case "renew":
                return [("welcome", self.holder)]
            case "call" | "call-again":
                if step == "call":
                    self.rival, self.due = boot, clock + CALL_S
                return [("call", self.holder)]
            case "refuse":
                gone, self.rival = self.rival, ""
                self.refused.append(gone)
                return [("leave", gone), ("welcome", self.holder)]
            case "keep":
                self.rival = ""
            case "vacate":
                self.gone = boot
        return []


class Births:
    """The runs of all gateways, as their statuses tell. Instants are any monotonic seconds."""

    def __init__(self) -> None:
        self._chairs: dict[str, _Chair] = {}

    def heard(self, status: Status, clock: float) -> list[Order]:
        """Take a status, or a last will, and return what is to be done."""
        chair = self._chairs.setdefault(status.gateway, _Chair())
        if status.boot in chair.refused:
            return [Order(status.gateway, "leave", status.boot)] if status.online else []
        word = chair.word(status.boot, here=status.online)
        return [] if word is None else self._orders(status.gateway, chair.take(word, status.boot, clock))

    def sent(self, gateway: str, boot: str) -> None:
        """Note that records of a run came: where nobody was known to be there, it is.

        Not one that said it was gone: its last records may be taken after that word. It comes back with a birth.
        """
        chair = self._chairs.setdefault(gateway, _Chair())
        if boot and chair.seat is Seat.EMPTY and boot != chair.gone and boot not in chair.refused:
            chair.take("here-other", boot, 0.0)

    def overdue(self, clock: float) -> Iterator[Order]:
        """Yield what is to be done because a called run has not answered."""
        for gateway, chair in self._chairs.items():
            if chair.seat is Seat.CALLED and chair.due <= clock:
                yield from self._orders(gateway, chair.take("overdue", "", clock))

    def holder(self, gateway: str) -> str:
        """Return the run at work; empty where none is."""
        chair = self._chairs.get(gateway)
        return chair.holder if chair is not None and chair.seat is not Seat.EMPTY else ""

    def runs(self, gateway: str) -> tuple[str, ...]:
        """Return the run at work and the one that waits for its answer."""
        chair = self._chairs.get(gateway)
        if chair is None or chair.seat is Seat.EMPTY:
            return ()
        return (chair.holder, chair.rival) if chair.seat is Seat.CALLED else (chair.holder,)

    def refused(self, gateway: str, boot: str) -> bool:
        """Tell whether a run was told to leave."""
        chair = self._chairs.get(gateway)
        return chair is not None and boot in chair.refused

    @staticmethod
    def _orders(gateway: str, steps: list[tuple[Literal["call", "leave", "welcome"], str]]) -> list[Order]:
        return [Order(gateway, kind, boot) for kind, boot in steps]
