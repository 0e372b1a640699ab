"""Makes commands of requests, and makes anew what gives back and came to an end before it did. It sends nothing.

All methods block.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from headend.audit.chain import Entry
from headend.policy.facts import CollectionFacts, Verdict
from headend.readings import BadRequestError, NotFoundError
from headend.supply.book import Book, BusyError, New
from headend.supply.command import Command, is_open
from headend.supply.judging import Judge, evidence, refusal
from headend.supply.making import Made, Maker, Order, Request
from headend.supply.outage import Kept, Outage
from headend.supply.policy import Policy
from headend.supply.sight import Sight
from headend.supply.signatures import NotAcceptedError, Signatures
from headend.supply.steps import Step
from headend.supply.thresholds import Limits
from headend.supply.views import CommandsMade, command_view
from headend.tokens import Grant
from metering.errors import StorageError
from metering.model import SECOND
from metering.supply import RESTORING, WITHHOLDING, Action
from metering.supply_states import Cause, State
from trust.authority import OF_A_SERVICE
from trust.keys import SigningKey
from trust.signatures import Kind, sign

MAX_KEY = 128  # characters of an Idempotency-Key
MAX_REASONS = 20  # sentences in one refusal
RENEWALS_AT_ONCE = 100
NOT_NOW_S = 3600  # until a restore is tried again that cannot be made anew now: no meter hangs there, say

ACTOR = "head-end"


class Parts(NamedTuple):
    """What requests are made with. `service` signs restores after a payment by itself, where there is one.

    `outage` keeps what gives back while the state takes nothing; None: it waits for the state then.
    """

    book: Book
    maker: Maker
    judge: Judge
    policy: Policy
    signatures: Signatures
    limits: Limits
    service: SigningKey | None
    outage: Outage | None


class Requests:
    """Takes requests in."""

    def __init__(self, parts: Parts) -> None:
        self._book = parts.book
        self._sight = Sight(parts.book)
        self._maker = parts.maker
        self._judge = parts.judge
        self._policy = parts.policy
        self._signatures = parts.signatures
        self._limits = parts.limits
        self._service = parts.service
        self._outage = parts.outage

    def take(self, grant: Grant, key: str, raw: bytes, request: Request, now: int) -> CommandsMade:
        """Make commands of a request, or return those that the same request with the same key made.

        Raises:
            BadRequestError, NotFoundError: it names something that is not so, or not there.
            NotAcceptedError: policy refuses, another command is open, or the key was used for another request.

        """
        if not 0 < len(key) <= MAX_KEY or not key.isprintable():
            raise BadRequestError("Idempotency-Key", f"send one of 1 to {MAX_KEY} characters, new for each request")
        digest = hashlib.sha256(raw).digest()
        if grant.remembered:
            return self._keep(grant, key, digest, request, now)
        try:
            return self._take(grant, key, digest, request, now)
        except StorageError:
            if request.action not in RESTORING or self._outage is None:
                raise
            return self._keep(grant, key, digest, request, now)

    def _take(self, grant: Grant, key: str, digest: bytes, request: Request, now: int) -> CommandsMade:
        if (known := self._answered(grant, key, digest)) is not None:
            return known
        made = self._make(grant, request, now)
        actor = f"token:{grant.token}"
        verdicts = self._judge_new(made, actor, now) if request.action in WITHHOLDING else {}
        steps, signed = self._first_steps(made, grant, now)
        rows = _signed(made, signed)
        withholds, gives_back = request.action in WITHHOLDING, request.action in RESTORING
        limits = self._limits if withholds else None
        new = New(key, digest, made.manifest, actor, signed, exclusive=withholds, supersedes=gives_back, limits=limits)
        try:
            self._book.add([(each, _judged(steps, verdicts.get(each.id))) for each in rows], new)
        except BusyError as error:
            reasons = [f"{point}: the command {name} is open" for point, name in error.points.items()]
            raise NotAcceptedError("another-command-open", str(error), reasons[:MAX_REASONS]) from None
        # Of two with the same key at the same time one was faster: its answer is the answer.
        return self._answered(grant, key, digest) or self.made(rows[0])

    def made(self, first: Command) -> CommandsMade:
        """Return how a command, or its campaign, stands."""
        found = self._sight.together(first)
        missing = self._signatures.missing(found[0])
        views = [command_view(each, missing) for each in found]
        signing = f"/v1/commands/{first.id}/signing" if missing else None
        return CommandsMade(first.campaign or None, views, signing)

    def _keep(self, grant: Grant, key: str, digest: bytes, request: Request, now: int) -> CommandsMade:
        """Keep what gives back at one meter point in a file, while the state takes nothing. Raises `StorageError`."""
        outage = self._outage
        if outage is None or request.action not in RESTORING or len(request.orders) != 1:
            raise StorageError(
                "the state does not answer: what gives back at one meter point goes on alone", retry=True
            )
        known = outage.answered(grant.token, key)
        if known is not None and known.digest != digest:
            raise NotAcceptedError("idempotency-key-reused", "this Idempotency-Key came with another request before")
        if known is None:
            places = self._maker.places(grant, request, now)
            made = self._maker.make(grant, request, places, outage.numbers, self._policy.hours, now)
            signed = self._service_signature(made)
            (row,) = _signed(made, signed)
            by = f"key:{self._service.public.id}" if signed and self._service is not None else ""
            known = Kept(row, key, digest, by, now if by else 0)
            outage.put(known)
        return self.kept(known)

    def kept(self, kept: Kept) -> CommandsMade:
        """Return how a command stands that the state does not know yet."""
        missing = [] if kept.approved_by else ["1 approvals"]
        signing = f"/v1/commands/{kept.command.id}/signing" if missing else None
        return CommandsMade(None, [command_view(kept.shown(), missing)], signing)

    # --- made anew ----------------------------------------------------------------------------------------------------

    def renew(self, now: int) -> int:
        """Make anew what is due, and return how many were. Raises `StorageError`."""
        due = self._book.renewals(now, RENEWALS_AT_ONCE)
        for command in due:
            try:
                self._renew(command, now)
            except (StorageError, ValueError, LookupError) as error:
                if isinstance(error, StorageError) and error.retry:
                    raise
                self._not_now(command, str(error), now)  # the fault of this one: those behind it go on
        return len(due)

    def _renew(self, old: Command, now: int) -> None:
        """Make a command anew: new id, number, nonce and expiry, for the meter that hangs there now.

        The service key signs where it may; otherwise one approver has to, as nobody else can sign for people.
        """
        if (other := self._in_its_place(old)) is not None:
            text = f"{other.action} {other.id}, which is {other.state}, took its place"
            self._book.renew_at(old, 0, Entry(now, ACTOR, "command-not-renewed", old.id, old.region, {"why": text}))
            return
        grant = Grant(old.token, "", frozenset(), ("",), person=old.requester)
        facts = msgspec.json.decode(old.facts, type=CollectionFacts | None)
        order = Order(old.point, old.order.case, facts)
        request = Request(old.order.action, old.order.reason, [order])
        try:
            made = self._make(grant, request, now)
        except (BadRequestError, NotFoundError) as error:
            self._not_now(old, str(error), now)
            return
        steps, signed = self._first_steps(made, grant, now)
        (row,) = _signed(made, signed)
        new = msgspec.structs.replace(row, renews=old.id, tries=old.tries + 1)
        self._book.add([(new, steps)], New("", b"", b"", ACTOR, signed, supersedes=True, renews=old.id))

    def _not_now(self, old: Command, why: str, now: int) -> None:
        entry = Entry(now, ACTOR, "command-not-renewed", old.id, old.region, {"why": why[:1000]})
        self._book.renew_at(old, now + NOT_NOW_S * SECOND, entry)

    def _in_its_place(self, old: Command) -> Command | None:
        """Return what gives back at the same meter point as well, is later, and is under way or did it."""
        for each in self._book.at(old.point):
            gives_back = each.order.action in RESTORING and each.id != old.id
            if gives_back and (is_open(each) or (_is_later(each, old) and each.state is State.VERIFIED)):
                return each
        return None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _make(self, grant: Grant, request: Request, now: int) -> Made:
        places = self._maker.places(grant, request, now)
        return self._maker.make(grant, request, places, self._book.numbers, self._policy.hours, now)

    def _answered(self, grant: Grant, key: str, digest: bytes) -> CommandsMade | None:
        known = self._book.answered(grant.token, key)
        if known is None:
            return None
        if known.digest != digest:
            text = "this Idempotency-Key came with another request before"
            raise NotAcceptedError("idempotency-key-reused", text)
        return self.made(self._sight.get(known.command))

    def _judge_new(self, made: Made, actor: str, now: int) -> dict[str, Verdict]:
        """Return the verdicts; refuse all where policy refuses one: what was refused is kept with its evidence."""
        verdicts = list(zip(made.commands, self._judge.judge_all(made.commands, now), strict=True))
        refused = [(command, verdict) for command, verdict in verdicts if not verdict.passed]
        if not refused:
            return {command.id: verdict for command, verdict in verdicts}
        alone = [(msgspec.structs.replace(each, campaign="", proof=b""), [refusal(v, now)]) for each, v in refused]
        self._book.add(alone, New("", b"", b"", actor))
        many = len(made.commands) > 1
        reasons = [f"{c.point}: {says}" if many else says for c, verdict in refused for says in verdict.refusals()]
        raise NotAcceptedError("refused-by-policy", "; ".join(reasons[:MAX_REASONS]), reasons[:MAX_REASONS])

    def _first_steps(self, made: Made, grant: Grant, now: int) -> tuple[list[Step], bytes]:
        """Return the steps that new commands take at once, and the service key's signature where it gives one."""
        action, actor = made.commands[0].order.action, f"token:{grant.token}"
        steps = [Step(Cause.POLICY_PASSED, actor, now)]
        if action is Action.READ_STATE:
            steps.append(Step(Cause.APPROVALS_COMPLETE, actor, now, "reading a state needs no approval"))
        signed = self._service_signature(made)
        if not signed or self._service is None:
            return steps, b""
        return [*steps, Step(Cause.APPROVALS_COMPLETE, f"key:{self._service.public.id}", now, "paid")], signed

    def _service_signature(self, made: Made) -> bytes:
        """Return the service key's signature where it gives one; empty: it gives none.

        The gateway judges whether it was opened for a debt, and staggers what is above the service's rate.
        """
        order = made.commands[0].order
        if self._service is None or order.reason != "paid" or order.action not in OF_A_SERVICE:
            return b""
        kind = Kind.MANIFEST if made.manifest else Kind.COMMAND
        return sign(made.manifest or made.commands[0].body, kind, [self._service])


def _judged(steps: Sequence[Step], verdict: Verdict | None) -> Sequence[Step]:
    """Return the steps of a new command with the verdict that let it be requested, where it needs one."""
    return steps if verdict is None else [steps[0]._replace(evidence=evidence(verdict)), *steps[1:]]


def _signed(made: Made, signed: bytes) -> list[Command]:
    """Return commands with their signature; a campaign's stands with its manifest."""
    if not signed or made.manifest:
        return made.commands
    return [msgspec.structs.replace(each, signed=signed) for each in made.commands]


def _is_later(each: Command, than: Command) -> bool:
    return (each.requested_at, each.id) > (than.requested_at, than.id)
