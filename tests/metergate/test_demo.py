"""`metergate demo` as a person runs it: in a process of its own, stopped in every way, and started again."""

import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headend.tokens import TokenBook
from metering import timing
from metering.model import SECOND
from metering.ports import ReadingsQuery
from storage.embedded import EmbeddedStore
from tests.metergate.running_demo import LOOK_S, WAIT_S, Demo, gone, wait_for

TOTALS = 10 * SECOND  # the demo reads running totals so often
ENERGY = "1-0:1.8.0*255"


def check_the_tokens(demo: Demo, data: Path) -> None:
    reader = demo.token("readings:read")
    rows = wait_for(lambda: demo.ask(reader, "/v1/readings/latest", limit=1000).json()["readings"], "readings")
    assert {row["device"] for row in rows}
    assert len(demo.ask(reader, "/v1/meter-points", limit=1000).json()["meter_points"]) == 28
    assert demo.ask("mg_00000000_wrong", "/v1/meter-points").status_code == 401
    assert demo.ask(demo.token("audit:read"), "/v1/meter-points").status_code == 403
    book = TokenBook(data / "state.db")
    local = book.create("riser a alone", ["readings:read"], ["demo/town/riser-a"], None)
    book.close()
    points = demo.ask(local, "/v1/meter-points", limit=1000).json()["meter_points"]
    assert {point["region"] for point in points} == {"demo/town/riser-a"}
    assert demo.ask(local, "/v1/devices/a-flat-1").status_code == 200
    assert demo.ask(local, "/v1/devices/b-flat-1").status_code == 404
    assert demo.ask(reader, "/v1/devices/b-flat-1").status_code == 200


def check_nothing_is_stored_twice(data: Path) -> None:
    with sqlite3.connect(data / "readings.db") as raw:
        devices = [row[0] for row in raw.execute("SELECT DISTINCT device FROM series")]
    raw.close()
    store = EmbeddedStore(data / "readings.db")
    times: Counter[tuple[object, ...]] = Counter()
    slots: Counter[tuple[object, ...]] = Counter()
    for device in devices:
        page = store.readings(ReadingsQuery(device, 0, 1 << 60, versions=True, limit=100_000))
        assert not page.cursor
        for reading in page.readings:
            times[reading.channel, reading.measured_at] += 1
            if reading.slot is not None and reading.channel.source == "poll":
                slots[reading.channel, reading.slot] += 1
    store.close()
    assert len(devices) == 28
    assert set(times.values()) == {1}
    assert set(slots.values()) == {1}


def test_the_demo_reads_and_answers_and_a_second_start_tells_the_pause_between_as_missing(
    start: Callable[..., Demo], tmp_path: Path
):
    first = start("--for", "12").ready()
    family = first.family()
    assert family
    check_the_tokens(first, tmp_path / "data")
    assert first.end() == 0
    readings, meters, gaps = first.summary()
    assert readings > 0
    assert (meters, gaps) == (28, 0)
    assert gone(family)

    stopped_at = timing.now()
    wait_for(lambda: timing.now() // TOTALS > stopped_at // TOTALS, "a boundary that passes unread")
    second = start().ready()
    started_at = timing.now()
    reader = second.token("readings:read")
    path = "/v1/devices/a-flat-1/readings"

    def missing() -> dict[str, Any] | None:
        found: dict[str, Any] = second.ask(reader, path, obis=ENERGY, kind="register", limit=1000).json()
        return found["completeness"] if found["completeness"]["missing"] else None

    found = wait_for(missing, "the pause is told as missing")
    assert found["expected"] == found["held"] + found["missing"]
    for gap in found["missing_ranges"]:
        assert stopped_at - TOTALS < timing.from_rfc3339(gap["first"])
        assert timing.from_rfc3339(gap["last"]) <= started_at

    def each_was_read() -> bool:
        rows = second.ask(reader, "/v1/readings/latest", limit=10_000).json()["readings"]
        return len({row["device"] for row in rows}) == 28

    wait_for(each_was_read, "each meter was read, those on slow lines too")
    family = second.family()
    second.process.send_signal(signal.SIGINT)
    assert second.end() == 0
    assert second.summary()[2] > 0
    assert gone(family)
    check_nothing_is_stored_twice(tmp_path / "data")


def test_a_signal_that_comes_twice_ends_the_demo_in_order(start: Callable[..., Demo]):
    demo = start().ready()
    family = demo.family()
    demo.process.send_signal(signal.SIGTERM)
    demo.process.send_signal(signal.SIGINT)
    time.sleep(LOOK_S)
    if demo.process.poll() is None:
        demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 0
    assert demo.summary()[1] == 28
    assert gone(family)


def test_ctrl_c_while_the_meters_start_leaves_neither_a_traceback_nor_a_process(start: Callable[..., Demo]):
    demo = start()
    family = wait_for(demo.family, "the simulated meters' process")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 0
    assert gone(family)


def test_the_simulated_meters_end_by_themselves_when_the_demo_is_killed(start: Callable[..., Demo]):
    demo = start().ready()
    family = demo.family()
    assert len(family) >= 1
    demo.process.kill()
    assert demo.process.wait(WAIT_S) == -signal.SIGKILL
    assert gone(family)


def test_a_taken_port_is_told_in_one_line(start: Callable[..., Demo]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start("--for", "5", port=port)
        assert demo.end() == 2
    assert demo.text().splitlines() == [
        f"metergate: the API cannot listen on 127.0.0.1:{port}: Address already in use; choose another address"
    ]
