"""Dispatch starves nobody: what cannot go holds up nothing else, and what gives back goes before what withholds."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import structs

from headend.policy.facts import CollectionFacts, Known, Verdict
from headend.state.store import State as Database
from headend.supply.book import New
from headend.supply.command import Command
from headend.supply.dispatch import AT_ONCE, HOLD_BACK_S, HOLD_S, LINK_S, Dispatch
from headend.supply.due import LONGEST_LOOK_S, LONGEST_WAIT_S, opens_at
from headend.supply.steps import Step
from metering.errors import LinkDownError, StorageError
from metering.model import SECOND
from metering.supply import Action, Hours, SupplyCommand, canonical
from metering.supply_states import Cause, State
from tests.headend.supply.centre import START, Centre, Policy

MANY = 600
HOUR = 3600 * SECOND
OPEN = Hours("Asia/Shanghai", 0, 1440)
# START is 16:00 at Shanghai: the window is over for today.
TOMORROW = Hours("Asia/Shanghai", 480, 720)
NOWHERE = Hours("Nowhere/Never", 0, 1440)
_numbers = itertools.count(1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def centre(database: Database) -> Centre:
    return Centre(database, service=True)


def plant(centre: Centre, count: int, *, approved: bool = True, **changes: object) -> list[str]:
    """Keep commands that are approved, or wait for it; return their ids."""
    causes = [Cause.POLICY_PASSED, *([Cause.APPROVALS_COMPLETE] if approved else [])]
    steps = [Step(each, "test", centre.now) for each in causes]
    made = []
    for _ in range(count):
        number = next(_numbers)
        order = SupplyCommand(
            f"c{number:09}",
            Action.DISCONNECT,
            "MP-1",
            "mMP-1",
            "SMP-1",
            0,
            "gw1",
            "debt",
            "clerk",
            f"{number:032x}",
            number,
            centre.now,
            centre.now + 24 * HOUR,
            hours=OPEN,
        )
        order = structs.replace(order, **changes)
        made.append((_row(order, centre.now), steps))
    centre.book.add(made, New("", b"", b"", "test"))
    return [command.id for command, _ in made]


def _row(order: SupplyCommand, now: int) -> Command:
    return Command(
        order.id,
        order.point,
        "js/nj",
        order.gateway,
        str(order.action),
        str(order.action),
        State.REQUESTED,
        "aaaaaaaa",
        "clerk",
        "",
        canonical(order),
        b"",
        b"",
        "null",
        now,
        order.not_before,
        order.expires_at,
        now,
    )


class Picky(Policy):
    """Does something of its own for the meter point MP-2."""

    def __init__(self, do: Callable[[], object]) -> None:
        super().__init__()
        self._do = do

    def judge(
        self,
        command: SupplyCommand,
        zone: str,
        customer: str,
        facts: CollectionFacts | None,
        now: int,
        known: Known,
    ) -> Verdict:
        if command.point == "MP-2":
            self._do()
        return super().judge(command, zone, customer, facts, now, known)


def judged_by(centre: Centre, do: Callable[[], object]) -> None:
    centre.desk._judge._policy = Picky(do)


def fail() -> bool:
    raise StorageError("this row cannot be read", retry=False)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for happens in threads
            await asyncio.sleep(0.01)


def ids(sent: Sequence[tuple[str, Any]]) -> list[str]:
    return [message.id for _, message in sent]


WAIT_FOR_THE_SAME = [
    pytest.param({"hours": TOMORROW}, {"not_before": START + 60 * SECOND}, id="what waits for tomorrow's window"),
    pytest.param({"not_before": START + 20 * HOUR}, {"not_before": START + 60 * SECOND}, id="what is for later"),
    pytest.param({"gateway": "dead"}, {}, id="what was sent to a gateway that is dead"),
    pytest.param({"hours": NOWHERE}, {}, id="what has a zone that is none"),
    pytest.param({"point": "MP-2"}, {}, id="what policy cannot judge"),
    pytest.param({"gateway": "dead", "expires_at": START + 30 * SECOND}, {}, id="what nobody knows the outcome of"),
]


@pytest.mark.parametrize(("others", "last"), WAIT_FOR_THE_SAME)
async def test_the_601st_command_goes_past_600(centre: Centre, others: dict[str, Any], last: dict[str, Any]):
    judged_by(centre, fail)
    plant(centre, MANY, **others)
    await centre.step()
    (mine,) = plant(centre, 1, **last)
    for _ in range(3):
        await centre.step()
        centre.now += 61 * SECOND
    assert mine in ids(await centre.step())


async def test_what_nobody_approves_expires_and_holds_up_nothing(centre: Centre):
    many = plant(centre, MANY, approved=False)
    (mine,) = plant(centre, 1)
    assert ids(await centre.step()) == [mine]
    centre.now += 24 * HOUR
    await centre.step()
    assert {centre.state(each) for each in many} == {State.EXPIRED}


async def test_a_restore_that_comes_in_the_middle_of_a_campaign_leaves_before_the_rest(centre: Centre):
    campaign = plant(centre, 1000)
    back: list[str] = []
    publish = centre.publish

    async def watched(topic: str, payload: bytes, *, retain: bool) -> None:
        await publish(topic, payload, retain=retain)
        if len(centre.sent) == 100:
            (made,) = centre.request(Action.RESTORE, "MP-3", reason="paid").commands
            back.append(made.id)

    dispatch = Dispatch(centre.desk, watched, lambda: centre.now)
    await dispatch.step()
    sent = ids(centre.sent)
    assert sorted(sent) == sorted([*campaign, *back])
    assert sent.index(back[0]) < 100 + AT_ONCE + 1


async def test_a_policy_that_hangs_holds_up_no_restore(centre: Centre):
    hangs = threading.Event()
    judged_by(centre, lambda: hangs.wait(60))
    stuck = plant(centre, 2 * AT_ONCE, point="MP-2")
    stop = asyncio.Event()
    running = asyncio.create_task(centre.dispatch.run(stop))
    try:
        (made,) = centre.request(Action.RESTORE, "MP-3", reason="paid").commands
        await until(lambda: {made.id} <= set(ids(centre.sent)))
        assert not set(ids(centre.sent)) & set(stuck)
    finally:
        hangs.set()
    await until(lambda: set(ids(centre.sent)) >= set(stuck))
    stop.set()
    await running


async def due(centre: Centre, name: str) -> None:
    """Take a step, and set the clock to when the command is due next."""
    await centre.dispatch.step()
    command = centre.book.get(name)
    assert command is not None
    centre.now = max(centre.now + SECOND, command.due_at)


def pauses(at: Sequence[int]) -> list[int]:
    return [(after - before) // SECOND for before, after in itertools.pairwise(at)]


async def test_what_always_fails_is_tried_ever_more_seldom(centre: Centre):
    tries: list[int] = []
    judged_by(centre, lambda: tries.append(centre.now) or fail())
    (mine,) = plant(centre, 1, point="MP-2")
    while centre.now < START + HOUR:
        await due(centre, mine)
    assert pauses(tries) == sorted(pauses(tries))
    assert pauses(tries)[-1] == LONGEST_WAIT_S
    assert centre.state(mine) is State.APPROVED
    centre.now += 24 * HOUR
    await centre.step()
    assert centre.state(mine) is State.EXPIRED


async def test_a_gateway_that_is_dead_is_asked_ever_more_seldom_and_at_once_when_it_is_back(centre: Centre):
    (mine,) = plant(centre, 1, gateway="dead", expires_at=START + 2 * HOUR)
    asked: list[int] = []
    while centre.now < START + 30 * HOUR:
        centre.sent = []
        at = centre.now
        await due(centre, mine)
        asked += [at] * len(centre.sent)
    within = pauses([each for each in asked if each < START + 2 * HOUR])
    assert within == sorted(within)
    assert within[-1] == LONGEST_WAIT_S
    assert pauses(asked)[-1] == LONGEST_LOOK_S
    await centre.step()
    centre.dispatch.here("dead")
    assert len(await centre.step()) == 1
    assert await centre.step() == []


async def test_what_withholds_and_was_accepted_is_asked_for_after_its_end_alone(centre: Centre):
    (mine,) = plant(centre, 1, expires_at=START + 2 * HOUR)
    assert len(await centre.step()) == 1
    centre.say(mine, "accepted", Cause.GATEWAY_ACCEPTED)
    centre.now += HOUR
    centre.dispatch.here("gw1")
    assert await centre.step() == []
    centre.now += HOUR
    ((_, message),) = await centre.step()
    assert message.go is None
    assert await centre.step() == []
    centre.say(mine, "refused-by-guard", Cause.GUARD_REFUSED)  # the box was exchanged: it never heard of it
    assert centre.state(mine) is State.REFUSED_BY_GUARD


async def test_what_gives_back_and_was_accepted_is_sent_to_a_gateway_that_may_have_lost_it(centre: Centre):
    (view,) = centre.request(Action.RESTORE, "MP-1", reason="paid").commands
    assert len(await centre.step()) == 1
    centre.say(view.id, "accepted", Cause.GATEWAY_ACCEPTED)
    assert await centre.step() == []
    centre.dispatch.here("gw1")
    assert [message.id for _, message in await centre.step()] == [view.id]
    centre.now += HOUR
    assert [message.id for _, message in await centre.step()] == [view.id]
    centre.say(view.id, "verified", Cause.AS_ASKED)
    centre.now += HOUR
    assert await centre.step() == []


async def test_two_head_ends_on_one_database_send_each_command_once(state: Database):
    centre = Centre(state)
    many = plant(centre, 200)
    other = Dispatch(centre.desk, centre.publish, lambda: centre.now)
    await asyncio.gather(centre.dispatch.step(), other.step())
    assert sorted(ids(centre.sent)) == many


@pytest.mark.parametrize(
    ("action", "hold_s"), [(Action.DISCONNECT, HOLD_S), (Action.RESTORE, HOLD_BACK_S)], ids=["withholds", "gives back"]
)
async def test_what_a_head_end_took_before_it_died_is_sent_by_another(centre: Centre, action: Action, hold_s: int):
    (mine,) = plant(centre, 1, action=action)
    gives_back = action is Action.RESTORE
    assert len(centre.book.turns.take(centre.now, AT_ONCE, hold_s, gives_back=gives_back)) == 1
    assert await centre.step() == []
    centre.now += hold_s * SECOND
    assert ids(await centre.step()) == [mine]


async def test_what_could_not_be_published_is_sent_as_soon_as_the_link_is_back(centre: Centre):
    many = plant(centre, 100)
    (back,) = plant(centre, 1, action=Action.RESTORE)
    publish, down = centre.publish, True

    async def broken(topic: str, payload: bytes, *, retain: bool) -> None:
        if down:
            raise LinkDownError("the broker is away")
        await publish(topic, payload, retain=retain)

    dispatch = Dispatch(centre.desk, broken, lambda: centre.now)
    for _ in range(5):
        with pytest.raises(LinkDownError):
            await dispatch.give_back()
        centre.now += LINK_S * SECOND
    down = False
    await dispatch.step()
    assert ids(centre.sent)[0] == back
    assert sorted(ids(centre.sent)[1:]) == many


async def test_a_step_that_cannot_be_kept_fails_alone(centre: Centre):
    centre.policy.says = "x" * 300_000  # more than the audit takes
    many = plant(centre, 3)
    await centre.step()
    centre.policy.says = ""
    (mine,) = plant(centre, 1)
    assert ids(await centre.step()) == [mine]
    assert {centre.state(each) for each in many} == {State.APPROVED}


async def test_each_query_of_dispatch_is_answered_from_an_index(centre: Centre, database: Database):
    asked: set[str] = set()
    sa.event.listen(database._engine, "before_cursor_execute", lambda *args: asked.add(args[2]))
    plant(centre, 3)
    plant(centre, 3, action=Action.RESTORE)
    centre.dispatch.here("gw1")
    await centre.step()
    queries = [each for each in asked if "FROM commands" in each or each.startswith("UPDATE commands")]
    assert len(queries) >= 5
    for query in queries:
        with database._engine.connect() as connection:
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {query}", ["1"] * query.count("?"))
            plan = [row[3] for row in rows.fetchall()]
        assert not any(each.startswith("SCAN") for each in plan), (query, plan)


WINDOWS = [
    (OPEN, START, START),
    (TOMORROW, START, START + 16 * HOUR),
    (Hours("Asia/Shanghai", 960, 961), START, START),
    (Hours("Asia/Shanghai", 959, 960), START, START + 24 * HOUR - 60 * SECOND),
    (Hours("Asia/Shanghai", 0, 1, (0,)), START, None),
]


@pytest.mark.parametrize(("hours", "now", "opens"), WINDOWS, ids=range(len(WINDOWS)))
def test_a_window_opens_when_its_hours_begin(centre: Centre, hours: Hours, now: int, opens: int | None):
    (mine,) = plant(centre, 1, hours=hours)
    command = centre.book.get(mine)
    assert command is not None
    assert opens_at(command, now) == (command.expires_at if opens is None else min(opens, command.expires_at))
