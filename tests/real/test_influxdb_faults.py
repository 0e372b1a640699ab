"""What an InfluxDB does on bad days: refuses single points, is killed, is away for long, wants another token."""

import asyncio
import http.server
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench.influxdb_server import InfluxServer
from metering.batch import Batch
from metering.errors import StorageError
from metering.model import SECOND, Block, Column, Event, Kind, Layout, Source
from metering.ports import ReadingsQuery
from metering.timing import now
from storage import influx_link, projection
from storage.codec import pack
from storage.influxdb import InfluxSettings, InfluxStore
from storage.line_protocol import LayoutLines
from storage.log import Log
from storage.projection import Projection
from storage.quarantine import Quarantine

pytestmark = pytest.mark.real

T = 1_700_000_100 * SECOND
KWH = Column("1-0:1.8.0*255", "kWh", -2, "int")
VOLT = Column("1-0:32.7.0*255", "V", 0, "float64")
LAYOUT = Layout(Kind.REGISTER, Source.POLL, 900, (KWH, VOLT))


def block(index: int, value: int = 5, device: str = "m1", start: int = T) -> Block:
    at = start + index * SECOND
    return Block(LAYOUT, device, at, at + 3, (value, 230.5), at)


def held(store: InfluxStore, device: str = "m1", *, versions: bool = False) -> list[tuple[int, float | None]]:
    query = ReadingsQuery(device, 0, T * 2, obis=(KWH.obis,), limit=1_000_000, versions=versions)
    return [(one.measured_at, one.value) for one in store.readings(query).readings]


def test_bad_points_are_found_among_good_ones_and_told_with_the_servers_words(influx_store: InfluxStore) -> None:
    bad = {7, 8, 300, 999}
    too_late = 10_000_000_000_000  # seconds: beyond the year 2262, where InfluxDB's time ends
    blocks = [block(too_late + index if index in bad else index) for index in range(1000)]
    result = influx_store.write([Batch(T, blocks)])
    assert [blocks.index(one.block) for one in result.rejected] == sorted(bad)
    assert all("time" in one.reason or "range" in one.reason for one in result.rejected)
    assert result.stored == 2 * 996
    assert len(held(influx_store)) == 996


def test_points_beyond_retention_are_refused_and_the_others_are_stored(
    influx_server: InfluxServer, influx_settings: InfluxSettings
) -> None:
    database = influx_settings.bucket.partition("/")[0]
    influx_server.query(f'CREATE RETENTION POLICY "week" ON "{database}" DURATION 7d REPLICATION 1')
    store = InfluxStore(replace(influx_settings, bucket=f"{database}/week"))
    recent = now() // SECOND * SECOND - 3600 * SECOND
    blocks = [block(index, start=recent - (index % 2) * 30 * 86400 * SECOND) for index in range(20)]
    result = store.write([Batch(T, blocks)])
    assert len(result.rejected) == 10
    assert {one.reason for one in result.rejected} == {
        "partial write: points beyond retention policy dropped=1"
    } or all("retention" in one.reason for one in result.rejected)
    assert len(held(store)) == 10
    store.close()


def test_a_type_conflict_made_by_hand_hides_no_other_reading(
    influx_server: InfluxServer, influx_settings: InfluxSettings, influx_store: InfluxStore
) -> None:
    day = 86400 * 7  # another shard, where types are fixed anew
    line = LayoutLines(LAYOUT).line(block(0, device="stranger")).replace("_i=5i", "_i=5.5")
    database = influx_settings.bucket.partition("/")[0]
    assert influx_server.request("POST", f"/write?db={database}&precision=u", line.encode())[0] == 204
    result = influx_store.write([Batch(T, [block(0), block(day), block(2 * day)])])
    assert [one.block.measured_at for one in result.rejected] == [T]
    assert "type conflict" in result.rejected[0].reason
    assert [at for at, _ in held(influx_store)] == [T + day * SECOND, T + 2 * day * SECOND]


def test_a_refused_event_is_told_and_holds_up_nothing(
    influx_store: InfluxStore, capsys: pytest.CaptureFixture[str]
) -> None:
    event = Event("m1", 10**19, "3.21.43.11", "backwards", T)
    result = influx_store.write([Batch(T, [block(0)], [event])])
    assert (result.stored, result.rejected) == (2, [])
    assert "refuses a line" in capsys.readouterr().out


