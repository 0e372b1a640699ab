"""What the book keeps of new commands, in both databases: all of a request or nothing, also when others ask at once."""

import contextlib
from collections import Counter
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from headend.state.store import State as Database
from headend.supply.book import Book, BusyError, New
from headend.supply.command import Command
from headend.supply.signatures import NotAcceptedError
from headend.supply.steps import Step
from headend.supply.thresholds import Limits
from metering.supply import Action
from metering.supply_states import Cause, State
from tests.headend.supply.centre import CLERK, START, Centre, at_once


@pytest.fixture
def centre(state: Database) -> Centre:
    return Centre(state)


def new(centre: Centre, name: str, point: str, **changes: Any) -> tuple[Command, list[Step]]:  # noqa: ANN401 - any field
    """Return a command as a request makes it, under another name and at another meter point."""
    (view,) = centre.request(Action.DISCONNECT, "MP-5", key=f"of {name}").commands
    found = centre.book.get(view.id)
    assert found is not None
    centre.desk.cancel(CLERK, view.id)
    made = structs.replace(found, id=name, point=point, state=State.REQUESTED, **changes)
    return made, [Step(Cause.POLICY_PASSED, "token:aaaaaaaa", START, evidence={"verdict": name})]


def kept(book: Book, *names: str) -> list[str]:
    return [found.state for name in names if (found := book.get(name)) is not None]


def test_of_a_request_all_is_kept_or_nothing(centre: Centre):
    made = [new(centre, "c1", "MP-1"), new(centre, "c2", "MP-2")]
    centre.request(Action.LIMIT, "MP-2", key="k2", limit_w=3000, limit_until=START + 10**10)
    before = len(list(centre.trail.all()))
    with pytest.raises(BusyError) as busy:
        centre.book.add(made, New("k9", b"d", b"", "token:aaaaaaaa", exclusive=True))
    assert list(busy.value.points) == ["MP-2"]
    assert kept(centre.book, "c1", "c2") == []
    assert centre.book.answered(made[0][0].token, "k9") is None
    assert len(list(centre.trail.all())) == before


def test_a_request_whose_answer_was_lost_is_kept_once(centre: Centre):
    made, request = [new(centre, "c1", "MP-1")], New("k9", b"d", b"", "token:aaaaaaaa", exclusive=True)
    centre.book.add(made, request)
    centre.book.add(made, request)
    centre.book.add([new(centre, "c2", "MP-2")], request)
    assert kept(centre.book, "c1", "c2") == ["awaiting-approval"]
    answered = centre.book.answered(made[0][0].token, "k9")
    assert answered is not None
    assert (answered.digest, answered.command) == (b"d", "c1")


def test_what_is_quarantined_keeps_what_policy_found(centre: Centre):
    made = [new(centre, "c1", "MP-1")]
    centre.book.add(made, New("k9", b"d", b"", "token:aaaaaaaa", exclusive=True, limits=Limits(0, 0, 0, 0)))
    assert kept(centre.book, "c1") == ["quarantined"]
    told = [each for each in centre.trail.all() if (each.kind, each.subject) == ("command-quarantined", "c1")]
    assert '"verdict":"c1"' in str(told[0].body)


def test_two_who_ask_at_once_for_the_same_meter_point_get_one_command(centre: Centre):
    found: Counter[str] = Counter()

    def ask(number: int) -> None:
        try:
            centre.request(Action.DISCONNECT, "MP-1", key=f"k{number}")
            found["kept"] += 1
        except NotAcceptedError as error:
            found[error.kind] += 1

    at_once([partial(ask, number) for number in range(4)])
    assert found == {"kept": 1, "another-command-open": 3}
    assert len(centre.book.at("MP-1")) == 1


def test_the_same_request_sent_at_once_several_times_makes_one_command_and_all_get_its_answer(centre: Centre):
    answers: list[str] = []

    def ask() -> None:
        answers.append(centre.request(Action.DISCONNECT, "MP-1").commands[0].id)

    at_once([ask] * 4)
    assert len(answers) == 4
    assert set(answers) == {each.id for each in centre.book.at("MP-1")}


def test_numbers_that_are_taken_at_once_are_given_out_once(centre: Centre):
    taken: list[int] = []
    at_once([lambda: taken.append(centre.book.numbers("gw9", 3))] * 6)
    assert sorted(taken) == [1, 4, 7, 10, 13, 16]


def test_a_restore_and_a_disconnect_at_once_never_leave_the_disconnect_to_go(centre: Centre):
    (cut,) = centre.request(Action.DISCONNECT, "MP-1").commands

    def approve() -> None:
        with contextlib.suppress(NotAcceptedError):  # the restore was faster
            centre.approve(cut.id, "anna", "ben")

    at_once([approve, partial(centre.request, Action.RESTORE, "MP-1", key="k2", reason="paid")])
    assert centre.state(cut.id) is State.SUPERSEDED
