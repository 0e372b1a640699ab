"""Every rule set proves itself by its examples; what is not known counts as no; a wrong file is told."""

from pathlib import Path
from typing import get_args

import pytest

from headend.policy.facts import Question
from headend.policy.rule_set import Example, load_rule_set, question_of, read_rule_set, rule_set_names
from metering.errors import ConfigError
from metering.supply import Hours, Reason
from metering.timing import from_rfc3339

CASES = [(name, example) for name in rule_set_names() for example in load_rule_set(name).example]


@pytest.mark.parametrize(("name", "example"), CASES, ids=[f"{name}: {example.name}" for name, example in CASES])
def test_an_example_of_a_rule_set(name: str, example: Example):
    verdict = load_rule_set(name).judge(question_of(example))
    assert verdict.refusals() == list(example.expect)
    assert verdict.passed is (not example.expect)


@pytest.mark.parametrize("name", rule_set_names())
def test_every_rule_set_has_examples_that_pass_and_that_do_not_and_sources(name: str):
    rules = load_rule_set(name)
    assert {bool(example.expect) for example in rules.example} == {True, False}
    assert all(rule.source and rule.mark in {"V", "S", "U"} for rule in rules.rule)


@pytest.mark.parametrize("name", rule_set_names())
def test_nobody_is_cut_off_where_collections_has_said_nothing(name: str):
    at = from_rfc3339("2026-11-24T11:00:00Z")
    verdict = load_rule_set(name).judge(Question("MP-1", "UTC", "debt", at))
    assert not verdict.passed


@pytest.mark.parametrize("name", rule_set_names())
@pytest.mark.parametrize("reason", get_args(Reason))
def test_a_protected_customer_is_cut_off_for_no_reason_under_no_name(name: str, reason: str):
    example = next(each for each in load_rule_set(name).example if not each.expect)
    entry = {"kind": "protected", "name": "some-need", "since": "2020-01-01T00:00:00Z"}
    entries = (*example.entries, entry)
    protected = Example(example.name, example.at, example.facts, (), example.zone, reason, entries)
    verdict = load_rule_set(name).judge(question_of(protected))
    assert [each.split(":")[0] for each in verdict.refusals()] == ["not protected"]


def test_danger_is_no_matter_of_debt():
    at = from_rfc3339("2026-11-24T23:00:00Z")
    assert load_rule_set("uk").judge(Question("MP-1", "Europe/London", "safety", at)).passed


def test_the_hours_go_into_the_signed_command():
    assert load_rule_set("au").hours("Australia/Sydney", "debt") == Hours("Australia/Sydney", 480, 900, (0, 1, 2, 3))


def test_danger_keeps_no_hours_at_the_gateway_either():
    assert load_rule_set("au").hours("Australia/Sydney", "safety") is None


GOOD = 'name = "mine"\nversion = 1\ntitle = "Mine"\n[[rule]]\nid = "m-1"\nkind = "facts-age"\nhours = 2\nsource = "x"\n'
PROTECTS = '[[rule]]\nid = "m-2"\nkind = "not-protected"\nsource = "x"\n'
HOLDS, DISPUTES, PLANS = (
    f'[[rule]]\nid = "{kind}"\nkind = "{kind}"\nsource = "x"\n' for kind in ("no-hold", "no-dispute", "no-kept-plan")
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("hours = 2", 'hours = "two"'), "rule[0].hours"),
        (GOOD.replace("facts-age", "facts-agee"), "facts-agee"),
        (GOOD.replace("hours = 2", "hours = 2\nextra = 1"), "extra"),
        (GOOD.replace('"mine"', '"other"'), "has its file's name"),
        (GOOD + GOOD[GOOD.index("[[") :], "'m-1' stands twice"),
        (GOOD, "not-protected for all reasons"),
        (GOOD + PROTECTS.replace("source", 'reasons = ["debt"]\nsource'), "not-protected for all reasons"),
        (GOOD + PROTECTS.replace("source", 'names = ["medical"]\nsource'), "names"),
        (GOOD + PROTECTS + DISPUTES + PLANS, "no-hold for a debt"),
        (GOOD + PROTECTS + HOLDS + PLANS, "no-dispute for a debt"),
        (GOOD + PROTECTS + HOLDS + DISPUTES, "no-kept-plan for a debt"),
        (
            GOOD + PROTECTS + DISPUTES + PLANS + HOLDS.replace("source", 'reasons = ["test"]\nsource'),
            "no-hold for a debt",
        ),
        ("name = ", "mine.toml"),
    ],
)
def test_a_wrong_file_is_told_with_file_and_key(tmp_path: Path, text: str, says: str):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_rule_set(tmp_path / "mine.toml")
    assert says in str(raised.value)
    assert "mine.toml" in str(raised.value)


def test_a_rule_set_of_ones_own_wins(tmp_path: Path):
    (tmp_path / "uk.toml").write_text((GOOD + PROTECTS + HOLDS + DISPUTES + PLANS).replace('"mine"', '"uk"'))
    assert load_rule_set("uk", tmp_path).title == "Mine"
    with pytest.raises(ConfigError, match="there is no rule set 'fr'; known are au, "):
        load_rule_set("fr")
