"""From the log into a store: once, whole, in spite of crashes, bad records and a store that is down."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from metering.batch import Batch
from metering.errors import StorageError
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.ports import ReadingsQuery, WriteResult
from storage import projection as projection_module
from storage.codec import count, pack, unpack
from storage.embedded import EmbeddedStore
from storage.log import Log, LogLimits
from storage.projection import Projection, Stored
from storage.quarantine import Quarantine

STEP = 900 * SECOND
T0 = 1_760_000_400 * SECOND // STEP * STEP
LAYOUT = Layout(Kind.REGISTER, Source.POLL, 900, (Column("1-0:1.8.0*255", "Wh", 0, "int"),))


def batch(number: int, *values: float) -> Batch:
    made = [
        Block(LAYOUT, f"m{d}", T0 + number * STEP, T0 + number * STEP + 5, (value,)) for d, value in enumerate(values)
    ]
    return Batch(T0, made)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log.open(tmp_path / "log", LogLimits(), count=count)
    yield log
    log.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path / "readings.db")
    yield store
    store.close()


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine")


@pytest.fixture
def projection(log: Log, store: EmbeddedStore, quarantine: Quarantine) -> Projection:
    return Projection(log, store, "embedded", quarantine)


def values(store: EmbeddedStore, device: str = "m0") -> list[float | None]:
    query = ReadingsQuery(device, 0, 2**62, versions=True, limit=100_000)
    return [reading.value for reading in store.readings(query).readings]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what another thread does sets no event here
        await asyncio.sleep(0.001)


def drain(projection: Projection) -> None:
    while projection.step():
        pass


class Moody(EmbeddedStore):
    """A store that is down for its first writes, as a server may be."""

    errors: Sequence[Exception] = ()
    calls = 0

    def write(self, batches: Sequence[Batch]) -> WriteResult:
        self.calls += 1
        if self.calls <= len(self.errors):
            raise self.errors[self.calls - 1]
        return super().write(batches)


def test_every_record_is_stored_once_and_the_cursor_stands_behind_it(
    log: Log, store: EmbeddedStore, projection: Projection
):
    log.append_now([pack(batch(i, i, i)) for i in range(200)])
    assert projection.status().lag == 200
    drain(projection)
    status = projection.status()
    assert (status.lag, status.stored, status.duplicates, status.rejected) == (0, 400, 0, 0)
    assert values(store) == list(range(200))
    assert not projection.step()


def test_a_projection_that_begins_again_stores_nothing_twice(
    log: Log, store: EmbeddedStore, projection: Projection, quarantine: Quarantine
):
    log.append_now([pack(batch(i, i)) for i in range(10)])
    drain(projection)
    again = Projection(log, store, "embedded", quarantine)
    assert not again.step()
    again.rewind()
    drain(again)
    assert again.status().duplicates == 10
    assert values(store) == list(range(10))


def test_a_record_that_is_no_batch_is_put_aside_with_the_reason(
    log: Log, store: EmbeddedStore, projection: Projection, quarantine: Quarantine
):
    log.append_now([pack(batch(0, 0)), b"\x7fnonsense", pack(batch(1, 1))])
    drain(projection)
    status = projection.status()
    assert (status.lag, status.stored, status.undecodable) == (0, 2, 1)
    (item,) = quarantine.items()
    assert item.payload == b"\x7fnonsense"
    assert "version 127" in item.reason
    assert "log record" in item.origin
    assert values(store) == [0, 1]


def test_a_block_that_the_store_refuses_is_put_aside_and_hides_no_other(
    log: Log, store: EmbeddedStore, projection: Projection, quarantine: Quarantine
):
    log.append_now([pack(batch(0, 12.5, 3))])
    drain(projection)
    projection.rewind()
    drain(projection)
    (item,) = quarantine.items()
    assert unpack(item.payload).blocks[0].values == [12.5]
    assert "does not fit" in item.reason
    assert projection.status().rejected == 2
    assert (values(store), values(store, "m1")) == ([], [3])


def test_what_the_log_lost_is_passed_and_counted(tmp_path: Path, store: EmbeddedStore, quarantine: Quarantine):
    limits = LogLimits(max_bytes=64 * 1024, segment_bytes=8 * 1024)
    log = Log.open(tmp_path / "small", limits, count=count)
    projection = Projection(log, store, "embedded", quarantine)
    for i in range(1500):
        log.append_now([pack(batch(i, *range(i, i + 5)))])
    log.trim()
    drain(projection)
    status = projection.status()
    assert status.skipped == 1500 - len(values(store)) > 0
    assert values(store)[-1] == 1499
    assert status.lag == 0
    log.close()


async def test_it_waits_for_records_and_stops_when_asked(log: Log, store: EmbeddedStore, projection: Projection):
    stop = asyncio.Event()
    task = asyncio.create_task(projection.run(stop))
    for i in range(3):
        await log.append(pack(batch(i, i)))
        await until(lambda: projection.status().lag == 0)
    stop.set()
    await task
    assert values(store) == [0, 1, 2]


@pytest.mark.parametrize(
    "error",
    [StorageError("down", retry=True), StorageError("damaged", retry=False), RuntimeError("a mistake of ours")],
)
async def test_a_store_that_is_down_is_waited_for_and_loses_nothing(
    log: Log, tmp_path: Path, quarantine: Quarantine, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    monkeypatch.setattr(projection_module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(projection_module, "LONGEST_PAUSE_S", 0.004)
    store = Moody(tmp_path / "moody.db")
    store.errors = [error] * 5
    projection = Projection(log, store, "moody", quarantine)
    log.append_now([pack(batch(i, i)) for i in range(5)])
    stop = asyncio.Event()
    task = asyncio.create_task(projection.run(stop))
    told = set()
    while projection.status().lag or projection.status().last_error:
        told.add(projection.status().last_error)
        await asyncio.sleep(0)
    assert str(error) in told
    stop.set()
    await task
    assert values(store) == [0, 1, 2, 3, 4]
    assert store.calls == 6
    store.close()


async def test_it_stops_at_once_while_it_waits_for_a_store(log: Log, tmp_path: Path, quarantine: Quarantine):
    store = Moody(tmp_path / "moody.db")
    store.errors = [StorageError("down", retry=False)] * 100
    projection = Projection(log, store, "moody", quarantine)
    log.append_now([pack(batch(0, 0))])
    stop = asyncio.Event()
    task = asyncio.create_task(projection.run(stop))
    await until(lambda: bool(projection.status().last_error))
    stop.set()
    async with asyncio.timeout(5):
        await task
    assert projection.status().lag == 1
    store.close()


def test_one_write_is_bounded_however_long_the_backlog(log: Log, tmp_path: Path, quarantine: Quarantine):
    sizes: list[int] = []

    class Measuring(EmbeddedStore):
        def write(self, batches: Sequence[Batch]) -> WriteResult:
            sizes.append(sum(one.count() for one in batches))
            return super().write(batches)

    store = Measuring(tmp_path / "measuring.db")
    projection = Projection(log, store, "measuring", quarantine)
    log.append_now([pack(batch(i, *range(10_000))) for i in range(7)])
    drain(projection)
    assert sizes == [30_000, 30_000, 10_000]
    store.close()


RUN = """
import asyncio, sys
from pathlib import Path
from storage.codec import count
from storage.embedded import EmbeddedStore
from storage.log import Log, LogLimits
from storage import projection
from storage.quarantine import Quarantine

