import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from bench.postgres_server import PostgresServer
from headend.state.assignments import Assignments
from headend.state.rows import put
from headend.state.store import LOSSES, State
from headend.state.tables import head_ends, metadata
from headend.tokens import TokenBook
from metering.errors import ConfigError, StorageError


def test_the_migrations_lead_to_the_tables_of_the_code(state: State) -> None:
    assert state.read(lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)) == []


def test_an_up_to_date_state_opens_again(url: str, state: State) -> None:
    Assignments(state).assign("m1", "g1", 5)
    again = State.open(url)
    assert Assignments(again).at("m1", 5) == "g1"
    again.close()


def test_two_processes_that_start_together_migrate_once(url: str) -> None:
    program = "import sys; from headend.state.store import State; sys.stdin.readline(); State.open(sys.argv[1]).close()"
    starting = [
        subprocess.Popen([sys.executable, "-c", program, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for each in starting:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    ends = [(each.communicate(timeout=60)[1], each.returncode) for each in starting]
    assert ends == [("", 0), ("", 0)]
    state = State.open(url)
    assert state.read(lambda c: c.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()) == [
        "0001"
    ]
    state.close()


def test_a_schema_of_a_newer_program_is_refused_in_words(url: str, state: State) -> None:
    state.write(lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(ConfigError, match="schema 9999, which this program does not know: a newer metergate"):
        State.open(url)


@pytest.mark.parametrize("url", ["mysql://h/x", "nonsense", "sqlite://", "postgresql+psycopg2://h/x"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="head-end state"):
        State.open(url)


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headend.state.store.PATIENCE_S", 0)
    with pytest.raises(StorageError) as told:
        State.open("postgresql://me:planted-secret@127.0.0.1:1/x")
    assert told.value.retry
    assert "planted-secret" not in str(told.value)


def test_writers_that_meet_lose_nothing(state: State) -> None:
    state.write(lambda connection: put(connection, head_ends, {"id": "a", "beat": 0}))

    def add(connection: sa.Connection) -> None:
        number = connection.execute(sa.select(head_ends.c.beat)).scalar_one()
        put(connection, head_ends, {"id": "a", "beat": number + 1})

    def work() -> None:
        for _ in range(10):
            state.write(add)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert state.read(lambda connection: connection.execute(sa.select(head_ends.c.beat)).scalar_one()) == 30


def test_a_file_of_tokens_becomes_a_state_and_keeps_them(tmp_path: Path) -> None:
    book = TokenBook(tmp_path / "tokens.db")
    token = book.create("office", ["readings:read"], [""])
    book.close()
    State.open(tmp_path / "tokens.db").close()
    book = TokenBook(tmp_path / "tokens.db")
    assert book.verify(token) is not None
    book.close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    State.open(tmp_path / "state.db").close()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.real
def test_a_head_end_that_sleeps_within_a_transaction_does_not_hold_up_the_others(postgres: PostgresServer) -> None:
    url = postgres.fresh()
    sleeper, other = State.open(url), State.open(url)
    with contextlib.closing(sleeper), contextlib.closing(other):
        other.write(lambda connection: put(connection, head_ends, {"id": "a", "beat": 1}))
        asleep = sleeper._writer.connect()
        asleep.execute(sa.update(head_ends).values(beat=2))
        other.write(lambda connection: put(connection, head_ends, {"id": "a", "beat": 3}))
        with pytest.raises((sa.exc.DBAPIError, OSError)):
            asleep.execute(sa.select(head_ends))
        asleep.invalidate()
        asleep.close()
        assert sleeper.read(lambda connection: connection.execute(sa.select(head_ends.c.beat)).scalar_one()) == 3


@pytest.mark.real
def test_a_neighbour_that_writes_without_end_shuts_nobody_out(postgres: PostgresServer) -> None:
    url = postgres.fresh()
    ours, theirs = State.open(url), State.open(url)
    tries: list[bool] = []
    neighbours: list[threading.Thread] = []

    def write_past_the_neighbour(connection: sa.Connection) -> None:
        known = connection.execute(sa.select(sa.func.count()).select_from(head_ends)).scalar_one()
        name = f"n{len(tries)}"
        neighbour = threading.Thread(target=lambda: theirs.write(lambda c: count_and_put(c, name)))
        neighbour.start()
        neighbour.join(2.0)  # it commits, unless it has to wait for us
        neighbours.append(neighbour)
        tries.append(neighbour.is_alive())
        put(connection, head_ends, {"id": "ours", "beat": known})

    with contextlib.closing(ours), contextlib.closing(theirs):
        ours.write(write_past_the_neighbour)
        for neighbour in neighbours:
            neighbour.join()
        assert tries == [False] * LOSSES + [True]
        names = ours.read(lambda connection: connection.execute(sa.select(head_ends.c.id)).scalars().all())
        assert sorted(names) == ["n0", "n1", "n2", "n3", "ours"]


def count_and_put(connection: sa.Connection, name: str) -> None:
    number = connection.execute(sa.select(sa.func.count()).select_from(head_ends)).scalar_one()
    put(connection, head_ends, {"id": name, "beat": number})