def test_a_wrong_token_is_told_without_the_token(
    influx_settings: InfluxSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = replace(influx_settings, token="admin:top-secret-word")
    store = InfluxStore(settings)
    said = [repr(settings), repr(store), str(settings)]
    for ask in (store.ping, lambda: store.write([Batch(T, [block(0)])]), lambda: held(store)):
        with pytest.raises(StorageError, match="refuses the token") as caught:
            ask()
        assert caught.value.retry
        said += [str(caught.value), repr(caught.value), repr(caught.value.__cause__), repr(caught.value.args)]
    store.close()
    assert "top-secret-word" not in " ".join([*said, caplog.text])


def test_a_missing_bucket_is_told_and_loses_nothing(influx_settings: InfluxSettings) -> None:
    store = InfluxStore(replace(influx_settings, bucket="nobody/autogen"))
    for ask in (store.ping, lambda: store.write([Batch(T, [block(0)])]), lambda: held(store)):
        with pytest.raises(StorageError, match="nobody") as caught:
            ask()
        assert caught.value.retry
    store.close()


def test_marks_are_read_anew_after_a_failure(own_server: InfluxServer) -> None:
    store = _store(own_server)
    store.write([Batch(T, [block(index) for index in range(10)])])
    own_server.kill()
    with pytest.raises(StorageError) as caught:
        store.write([Batch(T, [block(10)])])
    assert caught.value.retry
    other = _store(own_server)
    own_server.start_influxd()
    other.write([Batch(T, [block(20, value=20)])])  # what a write whose answer was lost may have left behind
    result = store.write([Batch(T, [block(20, value=21), block(9), block(11)])])
    assert (result.stored, result.duplicates, result.versions) == (2, 3, 1)
    assert (T + 20 * SECOND, 20) in held(store, versions=True)
    assert (T + 20 * SECOND, 21) in held(store, versions=True)
    store.close()
    other.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the clock: a pause of a minute becomes a tenth of a second."""
    monkeypatch.setattr(influx_link, "BUSY_WAIT_S", 0.0)
    monkeypatch.setattr(projection, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(projection, "LONGEST_PAUSE_S", 0.1)


@pytest.mark.fault
@pytest.mark.usefixtures("quick")
async def test_kill_9_in_mid_stream_of_a_projection_loses_nothing_and_doubles_nothing(
    own_server: InfluxServer, tmp_path: Path
) -> None:
    log, store = Log.open(tmp_path / "log"), _store(own_server)
    quarantine = Quarantine(tmp_path / "quarantine")
    view = Projection(log, store, "influxdb", quarantine)
    devices = [f"m{number}" for number in range(20)]
    turns, stop = 400, asyncio.Event()
    running = asyncio.create_task(view.run(stop))
    kills = 0
    for turn in range(turns):
        blocks = [block(turn * 10 + step, turn, device) for device in devices for step in range(10)]
        await log.append(pack(Batch(T, blocks)))
        if turn in {100, 200, 300}:
            await _until(lambda: view.status().lag > 0)
            await asyncio.to_thread(own_server.kill)
            kills += view.status().lag > 0
            await asyncio.to_thread(own_server.start_influxd)
    await _until(lambda: view.status().lag == 0)
    stop.set()
    await running
    assert kills == 3
    assert len(quarantine) == 0
    wanted = [(T + second * SECOND, second // 10) for second in range(turns * 10)]
    for device in devices:
        assert held(store, device, versions=True) == wanted
    store.close()
    log.close()


@pytest.mark.fault
@pytest.mark.usefixtures("quick")
async def test_a_ten_minute_outage_keeps_memory_flat_and_everything_arrives(
    own_server: InfluxServer, tmp_path: Path
) -> None:
    log, store = Log.open(tmp_path / "log"), _store(own_server)
    view = Projection(log, store, "influxdb", Quarantine(tmp_path / "quarantine"))
    own_server.kill()
    stop = asyncio.Event()
    running = asyncio.create_task(view.run(stop))
    memory = []
    for second in range(600):
        await log.append(pack(Batch(T, [block(second, second, f"m{number}") for number in range(50)])))
        if second % 100 == 99:
            await asyncio.sleep(0.2)  # some tries more
            memory.append(psutil.Process().memory_info().rss)
    assert view.status().lag == 600
    assert "503" in view.status().last_error
    assert memory[-1] - memory[0] < 8 * 2**20  # 30,000 readings with 60,000 values wait
    await asyncio.to_thread(own_server.start_influxd)
    await _until(lambda: view.status().lag == 0)
    stop.set()
    await running
    assert view.status().stored == 2 * 600 * 50
    assert held(store, "m7", versions=True) == [(T + second * SECOND, second) for second in range(600)]
    store.close()
    log.close()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - a status is asked for; nothing tells of it
            await asyncio.sleep(0)


def _store(server: InfluxServer) -> InfluxStore:
    return InfluxStore(InfluxSettings(server.url, server.token, "meters/autogen", timeout_s=5.0))


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def _front(server: InfluxServer, answer: Callable[[bytes], Answer | None]) -> Iterator[str]:
    """Stand before the server as a proxy that answers some writes itself; yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path
            mine = answer(body) if path.startswith("/api/v2/write") else None
            if mine is None:
                if path.startswith("/api/v2/write"):
                    path = "/write?db=" + re.search(r"bucket=(\w+)", path)[1] + "&precision=u"  # type: ignore[index]  # it is there
                else:
                    path += "?" + body.decode()
                status, content = server.request("POST", path, body)
                mine = (status, {}, content)
            self.send_response(mine[0])
            for name, value in mine[1].items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(mine[2])))
            self.end_headers()
            self.wfile.write(mine[2])

        def log_message(self, *_: object) -> None:
            pass

    front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front.daemon_threads = True
    thread = threading.Thread(target=front.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{front.server_address[1]}"
    finally:
        front.shutdown()
        front.server_close()
        thread.join()


def test_a_body_that_is_too_large_is_halved_until_it_fits(
    influx_server: InfluxServer, influx_settings: InfluxSettings
) -> None:
    def answer(body: bytes) -> Answer | None:
        return (413, {}, b"Request Entity Too Large") if len(body) > 2000 else None

    with _front(influx_server, answer) as url:
        store = InfluxStore(replace(influx_settings, url=url))
        assert store.write([Batch(T, [block(index) for index in range(200)])]).stored == 400
        assert len(held(store)) == 200
        store.close()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_waited_for_as_long_as_it_says(
    influx_server: InfluxServer, influx_settings: InfluxSettings, status: int
) -> None:
    refusals = [status] * 2

    def answer(_: bytes) -> Answer | None:
        return (refusals.pop(), {"Retry-After": "0"}, b'{"message":"busy"}') if refusals else None

    with _front(influx_server, answer) as url:
        store = InfluxStore(replace(influx_settings, url=url))
        assert store.write([Batch(T, [block(0)])]).stored == 2
        refusals[:] = [status] * 100
        with pytest.raises(StorageError, match="busy") as caught:
            store.write([Batch(T, [block(1)])])
        assert caught.value.retry
        assert len(refusals) == 100 - 1 - influx_link.BUSY_RETRIES
        store.close()


@pytest.mark.parametrize(
    "body",
    [b"<html>Bad Request</html>", json.dumps({"error": "partial write: max-values-per-tag limit exceeded"}).encode()],
)
def test_a_refusal_that_is_no_fault_of_the_points_puts_no_point_aside(
    influx_server: InfluxServer, influx_settings: InfluxSettings, body: bytes
) -> None:
    with _front(influx_server, lambda _: (400, {}, body)) as url:
        store = InfluxStore(replace(influx_settings, url=url))
        with pytest.raises(StorageError) as caught:
            store.write([Batch(T, [block(0)])])
        assert caught.value.retry
        store.close()


def test_a_silent_server_is_left_after_the_time_out(
    influx_server: InfluxServer, influx_settings: InfluxSettings
) -> None:
    waiting = threading.Event()

    def answer(_: bytes) -> Answer | None:
        waiting.wait(5)
        return 204, {}, b""

    with _front(influx_server, answer) as url:
        store = InfluxStore(replace(influx_settings, url=url, timeout_s=0.1))
        with pytest.raises(StorageError, match="timed out") as caught:
            store.write([Batch(T, [block(0)])])
        assert caught.value.retry
        waiting.set()
        store.close()


def test_a_missing_binary_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.influxdb_server.shutil.which", lambda *_, **__: None)
    with pytest.raises(FileNotFoundError, match="apt-get install influxdb"):
        InfluxServer(tmp_path).start()
