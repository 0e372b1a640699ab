"""What policy says of a command, by its meter point, the class of its customer and what collections said. No rules.

The class is the registry's, as it stands at that moment: who requests a command does not choose whose rules judge it.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from headend.policy.facts import CollectionFacts, Known, Verdict
from headend.supply.command import Command
from headend.supply.policy import Policy
from headend.supply.steps import Step, parts
from metering.ports import Registry
from metering.supply_states import Cause


class Judge:
    """Asks policy about commands that withhold."""

    def __init__(self, registry: Registry, policy: Policy) -> None:
        self._registry = registry
        self._policy = policy

    def known(self, commands: Sequence[Command], now: int) -> Known:
        """Return what is kept of the meter points of at most AT_ONCE commands. Raises `StorageError`."""
        return self._policy.known([each.point for each in commands], now)

    def judge_all(self, commands: Sequence[Command], now: int) -> list[Verdict]:
        """Return what policy says of commands that withhold, each from when it may act. Raises `StorageError`."""
        found: list[Verdict] = []
        for some in parts(commands):
            at = max(now, *(each.not_before for each in some))  # the commands of one request have the same
            known = self.known(some, at)
            found += [self.judge(each, at, known) for each in some]
        return found

    def judge(self, command: Command, now: int, known: Known) -> Verdict:
        """Return what policy says of a command that withholds. Raises `StorageError`."""
        point = self._registry.point(command.point)
        facts = msgspec.json.decode(command.facts, type=CollectionFacts | None)
        zone, customer = (point.zone, point.customer) if point is not None else ("UTC", "")
        return self._policy.judge(command.order, zone, customer, facts, now, known)


def refusal(verdict: Verdict, now: int) -> Step:
    """Return the step of a command that policy refuses, with the verdict."""
    why = "; ".join(verdict.refusals())[:1000]
    return Step(Cause.POLICY_REFUSED, rules_of(verdict), now, why, evidence=evidence(verdict))


def rules_of(verdict: Verdict) -> str:
    """Return who judged, as the audit has it."""
    return f"rule-set:{verdict.rule_set}@{verdict.version}"


def evidence(verdict: Verdict) -> dict[str, object]:
    """Return the verdict with each rule's result and inputs, as the audit keeps it for each step that rests on one."""
    return {"verdict": msgspec.to_builtins(verdict)}


def digest(verdict: Verdict) -> dict[str, object]:
    """Return which rules judged and what digest the verdict has: what the audit keeps of one for each renewed go.

    The registers, the facts and the rule sets are in the audit with their times: from them the verdict of that instant
    is made again, and the digest says whether it is the same.
    """
    digest = hashlib.sha256(msgspec.json.encode(verdict, order="deterministic")).hexdigest()
    return {"rules": rules_of(verdict), "verdict_sha256": digest}
