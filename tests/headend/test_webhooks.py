"""The outbox in both databases: written with the decision, passed in order by each webhook behind its own cursor."""

import threading

import pytest
import sqlalchemy as sa

from headend.state.store import State
from headend.state.tables import outbox
from headend.webhooks import KEEP_S, LEASE_S, Outbox, Outgoing, enqueue
from metering.model import SECOND


def message(number: int, at: int = 0) -> Outgoing:
    return Outgoing("command", at, f"MP{number}", "js/nj", {"number": number})


def put(state: State, *numbers: int, at: int = 0) -> None:
    state.write(lambda connection: enqueue(connection, *(message(number, at) for number in numbers)))


def points(box: Outbox, name: str = "a") -> list[str]:
    return [each.point for each in box.waiting(name, 100)]


def test_a_webhook_begins_at_the_end_and_has_all_that_comes_then_in_order(state: State):
    box = Outbox(state)
    put(state, 1)
    box.subscribe("a")
    put(state, 2, 3)
    put(state, 4)
    box.subscribe("a")
    assert points(box) == ["MP2", "MP3", "MP4"]
    assert box.lease("a", "n1", 0)
    box.passed("a", "n1", box.waiting("a", 2)[-1].seq)
    assert points(box) == ["MP4"]
    assert box.depth("a") == 1


def test_a_message_goes_with_its_decision_or_not_at_all(state: State):
    def decide(connection: sa.Connection) -> None:
        enqueue(connection, message(1))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        state.write(decide)
    with pytest.raises(ValueError, match="the limit"):
        state.write(lambda connection: enqueue(connection, Outgoing("alert", 0, "", "", {"x": "y" * 20_000})))
    assert state.read(lambda connection: connection.execute(sa.select(outbox)).all()) == []


def test_one_head_end_sends_for_a_webhook_at_a_time(state: State):
    box = Outbox(state)
    box.subscribe("a")
    put(state, 1)
    assert box.lease("a", "n1", 0)
    assert not box.lease("a", "n2", LEASE_S * SECOND - 1)
    assert box.lease("a", "n1", LEASE_S * SECOND - 1)
    assert box.lease("a", "n2", 2 * LEASE_S * SECOND)
    box.passed("a", "n1", 1)
    assert points(box) == ["MP1"]
    box.release("a", "n2")
    assert box.lease("a", "n1", 2 * LEASE_S * SECOND + 2)


def test_many_write_at_once_and_no_webhook_misses_one(state: State):
    box = Outbox(state)
    box.subscribe("a")

    def work(number: int) -> None:
        for each in range(5):
            put(state, number * 10 + each)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = box.waiting("a", 100)
    assert [each.seq for each in found] == list(range(1, 21))
    for number in range(4):
        mine = [each.point for each in found if each.point in {f"MP{number * 10 + each}" for each in range(5)}]
        assert mine == [f"MP{number * 10 + each}" for each in range(5)]


def test_what_is_too_old_goes_and_seqs_are_not_used_again(state: State):
    box = Outbox(state)
    box.subscribe("a")
    put(state, 1, 2)
    now = (KEEP_S + 1) * SECOND
    put(state, 3, at=now)
    assert box.trim(now) == 2
    assert box.missed("a") == 2
    put(state, 4, at=now)
    assert [each.seq for each in box.waiting("a", 10)] == [3, 4]
