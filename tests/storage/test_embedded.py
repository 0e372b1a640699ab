"""The embedded store's own: its file, its WAL, damage, several threads, and how values are packed."""

import sqlite3
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.batch import Batch
from metering.errors import StorageError
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.ports import ReadingsQuery
from storage import schema
from storage.embedded import READERS, EmbeddedStore
from storage.packing import Packing

STEP = 900 * SECOND
T0 = 1_760_000_400 * SECOND // STEP * STEP
COLUMNS = tuple(Column(f"1-0:{i}.7.0*255", "V", 0, "float32") for i in range(20))
WIDE = Layout(Kind.INSTANTANEOUS, Source.POLL, 900, COLUMNS)
MIXED = Layout(
    Kind.REGISTER,
    Source.POLL,
    900,
    (
        Column("1-0:1.8.0*255", "Wh", 0, "int"),
        Column("1-0:32.7.0*255", "V", 0, "float32"),
        Column("1-0:16.7.0*255", "W", 0, "float64"),
    ),
)


def blocks(first: int, count: int, devices: int = 1) -> Batch:
    made = [
        Block(WIDE, f"m{d}", T0 + i * STEP, T0 + i * STEP + 5, [float(i)] * len(COLUMNS), T0 + i * STEP)
        for i in range(first, first + count)
        for d in range(devices)
    ]
    return Batch(T0, made)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path / "deep" / "readings.db")
    yield store
    store.close()


def month(store: EmbeddedStore, device: str = "m0") -> list[float | None]:
    query = ReadingsQuery(device, 0, 2**62, (COLUMNS[3].obis,), limit=10_000)
    return [reading.value for reading in store.readings(query).readings]


def test_what_was_written_is_there_after_opening_again(store: EmbeddedStore):
    assert store.is_empty
    store.write([blocks(0, 10)])
    store.close()
    again = EmbeddedStore(store.path)
    assert not again.is_empty
    assert month(again) == [float(i) for i in range(10)]
    result = again.write([blocks(5, 10)])
    assert (result.stored, result.duplicates) == (5 * 20, 5 * 20)
    again.close()


def test_a_commit_is_synced_before_write_returns(store: EmbeddedStore):
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_reader_that_pauses_keeps_nothing_open_and_the_wal_stays_bounded(store: EmbeddedStore):
    store.write([blocks(0, 50, devices=300)])
    latest = store.latest([f"m{d}" for d in range(300)])
    next(latest)  # a client that reads one reading and then pauses
    page = store.readings(ReadingsQuery("m0", 0, 2**62, limit=5))
    for i in range(1, 20):
        store.write([blocks(50 * i, 50, devices=40)])
    wal = store.path.with_name("readings.db-wal")
    assert wal.stat().st_size <= schema.WAL_LIMIT_BYTES
    assert store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0  # nobody holds it
    assert len(list(latest)) == 300 * 20 - 1
    assert store.readings(ReadingsQuery("m0", 0, 2**62, limit=5, after=page.cursor)).readings


def test_a_wal_that_grew_behind_a_reader_is_emptied_by_a_later_write(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(schema, "WAL_LIMIT_BYTES", 100_000)
    foreign = sqlite3.connect(store.path, isolation_level=None)
    foreign.execute("BEGIN")
    foreign.execute("SELECT count(*) FROM blocks").fetchone()
    for i in range(1, 4):
        store._connection.execute("PRAGMA busy_timeout=10")
        store.write([blocks(50 * i, 50, devices=20)])
    wal = store.path.with_name("readings.db-wal")
    assert wal.stat().st_size > 100_000
    foreign.close()
    store.write([blocks(0, 1)])
    assert wal.stat().st_size == 0


def test_a_failed_write_leaves_nothing_and_the_next_one_counts_right(store: EmbeddedStore):
    store.write([blocks(0, 5)])
    store._connection.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON main.expectations BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )
    from metering.model import Expectation

    promise = Expectation("m0", Kind.REGISTER, Source.POLL, 900, ("1-0:1.8.0*255",), T0)
    with pytest.raises(StorageError, match="disk full") as caught:
        store.write([blocks(0, 10), Batch(T0, expectations=[promise])])
    assert caught.value.retry
    assert len(month(store)) == 5
    store._connection.execute("DROP TRIGGER full")
    result = store.write([blocks(0, 10)])
    assert (result.stored, result.duplicates) == (100, 100)


def test_another_program_that_writes_is_noticed(store: EmbeddedStore):
    store.write([blocks(0, 3)])
    other = EmbeddedStore(store.path)
    other.write([blocks(3, 3)])
    result = store.write([blocks(3, 4)])
    assert (result.stored, result.duplicates) == (20, 60)
    other.close()


