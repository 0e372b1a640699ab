"""When a fault strikes."""

from simulators.faults import Fault, Faults

EXCEPTION = Fault("exception")
LATE = Fault("late", seconds=1)


def struck(faults: Faults, count: int) -> list[str]:
    return [fault.kind if fault else "-" for fault in (faults.strike() for _ in range(count))]


def test_without_faults_nothing_strikes():
    assert struck(Faults(), 3) == ["-"] * 3


def test_every_third_request_is_struck():
    assert struck(Faults([Fault("late", every=3)]), 6) == ["-", "-", "late", "-", "-", "late"]


def test_a_fault_ends_after_its_times():
    assert struck(Faults([Fault("reset", times=2)]), 4) == ["reset", "reset", "-", "-"]


def test_a_script_comes_before_the_standing_faults():
    faults = Faults([LATE], script=[None, EXCEPTION, None])
    assert struck(faults, 5) == ["-", "exception", "-", "late", "late"]


def test_chance_is_the_same_for_the_same_seed_and_another_for_another():
    def row(seed: int) -> list[str]:
        return struck(Faults([Fault("no_answer", chance=0.5)], seed=seed), 200)

    assert row(7) == row(7) != row(8)
    assert 60 < row(7).count("no_answer") < 140


def test_of_two_faults_the_first_wins_and_the_second_is_still_counted_on():
    faults = Faults([Fault("exception", every=2), Fault("late", every=3)])
    assert struck(faults, 6) == ["-", "exception", "late", "exception", "-", "exception"]


def test_faults_are_replaced_while_they_run():
    faults = Faults([LATE])
    assert faults.stands("late")
    faults.replace()
    assert struck(faults, 2) == ["-", "-"]
    assert not faults.stands("late")
    assert faults.struck == 0
