import pytest

from headend import ondemand
from metering.errors import (
    AuthError,
    CircuitOpenError,
    FrameError,
    LinkDownError,
    MeterError,
    NoAnswerError,
    RefusedError,
)
from tests.api.example_site import Site


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/devices/", 404),
        ("GET", "/v1/devices/m99", 404),
        ("GET", "/v1/devices/..%2f..", 404),
        ("GET", "/v1/devices/m%001", 400),
        ("PUT", "/v1/devices", 405),
        ("GET", "/healthz?deep=1", 400),
        ("GET", "/v1/devices?" + "x" * 9000, 414),
    ],
)
def test_whatever_goes_wrong_is_told_as_problem_details(site: Site, method: str, path: str, status: int) -> None:
    answer = site.client.request(method, path, headers=site.token())
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_method_that_is_not_allowed_says_which_are(site: Site) -> None:
    assert site.client.delete("/v1/devices").headers["allow"] == "GET"
    assert site.client.get("/v1/registers/hold/p1/w1").headers["allow"] == "DELETE, PUT"


def test_a_body_that_is_too_large_is_refused(site: Site) -> None:
    answer = site.client.post("/v1/devices/m2/reads", headers=site.token(), content=b"x" * 70_000)
    assert (answer.status_code, answer.json()["status"]) == (413, 413)
    assert site.meters.asked == []


def test_a_crash_says_nothing_of_the_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyError("secret inside")

    monkeypatch.setattr(site.office, "devices", crash)
    answer = site.client.get("/v1/devices", headers=site.token())
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["type"] == "urn:metergate:problem:internal"


def test_a_store_that_is_down_asks_to_come_back(site: Site) -> None:
    headers = site.token()
    site.store.close()
    answer = site.client.get("/v1/devices/m1/readings", headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    ready = site.client.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["store"])
    assert site.client.get("/healthz").status_code == 200


def test_readiness_tells_what_is_wrong_without_the_inside(site: Site) -> None:
    site.reasons.append("bus: 10.0.0.7 is silent")
    answer = site.client.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["bus"])


@pytest.mark.parametrize(
    ("error", "status", "fault"),
    [
        (NoAnswerError("no answer"), 504, "meter"),
        (CircuitOpenError("silent for long"), 503, "meter"),
        (LinkDownError("down"), 502, "link"),
        (FrameError("bad CRC"), 502, "link"),
        (RefusedError("illegal address", code=2), 409, "meter"),
        (AuthError("wrong password"), 423, "key"),
        (MeterError("other"), 502, "link"),
    ],
)
def test_a_meter_that_cannot_be_read_now_says_whose_fault_it_is(
    site: Site, error: MeterError, status: int, fault: str
) -> None:
    site.meters.error = error
    answer = site.client.post("/v1/devices/m2/reads", headers=site.token())
    assert answer.status_code == status
    assert answer.json()["fault"] == fault
    assert answer.json().get("code") == getattr(error, "code", None)


def test_a_clock_that_was_set_tells_how_it_was_before_and_after(site: Site) -> None:
    answer = site.client.post("/v1/devices/m2/clock", headers=site.token("admin"))
    assert answer.json() == {
        "device": "m2",
        "offset_before_s": -75.5,
        "offset_after_s": 0.1,
        "set_at": "2026-11-02T00:00:00Z",
    }
    site.meters.error = RefusedError("not now", code=0)
    refused = site.client.post("/v1/devices/m2/clock", headers=site.token("admin"))
    assert (refused.status_code, refused.json()["fault"]) == (409, "meter")


def test_a_meter_is_read_now(site: Site) -> None:
    answer = site.client.post("/v1/devices/m2/reads", headers=site.token())
    (row,) = answer.json()["readings"]
    assert (row["value"], row["primary_value"], row["quality"]["valid"]) == ("47.11", "3768.80", True)


def test_reads_on_demand_are_limited_for_each_token(site: Site) -> None:
    headers = site.token()
    for _ in range(ondemand.READS_PER_MINUTE):
        assert site.client.post("/v1/devices/m2/reads", headers=headers).status_code == 200
    answer = site.client.post("/v1/devices/m2/reads", headers=headers)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_changes_go_on_from_their_cursor_and_tell_of_gaps(site: Site) -> None:
    headers = site.token()
    found, cursor = [], ""
    while True:
        page = site.client.get(f"/v1/changes?limit=4&after={cursor}", headers=headers).json()
        found += page["changes"]
        cursor = page["next"]
        if not page["more"]:
            break
    whole = site.client.get("/v1/changes", headers=headers).json()["changes"]
    assert found == whole
    assert [each["type"] for each in found].count("gap") == 1
    assert len({each["change_id"] for each in found}) == len(found)
    assert site.client.get(f"/v1/changes?after={cursor}&wait=0.01", headers=headers).json()["changes"] == []


def test_a_cursor_older_than_the_log_is_gone_with_a_snapshot(site: Site) -> None:
    from headend.changes import Position, cursor_text

    answer = site.client.get(f"/v1/changes?after={cursor_text('other', Position(1, 0))}", headers=site.token())
    assert answer.status_code == 410
    assert answer.json()["snapshot"] == "/v1/readings/latest"
    assert answer.links["snapshot"]["url"] == "/v1/readings/latest"
    assert site.client.get("/v1/changes?after=zzz", headers=site.token()).json()["errors"][0]["field"] == "after"


def test_metrics_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from api import metrics
    from headend.measures import Measure

    monkeypatch.setattr(metrics, "MAX_SERIES", 3)
    many = [Measure("bus_load", "gauge", "Load", index, {"bus": f"b{index}"}) for index in range(9)]
    text = metrics.render(lambda: many).decode()
    assert text.count("metergate_bus_load{") == 3
    assert "metergate_metrics_dropped 6.0" in text
    assert (
        "metergate_log_depth" in site.client.get("/metrics").text
        or "metergate_log_records" in site.client.get("/metrics").text
    )
