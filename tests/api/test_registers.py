"""Registers and collections' facts over HTTP: who may, where, and that a protection ends by two."""

from typing import Any

from tests.api.example_site import Site

ENTRY = {"name": "life-support", "since": "2026-10-01T00:00:00Z", "reason": "ventilator", "source": "call 17"}
PATH = "/v1/registers/protected/p1/e1"
FACTS = {
    "at": "2026-11-01T10:00:00Z",
    "owed": "120.50",
    "currency": "CNY",
    "notices": [{"id": "n1", "kind": "demand", "delivered_at": "2026-10-01T00:00:00Z"}],
}


def ask(site: Site, headers: dict[str, str], method: str, path: str, body: object = None) -> tuple[int, Any]:
    answer = site.client.request(method, path, json=body, headers=headers)
    return answer.status_code, answer.json()


def test_a_protection_is_entered_shown_and_ended_by_two(site: Site) -> None:
    first, second, reader = site.token("admin"), site.token("admin", person="ben"), site.token("audit:read")
    status, entered = ask(site, first, "PUT", PATH, ENTRY)
    assert (status, entered["state"], entered["until"]) == (200, "in-force", None)
    assert ask(site, second, "PUT", PATH, ENTRY) == (200, entered)
    status, asked = ask(site, first, "DELETE", f"{PATH}?reason=moved")
    assert (status, asked["state"], asked["end_reason"]) == (200, "end-asked", "moved")
    status, refused = ask(site, site.token("admin"), "POST", f"{PATH}/confirm")  # another token of the first person
    assert status == 400
    assert "another person" in refused["detail"]
    assert ask(site, second, "POST", f"{PATH}/confirm")[1]["state"] == "ended"
    assert ask(site, reader, "GET", "/v1/registers/protected")[1] == {"entries": [], "next": None}
    _, history = ask(site, reader, "GET", "/v1/registers/protected/p1")
    assert [(each["id"], each["state"]) for each in history["entries"]] == [("e1", "ended")]
    _, ended = ask(site, reader, "GET", "/v1/registers/protected?ended=true&limit=1")
    assert (len(ended["entries"]), ended["next"]) == (1, "p1/e1")


def test_who_may_read_and_write_and_where(site: Site) -> None:
    elsewhere = site.token("admin", "audit:read", regions=["elsewhere"])
    ask(site, site.token("admin"), "PUT", PATH, ENTRY)
    for method, path in (("PUT", PATH), ("DELETE", f"{PATH}?reason=x"), ("POST", f"{PATH}/confirm")):
        assert ask(site, site.token("commands:request", "audit:read"), method, path, ENTRY)[0] == 403
        assert ask(site, elsewhere, method, path, ENTRY)[0] == 404
    assert ask(site, elsewhere, "GET", "/v1/registers/protected/p1")[0] == 404
    assert ask(site, elsewhere, "GET", "/v1/registers/protected")[1]["entries"] == []
    for scope, status in (("readings:read", 403), ("admin", 403), ("commands:request", 200), ("audit:read", 200)):
        assert ask(site, site.token(scope), "GET", "/v1/registers/protected")[0] == status


def test_what_is_wrong_with_an_entry_is_named(site: Site) -> None:
    admin = site.token("admin")
    for body, field in (
        ({**ENTRY, "since": "yesterday"}, "since"),
        ({**ENTRY, "since": "0001-01-01T00:00:00Z"}, "since"),
        ({**ENTRY, "until": "2026-09-01T00:00:00Z"}, "until"),
        ({**ENTRY, "reason": "a\u0000b"}, "reason"),
        ({**ENTRY, "more": 1}, "more"),
    ):
        status, problem = ask(site, admin, "PUT", PATH, body)
        assert (status, problem["errors"][0]["field"]) == (400, field)
    assert ask(site, admin, "PUT", "/v1/registers/friends/p1/e1", ENTRY)[0] == 400
    assert ask(site, admin, "DELETE", f"{PATH}?reason=x")[0] == 404
    assert ask(site, admin, "DELETE", PATH)[0] == 400


def test_a_hold_of_a_region_is_entered_shown_and_ended_by_two(site: Site) -> None:
    first, second, reader = site.token("admin"), site.token("admin", person="ben"), site.token("audit:read")
    hold = {"name": "weather", "region": "js/nj", "since": "2026-10-01T00:00:00Z", "reason": "42 degrees"}
    path = "/v1/region-holds/heat-1"
    status, entered = ask(site, first, "PUT", path, hold)
    assert (status, entered["point"], entered["region"], entered["state"]) == (200, "", "js/nj", "in-force")
    assert ask(site, reader, "GET", "/v1/region-holds")[1]["entries"] == [entered]
    abroad = site.token("admin", "audit:read", regions=["elsewhere"])
    assert ask(site, abroad, "GET", "/v1/region-holds")[1]["entries"] == []
    for method, where in (("PUT", path), ("DELETE", f"{path}?reason=x"), ("POST", f"{path}/confirm")):
        assert ask(site, abroad, method, where, hold)[0] == 404
    assert ask(site, first, "DELETE", f"{path}?reason=cooler")[1]["state"] == "end-asked"
    assert ask(site, first, "POST", f"{path}/confirm")[0] == 400
    assert ask(site, second, "POST", f"{path}/confirm")[1]["state"] == "ended"
    assert ask(site, first, "PUT", "/v1/region-holds/all", hold | {"region": ""})[0] == 400


def test_collections_pushes_what_it_knows_and_never_goes_back(site: Site) -> None:
    collections = site.token("commands:request", regions=["js/nj"])
    path = "/v1/collections/p1/facts"
    assert ask(site, collections, "GET", path)[0] == 404
    status, kept = ask(site, collections, "PUT", path, FACTS)
    assert (status, kept["owed"], kept["notices"][0]["delivered_at"]) == (200, "120.50", "2026-10-01T00:00:00Z")
    assert ask(site, collections, "GET", path) == (200, kept)
    assert ask(site, collections, "PUT", path, {**FACTS, "at": "2026-11-01T09:00:00Z"})[0] == 400
    assert ask(site, collections, "PUT", path, {**FACTS, "owed": 1.5})[0] == 400
    assert ask(site, collections, "PUT", path, {**FACTS, "overdue_since": "0001-01-01T00:00:00Z"})[0] == 400
    assert ask(site, collections, "PUT", "/v1/collections/p2/facts", FACTS)[0] == 404
    assert ask(site, site.token(), "PUT", path, FACTS)[0] == 403
