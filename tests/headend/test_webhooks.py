"""The outbox in both databases: written with the decision, passed in order by each webhook behind its own cursor."""

import threading

import pytest
import sqlalchemy as sa

from headend.state.store import State
from headend.state.tables import outbox, webhook_aside
from headend.webhooks import KEEP_S, LEASE_S, MAX_ASIDE, Message, Outbox, Outgoing, enqueue
from metering.model import SECOND


def message(number: int, at: int = 0) -> Outgoing:
    return Outgoing("command", at, f"MP{number}", "js/nj", {"number": number})


def put(state: State, *numbers: int, at: int = 0) -> None:
    state.write(lambda connection: enqueue(connection, *(message(number, at) for number in numbers)))


def ahead(box: Outbox, limit: int = 100) -> list[Message]:
    return list(box.waiting("a", limit).messages)


def points(box: Outbox) -> list[str]:
    return [each.point for each in ahead(box)]


def test_a_webhook_begins_at_the_end_and_has_all_that_comes_then_in_order(state: State):
    box = Outbox(state)
    put(state, 1)
    box.subscribe("a")
    put(state, 2, 3)
    put(state, 4)
    box.subscribe("a")
    assert points(box) == ["MP2", "MP3", "MP4"]
    assert box.lease("a", "n1", 0)
    box.passed("a", "n1", ahead(box, 2)[-1].seq)
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
    found = ahead(box)
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
    assert box.lease("a", "n1", 0)
    box.passed("a", "n1", 1)
    assert box.trim(now) == {"a": 1}
    put(state, 4, at=now)
    assert [each.seq for each in ahead(box)] == [3, 4]


def test_a_meter_point_put_aside_waits_by_itself_until_nothing_of_it_waits(state: State):
    box = Outbox(state)
    box.subscribe("a")
    assert box.lease("a", "n1", 0)
    put(state, 1, 2, 1, 3)
    assert box.put_aside("a", "n1", ahead(box)[0], until=10)
    batch = box.waiting("a", 1)
    assert ([each.point for each in batch.messages], batch.up_to) == (["MP2"], 2)
    box.passed("a", "n1", 4)
    put(state, 1, 2)
    assert points(box) == ["MP2"]
    assert box.depth("a") == 4
    assert box.aside("a", 9, 100) is None
    failed = box.aside("a", 10, 100)
    assert failed is not None
    assert (failed.point, failed.tries, [each.seq for each in failed.messages]) == ("MP1", 1, [1])
    box.aside_failed("a", "n1", "MP1", until=20)
    assert box.aside("a", 19, 100) is None
    box.aside_passed("a", "n1", failed.messages[-1])
    more = box.aside("a", 19, 100)
    assert more is not None
    assert [each.seq for each in more.messages] == [3, 5]
    box.aside_passed("a", "n1", more.messages[-1])
    assert box.aside("a", 99, 100) is None
    assert box.count_aside("a") == 1, "taken back before the cursor passed it, it would be sent once more"
    put(state, 1)
    assert points(box) == ["MP2"]
    box.passed("a", "n1", 6)
    last = box.aside("a", 99, 100)
    assert last is not None
    box.aside_passed("a", "n1", last.messages[-1])
    box.passed("a", "n1", 7)
    assert (box.count_aside("a"), box.depth("a")) == (0, 0)


def test_only_so_many_meter_points_are_put_aside_and_by_nobody_else(state: State):
    box = Outbox(state)
    box.subscribe("a")
    put(state, 1)
    (first,) = ahead(box)
    assert not box.put_aside("a", "n1", first, 0), "it does not have the webhook"
    assert box.lease("a", "n1", 0)
    rows = [{"webhook": "a", "point": f"other {n}", "after": 0, "tries": 1, "until": 0} for n in range(MAX_ASIDE)]
    state.write(lambda connection: connection.execute(sa.insert(webhook_aside), rows))
    assert not box.put_aside("a", "n1", first, 0)
    assert points(box) == ["MP1"]