def test_a_locked_file_is_told_and_may_be_tried_again(store: EmbeddedStore):
    foreign = sqlite3.connect(store.path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    store._connection.execute("PRAGMA busy_timeout=10")
    with pytest.raises(StorageError, match="locked") as caught:
        store.write([blocks(0, 1)])
    assert caught.value.retry
    with pytest.raises(StorageError, match="locked"):
        store.ping()
    foreign.close()
    store.write([blocks(0, 1)])


def test_a_damaged_file_is_told_left_alone_and_can_be_set_aside(store: EmbeddedStore):
    store.write([blocks(0, 2000)])
    store.close()
    data = bytearray(store.path.read_bytes())
    for page in range(8, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    store.path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged") as caught:
        EmbeddedStore(store.path)
    assert not caught.value.retry
    assert store.path.read_bytes() == data
    aside = schema.set_aside(store.path)
    assert aside.read_bytes() == data
    fresh = EmbeddedStore(store.path)
    assert fresh.is_empty
    fresh.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\x00" + b"\xff" * 4080])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, content: bytes):
    path = tmp_path / "readings.db"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged") as caught:
        EmbeddedStore(path)
    assert not caught.value.retry
    assert path.read_bytes() == content


def test_a_database_of_another_program_or_a_newer_one_is_left_alone(tmp_path: Path):
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE customers (id)")
    connection.close()
    with pytest.raises(StorageError, match="another program"):
        EmbeddedStore(foreign)
    newer = tmp_path / "newer.db"
    EmbeddedStore(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StorageError, match="schema 99"):
        EmbeddedStore(newer)


def test_the_look_for_damage_ends_in_time(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch):
    store.write([blocks(0, 500)])
    store.close()
    monkeypatch.setattr(schema, "CHECK_TIMEOUT_S", 0.0)
    again = EmbeddedStore(store.path)
    assert len(month(again)) == 500
    again.close()


def test_many_threads_ask_while_one_writes(store: EmbeddedStore):
    store.write([blocks(0, 1)])
    seen: list[int] = []

    def ask() -> None:
        for _ in range(15):
            values = month(store)
            assert values == [float(i) for i in range(len(values))]
            seen.append(len(values))

    threads = [threading.Thread(target=ask) for _ in range(READERS * 2)]
    for thread in threads:
        thread.start()
    for i in range(1, 20):
        store.write([blocks(i, 1)])
    for thread in threads:
        thread.join()
    assert len(seen) == 15 * READERS * 2
    assert store._made <= READERS


def test_many_versions_of_one_time_are_read_whole(store: EmbeddedStore):
    made = [Block(MIXED, "m1", T0, T0 + i, (i, 1.0, 1.0)) for i in range(300)]
    store.write([Batch(T0, [*made, Block(MIXED, "m1", T0 + 1, T0, (7, 1.0, 1.0))])])
    query = ReadingsQuery("m1", 0, 2**62, ("1-0:1.8.0*255",), limit=1)
    page = store.readings(query)
    assert [one.value for one in page.readings] == [299]
    rest = store.readings(ReadingsQuery("m1", 0, 2**62, ("1-0:1.8.0*255",), limit=1, after=page.cursor))
    assert [one.value for one in rest.readings] == [7]
    every = ReadingsQuery("m1", 0, 2**62, ("1-0:1.8.0*255",), versions=True, limit=1000)
    assert len(store.readings(every).readings) == 301


@pytest.mark.parametrize(
    ("layout", "values", "quality", "reason"),
    [
        (MIXED, (1, 1.0), (), "2 values"),
        (MIXED, (1, 1.0, 1.0), (4,), "1 qualities"),
        (MIXED, (1, 1.0, 1.0), (0, 0, 2**30), "no set of flags"),
        (Layout(Kind.REGISTER, Source.POLL, 0, MIXED.columns[:1] * 2), (1, 1), (), "twice"),
    ],
)
def test_a_refusal_says_why(
    store: EmbeddedStore, layout: Layout, values: tuple[float, ...], quality: tuple[int, ...], reason: str
):
    (refused,) = store.write([Batch(T0, [Block(layout, "m1", T0, T0, values, None, quality)])]).rejected
    assert reason in refused.reason


def test_times_beyond_64_bits_are_refused(store: EmbeddedStore):
    (refused,) = store.write([Batch(T0, [Block(MIXED, "m1", 2**63, T0, (1, 1.0, 1.0))])]).rejected
    assert "64 bits" in refused.reason


FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.tuples(
        st.none() | st.integers(-(2**70), 2**70),
        st.none() | FLOAT32 | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    st.just(()) | st.tuples(*[st.integers(0, 2**30 - 1)] * 3),
)
def test_packing_gives_back_every_digit(values: tuple[float | None, ...], quality: tuple[int, ...]):
    packing = Packing(MIXED)
    packed = packing.pack(Block(MIXED, "m1", T0, T0, values, None, quality))
    got, flags = packing.unpack(packed)
    assert repr(tuple(got)) == repr(values)
    assert tuple(flags) in {quality, () if not any(quality) else quality, (0, 0, 0) if not any(quality) else quality}
    assert packing.pack(Block(MIXED, "m1", T0, T0, got, None, flags)) == packed


def test_plain_values_take_their_width_and_no_more():
    value = struct.unpack("<f", struct.pack("<f", 230.2))[0]
    assert len(Packing(MIXED).pack(Block(MIXED, "m1", T0, T0, (1, value, 0.1), None, (0, 0, 0)))) == 8 + 4 + 8
