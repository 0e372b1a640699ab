"""What `metergate check` says of supply control before anything runs: what is wrong, where, and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]

HEAD_END = '[headend]\ndata = "data"\n[broker]\nhost = "127.0.0.1"\n'
RULES = '[policy]\nrule_sets = [{ region = "", class = "resident", rule_set = "cn-resident" }]\n'
SUPPLY = '[supply]\ntrust = "trust"\n'
SITE = """[gateway]
id = "gw"
data = "data"
[[bus]]
id = "b"
kind = "tcp"
host = "127.0.0.1"
[[meter]]
id = "m1"
bus = "b"
unit = 1
profile = "eastron_sdm630"
point = "P1"
region = "a"
"""

CASES = [
    pytest.param(
        RULES.replace("cn-resident", "cn-residents"),
        "WARNING policy.rule_sets, region '': there is no rule set 'cn-residents'; known are au,",
        id="a rule set that is not there",
    ),
    pytest.param(
        '[[webhook]]\nname = "crm"\nurl = "http://127.0.0.1:9/"\nsecret = "file:gone"\n',
        "WARNING webhook crm: ",
        id="a webhook's secret that is not there",
    ),
    pytest.param(
        '[[webhook]]\nname = "crm"\nurl = "http://127.0.0.1:9/"\nsecret = "env:SHORT"\n',
        "WARNING webhook crm: the secret of webhook crm is shorter than 16 characters",
        id="a webhook's secret that is too short",
    ),
    pytest.param(
        RULES + SUPPLY + "user_per_hour = 300\n",
        "WARNING supply.user_per_hour: 300 is above user_per_day, 200, and so never counts: lower it, or raise",
        id="a threshold that never counts",
    ),
    pytest.param(
        RULES + SUPPLY,
        "holds no trust document: put each gateway's there, as metergate trust sign writes it",
        id="no trust document",
    ),
    pytest.param(SUPPLY, "WARNING policy.rule_sets: there is none, so no supply can be withheld", id="no rule set"),
    pytest.param(
        RULES + '[supply]\ntrust = "trust"\nservice_key = "gone.pem"\n',
        "WARNING supply.service_key: ",
        id="a service key that is not there",
    ),
    pytest.param('[audit]\nkey = "file:gone.pem"\n', "WARNING audit: ", id="a key of the audit that is not there"),
    pytest.param(
        RULES + '[policy.collections]\nurl = "https://collections.example/"\nsecret = "env:NOT_SET_ANYWHERE"\n',
        "WARNING policy.collections: ",
        id="collections' secret that is not there",
    ),
]


@pytest.mark.parametrize(("text", "says"), CASES)
def test_what_is_wrong_at_a_head_end_is_named(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
):
    monkeypatch.setenv("SHORT", "123")
    file = tmp_path / "headend.toml"
    file.write_text(HEAD_END + text)
    code, out, _ = command("check", str(file))
    assert code == 1
    assert says in out


def test_a_head_end_at_which_all_is_there_is_correct(command: Command, tmp_path: Path):
    file = tmp_path / "headend.toml"
    file.write_text(HEAD_END + RULES)
    assert command("check", str(file))[:2] == (0, f"{file}: correct\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            RULES.replace("cn-resident", "nowhere"),
            "WARNING policy.rule_sets, region '': there is no rule set 'nowhere'",
        ),
        ('[supply]\nservice_key = "gone.pem"\n', "WARNING supply.service_key: "),
    ],
    ids=["a rule set", "a service key"],
)
def test_what_is_wrong_at_a_site_is_named(command: Command, tmp_path: Path, text: str, says: str):
    file = tmp_path / "site.toml"
    file.write_text(SITE + text)
    code, out, _ = command("check", str(file))
    assert code == 1
    assert says in out
