"""What the desk asks of policy (`headend.policy.desk.PolicyDesk`). No rules here."""

from typing import Protocol

from headend.policy.facts import CollectionFacts, Verdict
from metering.supply import Hours, Reason, SupplyCommand


class Policy(Protocol):
    """Judges whether a command that withholds may go on, by what is known at an instant."""

    def judge(
        self, command: SupplyCommand, zone: str, customer: str, facts: CollectionFacts | None, now: int
    ) -> Verdict:
        """Return the verdict with its evidence. Raises `StorageError`."""
        ...

    def hours(self, customer: str, zone: str, region: str, reason: Reason) -> Hours | None:
        """Return the local hours that go into the signed command; None: any."""
        ...
