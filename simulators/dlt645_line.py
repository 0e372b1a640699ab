"""Several DL/T 645 meters on one pair of wires: who answers a request, when, and what is heard where two speak at once.

Time is only reckoned here; the servers keep it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from collector.protocols.dlt645.frame import MAX_DATA, parse_frame
from collector.protocols.dlt645.scanner import Scanner
from simulators.dlt645_faults import Speech, collide, deliver
from simulators.dlt645_meter import Dlt645Meter


@dataclass
class Dlt645Counters:
    """What was heard on a line."""

    requests: int = 0
    answers: int = 0
    collisions: int = 0


class Dlt645Line:
    """The meters of one line by address. `character_s` is how long a character takes, for telling who collides."""

    def __init__(self, meters: Mapping[str, Dlt645Meter], character_s: float) -> None:
        self.meters = meters
        self.character_s = character_s
        self.counters = Dlt645Counters()

    def scanner(self) -> Scanner:
        """Return what finds requests in what one client sends."""
        return Scanner(MAX_DATA)

    def hear(self, scanner: Scanner, data: bytes) -> list[Speech]:
        """Return what is said to the requests in these bytes; times count from their end."""
        spoken: list[Speech] = []
        while (raw := scanner.feed(data, lambda _: True)) is not None:
            data = b""
            spoken += self._answers(raw)
        return spoken

    def _answers(self, raw: bytes) -> list[Speech]:
        request = parse_frame(raw)
        if request.is_answer:
            return []
        self.counters.requests += 1
        speeches: list[Speech] = []
        for meter in self.meters.values():
            said = meter.answer(request)
            if said is not None:
                wake, wait = meter.made.wake, meter.made.turnaround_s
                pieces = deliver(said.fault, request, said.frame, meter.faults.chance, wake=wake)
                speeches += [Speech(piece.after_s + wait, piece.data) for piece in pieces]
        self.counters.answers += len(speeches)
        return self._merged(sorted(speeches))

    def _merged(self, speeches: list[Speech]) -> list[Speech]:
        merged: list[Speech] = []
        for speech in speeches:
            before = merged[-1] if merged else None
            if before is None or speech.after_s >= before.after_s + len(before.data) * self.character_s:
                merged.append(speech)
                continue
            self.counters.collisions += 1
            behind = round((speech.after_s - before.after_s) / self.character_s) if self.character_s else 0
            merged[-1] = Speech(before.after_s, collide(before.data, speech.data, behind))
        return merged
