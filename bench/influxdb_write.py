"""Projection into InfluxDB, from unpacked batches to durable in the server, beside hand-joined lines by http.client.

Both join and post the same points to the same server, turn by turn, each into a database of its own. It also measures
the other schema, a point for each reading, which is why that one was not chosen.
"""

import http.client
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from bench.influxdb_server import InfluxServer
from bench.row import Row
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from storage.influxdb import InfluxSettings, InfluxStore

METERS = 200
COLUMNS = 25
INSTANTS = 10  # of each turn
TURNS = 16  # after one that warms up; a pair of neighbours sees the same neighbours on the machine
NARROW_TURNS = 2
BAR = 0.80
INTERVAL = 900
START = 1_700_000_100 * SECOND
POINTS_PER_POST = 1000  # of 25 columns: as many readings as the store sends at once

Post = Callable[[bytes], None]


def _layout() -> Layout:
    columns = [
        Column(f"1-0:{1 + index}.{8 if index % 5 == 0 else 7}.0*255", "", -2, "int" if index % 5 == 0 else "float64")
        for index in range(COLUMNS)
    ]
    return Layout(Kind.REGISTER, Source.POLL, INTERVAL, tuple(columns))


def _batches(layout: Layout, turn: int) -> list[Batch]:
    chance = random.Random(turn)
    batches = []
    for instant in range(INSTANTS):
        time_ = START + (turn * INSTANTS + instant) * INTERVAL * SECOND
        blocks = [
            Block(
                layout,
                f"meter-{meter:04}",
                time_,
                time_ + 3 * SECOND,
                [
                    meter * 1000 + instant if column.number == "int" else round(chance.uniform(0, 400), 2)
                    for column in layout.columns
                ],
                slot=time_,
            )
            for meter in range(METERS)
        ]
        batches.append(Batch(time_, blocks))
    return batches


def _by_hand(batches: Sequence[Batch], names: Sequence[str], tags: str, post: Post) -> None:
    """Join the same points as the store in the plainest fast way: one f-string a field, one a line."""
    lines = []
    for batch in batches:
        for block in batch.blocks:
            fields = ",".join(
                [
                    f"{name}={value}i" if type(value) is int else f"{name}={value}"
                    for name, value in zip(names, block.values, strict=True)
                ]
            )
            lines.append(
                f"readings,device={block.device},{tags} {fields},received={block.received_at}i,"
                f"slot={block.slot}i {block.measured_at}"
            )
            if len(lines) == POINTS_PER_POST:
                post("\n".join(lines).encode())
                lines = []
    if lines:
        post("\n".join(lines).encode())


def _point_per_reading(batches: Sequence[Batch], names: Sequence[str], tags: str, post: Post) -> None:
    lines = []
    for batch in batches:
        for block in batch.blocks:
            rest = f"received={block.received_at}i,slot={block.slot}i {block.measured_at}"
            for name, value in zip(names, block.values, strict=True):
                field = f"integer={value}i" if type(value) is int else f"float={value}"
                lines.append(f"readings,device={block.device},{tags},obis={name},scale=-2,unit=V {field},{rest}")
            if len(lines) >= POINTS_PER_POST * COLUMNS // 2:
                post("\n".join(lines).encode())
                lines = []
    if lines:
        post("\n".join(lines).encode())


def _poster(server: InfluxServer, database: str) -> tuple[http.client.HTTPConnection, Post]:
    connection = http.client.HTTPConnection("127.0.0.1", server.proxy_port)  # the same way as the store's
    headers = {"Authorization": f"Token {server.token}", "Content-Type": "text/plain; charset=utf-8"}

    def post(body: bytes) -> None:
        path = f"/api/v2/write?org=-&bucket={database}%2Fautogen&precision=us"
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.NO_CONTENT:
            raise RuntimeError(f"InfluxDB answers {answer.status}")

    return connection, post


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and our own CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _measure(server: InfluxServer, layout: Layout) -> dict[str, list[tuple[float, float]]]:
    """Return wall and our CPU seconds of each turn of each way."""
    names = [column.obis + ("_i" if column.number == "int" else "_f") for column in layout.columns]
    tags = f"interval={INTERVAL},kind={layout.kind},layout={layout.key},source={layout.source}"
    for name in ("ours", "theirs", "narrow"):
        server.create_database(name)
    store = InfluxStore(InfluxSettings(server.url, server.token, "ours/autogen"))
    theirs, post = _poster(server, "theirs")
    narrow, post_narrow = _poster(server, "narrow")
    taken: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": [], "narrow": []}
    for turn in range(TURNS + 1):
        batches = _batches(layout, turn)
        ways: list[tuple[str, Callable[[], object]]] = [
            ("ours", partial(store.write, batches)),
            ("theirs", partial(_by_hand, batches, names, tags, post)),
        ]
        for name, work in ways if turn % 2 else reversed(ways):
            taken[name].append(_timed(work))
        if turn <= NARROW_TURNS:  # enough to see the difference between the schemas
            taken["narrow"].append(_timed(partial(_point_per_reading, batches, names, tags, post_narrow)))
    store.close()
    theirs.close()
    narrow.close()
    return taken


def run() -> list[Row]:
    """Measure both ways turn by turn. Ends within a minute."""
    readings = METERS * COLUMNS * INSTANTS
    with tempfile.TemporaryDirectory(prefix="metergate-bench-") as directory, InfluxServer(Path(directory)) as server:
        taken = _measure(server, _layout())
    wall = {name: median(one[0] for one in some[1:]) / readings * 1e6 for name, some in taken.items()}
    cpu = {name: median(one[1] for one in some[1:]) / readings * 1e6 for name, some in taken.items()}
    pairs = zip(taken["ours"][1:], taken["theirs"][1:], strict=True)
    ratio = median(other[0] / own[0] for own, other in pairs)
    note = (
        f"our CPU {cpu['ours']:.2f} us a reading, by hand {cpu['theirs']:.2f}; "
        f"a point per reading: {wall['narrow']:.2f} us, CPU {cpu['narrow']:.2f}"
    )
    against = "hand-joined lines by http.client"
    return [
        Row(
            "influxdb-write",
            wall["ours"],
            "us/reading",
            against,
            wall["theirs"],
            ratio,
            f"ratio >= {BAR:.2f}",
            ratio >= BAR,
            note,
        )
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
