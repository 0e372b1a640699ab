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
        if request.action in WITHHOLDING:
            self._judge_new(made, f"token:{grant.token}", now)
        new = New(
            key,
            digest,
            made.manifest,
            f"token:{grant.token}",
            exclusive=request.action in WITHHOLDING,
            supersedes=request.action in RESTORING,
        )
        try:
            self.book.add(made.commands, new, [_requested(each, now) for each in made.commands])
        except BusyError as error:
            reasons = [f"{point}: the command {name} is open" for point, name in list(error.points.items())]
            raise NotAcceptedError("another-command-open", str(error), reasons[:MAX_REASONS]) from None
        if (earlier := self._answered(grant, key, digest)) is None or earlier.commands[0].id != made.commands[0].id:
            return self._other(earlier)
        self._begin(made, grant, now)
        return self._made(made.commands[0])

    def _other(self, earlier: CommandsMade | None) -> CommandsMade:
        if earlier is None:
            raise NotAcceptedError("idempotency-key-reused", "the request was not kept: send it again")
        return earlier

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
        single = [msgspec.structs.replace(each, campaign="", proof=b"") for each, _ in refused]
        self.book.add(single, New("", b"", b"", actor), [_requested(each, now) for each in single])
        for command, verdict in refused:
            self.book.move(command.id, refusal(verdict, now))
        many = len(made.commands) > 1
        reasons = [f"{c.point}: {says}" if many else says for c, verdict in refused for says in verdict.refusals()]
        raise NotAcceptedError("refused-by-policy", "; ".join(reasons[:MAX_REASONS]), reasons[:MAX_REASONS])

    def _begin(self, made: Made, grant: Grant, now: int) -> None:
        names = [each.id for each in made.commands]
        action = made.commands[0].order.action
        actor = f"token:{grant.token}"
        if action in WITHHOLDING and (why := self._limits.exceeded(self.book, grant.token, action, now)):
            self.book.move_all(names, Step(Cause.THRESHOLD_EXCEEDED, actor, now, why))
            return
        steps = [Step(Cause.POLICY_PASSED, actor, now)]
        if action is Action.READ_STATE:
            steps.append(Step(Cause.APPROVALS_COMPLETE, actor, now, "reading a state needs no approval"))
        self.book.move_all(names, *steps)
        if self._service is not None and action in {Action.RESTORE, Action.UNLIMIT}:
            self._serve(made.commands, now)

    def _serve(self, made: list[Command], now: int) -> None:
        """Sign by the service key what a payment gives back. The gateway judges whether it was opened for a debt."""
        service = self._service
        if service is None or made[0].order.reason != "paid":
            return
        actor = f"key:{service.public.id}"
        body = self.signatures.payload(made[0])
        kind = Kind.MANIFEST if made[0].campaign else Kind.COMMAND
        entry = Entry(now, actor, "approval", made[0].campaign or made[0].id, made[0].region, {"service": True})
        self.book.sign(made[0], sign(body, kind, [service]), entry)
        self.book.move_all([each.id for each in made], Step(Cause.APPROVALS_COMPLETE, actor, now, "paid"))

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
        return Sheet(self.signatures.payload(command), [each.body for each in self.book.of_campaign(command.campaign)])

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
        found = self.book.of_campaign(command.campaign) if command.campaign else [command]
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


def _requested(command: Command, now: int) -> Entry:
    body = {"order": msgspec.to_builtins(command.order), "facts": msgspec.Raw(command.facts.encode())}
    return Entry(now, f"token:{command.token}", "command-requested", command.id, command.region, body)


def _inside(grant: Grant) -> sa.ColumnElement[bool]:
    """Return what holds for commands inside the asker's regions."""
    found: list[sa.ColumnElement[bool]] = []
    for prefix in grant.regions:
        path = prefix.strip("/")
        inside = sa.or_(table.c.region == path, table.c.region.startswith(f"{path}/", autoescape=True))
        found.append(inside if path else sa.true())
    return sa.or_(*found) if found else sa.false()
