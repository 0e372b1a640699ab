import csv
import io
import json

import pytest

from tests.api.example_site import Site

RANGE = "from=2026-11-01T00:00:00Z&to=2026-11-01T02:00:00Z"
POINT = f"/v1/meter-points/p1/readings?{RANGE}"


def test_a_meter_point_answers_with_both_devices_each_in_its_time(site: Site) -> None:
    rows = site.client.get(f"{POINT}&kind=register", headers=site.token()).json()["readings"]
    assert [row["device"] for row in rows] == ["m1"] * 6 + ["m2"]
    assert {row["serial"] for row in rows if row["device"] == "m2"} == {"200"}
    assert (rows[0]["value"], rows[0]["primary_value"]) == ("100.00", "4000.00")
    assert (rows[-1]["value"], rows[-1]["primary_value"]) == ("6.00", "480.00")


def test_every_answer_says_what_was_expected_held_and_missing(site: Site) -> None:
    found = site.client.get(f"{POINT}&kind=register", headers=site.token()).json()["completeness"]
    assert (found["expected"], found["held"], found["missing"]) == (8, 7, 1)
    (hole,) = found["missing_ranges"]
    assert (hole["device"], hole["first"], hole["count"]) == ("m2", "2026-11-01T01:30:00Z", 1)
    assert found["expected"] == sum(found[each] for each in ("held", "recovered", "no_supply", "lost", "missing"))