projection.RECORDS_AT_ONCE = 5
here = Path(sys.argv[1])
log = Log.open(here / "log", LogLimits(), count=count)
one = projection.Projection(log, EmbeddedStore(here / "readings.db"), "embedded", Quarantine(here / "quarantine"))
print("ready", flush=True)
while one.step():
    print(one.status().lag, flush=True)
print("done", flush=True)
"""


@pytest.mark.fault
def test_kill_9_in_mid_stream_leaves_everything_present_once(tmp_path: Path):
    log = Log.open(tmp_path / "log", LogLimits(), count=count)
    log.append_now([pack(batch(i, *[i] * 20)) for i in range(1000)])
    log.close()
    lags = []
    for kill in range(10):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        lags += [int(process.stdout.readline()) for _ in range(3 + kill % 4)]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert lags[-1] > 0, "every kill was in mid-stream"
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.endswith("done\n")
    store = EmbeddedStore(tmp_path / "readings.db")
    for device in range(20):
        assert values(store, f"m{device}") == list(range(1000))
    store.close()


def test_who_asked_is_told_what_the_store_has_and_again_what_was_not_taken_up(
    log: Log, store: EmbeddedStore, projection: Projection
) -> None:
    log.append_now([pack(batch(1, 1.0)), b"no batch", pack(batch(2, 2.0))])
    told: list[list[int]] = []

    def refuse(found: Stored) -> None:
        told.append([record.seq for record, _ in found.batches])
        assert values(store) == [1.0, 2.0]  # the store has it already
        if len(told) == 1:
            raise StorageError("away", retry=True)

    projection.on_stored = refuse
    with pytest.raises(StorageError):
        projection.step()
    assert projection.status().lag == 3
    assert projection.step()
    assert told == [[1, 3], [1, 3]]
    assert projection.status().lag == 0
