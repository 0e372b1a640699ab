"""Policy as supply control asks it: chooses the rule set, gathers facts and entries anew each time, and judges."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from headend.policy.collections import Asker, CollectionsError, FactsBook, together
from headend.policy.facts import CollectionFacts, Known, Question, RuleResult, Verdict
from headend.policy.registers import Registers
from headend.policy.rule_set import RuleSet
from headend.registry import covers
from metering.supply import WITHHOLDING, Hours, Reason, SupplyCommand

RegionOf = Callable[[str], str | None]


class Choice(NamedTuple):
    """A rule set, and for whom it is: a region prefix, and a class of customers (empty: all)."""

    region: str
    customer: str
    rule_set: RuleSet


class PolicyDesk:
    """Judges commands. Where no rule set is for a region and class, nothing is withheld there.

    `region_of` gives a meter point's region, None for one that is not there.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        registers: Registers,
        facts: FactsBook,
        region_of: RegionOf,
        asker: Asker | None = None,
    ) -> None:
        self._choices = choices
        self._registers = registers
        self._facts = facts
        self._region_of = region_of
        self._asker = asker

    def known(self, points: Sequence[str], now: int) -> Known:
        """Return what is kept now of some hundred meter points. Raises `StorageError`."""
        regions = {point: region for point in points if (region := self._region_of(point)) is not None}
        return Known(self._registers.of_points(regions, now), self._facts.of_points(points))

    def judge(
        self,
        command: SupplyCommand,
        zone: str,
        customer: str,
        facts: CollectionFacts | None,
        now: int,
        known: Known,
    ) -> Verdict:
        """Return the verdict on a command with its evidence. `facts` came with the request.

        Blocking; it may ask collections. Raises `StorageError`.
        """
        if command.action not in WITHHOLDING:
            return Verdict("none", 0, now, passed=True, results=())
        region = self._region_of(command.point)
        if region is None:
            return _refused(f"the meter point {command.point} is not in the registry", now)
        rules = self._rules(region, customer)
        if rules is None:
            return _refused(_no_rules(command.point, region, customer), now)
        owed, heard = self._gather(command, facts, known.pushed.get(command.point))
        entries = known.entries[command.point]
        verdict = rules.judge(Question(command.point, zone, command.reason, now, owed, entries))
        return msgspec.structs.replace(
            verdict, passed=verdict.passed and heard.passed, results=(*verdict.results, heard)
        )

    def hours(self, customer: str, zone: str, region: str, reason: Reason) -> Hours | None:
        """Return the hours that go into the signed command, in the meter point's zone; None: any."""
        rules = self._rules(region, customer)
        return rules.hours(zone, reason) if rules is not None else None

    def _rules(self, region: str, customer: str) -> RuleSet | None:
        """Return the rule set of the longest region that covers it; one for the very class goes before one for all."""
        found = [each for each in self._choices if covers((each.region,), region) and each.customer in {customer, ""}]
        best = max(found, key=lambda each: (len(each.region), bool(each.customer)), default=None)
        return best.rule_set if best is not None else None

    def _gather(
        self, command: SupplyCommand, said: CollectionFacts | None, pushed: CollectionFacts | None
    ) -> tuple[CollectionFacts | None, RuleResult]:
        """Return what is known of the debt, and where from. Collections that can be asked has the only word."""
        if self._asker is not None and command.reason == "debt":
            try:
                answer = self._asker.ask(command.point)
            except CollectionsError as error:
                return None, RuleResult("facts", False, f"collections was asked: {error}", {})  # noqa: FBT003 - RuleResult's own
            return answer, _heard("asked", answer)
        known = together(said, pushed)
        if known is None:
            return None, RuleResult("facts", True, "collections has said nothing", {"from": "nobody"})  # noqa: FBT003 - RuleResult's own
        return known, _heard("request" if said is not None and known.at == said.at else "pushed", known)


def _heard(source: str, facts: CollectionFacts) -> RuleResult:
    inputs = {"from": source, "at": str(facts.at), "facts": msgspec.json.encode(facts).decode()}
    return RuleResult("facts", True, f"collections' word: {source}", inputs)  # noqa: FBT003 - RuleResult's own


def _no_rules(point: str, region: str, customer: str) -> str:
    """Return what is missing: without a class only a rule set for all of a region judges."""
    if not customer:
        return (
            f"the class of the customer at {point} is not in the registry, and no rule set is for all customers in"
            f" {region!r}: give the meter point its `customer`"
        )
    return (
        f"no rule set says when a supply may be withheld in {region!r} from customers of the class {customer!r}:"
        " [policy] rule_sets"
    )


def _refused(says: str, now: int) -> Verdict:
    result = RuleResult("rule-set", False, says, {})  # noqa: FBT003 - RuleResult's own
    return Verdict("none", 0, now, passed=False, results=(result,))
