"""What the desk asks of policy (`headend.policy.desk.PolicyDesk`). No rules here."""

from collections.abc import Sequence
from typing import Protocol

from headend.policy.facts import CollectionFacts, Known, Verdict
from metering.supply import Hours, Reason, SupplyCommand


class Policy(Protocol):
    """Judges whether a command that withholds may go on, by what is known at an instant."""

    def known(self, points: Sequence[str], now: int) -> Known:
        """Return what is kept now of some hundred meter points. Raises `StorageError`."""
        ...

    def judge(
        self,
        command: SupplyCommand,
        zone: str,
        customer: str,
        facts: CollectionFacts | None,
        now: int,
        known: Known,
    ) -> Verdict:
        """Return the verdict with its evidence; `known` is what is kept of it at `now`. Raises `StorageError`."""
        ...

    def hours(self, customer: str, zone: str, region: str, reason: Reason) -> Hours | None:
        """Return the local hours that go into the signed command; None: any."""
        ...
