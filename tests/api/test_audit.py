"""`/v1/audit`: entries in order, of the asker's regions alone, in pages or as a stream."""

import json

import pytest
from httpx import Response

from headend.readings import pack_cursor
from tests.api.example_site import Site

NDJSON = {"Accept": "application/x-ndjson"}


def ask(site: Site, question: str = "", *regions: str, **headers: str) -> Response:
    token = site.token("audit:read", regions=regions or ("",))
    return site.client.get(f"/v1/audit{question}", headers={**token, **headers})


def seqs(answer: Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [each["seq"] for each in answer.json()["entries"]]


def test_it_needs_a_scope_of_its_own(site: Site) -> None:
    assert site.client.get("/v1/audit").status_code == 401
    answer = site.client.get("/v1/audit", headers=site.token("readings:read", "admin", "commands:approve"))
    assert answer.status_code == 403
    assert 'scope="audit:read"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("regions", "found"),
    [
        ([""], [1, 2, 3, 4, 5]),
        (["js/nj"], [1, 2, 5]),
        (["js"], [1, 2, 3, 5]),
        (["js/njx", "js/nj/st1"], [1, 2, 3, 5]),
        (["j"], []),
    ],
    ids=["everywhere", "one", "above", "two", "no-segment"],
)
def test_entries_are_those_of_the_askers_regions(site: Site, regions: list[str], found: list[int]) -> None:
    assert seqs(ask(site, "", *regions)) == found


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("?subject=c1", [1, 2]),
        ("?kind=command-requested", [1, 3]),
        ("?subject=c1&kind=policy", [2]),
        ("?from=2026-11-01T00:00:00.000001Z&to=2026-11-01T00:00:00.000003Z", [2, 3]),
    ],
    ids=["subject", "kind", "both", "time"],
)
def test_entries_are_found_by_subject_kind_and_time(site: Site, question: str, found: list[int]) -> None:
    assert seqs(ask(site, question)) == found


def test_pages_follow_each_other_and_the_chain_can_be_seen(site: Site) -> None:
    first = ask(site, "?limit=3").json()
    second = ask(site, f"?limit=3&cursor={first['next']}").json()
    entries = first["entries"] + second["entries"]
    assert [each["seq"] for each in entries] == [1, 2, 3, 4, 5]
    assert second["next"] is None
    assert [each["prev"] for each in entries[1:]] == [each["hash"] for each in entries[:-1]]
    assert entries[0]["body"] == {"action": "disconnect", "point": "p1"}


def test_a_stream_has_all_of_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.audit.STREAM_PAGE", 1)
    answer = ask(site, "", "js/nj", **NDJSON)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["seq"] for line in answer.text.splitlines()] == [1, 2, 5]
    assert ask(site, "?kind=nothing", **NDJSON).text == ""


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("?subject=%00", 400),
        ("?kind=a%20b", 400),
        ("?from=yesterday", 400),
        ("?cursor=AAAA", 400),
        (f"?cursor={pack_cursor(('audit', '', '', None, None), 2**63)}", 400),
        (f"?cursor={pack_cursor(('audit', '', '', None, None), -1)}", 400),
        ("?colour=red", 400),
    ],
    ids=["nul", "kind", "time", "cursor", "huge", "negative", "unknown"],
)
def test_a_wrong_question_is_told(site: Site, question: str, status: int) -> None:
    assert ask(site, question).status_code == status


def test_only_what_it_comes_as_can_be_asked(site: Site) -> None:
    assert ask(site, Accept="text/csv").status_code == 406
