"""Whoever appends to the audit has its turn: in the order in which they came, and none fails on another."""

import threading
from concurrent.futures import ThreadPoolExecutor

from headend.audit.chain import Entry, Trail, append
from headend.audit.verify import verify
from headend.state.store import Queue, State

WAIT_S = 60


def test_threads_have_their_turn_in_the_order_in_which_they_came():
    queue, done = Queue(), []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with queue:
            inside.set()
            leave.wait(WAIT_S)

    def next_one(name: int) -> None:
        with queue:
            done.append(name)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert inside.wait(WAIT_S)
    for name in range(5):
        threads.append(threading.Thread(target=next_one, args=(name,)))
        threads[-1].start()
        while queue.length < name + 2:
            leave.wait(0.001)
    leave.set()
    for each in threads:
        each.join(WAIT_S)
    assert done == [0, 1, 2, 3, 4]
    assert queue.length == 0


def test_many_threads_append_in_turn_and_the_chain_is_whole(state: State):
    def one(number: int) -> None:
        entry = Entry(number, "token:x", "k", f"s{number}", "", {})
        state.write_in_turn(lambda connection: append(connection, [entry]))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(one, range(60)))
    trail = Trail(state)
    links = list(trail.all())
    assert sorted(each.at for each in links) == list(range(60))
    assert verify(iter(links), [trail.head()]) == (60, 1, [])
