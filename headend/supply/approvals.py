"""What people decide about commands that are there: they approve, cancel, release and delete. It sends nothing.

All methods block. What is believed of signatures here only saves a journey: the gateway judges them itself.
"""

from collections.abc import Callable, Sequence

import msgspec

from headend.audit.chain import Entry
from headend.supply.book import Book
from headend.supply.command import Command
from headend.supply.judging import Judge, evidence, refusal
from headend.supply.outage import Kept, Outage
from headend.supply.sight import Sight
from headend.supply.signatures import NotAcceptedError, Signatures
from headend.supply.steps import Step, parts
from headend.supply.turns import Turn
from headend.tokens import Grant
from metering.supply import RESTORING, WITHHOLDING
from metering.supply_states import Cause, NoSuchTransitionError, State
from trust.authority import Authority, NotAuthorisedError
from trust.document import persons_of
from trust.sheet import Sheet
from trust.signatures import Kind, merge


class Approvals:
    """The decisions of people."""

    def __init__(self, book: Book, signatures: Signatures, judge: Judge, clock: Callable[[], int]) -> None:
        self._book = book
        self._sight = Sight(book)
        self._signatures = signatures
        self._judge = judge
        self._clock = clock

    def signing(self, grant: Grant, name: str) -> Sheet:
        """Return what approvers sign: the canonical command, or its campaign's manifest with its commands."""
        command = self._sight.seen(grant, name)
        if not command.campaign:
            return Sheet(command.body)
        return Sheet(self._signatures.payload(command), [each.body for each in self._sight.all(grant, command)])

    def approve(self, grant: Grant, name: str, signed: bytes) -> Command:
        """Take signatures of a command or of its campaign, and go on when there are enough.

        Raises:
            NotAcceptedError: it is signed by nobody who may, waits for no approval, or policy refuses by now.

        """
        command = self._sight.seen(grant, name)
        if command.state is not State.AWAITING_APPROVAL:
            raise NotAcceptedError("not-waiting", f"the command is {command.state}: it waits for no approval")
        if _asked_for(grant, command):
            raise NotAcceptedError("requester", "who requested a command does not approve it")
        kind = Kind.MANIFEST if command.campaign else Kind.COMMAND
        self._sight.all(grant, command)
        kids = self._signatures.check(command, kind, self._signatures.payload(command), signed)
        persons = persons_of(self._signatures.document(command).approvers, kids)
        if command.requester in persons and command.order.action in WITHHOLDING:
            raise NotAcceptedError("requester", f"{command.requester} requested it and cannot approve it")
        before = self._signatures.of(command)
        after = merge(before, signed) if before else signed
        now = self._clock()
        body = {"keys": sorted(kids), "token": grant.token}
        entries = Entry(now, f"key:{min(kids)}", "approval", command.campaign or command.id, command.region, body)
        self._book.sign(command, after, entries)
        if not self._signatures.missing(self._sight.get(name)):
            self._complete(command, grant, now)
        return command

    def approve_kept(self, grant: Grant, kept: Kept, signed: bytes, outage: Outage) -> Kept:
        """Take the signature of one that the state does not know yet. Raises as `approve`."""
        command = kept.command
        if kept.approved_by:
            raise NotAcceptedError("not-waiting", "the command is approved: it waits for no approval")
        if _asked_for(grant, command):
            raise NotAcceptedError("requester", "who requested a command does not approve it")
        kids = self._signatures.check(command, Kind.COMMAND, command.body, signed)
        signed_one = msgspec.structs.replace(command, signed=signed)
        try:
            Authority(self._signatures.document(command)).authorise(self._signatures.message(signed_one))
        except NotAuthorisedError as error:
            raise NotAcceptedError("missing-signatures", str(error)) from None
        done = msgspec.structs.replace(
            kept, command=signed_one, approved_by=f"key:{min(kids)}", approved_at=self._clock()
        )
        outage.put(done)
        return done

    def _complete(self, command: Command, grant: Grant, now: int) -> None:
        """Let commands with all approvals go on, each as policy says now."""
        waiting = [each for each in self._sight.together(command) if each.state is State.AWAITING_APPROVAL]
        actor = f"token:{grant.token}"
        for some in parts(waiting):
            steps = self._last_steps(some, actor, now)
            self._book.turns.move([Turn(each, now, [step]) for each, step in zip(some, steps, strict=True)])

    def _last_steps(self, some: Sequence[Command], actor: str, now: int) -> list[Step]:
        if some[0].action not in WITHHOLDING:
            return [Step(Cause.APPROVALS_COMPLETE, actor, now)] * len(some)
        return [
            Step(Cause.APPROVALS_COMPLETE, actor, now, evidence=evidence(each)) if each.passed else refusal(each, now)
            for each in self._judge.judge_all(some, now)
        ]

    def cancel(self, grant: Grant, name: str, signed: bytes = b"") -> Command:
        """Cancel a command that has not been sent. What gives back needs the signatures of k approvers.

        One that gives back, has come to an end and is to be made anew, is not made anew then.
        """
        command = self._sight.seen(grant, name)
        keys: list[str] = self._keys_of_cancel(command, signed) if command.order.action in RESTORING else []
        actor, now = f"token:{grant.token}", self._clock()
        detail: dict[str, object] = {"keys": keys} if keys else {}
        if command.renew_at:
            entry = Entry(now, actor, "command-not-renewed", command.id, command.region, {"why": "cancelled"} | detail)
            self._book.renew_at(command, 0, entry)
            return self._sight.get(name)
        try:
            return self._book.move(command.id, Step(Cause.CANCELLED, actor, now, "", detail))
        except NoSuchTransitionError:
            state = self._sight.get(command.id).state
            text = f"the command is {state}: only what has not been sent is cancelled; afterwards request a restore"
            raise NotAcceptedError("too-late", text) from None

    def _keys_of_cancel(self, command: Command, signed: bytes) -> list[str]:
        if not signed:
            raise NotAcceptedError("missing-signatures", "cancelling what gives back needs k approvers' signatures")
        kids = self._signatures.check(command, Kind.CANCEL, command.body, signed)
        document = self._signatures.document(command)
        persons = persons_of(document.approvers, kids)
        if len(persons) < document.k:
            text = f"{len(persons)} of the approvers signed; {document.k} are needed"
            raise NotAcceptedError("missing-signatures", text)
        return sorted(kids)

    def second(self, grant: Grant, name: str, cause: Cause) -> Command:
        """Release or delete quarantined commands (all of a campaign): by another person than their requester."""
        command = self._sight.seen(grant, name)
        if _asked_for(grant, command):
            raise NotAcceptedError("requester", "a second person decides about what is quarantined")
        found = self._sight.all(grant, command)
        held = [each for each in found if each.state is State.QUARANTINED]
        if not held:
            raise NotAcceptedError("not-quarantined", f"the command is {command.state}, not quarantined")
        now = self._clock()
        step = Step(cause, f"token:{grant.token}", now, "", {"person": grant.who})
        for some in parts(held):
            self._book.turns.move([Turn(each, now, [step]) for each in some])
        return command


def _asked_for(grant: Grant, command: Command) -> bool:
    """Tell whether it was this person's request, by whatever token."""
    return grant.token == command.token or grant.who == command.requester
