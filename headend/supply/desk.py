"""The supply desk: what people ask of supply control, and who may. What is sent, and what comes back, is `dispatch`.

All methods block. What the head-end believes of approvals only saves a journey: the gateway judges them itself.
"""

import hashlib
from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from headend.audit.chain import Entry
from headend.policy.facts import CollectionFacts, Verdict
from headend.readings import BadRequestError, NotFoundError
from headend.registry import covers
from headend.state.tables import commands as table
from headend.supply.book import Book, BusyError, New, Step
from headend.supply.command import Command
from headend.supply.making import Made, Maker, Request
from headend.supply.policy import Policy
from headend.supply.signatures import NotAcceptedError, Signatures, Trust
from headend.supply.thresholds import Limits
from headend.supply.views import (
    CommandsMade,
    CommandsPage,
    CommandView,
    SupplyView,
    command_view,
    supply_view,
)
from headend.tokens import Grant
from metering import timing
from metering.ports import Registry
from metering.supply import RESTORING, WITHHOLDING, Action
from metering.supply_states import Cause, NoSuchTransitionError, State
from trust.authority import OF_A_SERVICE
from trust.document import persons_of
from trust.keys import SigningKey
from trust.sheet import Sheet
from trust.signatures import Kind, merge, sign

MAX_KEY = 128  # characters of an Idempotency-Key
MAX_REASONS = 20  # sentences in one refusal


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
    ) -> None:
        self.book = book
        self._registry = registry
        self.signatures = Signatures(book, trust)
        self._policy = policy
        self._limits = limits
        self._service = service
        self._clock = clock
        self._maker = Maker(registry, trust)

    # --- requests -----------------------------------------------------------------------------------------------------

    def request(self, grant: Grant, key: str, raw: bytes, request: Request) -> CommandsMade:
        """Make commands of a request, or return those that the same request with the same key made.

        Raises:
            BadRequestError, NotFoundError: it names something that is not so, or not there.
            NotAcceptedError: policy refuses, another command is open, or the key was used for another request.

        """
        if not 0 < len(key) <= MAX_KEY or not key.isprintable():
            raise BadRequestError("Idempotency-Key", f"send one of 1 to {MAX_KEY} characters, new for each request")
        digest = hashlib.sha256(raw).digest()
        if (known := self._answered(grant, key, digest)) is not None:
            return known
        now = self._clock()
        places = self._maker.places(grant, request, now)
        made = self._maker.make(grant, request, places, self.book.numbers, self._policy.hours, now)
        actor = f"token:{grant.token}"
        if request.action in WITHHOLDING:
            self._judge_new(made, actor, now)
        steps, signed = self._first_steps(made, grant, now)
        rows = made.commands
        if signed and not made.manifest:
            rows = [msgspec.structs.replace(each, signed=signed) for each in rows]
        withholds, gives_back = request.action in WITHHOLDING, request.action in RESTORING
        new = New(key, digest, made.manifest, actor, signed, exclusive=withholds, supersedes=gives_back)
        try:
            self.book.add([(each, steps) for each in rows], new)
        except BusyError as error:
            reasons = [f"{point}: the command {name} is open" for point, name in error.points.items()]
            raise NotAcceptedError("another-command-open", str(error), reasons[:MAX_REASONS]) from None
        # Of two with the same key at the same time one was faster: its answer is the answer.
        return self._answered(grant, key, digest) or self._made(rows[0])

    def _answered(self, grant: Grant, key: str, digest: bytes) -> CommandsMade | None:
        known = self.book.answered(grant.token, key)
        if known is None:
            return None
        if known.digest != digest:
            text = "this Idempotency-Key came with another request before"
            raise NotAcceptedError("idempotency-key-reused", text)
        first = self.book.get(known.command)
        if first is None:
            raise KeyError(known.command)
        return self._made(first)

    def _made(self, first: Command) -> CommandsMade:
        found = self.book.of_campaign(first.campaign) if first.campaign else [self._get(first.id)]
        missing = self.signatures.missing(found[0])
        views = [command_view(each, missing) for each in found]
        signing = f"/v1/commands/{first.id}/signing" if missing else None
        return CommandsMade(first.campaign or None, views, signing)

    def _judge_new(self, made: Made, actor: str, now: int) -> None:
        """Refuse all where policy refuses one; what was refused is kept with its evidence."""
        verdicts = [(each, self.judge(each, max(now, each.not_before))) for each in made.commands]
        refused = [(command, verdict) for command, verdict in verdicts if not verdict.passed]
        if not refused:
            return
        alone = [(msgspec.structs.replace(each, campaign="", proof=b""), [refusal(v, now)]) for each, v in refused]
        self.book.add(alone, New("", b"", b"", actor))
        many = len(made.commands) > 1
        reasons = [f"{c.point}: {says}" if many else says for c, verdict in refused for says in verdict.refusals()]
        raise NotAcceptedError("refused-by-policy", "; ".join(reasons[:MAX_REASONS]), reasons[:MAX_REASONS])

    def _first_steps(self, made: Made, grant: Grant, now: int) -> tuple[list[Step], bytes]:
        """Return the steps that new commands take at once, and the service key's signature where it gives one."""
        action, actor = made.commands[0].order.action, f"token:{grant.token}"
        if action in WITHHOLDING:
            why = self._limits.exceeded(self.book, grant.token, action, len(made.commands), now)
            if why:
                return [Step(Cause.THRESHOLD_EXCEEDED, actor, now, why)], b""
        steps = [Step(Cause.POLICY_PASSED, actor, now)]
        if action is Action.READ_STATE:
            steps.append(Step(Cause.APPROVALS_COMPLETE, actor, now, "reading a state needs no approval"))
        paid = made.commands[0].order.reason == "paid" and action in OF_A_SERVICE
        if self._service is None or not paid:
            return steps, b""
        # The gateway judges whether it was opened for a debt, and staggers what is above the service's rate.
        kind = Kind.MANIFEST if made.manifest else Kind.COMMAND
        signed = sign(made.manifest or made.commands[0].body, kind, [self._service])
        return [*steps, Step(Cause.APPROVALS_COMPLETE, f"key:{self._service.public.id}", now, "paid")], signed

    # --- policy -------------------------------------------------------------------------------------------------------

    def judge(self, command: Command, now: int) -> Verdict:
        """Return what policy says of a command that withholds. Raises `StorageError`."""
        point = self._registry.point(command.point)
        facts = msgspec.json.decode(command.facts, type=CollectionFacts | None)
        zone = point.zone if point is not None else "UTC"
        return self._policy.judge(command.order, zone, command.customer, facts, now)

    # --- approvals ----------------------------------------------------------------------------------------------------

    def signing(self, grant: Grant, name: str) -> Sheet:
        """Return what approvers sign: the canonical command, or its campaign's manifest with its commands."""
        command = self._seen(grant, name)
        if not command.campaign:
            return Sheet(command.body)
        return Sheet(self.signatures.payload(command), [each.body for each in self._all(grant, command)])

    def approve(self, grant: Grant, name: str, signed: bytes) -> CommandsMade:
        """Take signatures of a command or of its campaign, and go on when there are enough.

        Raises:
            NotAcceptedError: it is signed by nobody who may, waits for no approval, or policy refuses by now.

        """
        command = self._seen(grant, name)
        if command.state is not State.AWAITING_APPROVAL:
            raise NotAcceptedError("not-waiting", f"the command is {command.state}: it waits for no approval")
        if grant.token == command.token:
            raise NotAcceptedError("requester", "who requested a command does not approve it")
        kind = Kind.MANIFEST if command.campaign else Kind.COMMAND
        self._all(grant, command)
        kids = self.signatures.check(command, kind, self.signatures.payload(command), signed)
        before = self.signatures.of(command)
        after = merge(before, signed) if before else signed
        now = self._clock()
        body = {"keys": sorted(kids), "token": grant.token}
        entries = Entry(now, f"key:{min(kids)}", "approval", command.campaign or command.id, command.region, body)
        self.book.sign(command, after, entries)
        if not self.signatures.missing(self._get(name)):
            self._complete(command, grant, now)
        return self._made(command)

    def _complete(self, command: Command, grant: Grant, now: int) -> None:
        """Let commands with all approvals go on, each as policy says now."""
        found = self.book.of_campaign(command.campaign) if command.campaign else [self._get(command.id)]
        waiting = [each for each in found if each.state is State.AWAITING_APPROVAL]
        passed = []
        for each in waiting:
            verdict = self.judge(each, max(now, each.not_before)) if each.order.action in WITHHOLDING else None
            if verdict is not None and not verdict.passed:
                self.book.move(each.id, refusal(verdict, now))
            else:
                passed.append(each.id)
        self.book.move_all(passed, Step(Cause.APPROVALS_COMPLETE, f"token:{grant.token}", now))

    # --- second thoughts ----------------------------------------------------------------------------------------------

    def cancel(self, grant: Grant, name: str, signed: bytes = b"") -> CommandView:
        """Cancel a command that has not been sent. What gives back needs the signatures of k approvers."""
        command = self._seen(grant, name)
        keys: list[str] = []
        if command.order.action in RESTORING:
            if not signed:
                raise NotAcceptedError("missing-signatures", "cancelling what gives back needs k approvers' signatures")
            kids = self.signatures.check(command, Kind.CANCEL, command.body, signed)
            document = self.signatures.document(command)
            persons = persons_of(document.approvers, kids)
            if len(persons) < document.k:
                text = f"{len(persons)} of the approvers signed; {document.k} are needed"
                raise NotAcceptedError("missing-signatures", text)
            keys = sorted(kids)
        step = Step(Cause.CANCELLED, f"token:{grant.token}", self._clock(), "", {"keys": keys} if keys else {})
        return self._moved(command, step)

    def release(self, grant: Grant, name: str) -> CommandsMade:
        """Let quarantined commands (all of a campaign) go on, by another person than their requester."""
        return self._second(grant, name, Cause.RELEASED)

    def delete(self, grant: Grant, name: str) -> CommandsMade:
        """Delete quarantined commands (all of a campaign), by another person than their requester."""
        return self._second(grant, name, Cause.DELETED)

    def _second(self, grant: Grant, name: str, cause: Cause) -> CommandsMade:
        command = self._seen(grant, name)
        if grant.token == command.token or grant.name == command.order.requester:
            raise NotAcceptedError("requester", "a second person decides about what is quarantined")
        found = self._all(grant, command)
        names = [each.id for each in found if each.state is State.QUARANTINED]
        if not names:
            raise NotAcceptedError("not-quarantined", f"the command is {command.state}, not quarantined")
        self.book.move_all(names, Step(cause, f"token:{grant.token}", self._clock()))
        return self._made(command)

    def _moved(self, command: Command, step: Step) -> CommandView:
        try:
            return command_view(self.book.move(command.id, step))
        except NoSuchTransitionError:
            now = self._get(command.id).state
            text = f"the command is {now}: only what has not been sent is cancelled; afterwards request a restore"
            raise NotAcceptedError("too-late", text) from None

    # --- views --------------------------------------------------------------------------------------------------------

    def view(self, grant: Grant, name: str) -> CommandView:
        """Return one command. Raises `NotFoundError`."""
        command = self._seen(grant, name)
        return command_view(command, self.signatures.missing(command))

    def page(self, grant: Grant, limit: int, cursor: str, point: str = "", state: str = "") -> CommandsPage:
        """Return a page of the commands that the asker sees, those of one meter point or in one state."""
        where: list[sa.ColumnElement[bool]] = [_inside(grant)]
        where += [table.c.point == point] if point else []
        where += [table.c.state == state] if state else []
        found = self.book.page(cursor, limit + 1, where)
        more = found[limit - 1].id if len(found) > limit else None
        return CommandsPage([command_view(each) for each in found[:limit]], more)

    def supply(self, grant: Grant, point: str) -> SupplyView:
        """Return how the supply stands at a meter point. Raises `NotFoundError`."""
        found = self._registry.point(point)
        if found is None or not covers(grant.regions, found.region):
            raise NotFoundError(f"there is no meter point {point}")
        return supply_view(point, self.book.at(point))

    def _seen(self, grant: Grant, name: str) -> Command:
        found = self.book.get(name)
        if found is None or not covers(grant.regions, found.region):
            raise NotFoundError(f"there is no command {name}")
        return found

    def _all(self, grant: Grant, command: Command) -> list[Command]:
        """Return a command, or its whole campaign, all of which the asker must see."""
        found = self.book.of_campaign(command.campaign) if command.campaign else [command]
        if not all(covers(grant.regions, each.region) for each in found):
            raise NotFoundError(f"the campaign {command.campaign} reaches beyond your regions")
        return found

    def _get(self, name: str) -> Command:
        found = self.book.get(name)
        if found is None:
            raise NotFoundError(f"there is no command {name}")
        return found


def refusal(verdict: Verdict, now: int) -> Step:
    """Return the step of a command that policy refuses, with the whole verdict as evidence."""
    actor = f"rule-set:{verdict.rule_set}@{verdict.version}"
    why = "; ".join(verdict.refusals())[:1000]
    return Step(Cause.POLICY_REFUSED, actor, now, why, {"verdict": msgspec.to_builtins(verdict)})


def _inside(grant: Grant) -> sa.ColumnElement[bool]:
    """Return what holds for commands inside the asker's regions."""
    found: list[sa.ColumnElement[bool]] = []
    for prefix in grant.regions:
        path = prefix.strip("/")
        inside = sa.or_(table.c.region == path, table.c.region.startswith(f"{path}/", autoescape=True))
        found.append(inside if path else sa.true())
    return sa.or_(*found) if found else sa.false()
