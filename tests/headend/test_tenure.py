"""Partitions shared out among head-ends over one state, in both databases: one owner each, and nothing forgotten."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headend.held import Releaser, held_blocks
from headend.kpi.collection import Collection
from headend.registry import MemoryRegistry
from headend.seqs import hash_of
from headend.state.held import HeldBack, Order
from headend.state.ledgers import CommittedSeqs, Owned, Ownership
from headend.state.store import State
from headend.tenure import LEASE_S, Tenure
from metering.model import Block, Column, Device, Kind, Layout, Source
from storage.codec import Origin
from storage.embedded import EmbeddedStore
from storage.log import Log

COUNT = 4
GATEWAYS = [f"g{n}" for n in range(40)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settle(*tenures: Tenure) -> None:
    for _ in range(3):
        for each in tenures:
            each.tick()


def test_a_head_end_alone_owns_all_and_shares_with_one_that_joins(state: State, clock: Clock) -> None:
    first, second = Tenure(state, "a", COUNT, clock), Tenure(state, "b", COUNT, clock)
    assert first.tick() == [0, 1, 2, 3]
    settle(second, first)
    assert len(first.held()) == len(second.held()) == 2
    assert first.held() | second.held() == {0, 1, 2, 3}
    first.leave()
    second.tick()
    assert (first.held(), second.held()) == (frozenset(), {0, 1, 2, 3})


def test_the_partitions_of_a_dead_head_end_are_taken_after_the_lease_and_not_before(state: State, clock: Clock) -> None:
    dead, other = Tenure(state, "a", COUNT, clock), Tenure(state, "b", COUNT, clock)
    settle(dead, other)
    clock.now += LEASE_S - 1
    assert other.tick() == []
    clock.now += 1
    assert len(other.tick()) == 2
    assert other.held() == {0, 1, 2, 3}
    assert dead.held() == frozenset()  # by its own clock


def test_what_was_committed_is_known_to_the_next_owner_and_the_former_can_add_no_more(
    state: State, clock: Clock
) -> None:
    former, later = Tenure(state, "a", COUNT, clock), Tenure(state, "b", COUNT, clock)
    former.tick()
    origins = [Origin(name, "e", 1, 3, 7) for name in GATEWAYS]
    assert former.note(origins) == frozenset()
    settle(former, later)
    clock.now += LEASE_S
    later.tick()  # the former sleeps
    assert {name for name in GATEWAYS if later.load().has(name, "e", 1, 3)} == set(GATEWAYS)
    assert later.load().of("g1", "e").check == (3, 7)
    assert former.note([Origin(name, "e", 4, 4, 8) for name in GATEWAYS]) == set(GATEWAYS)
    assert later.note([Origin("g1", "e", 5, 5, 9), Origin("g1", "f", 1, 1, 1)]) == frozenset()
    number = hash_of("g1") % COUNT
    saved = [each for each in CommittedSeqs(state, COUNT).load(number) if each.gateway == "g1"]
    assert [(each.epoch, each.ranges, each.check) for each in saved] == [
        ("e", [(1, 4), (5, 6)], (5, 9)),
        ("f", [(1, 2)], (1, 1)),
    ]
    assert former.held() == frozenset()
    assert former.load().gateways() == []


def test_a_partition_is_taken_by_one_of_two_and_its_fence_only_counts_up(state: State) -> None:
    book = Ownership(state)
    assert book.take(1, "a", None) == Owned("a", 1)
    assert book.take(1, "b", None) is None
    assert book.take(1, "b", Owned("a", 1)) == Owned("b", 2)
    assert book.take(1, "c", Owned("a", 1)) is None
    book.give("a", [1])
    assert book.look().owned == {1: Owned("b", 2)}
    book.give("b", [1])
    assert book.take(1, "a", Owned("", 2)) == Owned("a", 3)


def test_a_head_end_that_cannot_reach_the_state_holds_nothing_after_the_lease(state: State, clock: Clock) -> None:
    tenure = Tenure(state, "a", COUNT, clock)
    tenure.tick()
    assert tenure.holds("g1")
    clock.now += LEASE_S
    assert not tenure.holds("g1")
    tenure.tick()
    assert tenure.holds("g1")


@pytest.fixture
def other_state(url: str, state: State) -> Iterator[State]:
    """Return a second handle on the same state: another head-end's."""
    del state  # it makes the tables
    opened = State.open(url)
    yield opened
    opened.close()


def test_held_readings_are_released_by_one_head_end_at_a_time_and_by_the_next_when_it_is_gone(
    state: State, other_state: State, clock: Clock, tmp_path: Path
) -> None:
    layout = Layout(Kind.REGISTER, Source.POLL, 900, (Column("1-0:1.8.0*255", "kWh", 0, "int"),))
    handles, logs, tenures, releasers = (state, other_state), [], [], []
    for name, handle in zip("ab", handles, strict=True):
        logs.append(Log.open(tmp_path / name))
        tenures.append(Tenure(handle, name, COUNT, clock))
        releasers.append(Releaser(HeldBack(handle), logs[-1], lambda: 1_000))
        releasers[-1].leads = tenures[-1].leads
    settle(*tenures)
    for seq, released in ((1, [1, 0]), (2, [1, 1])):
        HeldBack(state).put(held_blocks(Origin("g1", "e", seq, seq), [Block(layout, "m", seq, seq, [5])], 1, None))
        HeldBack(state).decide(Order("release", "g1", "", "user:eva", "her clock"), 1_000)
        for each in reversed(releasers):
            each.step()
        assert [each.released for each in releasers] == released
        clock.now += LEASE_S
        tenures[1].tick()  # the first sleeps
    for log in logs:
        log.close()


def test_days_are_judged_by_one_head_end_at_a_time(
    state: State, other_state: State, clock: Clock, store: EmbeddedStore
) -> None:
    first, second = Tenure(state, "a", COUNT, clock), Tenure(other_state, "b", COUNT, clock)
    settle(first, second)
    registry = MemoryRegistry([], [Device("m", "m", "x", "g1")], [])
    later = Collection(other_state, store, registry, None, ("b", "e"))
    later.leads = second.leads
    later.tick()
    assert later.days.progress() is None
    clock.now += LEASE_S
    second.tick()
    later.tick()
    assert later.days.progress() is not None
