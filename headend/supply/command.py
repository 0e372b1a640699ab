"""A supply command as the head-end keeps it: what was ordered, and where it stands. No storage."""

import msgspec

from metering.supply import RESTORING, SupplyCommand, parse_command
from metering.supply_states import FINAL, State
from trust.merkle import Proof

_proof = msgspec.msgpack.Decoder(list[tuple[str, bytes]])


class Command(msgspec.Struct, frozen=True):
    """A command and where it stands. Instants in us UTC; `campaign` is empty for a single one.

    `counts_as` is the action that thresholds count it among: a limit below its floor counts as a disconnect.
    `renews` is the command in whose place it was made, `tries` how many were before it; `renew_at` is when it is made
    anew itself (0: not).
    """

    id: str
    point: str
    region: str
    gateway: str
    action: str
    counts_as: str
    state: State
    token: str
    requester: str
    campaign: str
    body: bytes
    proof: bytes
    signed: bytes
    facts: str
    requested_at: int
    not_before: int
    expires_at: int
    changed_at: int
    cause: str = ""
    why: str = ""
    detail: str = "{}"
    sent_at: int = 0
    sent: int = 0
    renews: str = ""
    tries: int = 0
    renew_at: int = 0
    due_at: int = 0

    @property
    def order(self) -> SupplyCommand:
        """Return the command as it is signed."""
        return parse_command(self.body)

    @property
    def gives_back(self) -> bool:
        """Tell whether it gives supply back, and so goes before what withholds."""
        return self.action in RESTORING

    @property
    def path(self) -> Proof:
        """Return the proof that leads to its campaign's root."""
        return _proof.decode(self.proof) if self.proof else []  # type: ignore[return-value]  # sides are "l" and "r"


def is_open(command: Command) -> bool:
    """Tell whether a command is not at its end."""
    return command.state not in FINAL
