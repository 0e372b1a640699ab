"""The supply desk: what the API asks of supply control. How it is done stands in `requests`, `approvals` and `views`.

All methods block. What is sent, and what comes back, is `dispatch`.
"""

from collections.abc import Callable, Iterator, Sequence

import sqlalchemy as sa

from headend.measures import Measure
from headend.policy.facts import Known, Verdict
from headend.readings import NotFoundError
from headend.registry import covers, installation_on
from headend.state.tables import commands as table
from headend.supply.approvals import Approvals
from headend.supply.book import Book
from headend.supply.command import Command
from headend.supply.judging import Judge
from headend.supply.making import Maker, Request
from headend.supply.outage import Kept, Outage
from headend.supply.policy import Policy
from headend.supply.requests import Parts, Requests
from headend.supply.sight import Sight, inside
from headend.supply.signatures import NotAcceptedError, Signatures, Trust
from headend.supply.thresholds import Limits
from headend.supply.views import CommandsMade, CommandsPage, CommandView, SupplyView, command_view, supply_view
from headend.tokens import Grant
from metering import timing
from metering.model import SECOND
from metering.ports import Registry
from metering.supply_states import Cause, State
from trust.keys import SigningKey
from trust.sheet import Sheet

LOOK_S = 10  # between two looks for what waits for a signature


class SupplyDesk:
    """What the API asks. `service` signs restores after a payment by itself, where there is one."""

    def __init__(
        self,
        book: Book,
        registry: Registry,
        trust: Trust,
        policy: Policy,
        limits: Limits = Limits(),  # noqa: B008 - a tuple that never changes
        service: SigningKey | None = None,
        clock: Callable[[], int] = timing.now,
        outage: Outage | None = None,
    ) -> None:
        self.book = book
        self.signatures = Signatures(book, trust)
        self.outage = outage
        self._registry = registry
        self._clock = clock
        self._reminded_at = 0
        self._sight = Sight(book)
        self._judge = Judge(registry, policy)
        maker = Maker(registry, trust)
        self._requests = Requests(Parts(book, maker, self._judge, policy, self.signatures, limits, service, outage))
        self._approvals = Approvals(book, self.signatures, self._judge, clock)

    def request(self, grant: Grant, key: str, raw: bytes, request: Request) -> CommandsMade:
        """Make commands of a request. Raises as `Requests.take`."""
        return self._requests.take(grant, key, raw, request, self._clock())

    def renew(self) -> int:
        """Make anew what gives back and came to its end before it did; return how many. Raises `StorageError`."""
        return self._requests.renew(self._clock())

    def join(self) -> int:
        """Let what went ahead without the state join it; return how many did. Raises `StorageError`."""
        return self.outage.join(self.book) if self.outage is not None else 0

    def remind(self) -> int:
        """Tell of what gives back and waits for a signature, every LOOK_S; return how many. Raises `StorageError`."""
        now = self._clock()
        if 0 <= now - self._reminded_at < LOOK_S * SECOND:
            return 0
        self._reminded_at = now
        return self.book.unsigned.remind(now)

    def measures(self) -> Iterator[Measure]:
        """Yield what waits for a signature, while the state can tell."""
        yield from self.book.unsigned.measures(self._clock())

    def known(self, commands: Sequence[Command], now: int) -> Known:
        """Return what is kept now of the meter points of at most AT_ONCE commands. Raises `StorageError`."""
        return self._judge.known(commands, now)

    def judge(self, command: Command, now: int, known: Known) -> Verdict:
        """Return what policy says of a command that withholds. Raises `StorageError`."""
        return self._judge.judge(command, now, known)

    def signing(self, grant: Grant, name: str) -> Sheet:
        """Return what approvers sign."""
        kept = self._kept(grant, name)
        return Sheet(kept.command.body) if kept is not None else self._approvals.signing(grant, name)

    def approve(self, grant: Grant, name: str, signed: bytes) -> CommandsMade:
        """Take approvers' signatures. Raises as `Approvals.approve`."""
        kept = self._kept(grant, name)
        if kept is not None and self.outage is not None:
            return self._requests.kept(self._approvals.approve_kept(grant, kept, signed, self.outage))
        return self._requests.made(self._approvals.approve(grant, name, signed))

    def cancel(self, grant: Grant, name: str, signed: bytes = b"") -> CommandView:
        """Cancel a command. Raises as `Approvals.cancel`."""
        return command_view(self._approvals.cancel(grant, name, signed))

    def release(self, grant: Grant, name: str) -> CommandsMade:
        """Let quarantined commands (all of a campaign) go on, by another person than their requester."""
        return self._requests.made(self._approvals.second(grant, name, Cause.RELEASED))

    def delete(self, grant: Grant, name: str) -> CommandsMade:
        """Delete quarantined commands (all of a campaign), by another person than their requester."""
        return self._requests.made(self._approvals.second(grant, name, Cause.DELETED))

    # --- views --------------------------------------------------------------------------------------------------------

    def view(self, grant: Grant, name: str) -> CommandView:
        """Return one command. Raises `NotFoundError`."""
        kept = self._kept(grant, name)
        if kept is not None:
            return self._requests.kept(kept).commands[0]
        command = self._sight.seen(grant, name)
        return command_view(command, self.signatures.missing(command))

    def page(self, grant: Grant, limit: int, cursor: str, point: str = "", state: str = "") -> CommandsPage:
        """Return a page of the commands that the asker sees, those of one meter point or in one state."""
        where: list[sa.ColumnElement[bool]] = [inside(grant)]
        where += [table.c.point == point] if point else []
        where += [table.c.state == state] if state else []
        found = self.book.page(cursor, limit + 1, where)
        more = found[limit - 1].id if len(found) > limit else None
        return CommandsPage([command_view(each, self._missing(each)) for each in found[:limit]], more)

    def supply(self, grant: Grant, point: str) -> SupplyView:
        """Return how the supply stands at a meter point. Raises `NotFoundError`."""
        found = self._registry.point(point)
        if found is None or not covers(grant.regions, found.region):
            raise NotFoundError(f"there is no meter point {point}")
        now = self._clock()
        meter = installation_on(self._registry.installations_at(point), now)
        return supply_view(point, self.book.telling(point), meter, now, self._missing)

    def _missing(self, command: Command) -> list[str]:
        """Return what a command in a list waits for; a campaign's signatures are not judged for each of its own."""
        if command.campaign and command.state is State.AWAITING_APPROVAL:
            return [f"approvals of its campaign {command.campaign}"]
        try:
            return self.signatures.missing(command)
        except NotAcceptedError as error:
            return [str(error)]

    def _kept(self, grant: Grant, name: str) -> Kept | None:
        """Return a command that the asker sees and the state does not know yet."""
        kept = self.outage.get(name) if self.outage is not None else None
        return kept if kept is not None and covers(grant.regions, kept.command.region) else None
