"""Which run of a gateway counts: the table, word by word, and what holds after any sequence of them."""

from hypothesis import given
from hypothesis import strategies as st

from headend.births import CALL_S, TABLE, Births, Order, Seat
from metering.wire import Status


def here(boot: str) -> Status:
    return Status("g", "e", boot)


def gone(boot: str) -> Status:
    return Status("g", "e", boot, online=False)


def test_a_first_run_is_welcomed_each_time_that_it_speaks():
    births = Births()
    assert births.heard(here("a"), 0) == [Order("g", "welcome", "a")]
    assert births.heard(here("a"), 9) == [Order("g", "welcome", "a")]
    assert births.holder("g") == "a"


def test_a_second_run_leaves_when_the_first_answers():
    births = Births()
    births.heard(here("a"), 0)
    assert births.heard(here("b"), 1) == [Order("g", "call", "a")]
    assert births.holder("g") == "a"
    assert births.heard(here("a"), 2) == [Order("g", "leave", "b"), Order("g", "welcome", "a")]
    assert births.refused("g", "b")
    assert births.heard(here("b"), 3) == [Order("g", "leave", "b")]
    assert list(births.overdue(1000)) == []


def test_a_second_run_takes_over_when_the_first_does_not_answer():
    births = Births()
    births.heard(here("a"), 0)
    births.heard(here("b"), 1)
    assert births.heard(here("b"), 11) == [Order("g", "call", "a")]  # its birth again does not begin the wait anew
    assert list(births.overdue(CALL_S)) == []
    assert list(births.overdue(1 + CALL_S)) == [Order("g", "welcome", "b")]
    assert births.holder("g") == "b"
    assert not births.refused("g", "a")


def test_the_will_of_an_older_run_that_arrives_late_changes_nothing():
    births = Births()
    births.heard(here("a"), 0)
    births.heard(gone("a"), 1)
    assert births.heard(here("b"), 2) == [Order("g", "welcome", "b")]
    assert births.heard(gone("a"), 3) == []
    assert births.holder("g") == "b"


def test_a_will_of_the_first_lets_the_second_in_at_once():
    births = Births()
    births.heard(here("a"), 0)
    births.heard(here("b"), 1)
    assert births.heard(gone("a"), 2) == [Order("g", "welcome", "b")]


def test_a_newcomer_that_vanishes_leaves_the_first_where_it_is():
    births = Births()
    births.heard(here("a"), 0)
    births.heard(here("b"), 1)
    assert births.heard(gone("b"), 2) == []
    assert births.runs("g") == ("a",)


def test_records_tell_who_is_at_work_where_no_status_did():
    births = Births()
    births.sent("g", "a")
    assert births.holder("g") == "a"
    assert births.heard(here("b"), 1) == [Order("g", "call", "a")]


def test_last_records_of_a_run_that_is_gone_keep_no_newcomer_waiting():
    births = Births()
    births.heard(here("a"), 0)
    births.heard(gone("a"), 1)
    births.sent("g", "a")
    assert births.heard(here("b"), 2) == [Order("g", "welcome", "b")]


def test_every_step_of_the_table_can_be_taken():
    assert {seat for seat, _ in TABLE} == set(Seat)
    assert all(isinstance(after, Seat) for _, after in TABLE.values())


_WORDS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["here", "gone", "sent"]), st.floats(0, 2 * CALL_S)), max_size=40
)


@given(_WORDS)
def test_one_run_at_most_is_at_work_and_none_that_was_refused(words: list[tuple[str, str, float]]):
    births, clock = Births(), 0.0
    for boot, word, pause in words:
        clock += pause
        steps = [lambda at=clock: list(births.overdue(at))]
        if word == "sent":
            births.sent("g", boot)
        else:
            status = here(boot) if word == "here" else gone(boot)
            steps.append(lambda said=status, at=clock: births.heard(said, at))
        for step in steps:
            for order in step():
                assert order.kind != "welcome" or order.boot == births.holder("g")
                assert order.kind != "call" or not births.refused("g", order.boot)
            assert not births.refused("g", births.holder("g"))


@given(st.lists(st.sampled_from("bcd"), min_size=1, max_size=10))
def test_a_run_that_always_answers_is_never_pushed_out(knocks: list[str]):
    births = Births()
    births.heard(here("a"), 0)
    for number, boot in enumerate(knocks):
        births.heard(here(boot), number)
        births.heard(here("a"), number)
        assert not list(births.overdue(number + 1.0))
    assert births.holder("g") == "a"
    assert all(births.refused("g", boot) for boot in knocks)
