from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headend.audit.chain import Entry
from headend.state.assignments import Assignment, Assignments
from headend.state.configs import Configs
from headend.state.gaps import Gap, Gaps, GapsQuery, SeqGap, SeqGaps
from headend.state.gateways import Gateway, Gateways, Sighting
from headend.state.store import State

_LIMITS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_INSTANTS = st.integers(0, 12)
_SEQS = st.integers(0, 2**62)


def test_what_a_gateway_says_of_itself_never_goes_back(state: State) -> None:
    gateways = Gateways(state)
    gateways.create("g1", 1)
    words = [Sighting("g1", "e", "b", "online", 10), Sighting("g1", "e", "a", "offline", 9)]
    assert gateways.seen([*words, Sighting("g2", "e", "a", "offline", 9)]) == 1
    assert gateways.applied("g1", 3)
    assert gateways.get("g1") == Gateway("g1", 1, None, "", None, "e", "b", "online", 10, 3)
    assert gateways.get("g2") is None


def test_versions_of_a_configuration_count_up(state: State) -> None:
    configs = Configs(state)
    entry = Entry(5, "token:t1", "configuration-put", "g1", "", {})
    assert configs.newest("g1", 10) == []
    assert [configs.offer("g1", body, 5, entry).version for body in (b"a", b"a", b"\x00b")] == [1, 1, 2]
    assert (
        configs.answered([("g1", 2, "rolled-back", "silent"), ("g1", 9, "applied", ""), ("g2", 1, "applied", "")]) == 1
    )
    newest, first = configs.newest("g1", 10)
    assert (newest.body, newest.state, newest.reason) == (b"\x00b", "rolled-back", "silent")
    assert (first.body, first.state, first.at) == (b"a", "superseded", 5)
    assert configs.offered(10) == []


def test_gaps_are_asked_for_when_their_time_has_come_a_few_of_each_gateway(state: State) -> None:
    gaps = Gaps(state)
    owed = [Gap("m1", "p", at, at + 1, 0, "g1", next_at=at) for at in range(5)]
    other, nobody = Gap("m2", "p", 1, 2, 0, "g2", next_at=3), Gap("m3", "p", 1, 2, 0, "g1", "lost", "why")
    gaps.put([*owed, other, nobody, *owed])
    assert gaps.to_ask(3, 2, 10) == [owed[3], owed[2], other]
    assert gaps.to_ask(3, 2, 1) == [owed[3]]
    assert gaps.of("m1") == owed
    assert gaps.counts() == [("g1", "lost", 1), ("g1", "open", 5), ("g2", "open", 1)]


def test_an_answer_is_noted_and_the_gap_stays_until_the_store_says_otherwise(state: State) -> None:
    gaps = Gaps(state)
    asked = Gap("m1", "p", 1, 2, 0, "g1", "asked", ask="q1", tries=1, asked_at=5, next_at=6)
    settled = Gap("m1", "p", 4, 5, 0, "g1", "recovered", ask="q1", tries=1)
    gaps.put([asked, settled])
    gaps.answered({"q1": "taken", "unknown": "taken"}, 99)
    (noted, same) = gaps.of("m1")
    assert (noted.state, noted.answer, noted.ask, noted.next_at) == ("asked", "taken", "", 99)
    assert same == settled


def test_gaps_come_in_pages_by_state_and_device(state: State) -> None:
    gaps = Gaps(state)
    all_of = [
        Gap(device, "p", at, at + 1, state=word) for at in (1, 2) for device, word in (("a", "open"), ("b", "lost"))
    ]
    gaps.put(all_of)
    found, after = [], None
    while page := gaps.find(GapsQuery(0, 9, 3, after=after)):
        found += page
        after = (page[-1].start, page[-1].device, page[-1].profile)
    assert found == all_of
    assert gaps.find(GapsQuery(0, 9, 9, ("lost",), ("a", "b"))) == [all_of[1], all_of[3]]
    assert gaps.find(GapsQuery(2, 3, 9)) == all_of[2:]
    assert gaps.find(GapsQuery(0, 9, 9, (), ("c",))) == []


def test_seqs_that_will_never_come_are_listed_and_counted(state: State) -> None:
    book = SeqGaps(state)
    gaps = [
        SeqGap("g1", "e", 1, 4, "evicted", 12, 5, 9),
        SeqGap("g1", "e", 9, 9, "quarantined"),
        SeqGap("g2", "d", 1, 1, "lost"),
    ]
    book.put([*gaps, gaps[0]])
    assert book.find(9) == gaps
    assert book.find(1, ("g1", "e", 1)) == [gaps[1]]
    assert book.counts() == [("g1", "evicted", 4, 12), ("g1", "quarantined", 1, 0), ("g2", "lost", 1, 0)]


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
