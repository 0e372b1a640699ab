import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headend.state.assignments import Assignment, Assignments
from headend.state.gateways import Configs, Gateway, Gateways
from headend.state.ledgers import Gap, Gaps, SeqSnapshot, SeqSnapshots
from headend.state.store import State

_LIMITS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_INSTANTS = st.integers(0, 12)
_SEQS = st.integers(0, 2**62)


def test_what_a_gateway_says_of_itself_never_goes_back(state: State) -> None:
    gateways = Gateways(state)
    gateways.create("g1", 1)
    assert gateways.seen("g1", epoch="e", boot="b", status="online", at=10)
    assert not gateways.seen("g1", epoch="e", boot="a", status="offline", at=9)
    assert not gateways.seen("g2", epoch="e", boot="a", status="offline", at=9)
    assert gateways.applied("g1", 3)
    assert gateways.get("g1") == Gateway("g1", 1, None, "", None, "e", "b", "online", 10, 3)
    assert gateways.get("g2") is None


def test_versions_of_a_configuration_count_up(state: State) -> None:
    configs = Configs(state)
    assert configs.newest("g1") is None
    assert [configs.offer("g1", body).version for body in (b"a", b"a", b"\x00b")] == [1, 1, 2]
    assert configs.mark("g1", 2, "rolled-back")
    assert not configs.mark("g1", 9, "applied")
    newest, first = configs.newest("g1"), configs.get("g1", 1)
    assert newest is not None
    assert first is not None
    assert (newest.body, newest.state, first.body, first.state) == (b"\x00b", "rolled-back", b"a", "offered")


def test_open_gaps_are_asked_for_and_again_after_a_while(state: State) -> None:
    gaps = Gaps(state)
    old, asked, settled = Gap("m2", "p", 1, 2), Gap("m1", "p", 5, 9, "asked", 50), Gap("m1", "p", 2, 3, "lost", 50)
    for gap in (asked, settled, old, Gap("m1", "p", 5, 9), asked):
        gaps.put(gap)
    assert gaps.to_ask(50, 10) == [old]
    assert gaps.to_ask(51, 10) == [old, asked]
    assert gaps.to_ask(51, 1) == [old]
    assert gaps.of("m1") == [settled, asked]


@_LIMITS
@given(st.lists(st.tuples(st.sampled_from(("g1", "g2", None)), _INSTANTS), max_size=8))
def test_no_device_is_ever_at_two_gateways(state: State, steps: list[tuple[str | None, int]]) -> None:
    book, expected = Assignments(state), dict.fromkeys(range(14))
    book.end("m1", 0)
    for gateway, since in steps:
        if gateway is None:
            book.end("m1", since)
        else:
            book.assign("m1", gateway, since)
        expected.update(dict.fromkeys(range(since, 14), gateway))
    held = book.of("m1")
    for instant in range(14):
        here = [each.gateway for each in held if each.since <= instant and (each.until is None or instant < each.until)]
        assert here == ([expected[instant]] if expected[instant] else [])
        assert book.at("m1", instant) == expected[instant]


def test_a_past_assignment_counts_for_what_a_gateway_may_bring(state: State) -> None:
    book = Assignments(state)
    book.assign("m1", "g1", 10)
    book.assign("m1", "g2", 20)
    assert book.of("m1") == [Assignment("m1", "g1", 10, 20), Assignment("m1", "g2", 20)]
    assert (book.ever("g1"), book.ever("g2"), book.ever("g3")) == ({"m1"}, {"m1"}, frozenset())


_SNAPSHOTS = st.builds(
    SeqSnapshot,
    st.sampled_from(("g1", "g2")),
    st.text("ab", min_size=1, max_size=3),
    _SEQS,
    st.lists(st.tuples(_SEQS, _SEQS), max_size=4).map(tuple),
    _SEQS,
    st.none() | st.tuples(_SEQS, st.integers(0, 2**32 - 1)),
)


@_LIMITS
@given(st.lists(_SNAPSHOTS, max_size=5, unique_by=lambda each: (each.gateway, each.epoch)))
def test_snapshots_of_seqs_come_back_as_they_were_saved(state: State, saved: list[SeqSnapshot]) -> None:
    book = SeqSnapshots(state)
    book.save("other", [SeqSnapshot("g1", "e", 1, (), 2)])
    book.save("log", saved)
    assert book.load("log") == saved
    assert book.load("other") == [SeqSnapshot("g1", "e", 1, (), 2)]


@pytest.mark.parametrize("log", ["log", "other"])
def test_a_log_without_snapshots_has_none(state: State, log: str) -> None:
    assert SeqSnapshots(state).load(log) == []
