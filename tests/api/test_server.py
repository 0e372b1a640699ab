"""The app behind a real uvicorn on loopback."""

import json
import threading

import httpx

from tests.api.example_site import Site


def test_a_real_server_streams_and_answers_problems(site: Site, server: str) -> None:
    headers = site.token()
    with httpx.Client(base_url=server, headers=headers) as client:
        path = "/v1/meter-points/p1/readings?from=2026-11-01T00:00:00Z&to=2026-11-01T02:00:00Z"
        with client.stream("GET", path, headers={"Accept": "application/x-ndjson"}) as answer:
            assert answer.headers["transfer-encoding"] == "chunked"
            assert len([json.loads(line) for line in answer.iter_lines()]) == 9
        assert client.get("/nowhere").headers["content-type"] == "application/problem+json"
        assert client.get("/metrics", headers={"Authorization": ""}).status_code in {200, 401}
        assert "server" not in client.get("/healthz").headers


def test_who_waits_for_changes_gets_them_when_they_come(site: Site, server: str) -> None:
    from metering.batch import Batch
    from metering.model import Event
    from storage.codec import pack

    with httpx.Client(base_url=server, headers=site.token()) as client:
        after = client.get("/v1/changes?limit=5000").json()["next"]
        late = pack(Batch(0, events=[Event("m1", 1_793_491_200_000_000, "1", "x", 0)]))
        timer = threading.Timer(0.1, site.log.append_now, [[late]])
        timer.start()
        found = client.get(f"/v1/changes?after={after}&wait=20", timeout=30).json()
        timer.join()
    assert [each["type"] for each in found["changes"]] == ["event"]
