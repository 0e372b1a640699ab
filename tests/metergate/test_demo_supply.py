"""The demo's lines about supply control, as it prints them, in a shell: a meter goes dark and comes back."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headend.policy.rule_set import question_of, read_rule_set
from metergate.demo_supply import FOLDER, RULES
from tests.metergate.running_demo import WAIT_S, Demo, gone, wait_for

ANSWER = re.compile(r'"obis":"1-0:1\.7\.0\*255".*?"value":"([0-9.]+)"')


def lines_of(said: str) -> list[str]:
    """Return the lines about supply control as they were printed."""
    rest = said[said.index("  U=http://") :]
    return rest[: rest.index("\n\n")].splitlines()


def run(lines: list[str]) -> str:
    """Run printed lines in one shell and return what they print."""
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=3 * WAIT_S, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def supplies(said: str) -> Iterator[dict[str, Any]]:
    """Yield the answers about the supply."""
    for line in said.splitlines():
        if line.startswith('{"point":'):
            yield json.loads(line)


def test_the_printed_lines_let_a_meter_go_dark_and_come_back(start: Callable[..., Demo], tmp_path: Path):
    demo = start().ready()
    family = demo.family()
    wait_for(lambda: " s  readings=" in demo.text(), "the hints")
    lines = lines_of(demo.text())
    halves = next(number for number, line in enumerate(lines) if "/restore.json" in line)
    dark = run(lines[:halves])
    demo.process.terminate()
    assert demo.end() == 0
    demo = start().ready()  # the meter is as dark as it was, and the view of it as true
    family = demo.family()
    wait_for(lambda: " s  readings=" in demo.text(), "the hints again")
    lines = lines_of(demo.text())
    still = run([*lines[:3], *lines[halves - 1 : halves]])
    back = run([*lines[:4], *lines[halves:]])
    (after_cut,), (after_payment,) = supplies(dark), supplies(back)
    assert ANSWER.findall(still) == ["0"]
    assert (after_cut["state"], after_cut["reason"]) == ("disconnected", "debt")
    assert ANSWER.findall(dark) == ["0"]
    assert (after_payment["state"], after_payment["reason"]) == ("connected", "paid")
    assert float(ANSWER.findall(back)[0]) > 0
    told = demo.ask(demo.token("audit:read"), "/v1/audit", limit=1000).json()["entries"]
    kinds = {each["kind"] for each in told}
    assert {"command-requested", "approval", "command-verified"} <= kinds
    keys = sorted((tmp_path / "data" / FOLDER).glob("*.pem"))
    assert [path.stem for path in keys] == ["anna", "ben", "dora", "payments"]
    assert {oct(path.stat().st_mode & 0o777) for path in keys} == {"0o600"}
    demo.process.terminate()
    assert demo.end() == 0
    assert gone(family)


def test_the_demos_rules_find_what_their_examples_say():
    rules = read_rule_set(RULES / "demo.toml")
    assert rules.example
    for example in rules.example:
        assert tuple(rules.judge(question_of(example)).refusals()) == example.expect
