"""Rule sets: versioned TOML files with their rules and the examples that prove them. It asks nobody for facts."""

import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from headend.policy.debt_rules import NoDispute, NoKeptPlan
from headend.policy.facts import CollectionFacts, Entry, Question, RuleResult, Verdict
from headend.policy.register_rules import NoHold, NotProtected
from headend.policy.rules import AnyRule
from headend.policy.time_rules import Hours
from metering.errors import ConfigError
from metering.supply import Hours as SignedHours
from metering.supply import Reason
from metering.timing import from_rfc3339

# What every rule set must have, so that a meter point which gets another class or region loses no entry of a register:
# the kind of rule, whether for all reasons or for a debt at least, and what is said where it is missing.
_ALWAYS: tuple[tuple[type[NotProtected | NoHold | NoDispute | NoKeptPlan], bool, str], ...] = (
    (
        NotProtected,
        True,
        "has no rule of the kind not-protected for all reasons: protected customers are cut off for none",
    ),
    (NoHold, False, "has no rule of the kind no-hold for a debt"),
    (NoDispute, False, "has no rule of the kind no-dispute for a debt"),
    (NoKeptPlan, False, "has no rule of the kind no-kept-plan for a debt"),
)
FOLDER = Path(__file__).parent / "rulesets"


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A case and what must come of it: instants are RFC 3339 texts, `expect` the sentences of what is missing."""

    name: str
    at: str
    facts: dict[str, object]
    expect: tuple[str, ...]
    zone: str = "UTC"
    reason: str = "debt"
    entries: tuple[dict[str, object], ...] = ()


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule set. `validity_h` bounds a command's validity, `restore_within_h` is the promise after payment."""

    name: str
    version: int
    title: str
    rule: tuple[AnyRule, ...]
    validity_h: float = 4.0
    restore_within_h: float = 24.0
    example: tuple[Example, ...] = ()

    def judge(self, question: Question) -> Verdict:
        """Return what every rule that is for this reason finds."""
        results = []
        for rule in self.rule:
            if rule.reasons and question.reason not in rule.reasons:
                continue
            found = rule.judge(question)
            says = f"{found.says}, rule {rule.id}"
            results.append(RuleResult(rule.id, found.passed, says, found.inputs))
        passed = all(each.passed for each in results)
        return Verdict(self.name, self.version, question.now, passed, tuple(results))

    def hours(self, zone: str, reason: Reason) -> SignedHours | None:
        """Return the hours that go into the signed command: those of its first rule of hours for the reason."""
        hours = (each for each in self.rule if isinstance(each, Hours))
        found = next((each for each in hours if not each.reasons or reason in each.reasons), None)
        if found is None:
            return None
        return SignedHours(zone, _minute(found.first), _minute(found.last), found.weekdays)


def rule_set_names(extra: Path | None = None) -> list[str]:
    """Return the names of all rule sets, those of the user's own folder among them."""
    return sorted({path.stem for folder in (FOLDER, extra) if folder for path in folder.glob("*.toml")})


@lru_cache(maxsize=64)
def load_rule_set(name: str, extra: Path | None = None) -> RuleSet:
    """Return a rule set; the user's own file wins.

    Raises:
        ConfigError: there is none of that name, or its file is wrong (names file and key).

    """
    if name not in rule_set_names(extra):
        raise ConfigError(f"there is no rule set {name!r}; known are {', '.join(rule_set_names(extra))}")
    own = extra / f"{name}.toml" if extra else None
    return read_rule_set(own if own and own.exists() else FOLDER / f"{name}.toml")


def read_rule_set(path: Path) -> RuleSet:
    """Return the rule set in this file. Raises `ConfigError` (file and key)."""
    try:
        made = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), RuleSet)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(error).replace(" - at `$.", " at `"), file=str(path)) from None
    if made.name != path.stem:
        raise ConfigError(f"is named {made.name!r}: a rule set has its file's name", file=str(path), key="name")
    ids = [rule.id for rule in made.rule]
    if twice := next((each for each in ids if ids.count(each) > 1), None):
        raise ConfigError(f"the rule {twice!r} stands twice", file=str(path), key="rule")
    for kind, of_all, text in _ALWAYS:
        if not any(isinstance(rule, kind) and _is_for(rule.reasons, of_all) for rule in made.rule):
            raise ConfigError(text, file=str(path), key="rule")
    return made


def _is_for(reasons: tuple[str, ...], of_all: bool) -> bool:  # noqa: FBT001 - a column of the table above
    return not reasons or (not of_all and "debt" in reasons)


def question_of(example: Example) -> Question:
    """Return an example as it is judged. Raises `ValueError` where it is no case."""
    facts = msgspec.convert(_instants(example.facts), CollectionFacts) if example.facts else None
    base = {"id": "e1", "point": "MP-1", "until": None, "reason": "", "source": "", "by": ""}
    entries: Sequence[Entry] = [msgspec.convert(base | _instants(each), Entry) for each in example.entries]
    return msgspec.convert(
        {"point": "MP-1", "zone": example.zone, "reason": example.reason, "now": from_rfc3339(example.at)}
        | {"facts": facts, "entries": entries},
        Question,
        from_attributes=True,
    )


def _instants(table: dict[str, object]) -> dict[str, object]:
    """Return a table with its texts of instants as microseconds."""
    named = {"at", "overdue_since", "delivered_at", "since", "until"}
    found: dict[str, object] = {}
    for name, value in table.items():
        if name in named and isinstance(value, str):
            found[name] = from_rfc3339(value)
        elif isinstance(value, list):
            found[name] = [_instants(each) if isinstance(each, dict) else each for each in value]
        else:
            found[name] = value
    return found


def _minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)
