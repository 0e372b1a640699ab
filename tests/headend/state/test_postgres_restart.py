import threading
from collections.abc import Iterator

import pytest

from bench.postgres_server import PostgresServer
from headend.state.assignments import Assignments
from headend.state.store import State

pytestmark = [pytest.mark.real, pytest.mark.fault]


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_in_mid_use_is_survived_and_loses_nothing(own_server: PostgresServer, mode: str) -> None:
    state = State.open(own_server.fresh())
    book = Assignments(state)
    stop, begun = threading.Event(), threading.Event()
    done: list[int] = []

    def work() -> None:
        number = 0
        while not stop.is_set():
            book.assign(f"m{number}", "g1", 0)
            done.append(number)
            number += 1
            begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    own_server.stop(mode)
    before = len(done)
    own_server.start()
    book.assign("after", "g1", 0)
    stop.set()
    thread.join()
    assert len(done) >= before
    assert book.ever("g1") == {f"m{number}" for number in done} | {"after"}
    state.close()
