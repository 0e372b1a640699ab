"""How many commands pass without a second person, in both databases: by person and in total, whatever comes at once."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from headend.state.store import State as Database
from headend.supply.signatures import NotAcceptedError
from headend.supply.thresholds import DAY, HOUR, Limits
from headend.tokens import Grant
from metering.model import SECOND
from metering.supply import Action
from metering.supply_states import State
from tests.headend.supply.centre import ANNA, CLERK, START, Centre, at_once

MANY = 1_000_000
WAITS, HELD = str(State.AWAITING_APPROVAL), str(State.QUARANTINED)
LIMIT: dict[str, Any] = {"limit_w": 3000, "limit_until": START + 8 * HOUR}
BELOW: dict[str, Any] = {"limit_w": 500, "limit_until": START + 8 * HOUR}  # the floor is 1000 W


def person(name: str, token: str = "") -> Grant:
    return structs.replace(CLERK, token=token or f"{name:0>8}", name=name)


def states(centre: Centre, *asked: tuple[Action, Grant, dict[str, Any]]) -> list[str]:
    """Request one after the other, each at a meter point of its own, and return how each stands."""
    found = []
    for number, (action, grant, changes) in enumerate(asked, 1):
        made = centre.request(action, f"MP-{number}", key=f"k{number}", grant=grant, **changes)
        found.append(made.commands[0].state)
    return found


@pytest.mark.parametrize(
    ("limits", "asked", "found"),
    [
        pytest.param(
            Limits(1, MANY, MANY, MANY),
            [(Action.DISCONNECT, person("a"), {})] * 2 + [(Action.DISCONNECT, person("b"), {})],
            [WAITS, HELD, WAITS],
            id="one person's in an hour",
        ),
        pytest.param(
            Limits(1, MANY, MANY, MANY),
            [
                (Action.DISCONNECT, structs.replace(person("phone"), person="a"), {}),
                (Action.DISCONNECT, structs.replace(person("desk"), person="a"), {}),
                (Action.DISCONNECT, person("a"), {}),
            ],
            [WAITS, HELD, HELD],
            id="two tokens of one person are one person",
        ),
        pytest.param(
            Limits(MANY, MANY, 2, MANY),
            [(Action.DISCONNECT, person(name), {}) for name in "abc"],
            [WAITS, WAITS, HELD],
            id="all persons' in an hour",
        ),
        pytest.param(
            Limits(1, MANY, 1, MANY),
            [(Action.DISCONNECT, CLERK, {}), (Action.LIMIT, CLERK, LIMIT), (Action.KEEP_POWER_OFF, CLERK, {})],
            [WAITS, WAITS, WAITS],
            id="each kind of command is counted by itself",
        ),
        pytest.param(
            Limits(1, MANY, 1, MANY),
            [(Action.DISCONNECT, CLERK, {}), (Action.LIMIT, CLERK, BELOW), (Action.LIMIT, CLERK, LIMIT)],
            [WAITS, HELD, WAITS],
            id="a limit below the floor counts as a disconnect",
        ),
        pytest.param(
            Limits(1, MANY, 1, MANY),
            [(Action.LIMIT, CLERK, BELOW), (Action.DISCONNECT, CLERK, {})],
            [WAITS, HELD],
            id="and a disconnect counts it",
        ),
        pytest.param(
            Limits(0, 0, 0, 0),
            [(Action.RESTORE, CLERK, {}), (Action.KEEP_POWER_ON, CLERK, {}), (Action.UNLIMIT, CLERK, {})],
            [WAITS, WAITS, WAITS],
            id="what gives back is never held",
        ),
    ],
)
def test_what_exceeds_a_threshold_waits_for_a_second_person(
    state: Database, limits: Limits, asked: list[tuple[Action, Grant, dict[str, Any]]], found: list[str]
):
    assert states(Centre(state, limits), *asked) == found


@pytest.mark.parametrize(
    ("limits", "within"), [(Limits(1, MANY, MANY, MANY), HOUR), (Limits(MANY, 1, MANY, MANY), DAY)], ids=["hour", "day"]
)
def test_what_is_longer_ago_than_the_threshold_looks_does_not_count(state: Database, limits: Limits, within: int):
    centre = Centre(state, limits)
    found = []
    for number, at in enumerate((START, START + within, START + 2 * within + SECOND), 1):
        centre.now = at
        made = centre.request(Action.DISCONNECT, f"MP-{number}", key=f"k{number}")
        found.append(made.commands[0].state)
    assert found == [WAITS, HELD, WAITS]


def test_a_campaign_is_held_as_a_whole_and_goes_on_as_a_whole_by_another_person(state: Database):
    centre = Centre(state, Limits(2, MANY, MANY, MANY))
    made = centre.request(Action.DISCONNECT, "MP-1", "MP-2", "MP-3")
    assert {each.state for each in made.commands} == {HELD}
    assert "3 times disconnect of one requester in an hour; above 2" in made.commands[0].missing[0]
    with pytest.raises(NotAcceptedError, match="second person"):
        centre.desk.release(structs.replace(person("other"), person="clerk"), made.commands[0].id)
    released = centre.desk.release(ANNA, made.commands[0].id)
    assert {each.state for each in released.commands} == {WAITS}


@pytest.mark.parametrize("whose", ["each another person's", "all of one person, by another token each"])
def test_requests_at_the_same_moment_do_not_pass_a_threshold_together(state: Database, whose: str):
    centre = Centre(state, Limits(MANY, MANY, 3, MANY) if whose[0] == "e" else Limits(3, MANY, MANY, MANY), points=8)
    found: Counter[str] = Counter()

    def ask(number: int) -> None:
        grant = person(str(number)) if whose[0] == "e" else structs.replace(person(str(number)), person="clerk")
        made = centre.request(Action.DISCONNECT, f"MP-{number}", key=f"k{number}", grant=grant)
        found[made.commands[0].state] += 1

    at_once([partial(ask, number) for number in range(1, 9)])
    assert found == {WAITS: 3, HELD: 5}


def test_a_campaign_of_ten_thousand_disconnects_and_one_more_all_wait_for_a_second_person(tmp_path: Path):
    database = Database.open(tmp_path / "state.db")
    ask_ten_thousand_and_one(database)
    database.close()


@pytest.mark.soak
def test_ten_thousand_and_one_disconnects_at_once_wait_in_both_databases(state: Database):
    ask_ten_thousand_and_one(state)


def ask_ten_thousand_and_one(database: Database) -> None:
    centre = Centre(database, points=10_001)
    points = [f"MP-{number}" for number in range(1, 10_002)]
    campaign = centre.request(Action.DISCONNECT, *points[:-1])
    one = centre.request(Action.DISCONNECT, points[-1], key="k2", grant=person("b"))
    found = Counter(each.state for made in (campaign, one) for each in made.commands)
    assert found == {HELD: 10_001}
