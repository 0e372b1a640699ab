"""Supply commands over HTTP: what is answered, and to whom. What becomes of them is tested with the desk."""

from typing import Any

from tests.api.example_site import Site

RESTORE = {"action": "restore", "reason": "paid", "orders": [{"point": "p1", "case": "case-7"}]}
CUT: dict[str, Any] = {"action": "disconnect", "reason": "debt", "orders": [{"point": "p1", "case": "case-7"}]}


def test_a_restore_is_requested_once_listed_and_shown(site: Site):
    clerk = site.token("commands:request", "readings:read", regions=["js/nj"])
    first = site.client.post("/v1/commands", json=RESTORE, headers=clerk | {"Idempotency-Key": "k1"})
    assert first.status_code == 201
    again = site.client.post("/v1/commands", json=RESTORE, headers=clerk | {"Idempotency-Key": "k1"})
    assert again.json() == first.json()
    (made,) = first.json()["commands"]
    assert (made["code"], made["state"], made["missing"]) == ("3.31.0.18", "awaiting-approval", ["1 approvals"])
    assert site.client.get(f"/v1/commands/{made['id']}", headers=clerk).json() == made
    listed = site.client.get("/v1/commands", params={"point": "p1", "state": "awaiting-approval"}, headers=clerk)
    assert [each["id"] for each in listed.json()["commands"]] == [made["id"]]
    supply = site.client.get("/v1/meter-points/p1/supply", headers=clerk).json()
    assert (supply["state"], [each["id"] for each in supply["open"]]) == ("unknown", [made["id"]])
    other = site.client.post("/v1/commands", json=CUT, headers=clerk | {"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["type"]) == (422, "urn:metergate:problem:idempotency-key-reused")


def test_a_refusal_by_policy_says_what_is_missing(site: Site):
    clerk = site.token("commands:request")
    answer = site.client.post("/v1/commands", json=CUT, headers=clerk | {"Idempotency-Key": "k1"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:metergate:problem:refused-by-policy")
    assert answer.json()["reasons"]
    assert all("rule us-md-" in each for each in answer.json()["reasons"])


def test_who_requests_does_not_choose_whose_rules_judge(site: Site):
    clerk = site.token("commands:request")
    body = CUT | {"customer": "nonresident"}
    answer = site.client.post("/v1/commands", json=body, headers=clerk | {"Idempotency-Key": "k1"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "customer")


def test_each_route_needs_its_scope_and_the_key(site: Site):
    reader, approver = site.token(), site.token("commands:approve")
    for headers in (reader, approver):
        assert site.client.post("/v1/commands", json=CUT, headers=headers | {"Idempotency-Key": "k"}).status_code == 403
    clerk = site.token("commands:request", regions=["js/other"])
    assert site.client.post("/v1/commands", json=CUT, headers=clerk).status_code == 400
    assert site.client.post("/v1/commands", json=CUT, headers=clerk | {"Idempotency-Key": "k"}).status_code == 404
    for path in ("approvals", "release", "delete"):
        assert site.client.post(f"/v1/commands/c1/{path}", headers=clerk).status_code == 403
        assert site.client.post(f"/v1/commands/c1/{path}", headers=approver).status_code == 404
