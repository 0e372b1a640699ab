"""What one group of deliveries will commit, gathered before anything is stored. It stores nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headend.state.held import HeldBlock
from metering.model import Event, JournalEntry
from storage.codec import Origin, with_origin


@dataclass
class Group:
    """Payloads for the log with their origins, and what goes with them."""

    payloads: list[bytes] = field(default_factory=list)
    seqs: list[Origin] = field(default_factory=list)
    pending: set[tuple[str, str, int]] = field(default_factory=set)
    alerts: dict[str, Event] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)  # places of deliveries that are to come again
    readings: int = 0
    held: list[HeldBlock] = field(default_factory=list)
    reserved: list[tuple[str, JournalEntry]] = field(default_factory=list)

    def alert(self, raised: Event) -> None:
        """Take an alert; the same one counts once."""
        self.alerts[raised.id] = raised

    def store(self, origin: Origin, payload: bytes, journal: Sequence[JournalEntry] = ()) -> None:
        """Take a payload with this `journal` for the log, behind where it came from."""
        self.payloads.append(with_origin(origin, payload, quiet=not journal))
        self.seqs.append(origin)
        self.pending.add((origin.gateway, origin.epoch, origin.first))
