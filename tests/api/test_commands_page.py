"""docs/commands.md and docs/webhooks.md say what the API has: its paths, what it takes, each alert and state."""

import json
import re
from pathlib import Path

import pytest

from api import openapi
from api.routes.commands import CommandBody
from headend.supply.steps import ALERTED
from headend.supply.unsigned import ALERT
from metering.supply_states import State

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "commands.md").read_text("utf-8")
CURLS = re.findall(r"^\$ curl (.*?)(?: +#.*)?$", PAGE, re.MULTILINE)
PATHS = openapi.document()["paths"]


@pytest.mark.parametrize("number", range(len(CURLS)))
def test_each_line_asks_what_there_is(number: int) -> None:
    line = CURLS[number]
    found = re.search(r"\$U(/[^\s\"?]*)", line)
    assert found, line
    path = "/v1" + found[1].replace("$ID", "{command}").replace("MP-000001", "{point}")
    method = "post" if " -d " in line or "--data" in line or "-X POST" in line else "get"
    assert method in PATHS[path], line
    asked = {name for name, _ in re.findall(r"[?&](\w+)=([^&\"]+)", line)}
    assert asked <= {each["name"] for each in PATHS[path][method].get("parameters", ())}, line


def test_each_request_is_one_that_is_taken() -> None:
    bodies = [json.loads(each) for each in re.findall(r"```json\n(\{.*?\n?\})\n```", PAGE, re.DOTALL)]
    requests = [CommandBody.model_validate_json(json.dumps(each)) for each in bodies if "action" in each]
    assert [each.action for each in requests] == ["disconnect", "restore"]


def test_each_state_stands_there() -> None:
    assert [each for each in State if f"`{each}`" not in PAGE and each is not State.REQUESTED] == []


def test_each_alert_stands_there() -> None:
    page = (DOCS / "webhooks.md").read_text("utf-8")
    assert [each for each in (*ALERTED.values(), ALERT) if f"`{each}`" not in page] == []
