import pytest

from tests.api.example_site import Site

RANGE = "from=2026-11-01T00:00:00Z&to=2026-11-01T02:00:00Z"

GUARDED = [
    "/v1/meter-points",
    "/v1/meter-points/p1",
    "/v1/devices",
    "/v1/devices/m1",
    "/v1/meter-points/p1/readings",
    "/v1/devices/m1/readings",
    "/v1/readings/latest",
    "/v1/events",
    "/v1/changes",
]


@pytest.mark.parametrize("path", GUARDED)
def test_nothing_is_said_without_a_token_or_without_the_scope(site: Site, path: str) -> None:
    for headers, detail in (
        ({}, "no-token"),
        ({"Authorization": "Bearer mg_00000000_" + "A" * 43}, "invalid-token"),
        ({"Authorization": "Basic YTpi"}, "no-token"),
    ):
        answer = site.client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["type"].endswith(detail)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    answer = site.client.get(path, headers=site.token("commands:request", "admin"))
    assert answer.status_code == 403
    assert 'scope="readings:read"' in answer.headers["www-authenticate"]


def test_a_revoked_token_is_refused_at_the_next_request(site: Site) -> None:
    headers = site.token()
    assert site.client.get("/v1/devices", headers=headers).status_code == 200
    site.tokens.revoke(site.tokens.list()[0].id)
    assert site.client.get("/v1/devices", headers=headers).status_code == 401


def test_a_token_never_sees_another_regions_meter(site: Site) -> None:
    headers = site.token(regions=["js/nj"])
    for path in (
        "/v1/meter-points/p2",
        "/v1/meter-points/p2/readings",
        "/v1/devices/m3",
        "/v1/devices/m3/readings",
        "/v1/devices/spare",
        "/v1/readings/latest?device=m3",
        "/v1/readings/latest?point=p2",
        "/v1/events?device=m3",
    ):
        theirs, nobodys = site.client.get(path, headers=headers), site.client.get("/v1/devices/m99", headers=headers)
        assert theirs.status_code == nobodys.status_code == 404, path
    assert site.client.post("/v1/devices/m3/reads", headers=headers).status_code == 404
    for path in ("/v1/readings/latest", f"/v1/events?{RANGE}", "/v1/changes", "/v1/devices", "/v1/meter-points"):
        text = site.client.get(path, headers=headers).text
        assert "m3" not in text, path
        assert "p2" not in text, path
        assert "m1" in text or "p1" in text, path
    assert site.client.get("/v1/readings/latest?region=js/njx", headers=headers).json()["readings"] == []


def test_a_gap_names_only_meters_in_sight(site: Site) -> None:
    changes = site.client.get("/v1/changes?limit=5000", headers=site.token(regions=["js/nj"])).json()["changes"]
    assert [each["gap"]["readings"] for each in changes if each["type"] == "gap"] == [{"m1": 7}]


def test_a_meter_that_moved_is_seen_only_of_its_time_in_the_region(site: Site) -> None:
    rows = site.client.get(f"/v1/devices/m1/readings?{RANGE}", headers=site.token(regions=["js/nj"])).json()
    assert {row["point"] for row in rows["readings"]} == {"p1"}


def test_a_meter_that_hangs_there_no_more_is_not_read_now_by_the_region(site: Site) -> None:
    assert site.client.post("/v1/devices/m1/reads", headers=site.token(regions=["js/nj"])).status_code == 404
    assert site.client.post("/v1/devices/m2/reads", headers=site.token(regions=["js/nj"])).status_code == 200


def test_a_clock_is_set_by_an_admin_of_its_region_alone(site: Site) -> None:
    def status(device: str, *scopes: str, regions: tuple[str, ...] = ("",)) -> int:
        headers = site.token(*scopes, regions=regions)
        return site.client.post(f"/v1/devices/{device}/clock", headers=headers).status_code

    assert status("m2", "readings:read") == 403
    assert status("m3", "admin", regions=("js/nj",)) == status("m99", "admin") == 404
    assert site.meters.asked == []
    assert status("m2", "admin", regions=("js/nj",)) == 200
    assert site.meters.asked == ["m2"]


def test_health_is_open_and_metrics_are_for_this_machine_or_an_admin(site: Site) -> None:
    assert site.client.get("/healthz").status_code == 200
    assert site.client.get("/readyz").status_code == 200
    assert site.client.get("/metrics").status_code == 200
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert site.client.get("/metrics", headers=forwarded).status_code == 401
    assert site.client.get("/metrics", headers={**forwarded, **site.token()}).status_code == 403
    assert site.client.get("/metrics", headers={**forwarded, **site.token("admin")}).status_code == 200
