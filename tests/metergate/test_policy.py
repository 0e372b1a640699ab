"""[policy] of a head-end's file: which rule sets judge where; what is wrong in it is told before anything runs."""

from pathlib import Path

import pytest

from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from metergate.headend_file import load_headend
from metergate.policy import build_policy
from metering.errors import ConfigError
from metering.supply import Hours

FILE = '[headend]\ndata = "data"\n[broker]\nhost = "127.0.0.1"\n[policy]\nrule_sets = [{rule}]\n'
RULE = '{ region = "uk", class = "resident", rule_set = "uk" }'


def test_rule_sets_are_chosen_by_region_and_class(tmp_path: Path):
    file = tmp_path / "headend.toml"
    file.write_text(FILE.replace("{rule}", RULE))
    state = State.open(tmp_path / "state.db")
    policy = build_policy(load_headend(file).policy, state, DatabaseRegistry(state))
    assert policy.hours("resident", "Europe/London", "uk/lon", "debt") == Hours("Europe/London", 540, 900, (0, 1, 2, 3))
    assert policy.hours("shop", "Europe/London", "uk/lon", "debt") is None
    state.close()


@pytest.mark.parametrize(
    ("rule", "more", "says"),
    [
        ('{ region = "uk", rule_set = "fr" }', "", "there is no rule set 'fr'"),
        (RULE, '[policy.collections]\nurl = "http://collections.example/"\nsecret = "env:PATH"\n', "https"),
        ('{ region = "uk/", rule_set = "uk" }', "", "region"),
    ],
    ids=["unknown", "plain-http", "region"],
)
def test_what_is_wrong_is_told(tmp_path: Path, rule: str, more: str, says: str):
    file = tmp_path / "headend.toml"
    file.write_text(FILE.replace("{rule}", rule) + more)
    state = State.open(tmp_path / "state.db")
    with pytest.raises(ConfigError, match=says):
        build_policy(load_headend(file).policy, state, DatabaseRegistry(state))
    state.close()