@pytest.mark.parametrize("more", ["", "&source=derived", "&kind=register&kind=instantaneous"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_join_to_the_whole(site: Site, more: str, limit: int) -> None:
    headers = site.token()
    whole = site.client.get(POINT + more, headers=headers).json()
    assert whole["next"] is None
    answer = site.client.get(f"{POINT}{more}&limit={limit}", headers=headers)
    rows = answer.json()["readings"]
    while answer.json()["next"]:
        assert len(answer.json()["readings"]) == limit
        assert answer.json()["completeness"] == whole["completeness"]
        answer = site.client.get(answer.links["next"]["url"], headers=headers)
        rows += answer.json()["readings"]
    assert rows == whole["readings"]


def test_a_cursor_goes_on_where_the_default_range_was(site: Site) -> None:
    headers = site.token()
    path = "/v1/meter-points/p1/readings?limit=5"
    first = site.client.get(path, headers=headers).json()
    second = site.client.get(f"{path}&cursor={first['next']}", headers=headers)
    assert second.status_code == 200
    assert second.json()["readings"][0] != first["readings"][-1]


@pytest.mark.parametrize("cursor", ["x", "%00", "AAAA", "kcQIAAAAAAAAAAA"])
@pytest.mark.parametrize(
    "path",
    ["/v1/meter-points/p1/readings", "/v1/devices", "/v1/meter-points", "/v1/readings/latest", "/v1/events"],
)
def test_a_cursor_that_is_none_is_named(site: Site, path: str, cursor: str) -> None:
    answer = site.client.get(f"{path}?cursor={cursor}", headers=site.token())
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "cursor"


def test_a_cursor_of_another_question_is_refused(site: Site) -> None:
    headers = site.token()
    cursor = site.client.get(f"{POINT}&limit=1", headers=headers).json()["next"]
    answer = site.client.get(f"{POINT}&limit=1&kind=register&cursor={cursor}", headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "cursor")


@pytest.mark.parametrize("more", ["", "&source=derived"])
def test_csv_and_ndjson_hold_the_whole_range(site: Site, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.readings.STREAM_PAGE", 2)
    headers = site.token()
    rows = site.client.get(POINT + more, headers=headers).json()["readings"]
    lines = site.client.get(POINT + more, headers={**headers, "Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in lines.text.splitlines()] == rows
    table = site.client.get(POINT + more, headers={**headers, "Accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    read = list(csv.DictReader(io.StringIO(table.text, newline="")))
    for key in ("value", "primary_value", "measured_at", "interval_start", "device", "obis"):
        assert [row[key] or None for row in read] == [row[key] for row in rows]
    assert table.text.count("\r\n") == len(rows) + 1
    assert "expected=" in table.headers["completeness"]
    assert "expected=" in lines.headers["completeness"]


@pytest.mark.parametrize(
    ("accept", "status", "form"),
    [
        ("*/*", 200, "application/json"),
        ("text/*", 200, "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.4", 200, "text/csv"),
        ("text/html, application/json;q=0", 406, "application/problem+json"),
        ("image/png", 406, "application/problem+json"),
        ("application/json;q=x", 406, "application/problem+json"),
    ],
)
def test_the_format_is_chosen_by_accept(site: Site, accept: str, status: int, form: str) -> None:
    answer = site.client.get(POINT, headers={**site.token(), "Accept": accept})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, form)


def test_versions_come_on_request_with_the_current_one_marked(site: Site) -> None:
    from metering.batch import Batch
    from metering.model import Block, Column, Kind, Layout, Source

    layout = Layout(Kind.REGISTER, Source.POLL, 900, (Column("1-0:1.8.0*255", "kWh", -2, "int"),))
    start = 1_793_491_200_000_000
    site.store.write([Batch(0, [Block(layout, "m3", start + 2_000_000, start + 9, (777,), start, (), 1)])])
    path = f"/v1/devices/m3/readings?{RANGE}&kind=register&to=2026-11-01T00:10:00Z"
    assert [row["value"] for row in site.client.get(path, headers=site.token()).json()["readings"]] == ["7.77"]
    rows = site.client.get(f"{path}&versions=true", headers=site.token()).json()["readings"]
    assert [(row["value"], row["current"]) for row in rows] == [("7.77", True), ("5.00", False)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("from=2026-11-01T00:00:00", "from"),
        ("from=2026-13-01T00:00:00Z", "from"),
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "to"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("kind=energy", "kind.0"),
        ("obis=1.8.0", "obis.0"),
        ("source=derived&source=poll", "source"),
        ("source=derived&kind=register", "kind"),
        ("form=csv", "form"),
    ],
)
def test_a_wrong_parameter_is_named(site: Site, query: str, field: str) -> None:
    answer = site.client.get(f"/v1/meter-points/p1/readings?{query}", headers=site.token())
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [each["field"] for each in answer.json()["errors"]] == [field]


def test_latest_values_come_by_region_point_device_and_kind(site: Site) -> None:
    headers = site.token()

    def ask(query: str = "") -> list[tuple[str, str]]:
        rows = site.client.get(f"/v1/readings/latest?{query}", headers=headers).json()["readings"]
        return [(row["device"], row["kind"]) for row in rows]

    assert ask() == [
        ("m1", "register"),
        ("m1", "instantaneous"),
        ("m2", "register"),
        ("m3", "interval"),
        ("m3", "register"),
    ]
    assert ask("region=js/nj") == [("m2", "register")]
    assert ask("point=p1") == [("m2", "register")]
    assert ask("device=m3&kind=interval") == [("m3", "interval")]
    first = site.client.get("/v1/readings/latest?limit=2", headers=headers).json()
    rest = site.client.get(f"/v1/readings/latest?cursor={first['next']}", headers=headers).json()
    assert [(row["device"], row["kind"]) for row in first["readings"] + rest["readings"]] == ask()


def test_events_come_in_order_and_in_pages(site: Site) -> None:
    headers = site.token()
    path = f"/v1/events?{RANGE}"
    assert [each["name"] for each in site.client.get(path, headers=headers).json()["events"]] == [
        "power-off",
        "power-on",
        "clock-stepped",
    ]
    first = site.client.get(f"{path}&limit=2", headers=headers).json()
    rest = site.client.get(f"{path}&limit=2&cursor={first['next']}", headers=headers).json()
    assert [each["name"] for each in rest["events"]] == ["clock-stepped"]
    assert [each["device"] for each in site.client.get(f"{path}&device=m3", headers=headers).json()["events"]] == ["m3"]


def test_points_and_devices_come_in_pages(site: Site) -> None:
    headers = site.token()
    first = site.client.get("/v1/devices?limit=3", headers=headers).json()
    rest = site.client.get(f"/v1/devices?limit=3&cursor={first['next']}", headers=headers).json()
    assert [each["id"] for each in first["devices"] + rest["devices"]] == ["m1", "m2", "m3", "spare"]
    assert rest["next"] is None
    inside = site.client.get("/v1/meter-points?region=js/nj", headers=headers).json()["meter_points"]
    assert [each["id"] for each in inside] == ["p1"]
