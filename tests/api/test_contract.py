"""What `/v1` promised stays: the committed OpenAPI document, golden payloads, and schemathesis against the app."""

import copy
import json
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from api import openapi
from api.app import bare_app
from api.context import put
from tests.api.example_site import Site
from tests.api.holding import holds

EXAMPLES = 12  # for each operation
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def test_the_committed_document_is_the_apps() -> None:
    committed = json.loads(openapi.PATH.read_text("utf-8"))
    assert list(openapi.narrowings(committed, openapi.document())) == []
    assert committed == json.loads(openapi.text(openapi.document())), "run python -m api.openapi"


def change(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(" ")
    node: Any = document
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if value is None:
        del node[int(last) if isinstance(node, list) else last]
    else:
        node[last] = value


READINGS = "paths /v1/devices/{device}/readings get"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("paths /v1/events", None),
        (f"{READINGS} responses 410", None),
        (f"{READINGS} parameters 1", None),
        (f"{READINGS} parameters 1 required", True),
        (f"{READINGS} parameters 1 schema pattern", "^x$"),
        ("components schemas Row properties value", None),
        ("components schemas Row required", ["device"]),
        ("components schemas Row properties device type", "integer"),
    ],
)
def test_taking_away_or_narrowing_is_found(path: str, value: object) -> None:
    old = openapi.document()
    if path.endswith("410"):
        path = path.replace("410", "404")
    new = copy.deepcopy(old)
    change(new, path, value)
    assert list(openapi.narrowings(old, new)) != []


def test_adding_and_widening_is_welcome() -> None:
    old = openapi.document()
    new = copy.deepcopy(old)
    change(new, "paths /v1/tariffs", {"get": {}})
    change(new, "components schemas Row properties extra", {"type": "string"})
    change(new, f"{READINGS} description", "other words")
    new["paths"]["/v1/devices/{device}/readings"]["get"]["parameters"].append({"in": "query", "name": "zone"})
    assert list(openapi.narrowings(old, new)) == []


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_payload_is_still_the_answer(site: Site, path: Path) -> None:
    golden = json.loads(path.read_text("utf-8"))
    headers = {**site.token(*golden.get("scopes", ())), "Accept": golden.get("accept", "*/*")}
    answer = site.client.request(golden["method"], golden["path"], headers=headers)
    assert answer.status_code == golden["status"]
    if "text" in golden:
        assert answer.text == golden["text"]
    else:
        holds(golden["json"], answer.json())


_CONFIG = {
    "generation": {"max-examples": EXAMPLES, "deterministic": True},
    "checks": {
        # That `to` lies after `from`, and what a cursor holds, no schema can say: such a 400 is right.
        "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "401", "403", "404", "406"]},
        # A value too long for its field may make a query too long altogether (414).
        "negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "405", "406", "414"]},
    },
}
APP = bare_app()
schema = schemathesis.openapi.from_asgi("/openapi.json", APP, config=SchemathesisConfig.from_dict(_CONFIG))


@schema.parametrize()
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])  # cases only ask
def test_the_app_does_what_its_document_says(case: Case, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headend.ondemand.READS_PER_MINUTE", 1_000_000)
    monkeypatch.setattr("headend.enrolling.TRIES", 1_000_000)
    monkeypatch.setattr("headend.enrolling.ALL_TRIES", 1_000_000)
    put(APP, site.office, site.fleet)
    headers = site.token("readings:read", "commands:request", "audit:read", "admin")
    answer = case.call_and_validate(headers=headers)  # raises what does not conform
    assert answer.status_code < 500
